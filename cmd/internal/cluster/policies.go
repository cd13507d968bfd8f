package cluster

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"martlet/internal/ec"
	"martlet/internal/policy"
)

// defaultPolicy is the name of the policy that every cluster has.
const defaultPolicy = "Policy-0"

// A Policy is a storage policy beside the default one. Its index is its place in the
// list, counted from 1.
type Policy struct {
	Name     string
	Shape    ec.Shape // of erasure coding; zero for one that is replicated
	Replicas int      // of objects, 1 to maxReplicas; 0 for as many as the cluster has, and where there is a shape
}

// maxReplicas is how many replicas anything may have.
const maxReplicas = 16

// replicated is how a number of replicas begins: a number alone could be half a shape.
const replicated = "replicas:"

// ParsePolicy reads "NAME", "NAME=replicas:N", or "NAME=K+M" of erasure coding.
func ParsePolicy(text string) (Policy, error) {
	name, kind, given := strings.Cut(text, "=")
	p := Policy{Name: name}
	if given {
		if err := p.parseKind(kind); err != nil {
			return Policy{}, bad("--policy %s: %v", text, err)
		}
	}
	if _, err := policySet([]Policy{p}); err != nil {
		return Policy{}, bad("--policy %s: %v", text, err)
	}
	return p, nil
}

// parseKind reads what is behind the name.
func (p *Policy) parseKind(text string) (err error) {
	number, ok := strings.CutPrefix(text, replicated)
	if !ok {
		p.Shape, err = ec.ParseShape(text)
		return err
	}
	// Digits alone, and one way to write each number: what is written in a file is compared with what is asked for.
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 || n > maxReplicas || strconv.Itoa(n) != number {
		return fmt.Errorf("%q: must be %s and a number from 1 to %d", text, replicated, maxReplicas)
	}
	p.Replicas = n
	return nil
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
	switch {
	case p.Coded():
		return p.Name + "=" + p.Shape.String()
	case p.Replicas > 0:
		return p.Name + "=" + replicated + strconv.Itoa(p.Replicas)
	}
	return p.Name
}

// UnmarshalText is ParsePolicy.
func (p *Policy) UnmarshalText(text []byte) (err error) {
	*p, err = ParsePolicy(string(text))
	return err
}

// ReplicasOf is how many devices an object of the policy is on.
func (o Options) ReplicasOf(p Policy) int {
	if p.Coded() {
		return p.Shape.Fragments()
	}
	return cmp.Or(p.Replicas, o.Replicas)
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
	return min(containers, o.bears(o.ReplicasOf(p), 1))
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
