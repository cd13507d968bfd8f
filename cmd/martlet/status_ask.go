package main

import (
	"path/filepath"

	"martlet/cmd/internal/survey"
	"martlet/internal/replwire"
	"martlet/ring"
)

// policiesOf loads the rings of objects of a configuration, as processes would that start now.
func policiesOf(file string) (all []survey.Policy, err error) {
	cluster, folder, err := clusterOf(file)
	if err != nil {
		return nil, err
	}
	policies, err := cluster.PolicySet()
	if err != nil {
		return nil, err
	}
	for _, p := range policies.All() {
		r, err := ring.Load(filepath.Join(folder, "object"+p.Index.Suffix()+".ring.gz"))
		if err != nil {
			return nil, err
		}
		one := survey.Policy{Index: p.Index, Name: p.Name, Ring: r}
		if p.Coded() {
			one.Ring, one.Data, one.Fragments = r.First(p.Replicas()), p.Data, r
		}
		all = append(all, one)
	}
	return all, nil
}

// kindsOf loads the rings of accounts and containers of a configuration, likewise.
func kindsOf(file string) (all []survey.Kind, err error) {
	_, folder, err := clusterOf(file)
	if err != nil {
		return nil, err
	}
	for _, kind := range []survey.Kind{{Name: "account", List: replwire.Accounts}, {Name: "container", List: replwire.Containers}} {
		if kind.Ring, err = ring.Load(filepath.Join(folder, kind.Name+".ring.gz")); err != nil {
			return nil, err
		}
		all = append(all, kind)
	}
	return all, nil
}
