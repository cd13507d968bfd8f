package container

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"martlet/internal/errs"
	"martlet/internal/metadb"
	"martlet/internal/name"
)

// misplacedRows returns the rows of other policies than the container's, so many at a time.
func misplacedRows(t *testing.T, s *Server, limit int) (got []string) {
	t.Helper()
	after := metadb.RowName{}
	for {
		own, rows, err := s.MisplacedRows(t.Context(), "sda", synced0, after, limit)
		if err != nil || own != 0 {
			t.Fatalf("of policy %d, %v", own, err)
		}
		for _, r := range rows {
			after = metadb.RowName{Space: r.Policy, Name: r.Name}
			got = append(got, fmt.Sprintf("%d %s %d %t %t", r.Policy, r.Name, r.Data.Seconds(), r.Deleted, r.Hidden))
		}
		if len(rows) < limit {
			return got
		}
	}
}

// Containers with rows of another policy are known as soon as there is one, and found again after a start.
func TestMisplacedContainersAreFound(t *testing.T) {
	const tin = "X-Backend-Storage-Policy-Index: 3"
	dir := t.TempDir()
	s, _ := start(t, dir)
	want(t, s, 201, "PUT /sda/0/a/plain", at(1))
	want(t, s, 201, "PUT /sda/0/a/plain/o", object(2, 1)...)
	want(t, s, 201, "PUT /sda/0/a/tin", at(1), tin)
	want(t, s, 201, "PUT /sda/0/a/tin/o", object(2, 1, tin)...)
	want(t, s, 201, "PUT /sda/0/a/c", at(1))
	want(t, s, 201, "PUT /sda/0/a/c/own", object(2, 1)...)
	if list := sorted(s.Misplaced()); len(list) > 0 {
		t.Errorf("known are %v", list)
	}
	want(t, s, 201, "PUT /sda/0/a/c/old", object(1, 1, tin)...)
	want(t, s, 204, "DELETE /sda/0/a/c/old", at(3), tin)
	want(t, s, 201, "PUT /sda/0/a/c/other", object(4, 1, tin)...)
	want(t, s, 204, "DELETE /sda/0/a/c/gone", at(5), tin)
	if list := sorted(s.Misplaced()); !slices.Equal(list, []string{"/a/c"}) {
		t.Errorf("known are %v", list)
	}
	rows := []string{"3 gone 5 true false", "3 old 3 true false", "3 other 4 false false"}
	for limit := range 4 {
		if got := misplacedRows(t, s, limit+1); !slices.Equal(got, rows) {
			t.Errorf("pages of %d: %q, want %q", limit+1, got, rows)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, _ = start(t, dir)
	looks := 0
	if err := s.FindMisplaced(t.Context(), "sda", func(context.Context) error { looks++; return nil }); err != nil {
		t.Fatal(err)
	}
	if list := sorted(s.Misplaced()); !slices.Equal(list, []string{"/a/c"}) || looks != 3 {
		t.Errorf("found are %v after %d looks", list, looks)
	}
	now := time.Now()
	s.misplaced.now = func() time.Time { return now }
	for range 2 {
		s.NotMisplaced(synced0)
		now = now.Add(doubt)
	}
	if list := s.Misplaced(); len(list) > 0 {
		t.Errorf("known are still %v", list)
	}
	want(t, s, 204, "DELETE /sda/0/a/c/other", at(6), tin)
	if list := sorted(s.Misplaced()); !slices.Equal(list, []string{"/a/c"}) {
		t.Errorf("known are %v when a row has changed", list)
	}
	if _, _, err := s.MisplacedRows(t.Context(), "sda", name.Path{Account: "a", Container: "none"}, metadb.RowName{}, 1); !errs.Is(err, errs.NotFound) {
		t.Errorf("of none: %v", err)
	}
}

// Rows that a DELETE of the container hides are told from those that it does not.
func TestMisplacedRowsOfADeletedContainer(t *testing.T) {
	const tin = "X-Backend-Storage-Policy-Index: 3"
	s, _ := start(t, t.TempDir())
	want(t, s, 201, "PUT /sda/0/a/c", at(1))
	want(t, s, 204, "DELETE /sda/0/a/c", at(5))
	want(t, s, 201, "PUT /sda/0/a/c/before", object(4, 1, tin)...)
	want(t, s, 201, "PUT /sda/0/a/c/later", object(6, 1, tin)...)
	if got, rows := misplacedRows(t, s, 9), []string{"3 before 4 false true", "3 later 6 false false"}; !slices.Equal(got, rows) {
		t.Errorf("there are %q, want %q", got, rows)
	}
}
