package cluster

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"martlet/cmd/internal/check/nemesis"
	made "martlet/cmd/internal/cluster"
)

// program writes one that says that it is of a version, finds a configuration wrong that has some text, and otherwise does
// nothing until it is ended.
func program(t *testing.T, says, refuses string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "martlet")
	script := `#!/bin/sh
case $1 in
version) echo "` + says + `" ;;
config) ! grep -q -e '` + refuses + `' "$3" || { echo 'unknown key' >&2; exit 2; } ;;
*) exec sleep 600 ;;
esac
`
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestVersions: of two versions of the program the configuration is what both understand, and what can't be broken then is not
// offered, nor an upgrade where there is one version.
func TestVersions(t *testing.T) {
	good := made.Options{Nodes: 3, Devices: 1, Replicas: 3, PartPower: 4, Proxies: 1, Listen: "127.9.0.1:8080", Network: "127.9", Forwarded: true, Brisk: true}
	for what, tt := range map[string]struct {
		says, refuses string
		err           string
		forwarded     bool
	}{
		"all is known":       {"martlet 1.2 go", "no such text", "", true},
		"from before bind":   {"martlet 1.2 go", "^bind = ", "", false},
		"from long before":   {"martlet 1.2 go", "address = ", "unknown key", false},
		"no program of ours": {"hello", "no such text", `it says "hello"`, true},
	} {
		for _, other := range []bool{true, false} { // whichever of the two is the older one
			l := &Local{o: Options{Binary: program(t, "martlet 2.0 go", "no such text"), Other: program(t, tt.says, tt.refuses)}}
			if !other {
				l.o.Binary, l.o.Other = l.o.Other, l.o.Binary
			}
			settings := good
			err := l.meet(t.Context(), &settings)
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: %v, want %q", what, err, tt.err)
			}
			if settings.Forwarded != tt.forwarded {
				t.Errorf("%s: forwarded is %v", what, settings.Forwarded)
			}
			if err != nil {
				continue
			}
			l.folder = &made.Folder{Options: settings}
			offered := nemesis.Offered(l, []nemesis.Kind{nemesis.Cut, nemesis.Slow, nemesis.Upgrade})
			if slices.Contains(offered, nemesis.Cut) != tt.forwarded || slices.Contains(offered, nemesis.Slow) != tt.forwarded || !slices.Contains(offered, nemesis.Upgrade) {
				t.Errorf("%s: offered are %v", what, offered)
			}
		}
	}
	l := &Local{folder: &made.Folder{Options: good}}
	if slices.Contains(nemesis.Offered(l, nemesis.Kinds()), nemesis.Upgrade) {
		t.Error("an upgrade is offered of one version")
	}
}

// TestUpgrade: a process of one version is ended, and is of the other one when it is started, and back.
func TestUpgrade(t *testing.T) {
	l := &Local{o: Options{Binary: program(t, "", ""), Other: program(t, "", "")}, folder: &made.Folder{Dir: t.TempDir()}}
	l.versions = map[string]string{l.o.Binary: "new", l.o.Other: "old"}
	if err := os.Mkdir(filepath.Join(l.folder.Dir, "log"), 0o750); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 2; n++ {
		l.storage = append(l.storage, l.process(n, "storage", "storage", "", ""))
		l.proxies = append(l.proxies, l.process(n, "proxy", "proxy", "", ""))
	}
	if got, want := l.Versions(), "storage is new, storage is old, proxy is new, proxy is old"; got != want {
		t.Errorf("at first %s, want %s", got, want)
	}
	for _, p := range l.all() {
		if err := p.start(); err != nil {
			t.Fatal(err)
		}
		defer p.kill()
	}
	for _, tt := range []struct {
		f    nemesis.Fault
		note string
		of   *process
	}{
		{nemesis.Fault{Kind: nemesis.Upgrade, Node: 2}, "from old to new", l.storage[1]},
		{nemesis.Fault{Kind: nemesis.Upgrade, Proxy: 1, Hard: true}, "from new to old", l.proxies[0]},
		{nemesis.Fault{Kind: nemesis.Upgrade, Node: 2, Hard: true}, "from new to old", l.storage[1]},
	} {
		was := tt.of.binary
		note, err := l.Begin(t.Context(), tt.f)
		if err != nil || note != tt.note || tt.of.running() || tt.of.binary == was || tt.of.other != was {
			t.Fatalf("%v: %q, %v, want %q; it runs: %v", tt.f, note, err, tt.note, tt.of.running())
		}
		if err := tt.of.start(); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range l.all() {
		if died := p.took(); len(died) > 0 {
			t.Errorf("%s ended by itself: %v", p.name, died)
		}
	}
}
