package survey

import (
	"path/filepath"

	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/ring"
)

// PoliciesIn loads the rings of objects in a folder, as processes would that start now.
func PoliciesIn(folder string, policies policy.Set) (all []Policy, err error) {
	for _, p := range policies.All() {
		r, err := ring.Load(filepath.Join(folder, "object"+p.Index.Suffix()+".ring.gz"))
		if err != nil {
			return nil, err
		}
		one := Policy{Index: p.Index, Name: p.Name, Ring: r}
		if p.Coded() {
			one.Ring, one.Data, one.Fragments = r.First(p.Replicas()), p.Data, r
		}
		all = append(all, one)
	}
	return all, nil
}

// KindsIn loads the rings of accounts and containers in a folder, likewise.
func KindsIn(folder string) (all []Kind, err error) {
	for _, kind := range []Kind{{Name: "account", List: replwire.Accounts}, {Name: "container", List: replwire.Containers}} {
		if kind.Ring, err = ring.Load(filepath.Join(folder, kind.Name+".ring.gz")); err != nil {
			return nil, err
		}
		all = append(all, kind)
	}
	return all, nil
}
