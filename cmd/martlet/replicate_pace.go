package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"martlet/cmd/internal/node"
	"martlet/replicator"
)

// pacing is what is asked of a node about the pace of its replication.
type pacing struct {
	file, device string
	asJSON       bool
}

// set changes limits: "key=value,key=value".
func (p pacing) set(c *cobra.Command, text string) error {
	values := url.Values{}
	for part := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(part, "=")
		if !ok {
			return usage(fmt.Errorf("--set %q: %q is not KEY=VALUE: the keys are %s", text, part, strings.Join(node.LimitKeys(), ", ")))
		}
		values.Add(strings.TrimSpace(key), strings.TrimSpace(value))
	}
	if _, err := node.ParseLimits(values); err != nil {
		return usage(fmt.Errorf("--set: %w", err))
	}
	return p.print(c, http.MethodPost, node.PacePath, values)
}

// print asks and prints what is in force.
func (p pacing) print(c *cobra.Command, method, path string, query url.Values) error {
	if p.device != "" {
		if query == nil {
			query = url.Values{}
		}
		query.Set("device", p.device)
	}
	var report []replicator.PaceReport
	if err := askReplicator(c.Context(), p.file, method, path, query, &report); err != nil {
		if refused := (refusedError{}); errors.As(err, &refused) && refused.status >= http.StatusInternalServerError {
			return err
		}
		return usage(err)
	}
	if p.asJSON {
		e := json.NewEncoder(c.OutOrStdout())
		e.SetIndent("", "  ")
		return e.Encode(report)
	}
	return printPace(c.OutOrStdout(), report)
}

// printPace prints what holds devices back, for people.
func printPace(out io.Writer, report []replicator.PaceReport) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "DEVICE\tSTATE\tBYTES/S\tOPERATIONS/S\tPARTITIONS\tINCOMING\tIN LINE\tPACE\tWAITED")
	for _, r := range report {
		state := "running"
		if r.Paused != "" {
			state = "paused"
		}
		pace := fmt.Sprintf("%.0f%%", 100*r.Factor)
		if r.Slowed > 0 {
			pace += " to " + some(r.Slowed, "peer")
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d of %d\t%d of %d\t%d\t%s\t%s\n", r.Device, state,
			orUnlimited(r.Limits.BytesPerSecond, inBytes(float64(r.Limits.BytesPerSecond))),
			orUnlimited(r.Limits.OperationsPerSecond, strconv.FormatInt(r.Limits.OperationsPerSecond, 10)),
			r.Partitions, r.Limits.Concurrency, r.Incoming, r.Limits.Incoming, r.InLine, pace, seconds(r.Waited.Limits+r.Waited.Latency))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for i := range report {
		if r := &report[i]; r.ToGet.Objects > 0 {
			if _, err := fmt.Fprintf(out, "%s: %s\n", r.Device, toGetText(&r.ToGet)); err != nil {
				return err
			}
		}
	}
	for _, r := range report {
		if r.Paused != "" {
			if _, err := fmt.Fprintf(out, "%s: %s\n", r.Device, r.Paused); err != nil {
				return err
			}
		}
	}
	return nil
}

func orUnlimited(limit int64, text string) string {
	if limit == 0 {
		return "unlimited"
	}
	return text
}
