// Package policy is the list of storage policies: how objects of a container
// are kept, chosen when the container is made and fixed for its life.
package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"martlet/internal/errs"
)

// Index numbers a policy. It stands in requests, rows and folder names, and is
// never reused for another.
type Index uint16

// String returns the decimal number.
func (i Index) String() string { return strconv.Itoa(int(i)) }

// ParseIndex reads an index from a header's text. What is no index is of kind
// errs.Invalid.
func ParseIndex(text string) (Index, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0, errs.E(errs.Invalid, errs.Public("storage policy index is not a number"), err)
	}
	return Index(n), nil
}

// Suffix returns "" for policy 0 and "-N" for the others: what the names of
// rings and folders end in.
func (i Index) Suffix() string {
	if i == 0 {
		return ""
	}
	return "-" + i.String()
}

// MaxIndex is the greatest index of a policy that an operator may choose.
const MaxIndex Index = 1<<15 - 1

// fragments marks the index under which the fragments of a policy are kept.
const fragments = MaxIndex + 1

// Fragments returns the index under which fragments of erasure-coded objects are kept,
// apart from the objects themselves: what says of them all but their data.
func (i Index) Fragments() Index { return i | fragments }

// IsFragments reports whether an index is one that Fragments returns.
func (i Index) IsFragments() bool { return i&fragments != 0 }

// Objects returns the index of the policy itself, also of that of its fragments.
func (i Index) Objects() Index { return i &^ fragments }

// Policy is one storage policy. It replicates, or, if Data is not 0, it erasure-codes.
//
// What a coded object says of itself, its commit, and objects of up to WholeUpTo bytes
// whole, are kept as replicas: on the first Parity+2 devices of a partition, by the ring
// of the fragments, and a write has to be on Parity+1 of them, so that the loss of
// Parity devices can't hide it. Fragments are on all Data+Parity, and one more than it
// takes to read the object has to be durable before the commit is sent.
type Policy struct {
	Index      Index
	Name       string
	Aliases    []string
	Default    bool
	Deprecated bool // no new container may choose it

	Data, Parity int   // fragments that hold data, and those that stand in for some; 0 replicates
	WholeUpTo    int64 // bytes up to which objects are not cut into fragments
}

// Coded reports whether the policy erasure-codes.
func (p Policy) Coded() bool { return p.Data > 0 }

// Fragments is how many fragments an object has. A ring of the policy has as many replicas.
func (p Policy) Fragments() int { return p.Data + p.Parity }

// FragmentQuorum is how many fragments have to be durable before a write is committed.
func (p Policy) FragmentQuorum() int { return p.Data + 1 }

// Replicas is on how many devices a coded object's commit is.
func (p Policy) Replicas() int { return min(p.Data+p.Parity, p.Parity+2) }

// Quorum is on how many of them a write has to be.
func (p Policy) Quorum() int { return p.Parity + 1 }

// Set is the policies of a cluster, in the order of their indexes.
type Set struct {
	list []Policy
	def  int
}

// Single returns the set of a cluster that names no policies: "Policy-0".
func Single() Set { return Set{list: []Policy{{Name: "Policy-0", Default: true}}} }

// NewSet checks a list of policies: names and aliases unique without regard to
// case and made of letters, digits and dashes, indexes unique, one default
// that is not deprecated (the only policy needs no mark).
func NewSet(list []Policy) (Set, error) {
	if len(list) == 0 {
		return Single(), nil
	}
	s := Set{list: slices.Clone(list), def: -1}
	slices.SortFunc(s.list, func(a, b Policy) int { return int(a.Index) - int(b.Index) })
	seen := map[string]Index{}
	for i, p := range s.list {
		if i > 0 && s.list[i-1].Index == p.Index {
			return Set{}, fmt.Errorf("policy %q: index %d is taken by %q", p.Name, p.Index, s.list[i-1].Name)
		}
		if p.Index > MaxIndex {
			return Set{}, fmt.Errorf("policy %q: index %d is more than %d", p.Name, p.Index, MaxIndex)
		}
		if (p.Data > 0) != (p.Parity > 0) || p.Data < 0 || p.Parity < 0 || p.WholeUpTo < 0 {
			return Set{}, fmt.Errorf("policy %q: %d+%d fragments, objects of up to %d bytes whole", p.Name, p.Data, p.Parity, p.WholeUpTo)
		}
		for _, n := range append([]string{p.Name}, p.Aliases...) {
			if err := checkName(n, p.Index); err != nil {
				return Set{}, err
			}
			if other, ok := seen[strings.ToLower(n)]; ok {
				return Set{}, fmt.Errorf("policy %d: name %q is taken by policy %d", p.Index, n, other)
			}
			seen[strings.ToLower(n)] = p.Index
		}
		if p.Default || len(list) == 1 {
			if s.def >= 0 {
				return Set{}, fmt.Errorf("policies %q and %q are both the default", s.list[s.def].Name, p.Name)
			}
			s.def = i
		}
	}
	if s.def < 0 {
		return Set{}, fmt.Errorf("no policy is the default")
	}
	if s.list[s.def].Deprecated {
		return Set{}, fmt.Errorf("policy %q is both deprecated and the default", s.list[s.def].Name)
	}
	s.list[s.def].Default = true
	return s, nil
}

func checkName(n string, i Index) error {
	for _, c := range n {
		if c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return fmt.Errorf("policy %d: name %q has %q in it: letters, digits and dashes only", i, n, c)
		}
	}
	if n == "" {
		return fmt.Errorf("policy %d has an empty name", i)
	}
	return nil
}

// All returns the policies by index. The caller must not change them.
func (s Set) All() []Policy { return s.list }

// Default returns the policy of containers that do not choose.
func (s Set) Default() Policy { return s.list[s.def] }

// ByIndex returns the policy of an index.
func (s Set) ByIndex(i Index) (Policy, bool) {
	n, ok := slices.BinarySearchFunc(s.list, i, func(p Policy, i Index) int { return int(p.Index) - int(i) })
	if !ok {
		return Policy{}, false
	}
	return s.list[n], true
}

// ByName returns the policy of a name or alias, without regard to case.
func (s Set) ByName(n string) (Policy, bool) {
	for _, p := range s.list {
		if strings.EqualFold(p.Name, n) || slices.ContainsFunc(p.Aliases, func(a string) bool { return strings.EqualFold(a, n) }) {
			return p, true
		}
	}
	return Policy{}, false
}
