package cluster

import (
	"fmt"
	"strings"

	"martlet/internal/ec"
	"martlet/internal/policy"
)

// defaultPolicy is the name of the policy that every cluster has.
const defaultPolicy = "Policy-0"

// A Policy is a storage policy beside the default one. Its index is its place in the
// list, counted from 1.
type Policy struct {
	Name  string
	Shape ec.Shape // of erasure coding; zero for one that has as many replicas as the cluster
}

// ParsePolicy reads "NAME", or "NAME=K+M" of erasure coding.
func ParsePolicy(text string) (Policy, error) {
	name, shape, coded := strings.Cut(text, "=")
	p := Policy{Name: name}
	if coded {
		var err error
		if p.Shape, err = ec.ParseShape(shape); err != nil {
			return Policy{}, bad("--policy %s: %v", text, err)
		}
	}
	if _, err := policySet([]Policy{p}); err != nil {
		return Policy{}, bad("--policy %s: %v", text, err)
	}
	return p, nil
}

// policySet checks names.
func policySet(list []Policy) (policy.Set, error) {
	all := []policy.Policy{{Name: defaultPolicy, Default: true}}
	for i, p := range list {
		all = append(all, policy.Policy{Index: policy.Index(i + 1), Name: p.Name})
	}
	return policy.NewSet(all)
}

// Coded reports whether objects of the policy are erasure coded.
func (p Policy) Coded() bool { return p.Shape != ec.Shape{} }

// String is what ParsePolicy reads.
func (p Policy) String() string {
	if p.Coded() {
		return p.Name + "=" + p.Shape.String()
	}
	return p.Name
}

// UnmarshalText is ParsePolicy.
func (p *Policy) UnmarshalText(text []byte) (err error) {
	*p, err = ParsePolicy(string(text))
	return err
}

// replicas is how many devices an object of the policy is on.
func (o Options) replicas(p Policy) int {
	if p.Coded() {
		return p.Shape.Fragments()
	}
	return o.Replicas
}

// policyTexts is the policies as flags have them, and policyList that in one text.
func (o Options) policyTexts() []string {
	all := make([]string, len(o.Policies))
	for i, p := range o.Policies {
		all[i] = p.String()
	}
	return all
}

func (o Options) policyList() string {
	if len(o.Policies) == 0 {
		return "none"
	}
	return strings.Join(o.policyTexts(), ", ")
}

// A policyTable is a policy in the configuration of a process.
type policyTable struct {
	Index       int
	Name, Shape string // no shape is replicated
	Default     bool
}

// policyTables is all policies, none where there is only the default one.
func (o Options) policyTables() []policyTable {
	if len(o.Policies) == 0 {
		return nil
	}
	all := []policyTable{{Name: defaultPolicy, Default: true}}
	for i, p := range o.Policies {
		t := policyTable{Index: i + 1, Name: p.Name}
		if p.Coded() {
			t.Shape = p.Shape.String()
		}
		all = append(all, t)
	}
	return all
}

// Fit returns the options with enough nodes and devices for the erasure coded
// policies, as far as neither was asked for: a node for each fragment, so that as many nodes
// may be down as fragments may be lost, or where the number of nodes was asked for enough devices on each. Notes
// say what was changed, and why.
func (o Options) Fit(asked func(flag string) bool) (fitted Options, notes []string) {
	for _, p := range o.Policies {
		n := p.Shape.Fragments()
		switch {
		case !p.Coded():
		case !asked("nodes") && o.Nodes < n:
			o.Nodes = n
			notes = append(notes, fmt.Sprintf("%d nodes, one for each fragment of policy %s (%s).", n, p.Name, p.Shape))
		case !asked("devices") && o.Nodes > 0 && o.Nodes*o.Devices < n:
			o.Devices = (n + o.Nodes - 1) / o.Nodes
			notes = append(notes, fmt.Sprintf("%d devices on each node, as policy %s (%s) has %d fragments.", o.Devices, p.Name, p.Shape, n))
		}
	}
	return o, notes
}

// Bears is how many nodes may be down, whichever they are, while each object of the policy
// can still be read: what the other nodes have of it, and of its container, is enough in
// any case.
func (o Options) Bears(p Policy) int {
	containers := o.bears(o.Replicas, 1)
	if p.Coded() {
		return min(containers, o.bears(p.Shape.Fragments(), p.Shape.Data))
	}
	return containers
}

// bears is how many nodes may be down where n devices have something of which any few
// have to be left. They are spread over the nodes as evenly as can be.
func (o Options) bears(n, few int) (down int) {
	least, more := n/o.Nodes, n%o.Nodes // each node has the least of them, and some nodes one more
	for left := n; down < o.Nodes; down++ {
		if left -= least; down < more {
			left--
		}
		if left < few {
			break
		}
	}
	return down
}
