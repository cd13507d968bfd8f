// Command martlet is every role of a Martlet cluster: the proxy, the storage node,
// and a whole cluster for development.
//
// Each subcommand parses, constructs and runs; what it runs is in cmd/internal.
// The exit status is 0 for success, 2 for a command line or configuration that
// makes no sense, and 1 for everything else that went wrong; `martlet ring` has its
// own. An error is one line on the standard error for each thing that is wrong.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"martlet/cmd/internal/config"
)

// version is set by the Makefile.
var version = ""

// The exit statuses beside 0.
const (
	exitFailure = 1
	exitUsage   = 2
)

// usageError marks what the person at the command line got wrong.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usage(err error) error {
	if err == nil {
		return nil
	}
	return usageError{err}
}

// statusError ends the process with a status when all has been said already.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is one invocation, from arguments to exit status.
func run(args []string, stdout, stderr io.Writer) int {
	if err := plant(); err != nil {
		_, _ = fmt.Fprintln(stderr, "martlet:", err) // there is nowhere else to say it
		return exitUsage
	}
	ctx, stop := untilSignal(context.Background())
	defer stop()
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var status statusError
	if errors.As(err, &status) {
		return int(status)
	}
	for line := range strings.Lines(err.Error()) {
		_, _ = fmt.Fprintln(stderr, "martlet:", strings.TrimSuffix(line, "\n")) // there is nowhere else to say it
	}
	var atCommandLine usageError
	var inFile config.WrongError
	if errors.As(err, &atCommandLine) || errors.As(err, &inFile) {
		return exitUsage
	}
	return exitFailure
}

// untilSignal returns a context that ends with the first SIGINT or SIGTERM: what
// runs then drains. A second signal ends the process at once, as it would any other.
func untilSignal(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(parent)
	first := make(chan os.Signal, 1)
	signal.Notify(first, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		select {
		case <-first:
		case <-ctx.Done():
		}
		// Before the context ends: whoever sees that may send the second signal.
		signal.Stop(first)
		cancel()
	}()
	return ctx, cancel
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "martlet",
		Short: "A distributed object store that speaks the OpenStack Swift API",
		Args:  arguments(cobra.NoArgs),
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },

		SilenceErrors: true, // run prints them
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage(fmt.Errorf("%w; see %s --help", err, c.CommandPath()))
	})
	root.AddCommand(newProxy(), newStorage(), newDev(), newCheck(), newBenchmark(), newReplicate(), newStatus(), newDevice(), newRing(storageNodes{}), newLocate(), newInspect(), newConfig(), newVersion())
	addPlanted(root)
	return root
}

// arguments makes what cobra says of arguments a usage error.
func arguments(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return usage(fmt.Errorf("%w; see %s --help", err, c.CommandPath()))
		}
		return nil
	}
}

// versionText is the version that the Makefile set, or what the Go toolchain knows.
func versionText() string {
	text := "unknown"
	if version != "" {
		text = version
	} else if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		text = info.Main.Version
	}
	return text + plantedText()
}
