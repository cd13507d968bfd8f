package container

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"martlet/internal/errs"
	"martlet/internal/name"
)

var synced0 = name.Path{Account: "a", Container: "c"}

// Containers that are synced are known as soon as one says so, and found again after a start.
func TestSyncedContainersAreFound(t *testing.T) {
	dir := t.TempDir()
	s, _ := start(t, dir)
	to, key := "X-Container-Sync-To: //us/b/x/y", "X-Container-Sync-Key: k"
	want(t, s, 201, "PUT /sda/0/a/plain", at(1), "X-Container-Meta-A: 1")
	want(t, s, 201, "PUT /sda/0/a/c", at(1), to, key)
	want(t, s, 201, "PUT /sda/0/a/half", at(1), key)
	want(t, s, 201, "PUT /sda/0/a/later", at(1))
	if list := sorted(s.Synced()); !slices.Equal(list, []string{"/a/c", "/a/half"}) {
		t.Errorf("known are %v", list)
	}
	want(t, s, 204, "POST /sda/0/a/later", at(2), to, key)
	if list := sorted(s.Synced()); !slices.Equal(list, []string{"/a/c", "/a/half", "/a/later"}) {
		t.Errorf("known are %v", list)
	}
	// One that is said not to be is forgotten after a while, unless it is told where to meanwhile: that is
	// known before it is committed.
	now := time.Now()
	s.synced.now = func() time.Time { return now }
	for _, step := range []struct {
		after time.Duration
		told  bool
		known bool
	}{{0, false, true}, {doubt - 1, false, true}, {0, true, true}, {doubt, false, true}, {doubt - 1, false, true}, {1, false, false}} {
		now = now.Add(step.after)
		if step.told {
			s.synced.add(synced0)
		} else {
			s.NotSynced(synced0)
		}
		if got := slices.Contains(sorted(s.Synced()), "/a/c"); got != step.known {
			t.Errorf("after %v more: known %v", step.after, got)
		}
	}
	s.NotSynced(synced0) // it is not known
	// What one replica says outweighs that another of the node is not there.
	for range 3 {
		now = now.Add(doubt)
		s.NotSynced(synced0)
		if _, err := s.SyncOf(t.Context(), "sda", synced0); err != nil {
			t.Fatal(err)
		}
	}
	if got := sorted(s.Synced()); !slices.Contains(got, "/a/c") {
		t.Errorf("one that another replica says nothing of is forgotten: %v", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again, _ := start(t, dir)
	if list := again.Synced(); len(list) > 0 {
		t.Errorf("known are %v", list)
	}
	looks := 0
	if err := again.FindSynced(t.Context(), "sda", func(context.Context) error { looks++; return nil }); err != nil {
		t.Fatal(err)
	}
	if list := sorted(again.Synced()); !slices.Equal(list, []string{"/a/c", "/a/later"}) || looks != 4 {
		t.Errorf("found are %v after %d looks", list, looks)
	}
	stop := errors.New("enough")
	if err := again.FindSynced(t.Context(), "sda", func(context.Context) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("a search that is stopped: %v", err)
	}
}

func sorted(list []name.Path) []string {
	all := make([]string, len(list))
	for i, p := range list {
		all[i] = p.String()
	}
	slices.Sort(all)
	return all
}

// What is to be synced, and how far that has come, outlives a restart; the points of one target are not those of
// another.
func TestSyncPoints(t *testing.T) {
	dir := t.TempDir()
	s, _ := start(t, dir)
	want(t, s, 201, "PUT /sda/0/a/c", at(1), "X-Container-Sync-To: //us/b/x/y", "X-Container-Sync-Key: k", "X-Backend-Storage-Policy-Index: 3")
	want(t, s, 201, "PUT /sda/0/a/c/one", object(2, 5, "X-Backend-Storage-Policy-Index: 3", "X-Meta-Timestamp: 0000000007.00000")...)
	want(t, s, 204, "DELETE /sda/0/a/c/two", at(3), "X-Backend-Storage-Policy-Index: 3")
	target, other := [16]byte{1}, [16]byte{2}
	if err := s.SetSyncPoints(t.Context(), "sda", synced0, target, 1, 2); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, _ = start(t, dir)
	if all, next, err := s.SyncPoints(t.Context(), "sda", synced0, target); err != nil || all != 1 || next != 2 {
		t.Errorf("the points are %d and %d, %v", all, next, err)
	}
	if all, next, err := s.SyncPoints(t.Context(), "sda", synced0, other); err != nil || all != 0 || next != 0 {
		t.Errorf("the points of another target are %d and %d, %v", all, next, err)
	}
	is, err := s.SyncOf(t.Context(), "sda", synced0)
	if is.Incarnation == [16]byte{} {
		t.Error("it has no incarnation")
	}
	if err != nil || is != (Sync{Path: synced0, To: "//us/b/x/y", Key: "k", Policy: 3, Incarnation: is.Incarnation}) {
		t.Errorf("it says %+v, %v", is, err)
	}
	rows, err := s.SyncChanges(t.Context(), "sda", synced0, 0, 10)
	if err != nil || len(rows) != 2 || rows[0].Name != "one" || rows[0].Deleted || rows[0].Newest().Seconds() != 7 || rows[0].Policy != 3 ||
		rows[1].Name != "two" || !rows[1].Deleted || rows[1].Data.Seconds() != 3 {
		t.Errorf("changed are %+v, %v", rows, err)
	}
	if rest, err := s.SyncChanges(t.Context(), "sda", synced0, rows[0].Number, 1); err != nil || len(rest) != 1 || rest[0].Name != "two" {
		t.Errorf("behind the first are %+v, %v", rest, err)
	}
	want(t, s, 201, "PUT /sda/0/a/versions", at(1), "X-Container-Sysmeta-Versions-Enabled: true")
	if is, err := s.SyncOf(t.Context(), "sda", name.Path{Account: "a", Container: "versions"}); err != nil || !is.Versioned {
		t.Errorf("one that keeps versions says %+v, %v", is, err)
	}
	want(t, s, 201, "PUT /sda/0/a/gone", at(1))
	want(t, s, 204, "DELETE /sda/0/a/gone", at(2))
	for _, p := range []name.Path{{Account: "a", Container: "gone"}, {Account: "a", Container: "none"}} {
		if _, err := s.SyncOf(t.Context(), "sda", p); !errs.Is(err, errs.NotFound) {
			t.Errorf("%v: %v", p, err)
		}
	}
}
