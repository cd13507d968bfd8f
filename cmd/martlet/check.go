package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"martlet/cmd/internal/check"
	"martlet/cmd/internal/check/cluster"
	"martlet/cmd/internal/check/nemesis"
	"martlet/cmd/internal/check/workload"
	made "martlet/cmd/internal/cluster"
	"martlet/internal/apart"
)

// The exit statuses of check beside 0 and exitUsage.
const (
	exitBroken     = 1
	exitIncomplete = 3
)

// checkApart is the environment variable by which the process that has disks of its own knows itself.
const checkApart = "MARTLET_CHECK_APART"

// checkFlags are the flags of check.
type checkFlags struct {
	check.Options
	dir, faults, preset     string
	binary, other           string
	policies                []string
	nodes, devices, proxies int
	replicas                int
	endpoints               []string
	lab, labProgram         string
	json, disks             bool
	ahead                   time.Duration
}

func newCheck() *cobra.Command {
	f := checkFlags{Options: check.Defaults()}
	c := &cobra.Command{
		Use:   "check [--dir DIR] [--duration D] [--seed N] [--faults KIND,...] | --lab DIR | --endpoint URL",
		Short: "Break a cluster while clients work on it, and say whether a promise was broken",
		Long: `Many clients read and write, the cluster is broken meanwhile in every way that it promises to bear, and what the clients
saw is judged: docs/check.md is the promise, and says how to read what is printed.

Without --endpoint or --lab it starts a cluster of its own, of a process for each node and proxy, in DIR, which must be
empty; without --dir in a temporary folder that is kept only where there is something to be seen, a broken promise or why it could not be
carried out. As root devices are disks of their
own on images, so that power cuts, full and failing disks are among the faults; else they are folders. Nothing is left
running, or mounted, however it ends.

What happened is in the folder: timeline.txt is what is printed, report.json all counts, history.jsonl each operation, and
violation-*.jsonl the smallest history that could be found for what was broken. The last line is the verdict. With the same
--seed and other flags the names, the operations of each client and the faults are the same; when they happen is not.

The exit status is 0 where every promise was kept, 1 where one was broken, 2 for a wrong command line, and 3 where the check
could not be carried out, or saw too little to say anything.`,
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	f.flags(c)
	return c
}

func (f *checkFlags) flags(c *cobra.Command) {
	c.Flags().StringVar(&f.dir, "dir", "", "the `DIR` for the cluster and all that is written down; empty, or not there")
	c.Flags().DurationVar(&f.Duration, "duration", f.Duration, "how long, up to when a last round begins")
	c.Flags().Uint64Var(&f.Seed, "seed", 0, "names, operations and faults follow from it; by chance without")
	c.Flags().StringVar(&f.faults, "faults", "", "only these `KINDS`: "+kindList()+"; or none")
	c.Flags().DurationVar(&f.Every, "every", f.Every, "about how often something is broken")
	c.Flags().DurationVar(&f.Bound, "bound", f.Bound, "within which everything has to come to where it belongs, once all is up")
	c.Flags().BoolVar(&f.GoOn, "keep-going", false, "go on where a promise was broken, in new containers")
	c.Flags().StringArrayVar(&f.policies, "policy", []string{"ec21=2+1"}, "a storage policy beside the default one: `NAME, NAME=replicas:N or NAME=K+M`; may be given again")
	c.Flags().IntVar(&f.nodes, "nodes", 4, "storage nodes")
	c.Flags().IntVar(&f.replicas, "replicas", 3, "of all that is not coded; with one no node may be out")
	c.Flags().IntVar(&f.devices, "devices", 2, "devices of each node")
	c.Flags().IntVar(&f.proxies, "proxies", 2, "proxies")
	c.Flags().DurationVar(&f.ahead, "ahead", 0, "by how much the clock of the last proxy is, in a build with -tags planted")
	c.Flags().IntVar(&f.Workload.Clients, "clients", f.Workload.Clients, "clients")
	c.Flags().Float64Var(&f.Workload.Rate, "rate", f.Workload.Rate, "operations a second, of all clients; 0 is as many as there can be")
	c.Flags().IntVar(&f.Workload.Names, "names", f.Workload.Names, "objects in each container")
	c.Flags().StringVar(&f.preset, "workload", "", "only operations of a kind: "+strings.Join(workload.Presets(), ", "))
	c.Flags().StringVar(&f.binary, "binary", "", "the `PROGRAM` that the cluster's processes are, instead of this one")
	c.Flags().StringVar(&f.other, "other", "", "another version of the `PROGRAM`, such as the release before: every other process is that one, and upgrades, forward and back, are among the faults")
	c.Flags().BoolVar(&f.disks, "disks", true, "devices are disks of their own where there is the right to mount")
	c.Flags().StringArrayVar(&f.endpoints, "endpoint", nil, "a proxy of a cluster that is there, `URL`, such as http://10.0.0.1:8080; nothing is broken; may be given again")
	c.Flags().StringVar(&f.Workload.User, "user", f.Workload.User, "who signs in, `ACCOUNT:USER`")
	c.Flags().StringVar(&f.Workload.Key, "key", f.Workload.Key, "the user's key")
	c.Flags().StringVar(&f.lab, "lab", "", "the `DIR` of a lab that is up: it is broken by the lab's commands")
	c.Flags().StringVar(&f.labProgram, "lab-program", "", "the `PROGRAM` that breaks it; lab beside this one, or of the PATH, without")
	c.Flags().BoolVar(&f.json, "json", false, "print the report as JSON, and the timeline on the standard error")
}

func kindList() string {
	var all []string
	for _, k := range nemesis.Kinds() {
		all = append(all, string(k))
	}
	return strings.Join(all, ", ")
}

// complete checks the flags.
func (f *checkFlags) complete(c *cobra.Command) (policies []made.Policy, err error) {
	if f.Kinds, err = nemesis.ParseKinds(f.faults); err != nil {
		return nil, fmt.Errorf("--faults: %w", err)
	}
	switch {
	case f.Duration <= 0 || f.Every <= 0 || f.Bound <= 0:
		return nil, errors.New("--duration, --every and --bound must be above 0")
	case f.ahead != 0 && (!clocksMove || f.proxies < 2):
		return nil, errors.New("--ahead wants two --proxies, and a build whose clocks can be moved (-tags planted)")
	case len(f.endpoints) > 0 && f.lab != "":
		return nil, errors.New("--endpoint and --lab are of two kinds of cluster")
	case f.other != "" && (len(f.endpoints) > 0 || f.lab != ""):
		return nil, errors.New("--other is of a cluster that the check starts, not of one that is there")
	case f.devices < 1 || f.replicas < 1 || f.nodes < f.replicas || f.proxies < 1:
		return nil, errors.New("a cluster needs at least as many --nodes as --replicas, and one of each and of devices and proxies")
	}
	if !c.Flags().Changed("seed") {
		f.Seed = rand.Uint64() >> 16 // short enough to be typed
	}
	f.Workload.Preset = f.preset
	if err := f.Workload.Check(); err != nil {
		return nil, err
	}
	for _, text := range f.policies {
		p, err := made.ParsePolicy(text)
		if err != nil {
			return nil, err
		}
		policies = append(policies, p)
	}
	return policies, nil
}

func (f *checkFlags) run(c *cobra.Command) error {
	policies, err := f.complete(c)
	if err != nil {
		return usage(err)
	}
	incomplete := func(err error) error {
		_, _ = fmt.Fprintln(c.ErrOrStderr(), "martlet:", err) // there is nowhere else to say it
		return statusError(exitIncomplete)
	}
	local := len(f.endpoints) == 0 && f.lab == ""
	if local && f.disks {
		code, err := apart.Run(c.Context(), checkApart) // the seed is chosen again there
		if err != nil {
			return incomplete(err) // no status of its own tells a promise that was broken
		}
		if code == 0 {
			return nil
		}
		if code > 0 {
			return statusError(code)
		}
	}
	dir, temporary, err := f.folder()
	if err != nil {
		return usage(err)
	}
	report, err := f.inFolder(c, dir, policies, local)
	broken, wrong := report != nil && report.Verdict == check.Broken, errors.Is(err, made.ErrOptions)
	if temporary {
		if broken || err != nil && !wrong && c.Context().Err() == nil {
			_, _ = fmt.Fprintln(c.ErrOrStderr(), "martlet: what there is to see of it is in", dir) // as above
		} else {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}
	switch {
	case broken:
		return statusError(exitBroken)
	case wrong:
		return usage(err)
	case err != nil:
		return incomplete(err)
	}
	return nil
}

// folder is where all is written: an empty one.
func (f *checkFlags) folder() (dir string, temporary bool, err error) {
	if f.dir == "" {
		dir, err = os.MkdirTemp("", "martlet-check-")
		return dir, true, err
	}
	entries, err := os.ReadDir(f.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return f.dir, false, os.MkdirAll(f.dir, 0o750)
	case err != nil:
		return "", false, err
	case len(entries) > 0:
		return "", false, fmt.Errorf("--dir %s: is not empty", f.dir)
	}
	return f.dir, false, nil
}

// inFolder makes the check.
func (f *checkFlags) inFolder(c *cobra.Command, dir string, policies []made.Policy, local bool) (report *check.Report, err error) {
	ctx, out := c.Context(), c.OutOrStdout()
	timeline := out
	if f.json {
		timeline = c.ErrOrStderr()
	}
	running := newProgress(c.ErrOrStderr())
	defer running.end()
	f.Options.Dir, f.Version = dir, versionText()
	f.Say = func(line string) { running.above(timeline, line) }
	f.Doing = running.say
	f.About = map[string]string{"duration": f.Duration.String(), "every": f.Every.String(), "workload": f.preset, "go": runtime.Version()}
	var target check.Cluster = cluster.Remote{URLs: f.endpoints}
	switch {
	case local:
		for i, p := range policies {
			f.About["policy "+strconv.Itoa(i+1)] = p.String()
		}
		f.About["nodes"], f.About["devices"], f.About["proxies"] = strconv.Itoa(f.nodes), strconv.Itoa(f.devices), strconv.Itoa(f.proxies)
		running.say("a cluster of %d nodes and %d proxies is started", f.nodes, f.proxies)
		l, err := f.start(ctx, dir, policies)
		if err != nil {
			return nil, err
		}
		defer func() {
			err = errors.Join(err, l.Close())
			if report == nil || report.Verdict != check.Broken { // else they are evidence
				err = errors.Join(err, os.RemoveAll(l.Images()))
			}
		}()
		if versions := l.Versions(); versions != "" {
			f.About["versions"] = versions
			f.Say("          " + versions)
		}
		target, f.Workload.Policies = l, l.Policies()
	case f.lab != "":
		if !c.Flags().Changed("bound") {
			f.Bound = 5 * time.Minute // its background work comes once a minute
		}
		lab, err := cluster.OpenLab(ctx, f.labProgram, f.lab)
		if err != nil {
			return nil, err
		}
		target, f.Workload.Policies, f.Workload.Transport = lab, lab.Policies(), lab.Transport()
		f.Limits.Grace = 400 * time.Millisecond // its proxies have the default of post_quorum_timeout
	default:
		f.Limits.Skew, f.Limits.Grace = time.Second, 400*time.Millisecond // nobody knows
	}
	if f.faults != "" && len(f.Kinds) > 0 && len(nemesis.Offered(target, f.Kinds)) == 0 {
		return nil, noneOffered(target, f.Kinds)
	}
	report, err = check.Run(ctx, target, f.Options)
	running.end()
	return report, errors.Join(err, f.print(out, report))
}

// noneOffered says why none of the faults that were asked for there is.
func noneOffered(c check.Cluster, kinds []nemesis.Kind) error {
	var all []error
	for _, o := range c.Offers() {
		if slices.Contains(kinds, o.Kind) {
			all = append(all, fmt.Errorf("--faults %s: %s", o.Kind, o.Why))
		}
	}
	return errors.Join(all...)
}

// start starts a cluster.
func (f *checkFlags) start(ctx context.Context, dir string, policies []made.Policy) (*cluster.Local, error) {
	binary := f.binary
	if binary == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		binary = self
	}
	return cluster.Start(ctx, cluster.Options{
		Dir: filepath.Join(dir, "cluster"), Binary: binary, Other: f.other, Nodes: f.nodes, Devices: f.devices, Proxies: f.proxies, Replicas: f.replicas, Policies: policies,
		ClusterKey: f.Seed%2 == 1,
		// Where rows stay in the process of a node, its own listings have them, however many networks are broken, and queues are seldom all there is.
		Apart: f.Seed/2%2 == 1 || f.faults == string(nemesis.Queue),
		Disks: f.disks && apart.Is(checkApart), Clocks: clocksMove, Ahead: f.ahead,
	})
}

// print prints the report, and the verdict as the last line.
func (f *checkFlags) print(out io.Writer, r *check.Report) error {
	if f.json {
		return printJSON(out, r)
	}
	_, err := fmt.Fprintf(out, "\n%s%s\n", r.Text(), r.Last())
	return err
}
