package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"martlet/cmd/internal/node"
)

// errStillFenced is of a node of which something is fenced.
var errStillFenced = errors.New("what is fenced is not pushed, until it is readmitted")

func newDeviceReadmit() *cobra.Command {
	var file, device string
	var asItIs, asEmpty, force, asJSON bool
	c := &cobra.Command{
		Use:   "readmit --config FILE [--device NAME] [--as-is | --as-empty]",
		Short: "Show what is fenced on a running node's devices, and end it",
		Long: `A device that could reach no other for nearly as long as deletes are remembered (replicator.reclaim_age) may hold
what was deleted meanwhile, and nobody could tell. So what it holds is fenced: nothing of it is pushed to others,
while it takes what others push, and is read.

With --as-is you say that what the device has is right, such as where the whole cluster was switched off: it is pushed
again, and what was deleted elsewhere comes back with it.

Where that can't be said, --as-empty has a device (--device) begin empty: all that it holds is set aside in a folder on it,
set-aside-TIME, and others bring what belongs there. Only a device of which something is fenced is emptied, and only
if every object is on another device in no lesser state, and some of each account and container. All other devices are
asked for that, on the storage network. With --force it is emptied in any case; what was set aside is there until you
remove it.

Without either it is only shown. The exit status is 0 where nothing is fenced, then, 1 where something is, and 2 for a
wrong command line or configuration, no such device, or a node that does not answer.`,
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if file == "" {
				return usage(errors.New("--config is missing; see " + c.CommandPath() + " --help"))
			}
			switch {
			case asEmpty && (asItIs || device == ""):
				return usage(errors.New("--as-empty is for one device (--device), and not with --as-is"))
			case force && !asEmpty:
				return usage(errors.New("--force is for --as-empty"))
			case asEmpty:
				return readmitEmpty(c.Context(), c.OutOrStdout(), file, device, force, asJSON)
			}
			method := http.MethodGet
			if asItIs {
				method = http.MethodPost
			}
			var report []node.DeviceFences
			if err := askReplicator(c.Context(), file, method, node.ReadmitPath, deviceQuery(device), &report); err != nil {
				return usage(err)
			}
			var err error
			if asJSON {
				err = printJSON(c.OutOrStdout(), report)
			} else {
				err = printFences(c.OutOrStdout(), report)
			}
			if err == nil {
				err = stillFenced(report)
			}
			return err
		},
	}
	c.Flags().StringVar(&file, "config", "", "the configuration `FILE` of the storage node")
	c.Flags().StringVar(&device, "device", "", "only this device, by its `NAME`")
	c.Flags().BoolVar(&asItIs, "as-is", false, "what is fenced is right: push it again")
	c.Flags().BoolVar(&asEmpty, "as-empty", false, "set aside all that the device holds, and have others bring what belongs there")
	c.Flags().BoolVar(&force, "force", false, "empty it also where it has what no other device has, or that is not known")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// stillFenced is the error of a report in which something is fenced, or not known.
func stillFenced(report []node.DeviceFences) error {
	for _, d := range report {
		if d.Error != "" || d.Damaged != "" || len(d.Fenced) > 0 {
			return errStillFenced
		}
	}
	return nil
}

func printFences(out io.Writer, report []node.DeviceFences) error {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, d := range report {
		switch {
		case d.Error != "":
			fmt.Fprintf(w, "%s\tnot known: %s\n", d.Device, d.Error)
		case d.Damaged != "":
			fmt.Fprintf(w, "%s\tall is fenced: %s\n", d.Device, d.Damaged)
		case len(d.Fenced) == 0:
			fmt.Fprintf(w, "%s\tnothing is fenced\n", d.Device)
		}
		for _, f := range d.Fenced {
			fmt.Fprintf(w, "%s\t%s: %s fenced, in step until %s\n", d.Device, f.Set, some(f.Partitions, "partition"), f.Since.Format(time.RFC3339))
		}
	}
	_ = w.Flush() // to memory
	_, err := io.WriteString(out, b.String())
	return err
}
