package main

import "martlet/cmd/internal/survey"

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
	return survey.PoliciesIn(folder, policies)
}

// kindsOf loads the rings of accounts and containers of a configuration, likewise.
func kindsOf(file string) (all []survey.Kind, err error) {
	_, folder, err := clusterOf(file)
	if err != nil {
		return nil, err
	}
	return survey.KindsIn(folder)
}
