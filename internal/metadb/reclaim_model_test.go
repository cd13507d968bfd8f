//go:build !race

package metadb

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
	"martlet/internal/vfs"
)

// replica is one of a few stores that replicate one database, by the rules of a pass.
type replica struct {
	*Store
	loc     Location
	horizon int64
}

// forgetting is a history of a database with replicas, and what must be true of it: the newest of each
// thing, without what became of it in between.
type forgetting struct {
	*rapid.T
	all []*replica
	now int64

	rows        map[string]testRow
	fields      map[string]Field
	put, delete int64
}

func (m *forgetting) tick() int64 { m.now++; return m.now }

func (m *forgetting) some() (list []*replica) {
	heard := rapid.IntRange(1, 1<<len(m.all)-1).Draw(m.T, "heard by")
	for i, r := range m.all {
		if heard&(1<<i) != 0 {
			list = append(list, r)
		}
	}
	return list
}

// did reports whether a replica has done something, which it may refuse as there is no database.
func (m *forgetting) did(err error) bool {
	if err != nil && !errs.Is(err, errs.NotFound) {
		m.Fatal(err)
	}
	return err == nil
}

// step is something that a client does, of which some replicas hear.
func (m *forgetting) step() {
	now := m.tick()
	stamp := at(now)
	object := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(m.T, "object")
	switch rapid.IntRange(0, 7).Draw(m.T, "what") {
	case 0:
		for _, r := range m.some() {
			info := Info{Path: name.Path{Account: "a"}, Created: stamp, Put: stamp}
			m.did(r.Ensure(bg, r.loc, info, setInfo(Info{Put: stamp, Created: stamp})))
			m.put = now
		}
	case 1:
		for _, r := range m.some() {
			if m.did(r.Update(bg, r.loc, setInfo(Info{Delete: stamp, StatusChanged: stamp}))) {
				m.delete = now
			}
		}
	case 2:
		f := Field{"F" + object, rapid.SampledFrom([]string{"", "1"}).Draw(m.T, "value"), stamp}
		if m.delete > m.put {
			return
		}
		for _, r := range m.some() {
			if m.did(r.Update(bg, r.loc, func(tx *Tx) error { return tx.MergeFields([]Field{f}) })) {
				m.fields[f.Name] = f
			}
		}
	default:
		row := testRow{stamp: stamp, deleted: rapid.Bool().Draw(m.T, "deleted"), size: now % 3}
		for _, r := range m.some() {
			if m.did(r.MergeRows(bg, r.loc, nil, Row{0, object, row.encode()})) {
				m.rows[object] = row
			}
		}
	}
}

// beside is something that goes on beside.
func (m *forgetting) beside() {
	r := rapid.SampledFrom(m.all).Draw(m.T, "replica")
	switch rapid.IntRange(0, 3).Draw(m.T, "beside") {
	case 0:
		mergeAll(r.Store, r.loc.Device)
	case 1:
		closeAll(r.Store, r.loc.Device)
	case 2:
		reclaim(m.T, r.Store, r.horizon)
	case 3:
		m.push(r, rapid.SampledFrom(m.all).Draw(m.T, "to"))
	}
}

// push is what a pass does with one peer, and reports whether anything was pushed.
func (m *forgetting) push(from, to *replica) bool {
	if from == to {
		return false
	}
	mine, err := from.Replicas().State(bg, "sda", from.loc.Hash)
	if !m.did(err) {
		return false
	}
	theirs, err := to.Replicas().State(bg, "sda", to.loc.Hash)
	if m.did(err) && theirs.Digest == mine.Digest {
		return false
	}
	var cursor replwire.Cursor
	for more := true; more; {
		p, err := from.Replicas().Part(bg, "sda", from.loc.Hash, cursor)
		if !m.did(err) {
			return false
		}
		_, err = to.Replicas().Merge(bg, "sda", p.Path, to.loc.Hash, p.Body)
		if err != nil && !errs.Is(err, errs.Gone) {
			m.Fatal(err)
		}
		cursor, more = p.Next, p.More
	}
	return true
}

// meet has all push to all, in any order: then all have heard of everything.
func (m *forgetting) meet() {
	for range 2 {
		for _, from := range rapid.Permutation(m.all).Draw(m.T, "order") {
			for _, to := range m.all {
				m.push(from, to)
			}
		}
	}
}

// check compares what a replica shows with what must be.
func (m *forgetting) check(what string) {
	want, fields := []string{}, []Field{}
	for n, r := range m.rows {
		if !r.deleted && r.stamp.After(at(m.delete)) {
			want = append(want, n)
		}
	}
	for _, f := range m.fields {
		if f.Value != "" && f.Stamp.After(at(m.delete)) {
			fields = append(fields, f)
		}
	}
	slices.Sort(want)
	slices.SortFunc(fields, func(f, g Field) int { return f.Stamp.Compare(g.Stamp) })
	for i, r := range m.all {
		var got []string
		var there []Field
		var info Info
		err := r.View(bg, r.loc, func(tx *Tx) error {
			info = tx.Info()
			list, err := tx.Fields()
			for _, f := range list {
				if f.Value != "" {
					there = append(there, f)
				}
			}
			return err
		})
		if errs.Is(err, errs.NotFound) {
			if len(want) > 0 || m.put > m.delete {
				m.Fatalf("%s: replica %d has no database, and there must be %q, put %d, deleted %d", what, i, want, m.put, m.delete)
			}
			continue
		}
		if err == nil {
			got, err = page(r.Store, r.loc, Query{Params: allParams})
		}
		if err == nil {
			err = r.Check(bg, r.loc)
		}
		slices.SortFunc(there, func(f, g Field) int { return f.Stamp.Compare(g.Stamp) })
		if err != nil || !slices.Equal(got, want) || !slices.Equal(there, fields) || info.Delete.After(info.Put) != (m.delete > m.put) {
			m.Fatalf("%s: replica %d has %q %+v, %+v, %v; want %q %+v, put %d, deleted %d", what, i, got, there, info, err, want, fields, m.put, m.delete)
		}
	}
}

// Replicas of any history reclaim at different moments, whatever passes come in between: nothing that was
// deleted is back, nothing that is live goes, and once all horizons are past it no replica has anything dead,
// and all are equal.
func TestForgettingHistories(t *testing.T) {
	var all []*replica
	for _, limit := range []int{-1, 0, 250} {
		j := openTestJournal(t, vfs.NewMem())
		r := &replica{}
		s, dev := open(t, t.TempDir(), Config{small: limit, Journal: j.of, step: 3, Horizon: func() timestamp.T { return at(r.horizon) }})
		r.Store, r.loc.Device = s, dev
		all = append(all, r)
	}
	n := uint64(0)
	rapid.Check(t, func(rt *rapid.T) {
		n++
		m := &forgetting{T: rt, all: all, now: 10, rows: map[string]testRow{}, fields: map[string]Field{}}
		for _, r := range all {
			r.loc.Hash, r.horizon = hashOf(n), 0
		}
		met := int64(0) // all have heard of what is before that
		for epoch := range rapid.IntRange(1, 4).Draw(rt, "epochs") {
			for range rapid.IntRange(1, 12).Draw(rt, "steps") {
				if m.step(); rapid.Bool().Draw(rt, "beside") {
					m.beside()
				}
				if r := rapid.SampledFrom(all).Draw(rt, "of"); rapid.IntRange(0, 3).Draw(rt, "moves") == 0 {
					r.horizon = max(r.horizon, rapid.Int64Range(0, met).Draw(rt, "horizon"))
				}
			}
			m.meet()
			met = m.tick()
			m.check(fmt.Sprint("epoch ", epoch))
		}
		for _, r := range rapid.Permutation(all).Draw(rt, "reclaim") {
			r.horizon = met
			reclaim(rt, r.Store, met)
			if rapid.Bool().Draw(rt, "meet") {
				m.meet()
			}
		}
		m.check("at the end")
		for _, from := range all {
			for _, to := range all {
				if m.push(from, to) {
					rt.Fatal("all have forgotten, and still push")
				}
			}
		}
		for i, r := range all {
			if err := r.look(bg, r.loc, func(tx *Tx) error {
				f, err := tx.hasOldFields(at(met))
				if k, _ := tx.dead.Cursor().First(); k != nil || f || tx.info.forgettable(at(met)) && m.noneLive() {
					rt.Fatalf("replica %d still has %q, %v, %+v", i, k, f, tx.info)
				}
				return err
			}); !m.did(err) && m.put > m.delete {
				rt.Fatal(err)
			}
		}
		for _, r := range all {
			if d, err := r.Replicas().State(bg, "sda", r.loc.Hash); err == nil {
				if _, err := r.Replicas().Drop(bg, "sda", d); err != nil {
					rt.Fatal(err)
				}
			}
		}
	})
}

func (m *forgetting) noneLive() bool {
	for r := range maps.Values(m.rows) {
		if !r.deleted && r.stamp.After(at(m.delete)) {
			return false
		}
	}
	return true
}
