// Command functional runs the functional tests of OpenStack Swift, from a folder
// that holds its source, against a cluster of `martlet dev` that it starts and
// stops, and compares what fails with a list of the tests that may.
//
// Nothing of Swift's is kept: what the tests want to know of the cluster is written
// to a temporary folder, and so is the cluster.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

// files are those of the suite that are run, in this order.
var files = []string{"test_account", "test_container", "test_object", "test_dlo", "test_slo", "test_tempurl", "test_symlink", "test_staticweb",
	"test_object_versioning", "test_versioned_writes", "test_protocol", "test_domain_remap", "test_access_control", "tests"}

type options struct {
	suite, binary, python, excluded string
	files                           []string
}

func main() {
	var o options
	flag.StringVar(&o.suite, "suite", "", "the `folder` that Swift's source is in")
	flag.StringVar(&o.binary, "martlet", "bin/martlet", "the `program` under test")
	flag.StringVar(&o.python, "python", "/usr/bin/python3", "the `interpreter` that has pytest and what Swift imports")
	flag.StringVar(&o.excluded, "excluded", "test/functional-exclusions.txt", "the `list` of tests that may fail")
	only := flag.String("files", strings.Join(files, ","), "the `files` to run")
	flag.Parse()
	o.files = strings.Split(*only, ",")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "functional:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	if o.suite == "" {
		return errors.New("name the folder of Swift's source: make functional SUITE=folder")
	}
	for _, path := range []*string{&o.suite, &o.binary} {
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	text, err := os.ReadFile(o.excluded)
	if err != nil {
		return err
	}
	excluded, err := parseExclusions(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", o.excluded, err)
	}
	dir, err := os.MkdirTemp("", "martlet-functional-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	c, err := startCluster(ctx, o.binary, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	config := filepath.Join(dir, "test.conf")
	if err := os.WriteFile(config, []byte(testConfig(c.address)), 0o600); err != nil {
		return err
	}
	var all []result
	for _, f := range o.files {
		results, err := runFile(ctx, o, dir, config, f)
		if err != nil {
			return fmt.Errorf("%s: %w", f, err)
		}
		all = append(all, results...)
	}
	if _, err := io.WriteString(os.Stdout, table(o.files, all)); err != nil {
		return err
	}
	return compare(o.files, all, excluded)
}
