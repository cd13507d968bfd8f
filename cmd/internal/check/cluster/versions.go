package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	made "martlet/cmd/internal/cluster"
)

// meet asks the two versions of the program what they are, and has the settings be what both of them understand. A version
// from before there was a key of the configuration refuses the file that has it: of what a check sets that is where nodes listen
// behind forwarders, without which networks can't be broken.
func (l *Local) meet(ctx context.Context, settings *made.Options) error {
	l.versions = map[string]string{}
	for _, program := range []string{l.o.Binary, l.o.Other} {
		said, err := ask(ctx, program, "version")
		if err != nil {
			return err
		}
		words := strings.Fields(said)
		if len(words) < 2 {
			return fmt.Errorf("%s version: it says %q", program, said)
		}
		l.versions[program] = words[1]
	}
	if l.versions[l.o.Binary] == l.versions[l.o.Other] { // of two builds that were not told what they are
		for program := range l.versions {
			l.versions[program] = program
		}
	}
	if err := l.understood(ctx, *settings); err == nil {
		return nil
	}
	settings.Forwarded = false
	l.whyNets = "one of the versions does not know storage.bind and replication.bind, so that no forwarder can stand before it"
	return l.understood(ctx, *settings)
}

// understood reports what is wrong, to one of the versions, with the configuration of a cluster.
func (l *Local) understood(ctx context.Context, settings made.Options) (err error) {
	dir, err := os.MkdirTemp("", "martlet-check-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	f, err := made.Make(filepath.Join(dir, "cluster"), settings, func(string) bool { return true })
	if err != nil {
		return err
	}
	for _, program := range []string{l.o.Binary, l.o.Other} {
		for _, file := range []string{f.StorageFile(1), f.ProxyFile()} {
			if _, err := ask(ctx, program, "config", "check", file); err != nil {
				return err
			}
		}
	}
	return nil
}

// ask runs a program and returns what it says.
func ask(ctx context.Context, program string, args ...string) (string, error) {
	said, err := exec.CommandContext(ctx, program, args...).CombinedOutput() //nolint:gosec // whoever checks has chosen it
	text := strings.TrimSpace(string(said))
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", program, args[0], err, text)
	}
	return text, nil
}
