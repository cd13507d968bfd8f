package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"martlet/cmd/internal/bench/floor"
	"martlet/cmd/internal/bench/result"
	"martlet/cmd/internal/bench/size"
	"martlet/cmd/internal/bench/work"
)

// benchFloor is the flags of a floor.
type benchFloor struct {
	floor.Options
	size, json string
}

func newBenchFloor() *cobra.Command {
	c := &cobra.Command{
		Use:   "floor {put | get}",
		Short: "Measure the least that a PUT or GET of three replicas can cost on this machine",
		Long: `Measures what moving, hashing and syncing the bytes of an object takes, and nothing else, with the same generator as
the other benchmarks: bare connections from a client to a proxy to storage servers. A GET is two hops. A PUT goes to three logs, and is
answered when each has been synced; with --rows when each has had a row of a listing synced as well. docs/bench.md says more.

What it serves is on loopback, keeps nothing, and ends with it.`,
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newBenchFloorOf(work.Put), newBenchFloorOf(work.Get), newBenchFloorServe())
	return c
}

func newBenchFloorOf(kind work.Kind) *cobra.Command {
	f := benchFloor{Options: floor.Defaults()}
	f.Kind = kind
	c := &cobra.Command{
		Use:   kind.String() + " [--size SIZE] [--concurrency N] [--duration D] [--dir DIR]",
		Short: "Measure the floor of a " + kind.String(),
		Args:  arguments(cobra.NoArgs),
		RunE:  func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	f.serverFlags(c)
	c.Flags().IntVar(&f.Concurrency, "concurrency", f.Concurrency, "clients: how many requests are under way at one time")
	c.Flags().DurationVar(&f.Duration, "duration", f.Duration, "how long a round takes")
	c.Flags().IntVar(&f.Rounds, "rounds", f.Rounds, "how often it is measured: figures are medians")
	c.Flags().DurationVar(&f.Warmup, "warmup", f.Warmup, "how long requests are sent before the first round")
	c.Flags().StringVar(&f.json, "json", "", "write the result as JSON to this `FILE`; - is the standard output")
	return c
}

func (f *benchFloor) serverFlags(c *cobra.Command) {
	c.Flags().StringVar(&f.size, "size", "4KiB", "the `SIZE` of what is written or read, at most 1MiB")
	c.Flags().StringVar(&f.Dir, "dir", f.Dir, "a `FOLDER` on the disk that is to be synced; the files in it have no names")
	c.Flags().IntVar(&f.Devices, "devices", f.Devices, "logs, of which each PUT goes to three")
	c.Flags().BoolVar(&f.Rows, "rows", false, "a PUT has the row of a listing written to three logs as well")
}

// complete checks the flags.
func (f *benchFloor) complete() error {
	n, err := size.Parse(f.size)
	if err != nil {
		return fmt.Errorf("--size: %w", err)
	}
	f.Size = n
	info, err := os.Stat(f.Dir)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is no folder", f.Dir)
	}
	if err != nil {
		return fmt.Errorf("--dir: %w", err)
	}
	f.Version = versionText()
	return f.Check()
}

func (f *benchFloor) run(c *cobra.Command) (err error) {
	if err := errors.Join(f.complete(), canWrite(f.json)); err != nil {
		return usage(err)
	}
	if f.Dir, err = filepath.Abs(f.Dir); err != nil {
		return err
	}
	self, err := program()
	if err != nil {
		return err
	}
	servers, err := floor.Start(c.Context(), &f.Options, self, "bench", "floor", "serve")
	if err != nil {
		return err
	}
	running := newProgress(c.ErrOrStderr())
	if running != nil {
		f.Doing = running.update
	}
	r, err := floor.Run(c.Context(), f.Options, servers)
	running.end()
	err = errors.Join(err, servers.Stop())
	if r == nil {
		return err
	}
	out := c.OutOrStdout()
	text := out
	if f.json == "-" {
		text = c.ErrOrStderr()
		err = errors.Join(err, result.Write(out, r))
	} else if f.json != "" {
		err = errors.Join(err, toFile(f.json, func(w io.Writer) error { return result.Write(w, r) }))
	}
	p := newPage(text)
	p.benchResult(r)
	_, wrote := io.WriteString(text, p.String())
	if failed, _ := r.Failed(); failed > 0 {
		err = errors.Join(err, fmt.Errorf("%w: %s", errRequestsFailed, some(int(failed), "failure")))
	}
	return errors.Join(err, wrote)
}

// newBenchFloorServe is what a floor starts beside itself.
func newBenchFloorServe() *cobra.Command {
	f := benchFloor{Options: floor.Defaults()}
	c := &cobra.Command{
		Use:    "serve",
		Short:  "Be the servers of a floor, until the standard input ends",
		Hidden: true,
		Args:   arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := f.complete(); err != nil {
				return usage(err)
			}
			ctx, cancel := context.WithCancel(c.Context())
			defer cancel()
			go func() {
				_, _ = io.Copy(io.Discard, c.InOrStdin()) // however it ends
				cancel()
			}()
			return floor.Serve(ctx, &f.Options, func(address string) error {
				_, err := io.WriteString(c.OutOrStdout(), floor.Ready(address))
				return err
			})
		},
	}
	f.serverFlags(c)
	return c
}
