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
	"martlet/replicator"
)

// errUnconfirmed is of a pass after which not everything is where it belongs.
var errUnconfirmed = errors.New("not everything was confirmed: the next pass tries again")

func newReplicate() *cobra.Command {
	var file, device string
	var once, asJSON bool
	c := &cobra.Command{
		Use:   "replicate --once --config FILE",
		Short: "Have a running storage node make one full pass of replication, and report",
		Long: `Asks the storage node that runs with the configuration FILE, at its admin address,
for one full pass of replication, waits for its end and prints what it did.

The exit status is 0 where everything was confirmed, 1 where something was not,
and 2 where there was no pass: a wrong command line or configuration, no such
device, or a node that does not answer.`,
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case !once:
				return usage(errors.New("--once is missing: a storage node repeats passes by itself"))
			case file == "":
				return usage(errors.New("--config is missing; see " + c.CommandPath() + " --help"))
			}
			report, err := askForPass(c.Context(), file, device)
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
		},
	}
	c.Flags().StringVar(&file, "config", "", "the configuration `FILE` of the storage node")
	c.Flags().StringVar(&device, "device", "", "only this `DEVICE` of the node")
	c.Flags().BoolVar(&once, "once", false, "one pass")
	c.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	return c
}

// maxReport bounds the report that is read, in bytes.
const maxReport = 16 << 20

// askForPass has the node of a configuration make a pass, which may take long.
func askForPass(ctx context.Context, file, device string) (*replicator.Report, error) {
	cfg, err := config.LoadStorage(file)
	if err != nil {
		return nil, err
	}
	if cfg.Admin.Listen == "" {
		return nil, fmt.Errorf("%s: the node has no admin address (admin.listen)", file)
	}
	to := url.URL{Scheme: "http", Host: connectable(cfg.Admin.Listen), Path: "/replicate"}
	if device != "" {
		to.RawQuery = url.Values{"device": {device}}.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), nil)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{} // no proxy: it is this machine's, or one in the same network
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		return nil, fmt.Errorf("the node does not answer: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // it was only read from
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxReport))
	if err != nil {
		return nil, fmt.Errorf("the node's answer broke off: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %d: %s", to.Host, resp.StatusCode, strings.TrimSpace(string(body)))
	}
	report := &replicator.Report{}
	if err := json.Unmarshal(body, report); err != nil {
		return nil, fmt.Errorf("%s: no report: %w", to.Host, err)
	}
	return report, nil
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
	fmt.Fprintln(w, "DEVICE\tKIND\tPARTITIONS\tHANDOFFS\tCOMPARED\tPUSHED\tBYTES\tDROPPED\tFAILED")
	var troubles []string
	for _, d := range report.Devices {
		if d.Error != "" {
			troubles = append(troubles, d.Device+": "+d.Error)
		}
		for _, k := range d.Kinds {
			fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\n",
				d.Device, k.Kind, k.Partitions, k.Handoffs, k.Compared, k.Pushed, k.Bytes, k.Dropped, k.Failed)
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
