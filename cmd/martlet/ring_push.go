package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"martlet/cmd/internal/push"
	"martlet/internal/clusterkey"
	"martlet/ring"
)

// maxPushes is how many processes are asked at one time, at most.
const maxPushes = 256

// pushFlags are those of both verbs that speak to all processes.
type pushFlags struct {
	file         string
	proxies      []string
	concurrency  int
	timeout      time.Duration
	dryRun, goOn bool
	looking      bool // nothing is to be sent
}

func (f *pushFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.file, "config", "", "the configuration `FILE` of any process of the cluster that has its key")
	c.Flags().StringArrayVar(&f.proxies, "proxy", nil, "`URL` of a proxy, such as http://10.0.0.1:8080 (may be repeated)")
	c.Flags().IntVar(&f.concurrency, "concurrency", 8, "`N` processes at one time")
	c.Flags().DurationVar(&f.timeout, "timeout", time.Minute, "for each question and each ring")
}

const pushHow = `Storage nodes are found by the rings, by those in the rings.folder of the configuration, and by what nodes
say that they run; they are reached at their addresses on the storage network. Proxies are in no ring:
--proxy names each, by its own address and not that of a load balancer.

Requests and answers are signed with the cluster's key (cluster.key_file), which every process has to
have, proxies too; and the clocks have to agree. A certificate of a proxy is not looked at, as the key says who it is.`

func pushVerb() verb {
	f := &pushFlags{}
	return verb{
		use:   "push RING... --config FILE [--proxy URL]...",
		short: "Hand new rings to all storage nodes and proxies, which take them in use at once",
		long: `RING is a ring file (object-1.ring.gz), a builder whose ring file is meant, or a folder whose rings are.
Their names say what they are the rings of.

All are asked first what they run. Where one has a newer ring, or another of the same version, nothing is
sent to anybody. Then storage nodes get what they lack, and when all that are in the rings have it, proxies.
Each looks at what it gets, keeps it in its rings.folder, synced, and says what it runs then. A
node that can't be reached stops it before the proxies, unless --go-on says that it does not matter; one that
is no longer in the rings does not. The same command again sends what is missing.

` + pushHow + `

The exit status is 0 where everybody runs the rings, also where they did already; 1 where somebody could
not be reached or has refused, and when it was interrupted; 2 for an error, and where nothing was sent as somebody has a newer ring.`,
		args: cobra.MinimumNArgs(1), files: []string{"ring.gz", "builder"}, naming: -1,
		flags: func(c *cobra.Command) {
			f.add(c)
			c.Flags().BoolVar(&f.dryRun, "dry-run", false, "only say what each runs, and what would be sent")
			c.Flags().BoolVar(&f.goOn, "go-on", false, "to the proxies, though storage nodes could not be reached")
		},
		run: f.run,
	}
}

func runningVerb() verb {
	f := &pushFlags{dryRun: true, looking: true}
	return verb{
		use:   "running [RING...] --config FILE [--proxy URL]...",
		short: "Ask all storage nodes and proxies which rings they have in use",
		long: `With RING, a ring file, a builder or a folder, it says who runs that; without, whether all run the same.

` + pushHow + `

The exit status is 0 where all run the same, and RING; 1 where not, where a file is not what is in use, or
where somebody can't be reached; 2 for an error.`,
		args: cobra.ArbitraryArgs, files: []string{"ring.gz", "builder"}, naming: -1,
		flags: f.add, run: f.run,
	}
}

// pushed is what has come of either.
type pushed struct {
	said
	DryRun    bool            `json:"dry_run"`
	Rings     []*push.Ring    `json:"rings"`
	Processes []*push.Process `json:"processes"`
	Conflicts []string        `json:"conflicts,omitempty"` // why nothing was sent
	Stopped   bool            `json:"stopped"`             // before the proxies

	looking bool
}

func (f *pushFlags) run(c *cobra.Command, args []string) (answer, error) {
	o, err := f.options(args)
	if err != nil {
		return nil, err
	}
	p := newProgress(c.ErrOrStderr())
	if p != nil {
		defer p.end()
		o.Told = p.say
	}
	r, err := push.Run(c.Context(), o)
	if err != nil {
		return nil, err
	}
	a := &pushed{DryRun: f.dryRun, Rings: o.Rings, Processes: r.Processes, Conflicts: r.Conflicts, Stopped: r.Stopped, looking: f.looking}
	a.judge(r)
	return a, nil
}

func (f *pushFlags) options(args []string) (o push.Options, err error) {
	switch {
	case f.file == "":
		return o, errors.New("--config is missing: the configuration of a process that has the cluster's key")
	case f.concurrency < 1 || f.concurrency > maxPushes:
		return o, fmt.Errorf("--concurrency %d: must be from 1 to %d", f.concurrency, maxPushes)
	case f.timeout <= 0:
		return o, fmt.Errorf("--timeout %v: must be more than 0", f.timeout)
	}
	cluster, folder, err := clusterOf(f.file)
	if err != nil {
		return o, err
	}
	if cluster.KeyFile == "" {
		return o, fmt.Errorf("%s: key \"cluster.key_file\" is not set: rings are handed out by who has the cluster's key, to processes that have it", f.file)
	}
	o = push.Options{Proxies: f.proxies, DryRun: f.dryRun, Looking: f.looking, GoOn: f.goOn, Concurrency: f.concurrency, Timeout: f.timeout}
	if o.Keys, err = clusterkey.Open(cluster.KeyFile); err != nil {
		return o, err
	}
	var files []string
	for _, arg := range args {
		if strings.HasSuffix(arg, ".builder") {
			arg = ringFile(arg)
		}
		files = append(files, arg)
	}
	if o.Rings, err = push.Load(files); err != nil {
		return o, err
	}
	found, err := filepath.Glob(filepath.Join(folder, "*.ring.gz"))
	if err != nil {
		return o, err
	}
	for _, path := range found {
		if r, err := ring.Load(path); err == nil { // they only say where nodes may be
			o.Others = append(o.Others, r)
		}
	}
	if len(o.Rings) == 0 && len(o.Others) == 0 {
		return o, fmt.Errorf("%s: there is no ring in it that says where the nodes are", folder)
	}
	return o, nil
}

// judge says in words what is not as it should be.
func (a *pushed) judge(r *push.Result) {
	for _, url := range r.Twice {
		a.warn("%s leads to a process that was reached in another way as well: if another proxy is meant, that was not reached; name each by its own address", url)
	}
	for _, p := range a.Processes {
		if p.Error != "" {
			leaves := ""
			if p.Leaves {
				leaves = ", which is in none of the rings to be handed out,"
			}
			a.warn("%s%s could not be asked: %s", p.Name, leaves, p.Error)
		}
		for _, s := range p.Rings {
			switch {
			case s.Error != "":
				a.warn("%s: %s: %s", p.Name, s.Name, s.Error)
			case a.looking && s.File != "":
				a.warn("%s runs version %d of the %s ring, and may not after a restart: %s", p.Name, s.Was.Version, s.Name, s.File)
			case a.looking && (s.State == push.Behind || s.State == push.Newer || s.State == push.Other || s.State == push.Held):
				a.warn("%s runs version %d of the %s ring", p.Name, s.Was.Version, s.Name)
			}
		}
	}
	if a.looking && len(a.Rings) == 0 {
		a.compare()
	}
	if r.Interrupted {
		a.warn("interrupted: run it again, and it does what is missing")
	}
	if a.Stopped && a.DryRun {
		a.warn("the proxies would not be sent anything, as not all storage nodes that are in the rings could have them: see to those first, or say --go-on")
	} else if a.Stopped {
		a.warn("the proxies were not sent anything, as not all storage nodes that are in the rings have them: run it again when they can be reached, or with --go-on")
	}
	for _, s := range r.Shared {
		a.note("note: %s has its rings in the folder of %s: what that node is handed is the proxy's at its next look (rings.check_every), though other nodes may lack it still; give each a rings.folder of its own", s.Proxy, s.Node)
	}
	if !slices.ContainsFunc(a.Processes, func(p *push.Process) bool { return p.Kind == "proxy" }) {
		a.note("note: no proxy is named (--proxy)")
	}
}

// compare warns of rings that not all have alike, or not at all.
func (a *pushed) compare() {
	first := map[string]*push.State{}
	for _, p := range a.Processes {
		for _, s := range p.Rings {
			if is := first[s.Name]; is == nil {
				first[s.Name] = s
			} else if *is.Now != *s.Now {
				a.warn("%s runs version %d of the %s ring, and not version %d like others, or one that says something else", p.Name, s.Now.Version, s.Name, is.Now.Version)
			}
		}
	}
	for _, p := range a.Processes {
		if p.Error != "" {
			continue // it is said that nothing is known of it
		}
		for _, name := range slices.Sorted(maps.Keys(first)) {
			if !slices.ContainsFunc(p.Rings, func(s *push.State) bool { return s.Name == name }) {
				a.warn("%s has no %s ring, and others have: its configuration has no such policy (cluster.policies)", p.Name, name)
			}
		}
	}
}

// failed makes the exit status 2 where nothing was sent.
func (a *pushed) failed() []string {
	if a.looking || len(a.Conflicts) == 0 {
		return nil
	}
	return append(slices.Clone(a.Conflicts), "nothing was sent")
}

func (a *pushed) text(p *page) {
	rows := [][]cell{{left("PROCESS"), left("KIND"), left("PROGRAM"), left("RINGS")}}
	good := 0
	for _, one := range a.Processes {
		state := left("could not be asked").in(yellow)
		if one.Error == "" {
			state = left(a.states(one))
		}
		if a.counts(one) {
			good++
		} else {
			state = state.in(yellow)
		}
		rows = append(rows, []cell{left(one.Name), left(one.Kind), left(cmp.Or(one.Version, "-")), state})
	}
	p.table("", rows)
	p.printf("\n%d of %d processes %s\n", good, len(a.Processes), a.good())
}

// counts reports whether a process is as it should be.
func (a *pushed) counts(one *push.Process) bool {
	return one.Good() && !(a.looking && slices.ContainsFunc(one.Rings, func(s *push.State) bool { return s.State == push.Behind }))
}

// good is what is said of processes that are as they should be.
func (a *pushed) good() string {
	switch {
	case len(a.Rings) == 0:
		return "could be asked"
	case a.DryRun && !a.looking:
		return "run these rings, or would be sent them"
	}
	return "run these rings"
}

// states is the rings of a process in one line.
func (a *pushed) states(one *push.Process) string {
	var all []string
	for _, s := range one.Rings {
		text := s.Name
		switch {
		case s.Was == nil:
			text += ": " + s.State
		case s.State == push.Sent:
			text += fmt.Sprintf(" %d → %d", s.Was.Version, s.Now.Version)
		case s.State == push.Behind && !a.looking:
			text += fmt.Sprintf(" %d, would be sent", s.Was.Version)
		case s.State == push.Behind && s.File != "":
			text += fmt.Sprintf(" %d, not in its file", s.Was.Version)
		case s.State == push.Has || s.State == push.Seen:
			text += fmt.Sprintf(" %d", s.Was.Version)
		default:
			text += fmt.Sprintf(" %d, %s", s.Was.Version, s.State)
		}
		all = append(all, text)
	}
	return strings.Join(all, "; ")
}
