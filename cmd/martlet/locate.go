package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"martlet/cmd/internal/config"
	"martlet/internal/backend"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/ring"
)

// locateFlags are the flags of locate.
type locateFlags struct {
	file, ring, policy string
	prefix, suffix     string
	handoffs           int
	all                bool
}

func newLocate() *cobra.Command {
	var f locateFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "locate ACCOUNT [CONTAINER [OBJECT]] {--config FILE [--policy NAME] | --ring FILE ...}",
		Short: "Say where an account, container or object belongs, with a curl line for each place",
		Long: `locate prints the hash, the partition, and the devices that hold it: first the primaries, then those that
stand in for them, in the order in which they are asked. The curl lines ask each device what it has.

--config is the configuration of a proxy or storage node: it has the hash prefix and suffix, the folder of
the rings, and the policies. --ring takes another ring file than the one that the configuration leads to; with
it and --hash-prefix or --hash-suffix no configuration is needed. The names may be one argument, with slashes.

Which policy an object's container has is not looked up: without --policy it is the default one.`,
		Args: arguments(cobra.RangeArgs(1, 3)),
		RunE: func(c *cobra.Command, args []string) error {
			a, err := f.locate(c, args)
			if err != nil {
				return usage(err)
			}
			return tell(c, a, asJSON)
		},
	}
	c.Flags().StringVar(&f.file, "config", "", "the configuration `FILE` of a proxy or storage node")
	c.Flags().StringVar(&f.ring, "ring", "", "look into this ring `FILE`")
	c.Flags().StringVar(&f.policy, "policy", "", "the `NAME` or index of the object's storage policy")
	c.Flags().StringVar(&f.prefix, "hash-prefix", "", "the cluster's hash prefix, instead of --config")
	c.Flags().StringVar(&f.suffix, "hash-suffix", "", "the cluster's hash suffix, instead of --config")
	c.Flags().IntVar(&f.handoffs, "handoffs", -1, "how many handoffs; as many as there are replicas if not given")
	c.Flags().BoolVar(&f.all, "all", false, "all handoffs")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// located is where something belongs.
type located struct {
	said
	Account   string  `json:"account"`
	Container string  `json:"container,omitempty"`
	Object    string  `json:"object,omitempty"`
	Policy    string  `json:"policy,omitempty"` // of an object
	Index     *uint16 `json:"policy_index,omitempty"`
	Ring      string  `json:"ring"`
	Version   int64   `json:"ring_version"`
	Hash      string  `json:"hash"`
	Partition uint32  `json:"partition"`
	PartPower int     `json:"part_power"`
	Primaries []spot  `json:"primaries"`
	Handoffs  []spot  `json:"handoffs"`

	more int           // handoffs that are not listed
	of   policy.Policy // of an object; without data where it is not known
}

// spot is a device that something belongs on, and how to ask it.
type spot struct {
	deviceInfo
	URL  string `json:"url"`
	Curl string `json:"curl"`

	// Under a policy of erasure coding: whether the object's commit belongs there, which fragment does, and what asks for the fragments
	// of it that are there.
	Commit        bool   `json:"commit,omitempty"`
	Fragment      *int   `json:"fragment,omitempty"`
	FragmentsCurl string `json:"fragments_curl,omitempty"`
}

// holds says what belongs on a device under a policy of erasure coding.
func (s *spot) holds() string {
	switch {
	case s.Fragment == nil:
		return ""
	case s.Commit:
		return fmt.Sprintf("commit, fragment %d", *s.Fragment)
	}
	return fmt.Sprintf("fragment %d", *s.Fragment)
}

// pathOf reads the names: one argument each, or all in one.
func pathOf(args []string) (name.Path, error) {
	if len(args) == 1 && strings.Contains(args[0], "/") {
		args = strings.SplitN(strings.TrimPrefix(args[0], "/"), "/", 3)
	}
	args = append(append([]string{}, args...), "", "")[:3]
	p := name.Path{Account: args[0], Container: args[1], Object: args[2]}
	switch {
	case p.Account == "":
		return p, errors.New("the account has no name")
	case strings.Contains(p.Account, "/") || strings.Contains(p.Container, "/"):
		return p, errors.New("names of accounts and containers have no slashes")
	case p.Container == "" && p.Object != "":
		return p, errors.New("the container has no name")
	}
	return p, nil
}

func (f *locateFlags) locate(c *cobra.Command, args []string) (answer, error) {
	p, err := pathOf(args)
	if err != nil {
		return nil, err
	}
	if f.all && f.handoffs >= 0 {
		return nil, errors.New("either --all or --handoffs says how many handoffs")
	}
	a := &located{Account: p.Account, Container: p.Container, Object: p.Object}
	hasher, err := f.find(c, a)
	if err != nil {
		return nil, err
	}
	r, err := loadRing(a.Ring)
	if err != nil {
		return nil, err
	}
	hash := hasher.Hash(p)
	partition := r.Partition(hash)
	a.Version, a.Hash, a.Partition, a.PartPower = r.Version(), hash.String(), uint32(partition), r.PartPower()
	for i, d := range r.AppendPrimaries(nil, partition) {
		s := a.spot(d, p)
		if a.of.Coded() {
			s.Commit, s.Fragment = i < a.of.Replicas(), &i
		}
		a.Primaries = append(a.Primaries, s)
	}
	limit := f.handoffs
	if limit < 0 {
		limit = len(a.Primaries)
	}
	a.Handoffs = []spot{}
	for d := range r.Handoffs(partition) {
		if !f.all && len(a.Handoffs) == limit {
			a.more++
			continue
		}
		a.Handoffs = append(a.Handoffs, a.spot(d, p))
	}
	return a, nil
}

// find works out the ring and the policy, and how names are hashed.
func (f *locateFlags) find(c *cobra.Command, a *located) (name.Hasher, error) {
	given := f.prefix != "" || f.suffix != ""
	switch {
	case f.file != "" && given:
		return name.Hasher{}, errors.New("either --config or --hash-prefix and --hash-suffix say how names are hashed")
	case f.file == "" && f.ring == "":
		return name.Hasher{}, fmt.Errorf("--config or --ring is missing; see %s --help", c.CommandPath())
	case f.file == "" && !given:
		return name.Hasher{}, errors.New("--ring needs --config, or --hash-prefix or --hash-suffix: names are hashed with a secret of the cluster")
	}
	cluster := config.Cluster{HashPathPrefix: f.prefix, HashPathSuffix: f.suffix}
	folder := ""
	if f.file != "" {
		var err error
		if cluster, folder, err = clusterOf(f.file); err != nil {
			return name.Hasher{}, err
		}
	}
	kind := "account"
	switch {
	case a.Object != "":
		kind = "object"
		if err := f.choose(&cluster, a); err != nil {
			return name.Hasher{}, err
		}
		kind += policy.Index(*a.Index).Suffix()
	case f.policy != "":
		return name.Hasher{}, errors.New("--policy is for objects")
	case a.Container != "":
		kind = "container"
	}
	a.Ring = f.ring
	if a.Ring == "" {
		a.Ring = filepath.Join(folder, kind+".ring.gz")
	}
	return name.NewHasher(cluster.HashPathPrefix, cluster.HashPathSuffix)
}

// choose finds the policy of an object.
func (f *locateFlags) choose(cluster *config.Cluster, a *located) error {
	set, err := cluster.PolicySet()
	if err != nil {
		return err
	}
	p := set.Default()
	if f.policy != "" {
		var ok bool
		if p, ok = set.ByName(f.policy); !ok {
			i, err := policy.ParseIndex(f.policy)
			if err == nil {
				p, ok = set.ByIndex(i)
			}
			// Without a configuration, an index is all there is to a policy.
			if err == nil && !ok && f.file == "" {
				p, ok = policy.Policy{Index: i}, true
			}
		}
		if !ok {
			return fmt.Errorf("there is no policy %q; there are %s", f.policy, namesOf(set))
		}
	} else if len(set.All()) > 1 {
		a.note("note: as of the default policy, %s; --policy names another", p.Name)
	}
	index := uint16(p.Index)
	a.Policy, a.Index, a.of = p.Name, &index, p
	return nil
}

// clusterOf is what the configuration of a process says of its cluster.
func clusterOf(file string) (cluster config.Cluster, rings string, err error) {
	kind, err := config.CheckFile(file)
	if err != nil {
		return cluster, "", err
	}
	if kind == config.KindProxy {
		c, err := config.LoadProxy(file)
		if err != nil {
			return cluster, "", err
		}
		return c.Cluster, c.Rings.Folder, nil
	}
	c, err := config.LoadStorage(file)
	if err != nil {
		return cluster, "", err
	}
	return c.Cluster, c.Rings.Folder, nil
}

// spot is a device with what asks it.
func (a *located) spot(d *ring.Device, p name.Path) spot {
	target := backend.Target{Device: d.Name, Partition: a.Partition, Path: p}
	s := spot{deviceInfo: infoOf(*d), URL: "http://" + d.Addr() + target.Quoted()}
	header := ""
	if a.Index != nil {
		header = policyArgument(policy.Index(*a.Index))
	}
	s.Curl = "curl -g -I" + header + " " + shell(s.URL)
	if a.of.Coded() {
		s.FragmentsCurl = "curl -g -I" + policyArgument(a.of.Index.Fragments()) + " " + shell(s.URL)
	}
	return s
}

func policyArgument(p policy.Index) string {
	return fmt.Sprintf(" -H '%s: %s'", backend.PolicyIndex, p)
}

func (a *located) text(p *page) {
	row := func(title, value string) { p.printf("%-10s %s\n", title, value) }
	row("account", a.Account)
	if a.Container != "" {
		row("container", a.Container)
	}
	if a.Object != "" {
		row("object", a.Object)
		row("policy", strings.TrimSpace(fmt.Sprintf("%s (index %d)", a.Policy, *a.Index)))
	}
	row("ring", fmt.Sprintf("%s, version %d", a.Ring, a.Version))
	row("hash", a.Hash)
	row("partition", fmt.Sprintf("%d of 2^%d", a.Partition, a.PartPower))
	p.printf("\n")
	titles := []string{"", "DEVICE", "STORAGE", "REPLICATION", "REGION>", "ZONE>"}
	if a.of.Coded() {
		titles = append(titles, "HOLDS")
	}
	rows := [][]cell{head(titles...)}
	list := func(what string, spots []spot, s style) {
		for i, d := range spots {
			one := []cell{
				left(fmt.Sprintf("%s %d", what, i+1)).in(s), left(d.Name), left(d.Addr()), left(d.ReplicationAddr()),
				right(fmt.Sprint(d.Region)), right(fmt.Sprint(d.Zone)),
			}
			if a.of.Coded() {
				one = append(one, left(d.holds()))
			}
			rows = append(rows, one)
		}
	}
	list("primary", a.Primaries, bold)
	list("handoff", a.Handoffs, plain)
	p.table("", rows)
	if a.more > 0 {
		p.printf("%s\n", p.paint(dim, fmt.Sprintf("(%s more; --all lists them)", some(a.more, "handoff"))))
	}
	p.printf("\n")
	for _, d := range a.Primaries {
		if d.Fragment == nil || d.Commit {
			p.printf("%s\n", d.Curl)
		}
	}
	for _, d := range a.Handoffs {
		p.printf("%s  # handoff\n", d.Curl)
	}
	for _, d := range a.Primaries {
		if d.Fragment != nil {
			p.printf("%s  # fragment %d\n", d.FragmentsCurl, *d.Fragment)
		}
	}
}

// namesOf lists policies.
func namesOf(set policy.Set) string {
	all := make([]string, 0, len(set.All()))
	for _, p := range set.All() {
		all = append(all, fmt.Sprintf("%s (index %d)", p.Name, p.Index))
	}
	return strings.Join(all, ", ")
}
