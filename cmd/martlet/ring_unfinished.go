package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"martlet/cmd/internal/survey"
	"martlet/ring"
	"martlet/ring/builder"
)

// unfinished implements clusterCheck. Of a ring of objects every device is asked what it holds;
// of accounts and containers whether anything is on handoffs.
func (s storageNodes) unfinished(ctx context.Context, file string, b *builder.Builder) error {
	names, err := s.ringsInUse(file, b)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := s.unfinishedOf(ctx, file, name); err != nil {
			return err
		}
	}
	return nil
}

// unfinishedOf is unfinished of a ring by its name.
func (s storageNodes) unfinishedOf(ctx context.Context, file, name string) error {
	if !strings.HasPrefix(name, "object") {
		return s.databasesAway(ctx, file, name)
	}
	policies, err := policiesOf(file)
	if err != nil {
		return err
	}
	ask := survey.HTTP{Client: newAsker()}
	defer ask.Client.CloseIdleConnections()
	for _, p := range policies {
		if "object"+p.Index.Suffix() != name {
			continue
		}
		left, err := survey.RebalanceOf(ctx, ask, []survey.Policy{p})
		if err != nil {
			return err
		}
		if left.Done() {
			return nil
		}
		return errors.New(strings.TrimSpace((&rebalanceReport{Rebalance: left}).whatIsLeft()))
	}
	return nil
}

// ringsInUse finds the ring of a cluster by its assignments: the builder may have been told of
// new devices and weights since. Those of policies that were made in the same way may have the same; then all of
// them are meant.
func (storageNodes) ringsInUse(file string, b *builder.Builder) (names []string, err error) {
	own, err := b.Ring()
	if err != nil {
		return nil, err
	}
	rings, _, err := ringsOf(file)
	if err != nil {
		return nil, err
	}
	for name, r := range rings {
		if sameServers(r, own) && sameRows(r, own) {
			names = append(names, name)
		}
	}
	if slices.Sort(names); len(names) > 0 {
		return names, nil
	}
	return nil, errors.New("none of the cluster's rings has the assignments that this builder made last: it is of another cluster, or the ring has not been written there")
}

// sameServers reports whether the devices that two rings both have are of the same servers:
// rings of accounts, containers and objects may have the same rows.
func sameServers(a, b *ring.Ring) bool {
	at := map[int]*ring.Device{}
	for d := range a.Devices() {
		at[d.ID] = d
	}
	both := 0
	for d := range b.Devices() {
		other := at[d.ID]
		if other == nil {
			continue
		}
		both++
		if other.Addr() != d.Addr() || other.Name != d.Name {
			return false
		}
	}
	return both > 0
}

func sameRows(a, b *ring.Ring) bool {
	if a.PartPower() != b.PartPower() || a.ReplicaCount() != b.ReplicaCount() {
		return false
	}
	rows := b.Rows()
	for i, row := range a.Rows() {
		if len(row) != len(rows[i]) {
			return false
		}
		for p := range row {
			if row[p] != rows[i][p] {
				return false
			}
		}
	}
	return true
}

// databasesAway returns an error if devices hold accounts or containers of partitions that they are
// no primaries of, or can't be asked.
func (storageNodes) databasesAway(ctx context.Context, file, name string) error {
	rings, all, err := ringsOf(file)
	if err != nil {
		return err
	}
	client := newAsker()
	defer client.CloseIdleConnections()
	var report handoffReport
	for _, a := range all {
		if a.ring != name {
			continue
		}
		held, err := heldBy(ctx, client, a.addr)
		if err != nil {
			return err
		}
		if held.Rings[name] != rings[name].Digest() {
			return fmt.Errorf("%s has another %s ring in use than %s: it has not reached it yet", a.addr, name, filepath.Base(file))
		}
		if err := report.add(a, held.Devices); err != nil {
			return err
		}
	}
	if report.Handoffs > 0 {
		return fmt.Errorf("%s on handoffs:\n  %s", some(report.Handoffs, "partition"), strings.Join(report.Where, "\n  "))
	}
	return nil
}
