package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"martlet/cmd/internal/survey"
	"martlet/internal/policy"
)

// errNotInPlace is of a cluster of which not all is certain to be where it belongs.
var errNotInPlace = errors.New("not everything is known to be in its place")

// statusFlags are the flags of status.
type statusFlags struct {
	file                        string
	durability, rebalance, json bool
	list                        bool
	window                      time.Duration
	health                      healthFlags
}

func newStatus() *cobra.Command {
	var f statusFlags
	c := &cobra.Command{
		Use:   "status --config FILE [--proxy URL ...] [--watch [INTERVAL]] | {--durability | --rebalance} --config FILE",
		Short: "Say how the cluster is, which objects have too few copies, or how far a rebalance is",
		Long: `Without --durability or --rebalance, asks every storage node that the rings name, and the proxies that --proxy names (or
the one whose configuration FILE is) at their admin addresses, how they are, and says on one screen what is wrong, the
worst first: who does not answer, devices that can't be used, are full, fenced or still loading, rings and settings
that differ between processes or from FILE's, clocks, replication that is late, paused or fails, queues, and what is in
quarantine. docs/operations.md says of each line what to do. From when on something is a warning, or critical, is a
matter of --warn-... and --crit-...; --watch looks again and again.

The exit status is 0 where nothing is wrong, 1 with a warning, and 2 where something is critical, as monitoring has it;
it is 2 for a wrong command line or configuration, too, with nothing on the standard output: a check that can't be made
is to be noticed.

With one of the two, asks every device that the rings of objects name, on the storage network, what it holds: FILE is the
configuration of any process of the cluster, whose rings are used. Sums are compared first, and states only of
partitions in which sums differ; nothing is sampled. A device that can't be asked is unknown, and what it may hold
counts as no copy.

--durability counts the objects, accounts and containers that have fewer good copies in their places than they
should, and says why; of accounts and containers also those whose copies differ while nobody writes to them. --list
names each as it is found, before the sums; accounts and containers by their hashes. --rebalance adds up what is still to be moved, and says how long that takes at the rates that the
nodes know from the last minutes, each device for itself: it is done when the slowest is. Of accounts and containers
it says which devices wait for some, or hold some for others; how long that takes is not known. With --window it looks twice,
and goes by what it has seen move in between.

The exit status is 0 where all is whole, or nothing is left to be moved, 1 where that is not so or not certain, and
2 for a wrong command line or configuration.`,
		Args: arguments(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case f.file == "":
				return usage(errors.New("--config is missing; see " + c.CommandPath() + " --help"))
			case f.durability && f.rebalance:
				return usage(errors.New("--durability and --rebalance are asked for one at a time; see " + c.CommandPath() + " --help"))
			case f.durability || f.rebalance:
				if err := f.notForHealth(c, args); err != nil {
					return usage(err)
				}
			default:
				if f.list || c.Flags().Changed("window") {
					return usage(errNotForHealth)
				}
				if err := f.health.complete(c, args); err != nil {
					return usage(err)
				}
				return f.tellHealth(c.Context(), c.OutOrStdout())
			}
			switch {
			case f.list && !f.durability:
				return usage(errors.New("--list is for --durability"))
			case f.window < 0 || f.durability && c.Flags().Changed("window"):
				return usage(fmt.Errorf("--window %v: is for --rebalance, and not negative", f.window))
			}
			policies, err := policiesOf(f.file)
			if err != nil {
				return usage(err)
			}
			ask := survey.HTTP{Client: newAsker()}
			defer ask.Client.CloseIdleConnections()
			if f.durability {
				return f.tellDurability(c.Context(), c.OutOrStdout(), ask, policies)
			}
			return f.tellRebalance(c.Context(), c.OutOrStdout(), ask, policies)
		},
	}
	c.Flags().StringVar(&f.file, "config", "", "the configuration `FILE` of any process of the cluster")
	c.Flags().BoolVar(&f.durability, "durability", false, "count the objects that have too few copies in their places")
	c.Flags().BoolVar(&f.rebalance, "rebalance", false, "add up what is still to be moved")
	c.Flags().BoolVar(&f.list, "list", false, "name each object that has too few copies")
	c.Flags().BoolVar(&f.json, "json", false, "print JSON")
	f.health.flags(c)
	c.Flags().DurationVar(&f.window, "window", 0, "look at a rebalance for so long, and go by the rates seen; 0 is to ask the nodes")
	return c
}

// lackingLine is an object in a list.
type lackingLine struct {
	Policy    string          `json:"policy"`
	Partition uint32          `json:"partition"`
	Hash      string          `json:"hash"`
	Name      string          `json:"name,omitempty"` // percent-encoded; empty where nobody could be asked
	Missing   int             `json:"missing"`
	Reasons   []survey.Reason `json:"reasons"`
}

// durabilityReport is what --durability prints.
type durabilityReport struct {
	*survey.Durability
	Fragments []*survey.Fragments `json:"fragments,omitempty"` // of each policy of erasure coding
	Databases []*survey.Databases `json:"databases"`
}

// whole reports whether everything has all its copies in place, as far as that is certain.
func (r *durabilityReport) whole() bool {
	return r.Whole() && !slices.ContainsFunc(r.Fragments, func(f *survey.Fragments) bool { return !f.Whole() }) &&
		!slices.ContainsFunc(r.Databases, func(d *survey.Databases) bool { return !d.Whole() })
}

// lister prints what is found as it is found: in JSON as the list that the report begins with.
type lister struct {
	out   io.Writer
	json  bool
	begun bool
	err   error
}

// print prints one line, as text or as JSON.
func (l *lister) print(text string, line any) {
	if l.err != nil {
		return
	}
	if l.json {
		var b []byte
		if b, l.err = json.Marshal(line); l.err != nil {
			return
		}
		before := ",\n    "
		if !l.begun {
			before = "{\n  \"list\": [\n    "
		}
		text = before + string(b)
	}
	l.begun = true
	_, l.err = io.WriteString(l.out, text)
}

// end prints the report behind the list.
func (l *lister) end(r *durabilityReport) error {
	switch {
	case l.err != nil:
		return l.err
	case !l.json:
		_, err := io.WriteString(l.out, r.text())
		return err
	case !l.begun:
		return printJSON(l.out, r)
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(l.out, "\n  ],%s\n", b[1:]) // behind the brace
	return err
}

// baseLine is an account or a container in a list.
type baseLine struct {
	Kind      string          `json:"kind"`
	Partition uint32          `json:"partition"`
	Hash      string          `json:"hash"`
	Missing   int             `json:"missing"`
	Reasons   []survey.Reason `json:"reasons"`
	Differ    bool            `json:"differ"`
}

func reasonsText(all []survey.Reason) string {
	texts := make([]string, len(all))
	for i, why := range all {
		texts[i] = string(why)
	}
	return strings.Join(texts, ", ")
}

func (l lackingLine) text() string {
	return fmt.Sprintf("%s\t%s\t%d missing: %s\n", l.Policy, cmp.Or(l.Name, l.Hash), l.Missing, reasonsText(l.Reasons))
}

func (l baseLine) text() string {
	var what []string
	if l.Missing > 0 {
		what = append(what, fmt.Sprintf("%d missing: %s", l.Missing, reasonsText(l.Reasons)))
	}
	if l.Differ {
		what = append(what, "copies differ")
	}
	return fmt.Sprintf("%s\t%s\t%s\n", l.Kind, l.Hash, strings.Join(what, "; "))
}

func (f *statusFlags) tellDurability(ctx context.Context, out io.Writer, ask survey.HTTP, policies []survey.Policy) error {
	kinds, err := kindsOf(f.file)
	if err != nil {
		return usage(err)
	}
	lines := lister{out: out, json: f.json}
	var objects func(survey.Lacking)
	var bases func(survey.LackingDatabase)
	if f.list {
		objects = func(l survey.Lacking) {
			line := lackingLine{l.Policy, l.Partition, l.Hash.String(), nameOf(ctx, ask, policies, l), l.Missing, l.Reasons}
			lines.print(line.text(), line)
		}
		bases = func(l survey.LackingDatabase) {
			line := baseLine{l.Kind, l.Partition, l.Hash.String(), l.Missing, append([]survey.Reason{}, l.Reasons...), l.Differ}
			lines.print(line.text(), line)
		}
	}
	report := durabilityReport{}
	if report.Durability, err = survey.DurabilityOf(ctx, ask, policies, objects); err != nil {
		return err
	}
	for _, p := range policies {
		if p.Data == 0 {
			continue
		}
		found, err := survey.FragmentsOf(ctx, ask, p, objects)
		if err != nil {
			return err
		}
		report.Fragments = append(report.Fragments, found)
	}
	for _, kind := range kinds {
		found, err := survey.DatabasesOf(ctx, ask, kind, bases)
		if err != nil {
			return err
		}
		report.Databases = append(report.Databases, found)
	}
	err = lines.end(&report)
	if err == nil && !report.whole() {
		err = errNotInPlace
	}
	return err
}

// nameOf asks for the name of an object.
func nameOf(ctx context.Context, ask survey.HTTP, policies []survey.Policy, l survey.Lacking) string {
	if l.Holder == nil {
		return ""
	}
	index := policy.Index(0)
	for _, p := range policies {
		if p.Name == l.Policy {
			index = p.Index
		}
	}
	text, err := ask.Name(ctx, l.Holder, index, l.Hash)
	if err != nil {
		return "" // its hash tells it
	}
	return text
}

func (r *durabilityReport) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, of which %s have too few copies in their places, in %s\n", some(int(r.Objects), "object"), number(int(r.UnderReplicated)), some(int(r.Partitions), "partition"))
	for _, n := range slices.Sorted(maps.Keys(r.Missing)) {
		fmt.Fprintf(&b, "  %s missing: %s\n", some(n, "replica"), some(int(r.Missing[n]), "object"))
	}
	for _, why := range slices.Sorted(maps.Keys(r.Copies)) {
		fmt.Fprintf(&b, "  %s: %s\n", why, some(int(r.Copies[why]), "replica"))
	}
	if r.UnknownPartitions > 0 {
		fmt.Fprintf(&b, "%s unknown: none of the devices that hold them can be asked\n", some(int(r.UnknownPartitions), "partition"))
	}
	for _, f := range r.Fragments {
		b.WriteString(fragmentsText(f))
	}
	for _, d := range r.Databases {
		fmt.Fprintf(&b, "%s, of which %s have too few copies in their places, %s of them on handoffs alone; copies of %s differ\n",
			some(int(d.Databases), d.Kind), number(int(d.TooFew)), number(int(d.HandoffOnly)), number(int(d.Differ)))
		for _, why := range slices.Sorted(maps.Keys(d.Copies)) {
			fmt.Fprintf(&b, "  %s: %s\n", why, some(int(d.Copies[why]), "replica"))
		}
		b.WriteString(unknownText(d.Unknown))
	}
	b.WriteString(unknownText(r.Unknown))
	return b.String()
}

func fragmentsText(f *survey.Fragments) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s in fragments, of which %s have too few in their places; %s can't be read\n", f.Policy, some(int(f.Objects), "object"), number(int(f.Lacking)), number(int(f.Unreadable)))
	for _, n := range slices.Sorted(maps.Keys(f.Missing)) {
		fmt.Fprintf(&b, "  %s missing: %s\n", some(n, "fragment"), some(int(f.Missing[n]), "object"))
	}
	for _, why := range slices.Sorted(maps.Keys(f.Fragments)) {
		fmt.Fprintf(&b, "  %s: %s\n", why, some(int(f.Fragments[why]), "fragment"))
	}
	return b.String() + unknownText(f.Unknown)
}

func unknownText(all []survey.Unknown) string {
	var b strings.Builder
	for _, u := range all {
		fmt.Fprintf(&b, "unknown: %s: %s\n", u.Device, u.Why)
	}
	return b.String()
}

// rebalanceReport is what --rebalance prints.
type rebalanceReport struct {
	*survey.Rebalance
	survey.Pace
	Done bool `json:"done"`
}

func (f *statusFlags) tellRebalance(ctx context.Context, out io.Writer, ask survey.HTTP, policies []survey.Policy) error {
	report, err := f.lookAtRebalance(ctx, ask, policies)
	if err != nil {
		return err
	}
	report.Done = report.Rebalance.Done()
	if f.json {
		err = printJSON(out, report)
	} else {
		_, err = io.WriteString(out, report.text())
	}
	if err == nil && !report.Done {
		err = errNotInPlace
	}
	return err
}

// lookAtRebalance looks once, and asks the nodes how fast it goes; or twice, and goes by what
// it has seen.
func (f *statusFlags) lookAtRebalance(ctx context.Context, ask survey.HTTP, policies []survey.Policy) (*rebalanceReport, error) {
	began := time.Now()
	first, err := survey.RebalanceOf(ctx, ask, policies)
	if err != nil {
		return nil, err
	}
	report := &rebalanceReport{Rebalance: first}
	switch {
	case first.Nothing():
	case f.window == 0:
		report.Pace = first.At(survey.SpeedsOf(ctx, ask, policies, first))
	default:
		timer := time.NewTimer(f.window)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
		then := time.Now()
		if report.Rebalance, err = survey.RebalanceOf(ctx, ask, policies); err != nil {
			return nil, err
		}
		report.Pace = report.At(survey.SpeedsSeen(first, report.Rebalance, then.Sub(began)))
	}
	kinds, err := kindsOf(f.file)
	if err != nil {
		return nil, usage(err)
	}
	for _, k := range kinds {
		if err := report.AddDatabases(ctx, ask, k); err != nil {
			return nil, err
		}
	}
	return report, nil
}

// whatIsLeft says what is left, where, and who is unknown.
func (r *rebalanceReport) whatIsLeft() string {
	var b strings.Builder
	if !r.Nothing() {
		fmt.Fprintf(&b, "left: %s, %s, %s bytes; %s on handoffs\n", some(int(r.Partitions), "partition"), some(int(r.Objects), "object"), number(int(r.Bytes)), some(int(r.Handoffs), "partition"))
	}
	if len(r.Devices) > 0 {
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "DEVICE\tPOLICY\tWAITS FOR\tOBJECTS\tBYTES\tDONE IN\tHOLDS FOR OTHERS")
		for _, d := range r.Devices {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", d.Device, d.Policy, some(int(d.Partitions), "partition"), number(int(d.Objects)), number(int(d.Bytes)), doneIn(&d), some(int(d.Handoffs), "partition"))
		}
		_ = w.Flush() // to memory
	}
	if len(r.Databases) > 0 {
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "DEVICE\tWAITS FOR\tHOLDS FOR OTHERS")
		for _, d := range r.Databases {
			fmt.Fprintf(w, "%s\t%s\t%s\n", d.Device, some(int(d.Waits), d.Kind), some(int(d.Handoffs), d.Kind))
		}
		_ = w.Flush() // to memory
	}
	b.WriteString(unknownText(r.Unknown))
	return b.String()
}

// doneIn says how long what a device waits for takes.
func doneIn(d *survey.DeviceLeft) string {
	switch {
	case d.Objects == 0 && d.Bytes == 0:
		return "-"
	case d.ETASeconds == nil:
		return "?"
	}
	return lasting(time.Duration(*d.ETASeconds * float64(time.Second)))
}

func (r *rebalanceReport) text() string {
	text := r.whatIsLeft()
	switch {
	case r.Nothing() && len(r.Databases) > 0:
		return text + "all objects are in their places: nobody knows when accounts and containers will be\n"
	case r.Nothing():
		return text + "nothing is left to be moved\n"
	case r.ETASeconds != nil:
		return text + fmt.Sprintf("%s bytes and %s objects a second: objects are done in about %s\n", number(int(r.BytesPerSecond)), number(int(r.ObjectsPerSecond)), lasting(time.Duration(*r.ETASeconds*float64(time.Second))))
	}
	return text + "not everything that waits is known to move: nobody knows when it will be done\n"
}

func printJSON(out io.Writer, what any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(what)
}
