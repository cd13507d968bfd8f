package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"martlet/cmd/internal/bench/report"
	"martlet/cmd/internal/bench/result"
)

// errSlower is of a comparison in which something became worse.
var errSlower = errors.New("it became worse")

func newBenchCompare() *cobra.Command {
	var (
		asJSON    bool
		threshold float64
	)
	c := &cobra.Command{
		Use:   "compare OLD.json NEW.json",
		Short: "Say in what two results differ, and whether that may be chance",
		Long: `A difference counts where it is at least --threshold of the old median, and where two sets of rounds that do not differ
would be so far apart in fewer than one of twenty cases. That can be said of four rounds each, or more (--rounds);
of fewer a difference is told as unsure.

The exit status is 0 where nothing is worse, 1 where something is, and 2 for a wrong command line or file.`,
		Args: arguments(cobra.ExactArgs(2)),
		RunE: func(c *cobra.Command, args []string) error {
			if !(threshold >= 0 && threshold <= 1000) {
				return usage(fmt.Errorf("--threshold %v: want per cent, 0 or more", threshold))
			}
			var both [2]*result.Report
			for i, name := range args {
				r, err := readResult(name)
				if err != nil {
					return usage(err)
				}
				both[i] = r
			}
			found := result.Compare(both[0], both[1], threshold/100)
			out := c.OutOrStdout()
			if asJSON {
				if err := printJSON(out, found); err != nil {
					return err
				}
			} else {
				p := newPage(out)
				p.benchComparison(found)
				if _, err := io.WriteString(out, p.String()); err != nil {
					return err
				}
			}
			if found.Worse > 0 {
				return errSlower
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().Float64Var(&threshold, "threshold", 2, "the smallest difference that counts, in `PERCENT` of the old median")
	return c
}

func readResult(name string) (r *result.Report, err error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if r, err = result.Read(file); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

func (p *page) benchComparison(found result.Comparisons) {
	for _, d := range found.Different {
		p.printf("%s\n", p.paint(yellow, "they are not of the same thing: "+d))
	}
	rows := [][]cell{head("operation", "figure", "old>", "±>", "new>", "±>", "change>", "p>", "")}
	for _, f := range found.Figures {
		verdict := left(string(f.Verdict))
		switch f.Verdict {
		case result.Worse:
			verdict = verdict.in(yellow)
		case result.Better:
			verdict = verdict.in(bold)
		default:
		}
		rows = append(rows, []cell{
			left(f.Operation), left(f.Figure), right(report.Value(f.Old, f.Unit)), right(percent(f.OldSpread / 2)), right(report.Value(f.New, f.Unit)), right(percent(f.NewSpread / 2)),
			right(fmt.Sprintf("%+.1f %%", 100*f.Change)), right(fmt.Sprintf("%.3f", f.P)), verdict,
		})
	}
	p.table("", rows)
}

func percent(part float64) string { return fmt.Sprintf("%.1f %%", 100*part) }
