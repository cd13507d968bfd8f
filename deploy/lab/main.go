// Command lab puts up a whole cluster on one machine, on three networks of its own, and breaks it: a load
// balancer, proxies and storage nodes each in a network namespace, each device an XFS of its own. docs/lab.md says
// how it is used.
//
// Each subcommand does one thing to the lab in a folder, says what it did, and ends; the processes of the lab stay.
// The exit status is 0 for success, 2 for a command line that makes no sense, and 1 for everything else that went
// wrong.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"martlet/deploy/lab/internal/bed"
)

// The exit statuses beside 0.
const (
	exitFailure = 1
	exitUsage   = 2
)

// usageError marks what the person at the command line got wrong.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is one invocation, from arguments to exit status.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	for line := range strings.Lines(err.Error()) {
		_, _ = fmt.Fprintln(stderr, "lab:", strings.TrimSuffix(line, "\n")) // there is nowhere else to say it
	}
	var atCommandLine usageError
	if errors.As(err, &atCommandLine) || errors.Is(err, bed.ErrWrong) {
		return exitUsage
	}
	return exitFailure
}

// An app is what all commands share.
type app struct {
	dir  string
	json bool
	did  []string
}

func newRoot() *cobra.Command {
	a := &app{}
	root := &cobra.Command{
		Use:   "lab",
		Short: "A cluster on three networks of its own, on one machine, to be broken",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("there is no command %q; see lab --help", args[0])}
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },

		SilenceErrors: true, // run prints them
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see %s --help", err, c.CommandPath())}
	})
	root.PersistentFlags().StringVar(&a.dir, "dir", "martlet-lab", "the `DIR` that everything is kept in")
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print JSON")
	root.AddCommand(
		a.up(), a.down(), a.status(), a.addNode(),
		a.cut(), a.heal(), a.slow(),
		a.pause(), a.resume(), a.kill(), a.start(), a.power(),
		a.fill(), a.free(), a.fail(), a.mend(), a.flip(),
		a.shell(), a.exec(), a.capture(), a.forward(),
	)
	return root
}

// arguments wants so many, and at least one of each where more are allowed, or says what they are.
func arguments(least, most int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) < least || most >= 0 && len(args) > most {
			return usageError{fmt.Errorf("%q: %d arguments are not what it takes: %s", c.Name(), len(args), c.UseLine())}
		}
		return nil
	}
}

// say notes what was done, and prints it at once where that is for a person.
func (a *app) say(out io.Writer) func(format string, args ...any) {
	return func(format string, args ...any) {
		line := fmt.Sprintf(format, args...)
		a.did = append(a.did, line)
		if !a.json {
			_, _ = fmt.Fprintln(out, line) // what was done is done, whether it can be told or not
		}
	}
}

// tell prints what was done, and what else a program wants to know of it, as JSON where that was asked for.
func (a *app) tell(out io.Writer, more map[string]any) error {
	if !a.json {
		return nil
	}
	all := map[string]any{"did": a.did}
	for k, v := range more {
		all[k] = v
	}
	return printJSON(out, all)
}

func printJSON(out io.Writer, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, string(text))
	return err
}

// on is a command that works on the lab; do returns what a program wants to know besides.
func (a *app) on(c *cobra.Command, do func(ctx context.Context, l *bed.Lab, args []string) (map[string]any, error)) *cobra.Command {
	c.RunE = func(c *cobra.Command, args []string) error {
		l, err := bed.Open(c.Context(), a.dir, a.say(c.OutOrStdout()))
		if err != nil {
			return err
		}
		more, err := do(c.Context(), l, args)
		if err := errors.Join(err, l.Close()); err != nil {
			return err
		}
		return a.tell(c.OutOrStdout(), more)
	}
	return c
}
