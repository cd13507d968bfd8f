package cluster

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"martlet/cmd/internal/config"
	"martlet/cmd/internal/survey"
	"martlet/ring"
)

// Whole asks every device of the cluster what it holds, as `martlet status` does, and returns what is not yet as it
// should be: an object, account or container with too few copies in their places, copies that differ, something on a device that
// is for others. Nothing is "".
func (l *Local) Whole(ctx context.Context) (lacks string, err error) {
	c, err := config.LoadProxy(l.folder.ProxyFile())
	if err != nil {
		return "", err
	}
	set, err := c.Cluster.PolicySet()
	if err != nil {
		return "", err
	}
	policies, err := survey.PoliciesIn(c.Rings.Folder, set)
	if err != nil {
		return "", err
	}
	kinds, err := survey.KindsIn(c.Rings.Folder)
	if err != nil {
		return "", err
	}
	return whole(ctx, policies, kinds)
}

// whole is Whole of some rings.
func whole(ctx context.Context, policies []survey.Policy, kinds []survey.Kind) (string, error) {
	client := &http.Client{Transport: &http.Transport{}, Timeout: time.Minute}
	defer client.CloseIdleConnections()
	ask := survey.HTTP{Client: client}
	var lacks []string
	say := func(format string, args ...any) { lacks = append(lacks, fmt.Sprintf(format, args...)) }
	unknown := func(all []survey.Unknown) {
		for _, u := range all {
			say("%s can't be asked: %s", u.Device, u.Why)
		}
	}
	d, err := survey.DurabilityOf(ctx, ask, policies, func(o survey.Lacking) {
		if len(lacks) < 5 {
			say("%s object %s lacks %d copies (%v)", o.Policy, o.Hash, o.Missing, o.Reasons)
		}
	})
	if err != nil {
		return "", err
	}
	if !d.Whole() {
		say("%d of %d objects have too few copies in their places, %d partitions are unknown", d.UnderReplicated, d.Objects, d.UnknownPartitions)
		unknown(d.Unknown)
	}
	for _, p := range policies {
		if p.Data == 0 {
			continue
		}
		f, err := survey.FragmentsOf(ctx, ask, p, nil)
		if err != nil {
			return "", err
		}
		if !f.Whole() {
			say("%d of %d objects of %s lack fragments, %d can't be read", f.Lacking, f.Objects, p.Name, f.Unreadable)
			unknown(f.Unknown)
		}
	}
	for _, k := range kinds {
		b, err := survey.DatabasesOf(ctx, ask, k, nil)
		if err != nil {
			return "", err
		}
		if !b.Whole() {
			say("of %d %ss %d have too few copies in their places, copies of %d differ", b.Databases, k.Name, b.TooFew, b.Differ)
			unknown(b.Unknown)
		}
	}
	r, err := survey.RebalanceOf(ctx, ask, policies)
	for i := 0; err == nil && i < len(kinds); i++ {
		err = r.AddDatabases(ctx, ask, kinds[i])
	}
	if err != nil {
		return "", err
	}
	unknown(r.Unknown)
	for _, left := range r.Devices {
		// Of writes that were never finished fragments stay where they are for reclaim_age.
		if left.Handoffs > 0 && !strings.HasPrefix(left.Policy, "fragments of ") {
			say("%s holds %d partitions of %s for others", left.Device, left.Handoffs, left.Policy)
		}
	}
	for _, left := range r.Databases {
		say("%s waits for %d %ss and holds %d for others", left.Device, left.Waits, left.Kind, left.Handoffs)
	}
	if len(lacks) > 0 {
		lacks = append(lacks, ask.Failing(ctx, ringsOf(policies, kinds))...) // who does not answer has been told of
	}
	return strings.Join(lacks, "; "), nil
}

func ringsOf(policies []survey.Policy, kinds []survey.Kind) (all []*ring.Ring) {
	for _, p := range policies {
		all = append(all, p.Ring)
	}
	for _, k := range kinds {
		all = append(all, k.Ring)
	}
	return all
}
