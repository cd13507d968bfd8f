package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"martlet/cmd/internal/bench"
	"martlet/cmd/internal/bench/swift"
)

func newBenchCleanup() *cobra.Command {
	var (
		s           signIn
		name        string
		all         bool
		concurrency int
	)
	c := &cobra.Command{
		Use:   "cleanup {--name NAME | --all} --auth URL --user USER --key KEY",
		Short: "Take away what benchmarks have left in an account",
		Long:  "Deletes the containers that benchmarks have made, and what is in them: those whose names begin with " + bench.Prefix + ", and no others.",
		Args:  arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case all == (name != ""):
				return usage(errors.New("either --name or --all is needed; see " + c.CommandPath() + " --help"))
			case !all && !bench.ValidName(name):
				return usage(fmt.Errorf("--name %q: no run can have it", name))
			case concurrency < 1 || concurrency > 10_000:
				return usage(fmt.Errorf("--concurrency %d: want 1 to 10000", concurrency))
			case s.timeout <= 0:
				return usage(fmt.Errorf("--timeout %v: must be above 0", s.timeout))
			}
			options := swift.Options{Endpoints: s.endpoints, Connections: concurrency, Timeout: s.timeout, Agent: "martlet-bench"}
			if err := errors.Join(s.complete(), s.Check(), options.Check()); err != nil {
				return usage(err)
			}
			running := newProgress(c.ErrOrStderr())
			defer running.end()
			running.say("clean-up")
			done, err := bench.Cleanup(c.Context(), s.Credentials, options, name, running.update)
			running.end()
			_, wrote := fmt.Fprintf(c.OutOrStdout(), "%s and %s were taken away\n", some(int(done.Objects), "object"), some(done.Containers, "container"))
			return errors.Join(err, wrote)
		},
	}
	s.flags(c)
	c.Flags().StringVar(&name, "name", "", "what the run of this `NAME` has left")
	c.Flags().BoolVar(&all, "all", false, "what any run has left")
	c.Flags().IntVar(&concurrency, "concurrency", 32, "how many requests are under way at one time")
	return c
}
