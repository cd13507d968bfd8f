package proxy

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"martlet/internal/conf"
	"martlet/internal/policy"
	"martlet/internal/quorum"
)

// Routing is which devices a request asks, and in which order.
type Routing struct {
	// RequestNodeCount is how many devices one request may ask.
	RequestNodeCount quorum.NodeCount `toml:"request_node_count"`
	// SortingMethod is the order in which replicas are asked to read: "shuffle",
	// "affinity", which goes by ReadAffinity, or "timing", by how fast they have been
	// answering. What was heard of a device longer than TimingExpiry ago counts for
	// nothing.
	SortingMethod string          `toml:"sorting_method"`
	ReadAffinity  quorum.Affinity `toml:"read_affinity"`
	TimingExpiry  conf.Duration   `toml:"timing_expiry"`
	// ConcurrentGets has reads ask a second replica beside one that is slow, after
	// ConcurrencyTimeout at the latest, and for no more than ConcurrentGetsPercent of
	// 100 reads.
	ConcurrentGets        bool          `toml:"concurrent_gets"`
	ConcurrencyTimeout    conf.Duration `toml:"concurrency_timeout"`
	ConcurrentGetsPercent int           `toml:"concurrent_gets_percent"`
	// WriteAffinity is where data is put first, and WriteAffinityNodeCount how many
	// of the devices there come before others.
	WriteAffinity          quorum.Affinity  `toml:"write_affinity"`
	WriteAffinityNodeCount quorum.NodeCount `toml:"write_affinity_node_count"`
}

func defaultRouting() Routing {
	return Routing{
		RequestNodeCount:       quorum.NodeCount{N: 3, Each: true},
		SortingMethod:          quorum.Shuffle,
		TimingExpiry:           conf.Duration(5 * time.Minute),
		ConcurrentGets:         true,
		ConcurrencyTimeout:     conf.Duration(500 * time.Millisecond),
		ConcurrentGetsPercent:  10,
		WriteAffinityNodeCount: quorum.NodeCount{N: 2, Each: true},
	}
}

// PolicyRouting is what of a Routing one policy has of its own: of what is nil it has
// what the proxy has.
type PolicyRouting struct {
	RequestNodeCount       *quorum.NodeCount `toml:"request_node_count"`
	SortingMethod          *string           `toml:"sorting_method"`
	ReadAffinity           *quorum.Affinity  `toml:"read_affinity"`
	TimingExpiry           *conf.Duration    `toml:"timing_expiry"`
	ConcurrentGets         *bool             `toml:"concurrent_gets"`
	ConcurrencyTimeout     *conf.Duration    `toml:"concurrency_timeout"`
	ConcurrentGetsPercent  *int              `toml:"concurrent_gets_percent"`
	WriteAffinity          *quorum.Affinity  `toml:"write_affinity"`
	WriteAffinityNodeCount *quorum.NodeCount `toml:"write_affinity_node_count"`
}

// Over returns the routing of the policy in a proxy with that of its own.
func (p PolicyRouting) Over(r Routing) Routing {
	take(&r.RequestNodeCount, p.RequestNodeCount)
	take(&r.SortingMethod, p.SortingMethod)
	take(&r.ReadAffinity, p.ReadAffinity)
	take(&r.TimingExpiry, p.TimingExpiry)
	take(&r.ConcurrentGets, p.ConcurrentGets)
	take(&r.ConcurrencyTimeout, p.ConcurrencyTimeout)
	take(&r.ConcurrentGetsPercent, p.ConcurrentGetsPercent)
	take(&r.WriteAffinity, p.WriteAffinity)
	take(&r.WriteAffinityNodeCount, p.WriteAffinityNodeCount)
	return r
}

func take[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// CheckPolicies says which key of Policies names no policy, or one that another key
// names already.
func (c *Config) CheckPolicies(set policy.Set) error {
	seen := map[policy.Index]string{}
	for _, key := range slices.Sorted(maps.Keys(c.Policies)) {
		p, ok := set.ByName(key)
		if !ok {
			return fmt.Errorf("there is no policy %q", key)
		}
		if other, ok := seen[p.Index]; ok {
			return fmt.Errorf("%q and %q are the same policy", other, key)
		}
		seen[p.Index] = key
	}
	return nil
}

// options is what internal/quorum wants to know of a routing.
func (r Routing) options() quorum.Options {
	o := quorum.Options{
		Nodes: r.RequestNodeCount, Local: r.WriteAffinity, LocalNodes: r.WriteAffinityNodeCount,
		Timing: r.SortingMethod == quorum.ByTiming, TimingExpiry: r.TimingExpiry.D(),
		HedgeAfter: r.ConcurrencyTimeout.D(), HedgePercent: r.ConcurrentGetsPercent,
	}
	if r.SortingMethod == quorum.ByAffinity {
		o.Near = r.ReadAffinity
	}
	if !r.ConcurrentGets {
		o.HedgePercent = -1
	}
	return o
}

// quorum is the configuration of the storage nodes as the proxy sees them. Policies
// that the set does not have are left out: CheckPolicies refuses them.
func (c *Config) quorum(set policy.Set) quorum.Config {
	own := make(map[policy.Index]quorum.Options, len(c.Policies))
	for name, r := range c.Policies {
		if p, ok := set.ByName(name); ok {
			own[p.Index] = r.Over(c.Routing).options()
		}
	}
	return quorum.Config{
		PostQuorum: c.PostQuorumTimeout.D(), Patience: c.RecoverableNodeTimeout.D(), ErrorLimit: c.ErrorLimit, ErrorSpan: c.ErrorLimitSpan.D(),
		Options: c.options(), Policies: own,
	}
}
