package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"martlet/cmd/internal/config"
	"martlet/cmd/internal/node"
	"martlet/replicator"
)

// errUnconfirmed is of a pass after which not everything is where it belongs.
var errUnconfirmed = errors.New("not everything was confirmed: the next pass tries again")

func newReplicate() *cobra.Command {
	var file, device, set string
	var once, pace, pause, resume, asJSON bool
	c := &cobra.Command{
		Use:   "replicate --config FILE {--once | --pace | --set KEY=VALUE,... | --pause | --resume}",
		Short: "Have a running storage node make a pass of replication, or change or show its pace",
		Long: `Asks the storage node that runs with the configuration FILE, at its admin address.

With --once for one full pass of replication: it waits for its end and prints what
it did. The exit status is 0 where everything was confirmed, 1 where something was
not, and 2 where there was no pass: a wrong command line or configuration, no such
device, or a node that does not answer.

With --set for other limits, until the node is restarted: bytes_per_second,
operations_per_second, concurrency and incoming, as in [replicator] of FILE. With
--pause that nothing is pushed, until --resume, also after a restart; with --pace only
what holds it back. Each prints what is in force then. The exit status is 0 where
that was done, 1 where the node could not, and 2 for a wrong command line or
configuration, no such device, or a node that does not answer.`,
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if n := given(c, "once", "set", "pause", "resume", "pace"); n != 1 {
				return usage(errors.New("one of --once, --set, --pause, --resume and --pace is needed; see " + c.CommandPath() + " --help"))
			}
			if file == "" {
				return usage(errors.New("--config is missing; see " + c.CommandPath() + " --help"))
			}
			if once {
				return replicateOnce(c, file, device, asJSON)
			}
			ask := pacing{file: file, device: device, asJSON: asJSON}
			switch {
			case c.Flags().Changed("set"):
				return ask.set(c, set)
			case pause:
				return ask.print(c, http.MethodPost, node.PausePath, nil)
			case resume:
				return ask.print(c, http.MethodPost, node.ResumePath, nil)
			}
			return ask.print(c, http.MethodGet, node.PacePath, nil)
		},
	}
	c.Flags().StringVar(&file, "config", "", "the configuration `FILE` of the storage node")
	c.Flags().StringVar(&device, "device", "", "only this `DEVICE` of the node")
	c.Flags().BoolVar(&once, "once", false, "one pass")
	c.Flags().StringVar(&set, "set", "", "change limits: `KEY=VALUE,...`")
	c.Flags().BoolVar(&pause, "pause", false, "push nothing until --resume")
	c.Flags().BoolVar(&resume, "resume", false, "end what --pause began")
	c.Flags().BoolVar(&pace, "pace", false, "show what holds replication back")
	c.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	return c
}

// given returns how many of some flags were given.
func given(c *cobra.Command, flags ...string) (n int) {
	for _, f := range flags {
		if c.Flags().Changed(f) {
			n++
		}
	}
	return n
}

// replicateOnce has the node make a pass and prints its report.
func replicateOnce(c *cobra.Command, file, device string, asJSON bool) error {
	report := &replicator.Report{}
	end := watchPass(c.Context(), file, device, c.ErrOrStderr())
	err := askReplicator(c.Context(), file, http.MethodPost, "/replicate", deviceQuery(device), report)
	end()
	if err != nil {
		return usage(err)
	}
	if err := printReport(c.OutOrStdout(), report, asJSON); err != nil {
		return err
	}
	if !report.Whole() {
		return errUnconfirmed
	}
	return nil
}

// maxReport bounds the report that is read, in bytes.
const maxReport = 16 << 20

// refusedError is what a node has answered that did not do as it was asked.
type refusedError struct {
	status int
	text   string
}

func (e refusedError) Error() string { return e.text }

func deviceQuery(device string) url.Values {
	if device == "" {
		return nil
	}
	return url.Values{"device": {device}}
}

// askReplicator asks the node of a configuration, which may take long, and reads its answer
// into report. The error is a refusedError where the node has refused.
func askReplicator(ctx context.Context, file, method, path string, query url.Values, report any) error {
	cfg, err := config.LoadStorage(file)
	if err != nil {
		return err
	}
	if cfg.Admin.Listen == "" {
		return fmt.Errorf("%s: the node has no admin address (admin.listen)", file)
	}
	to := url.URL{Scheme: "http", Host: connectable(cfg.Admin.Listen), Path: path, RawQuery: query.Encode()}
	r, err := http.NewRequestWithContext(ctx, method, to.String(), nil)
	if err != nil {
		return err
	}
	transport := &http.Transport{} // no proxy: it is this machine's, or one in the same network
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		return fmt.Errorf("the node does not answer: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // it was only read from
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxReport))
	if err != nil {
		return fmt.Errorf("the node's answer broke off: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return refusedError{resp.StatusCode, fmt.Sprintf("%s answered %d: %s", to.Host, resp.StatusCode, strings.TrimSpace(string(body)))}
	}
	if err := json.Unmarshal(body, report); err != nil {
		return fmt.Errorf("%s: no report: %w", to.Host, err)
	}
	return nil
}

// connectable turns the address of a listener on every interface into one to
// connect to.
func connectable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return listen
}

// printReport prints a report for people, or for programs.
func printReport(out io.Writer, report *replicator.Report, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(report)
	}
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "DEVICE\tKIND\tPARTITIONS\tHANDOFFS\tCOMPARED\tPUSHED\tBYTES\tDROPPED\tREBUILT\tFAILED")
	var troubles []string
	for _, d := range report.Devices {
		if d.Error != "" {
			troubles = append(troubles, d.Device+": "+d.Error)
		}
		for _, k := range d.Kinds {
			fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\n",
				d.Device, k.Kind, k.Partitions, k.Handoffs, k.Compared, k.Pushed, k.Bytes, k.Dropped, k.Rebuilt, k.Failed)
			for _, f := range k.Failures {
				troubles = append(troubles, fmt.Sprintf("%s: %s: %d not confirmed by %s: %s", d.Device, k.Kind, f.Count, orSelf(f.Peer), f.Reason))
			}
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, t := range troubles {
		text.WriteString(t + "\n")
	}
	fmt.Fprintf(&text, "%.3f seconds\n", report.Seconds)
	_, err := io.WriteString(out, text.String())
	return err
}

func orSelf(peer string) string {
	if peer == "" {
		return "this node"
	}
	return peer
}
