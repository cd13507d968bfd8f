package cluster

import (
	"context"

	"martlet/cmd/internal/check/nemesis"
)

// A Remote is a cluster that somebody else runs: nothing of it is broken, and nothing is known of it but what
// clients see.
type Remote struct{ URLs []string }

const whyRemote = "the cluster is somebody else's"

// Endpoints are the proxies.
func (r Remote) Endpoints() []string { return r.URLs }

// Shape implements nemesis.Cluster.
func (Remote) Shape() nemesis.Shape { return nemesis.Shape{} }

// Offers implements nemesis.Cluster: none.
func (Remote) Offers() (all []nemesis.Offer) {
	for _, k := range nemesis.Kinds() {
		all = append(all, nemesis.Offer{Kind: k, Why: whyRemote})
	}
	return all
}

// Begin implements nemesis.Cluster, and is not called.
func (Remote) Begin(context.Context, nemesis.Fault) (string, error) { return "", nil }

// End implements nemesis.Cluster, and is not called.
func (Remote) End(context.Context, nemesis.Fault) error { return nil }

// Heal has nothing to mend.
func (Remote) Heal(context.Context) error { return nil }

// Whole knows nothing.
func (Remote) Whole(context.Context) (string, error) { return "", nil }

// Broke knows nothing.
func (Remote) Broke() []string { return nil }
