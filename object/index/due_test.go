//go:build !race

package index

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/vfs"
)

// checkDue compares what is due by a second with what should be.
func checkDue(ix *Index, m model, second uint32) error {
	got := model{}
	for item, err := range ix.Due(context.Background(), second) {
		if err != nil {
			return err
		}
		got[item.Key] = item.Entry
	}
	for k, e := range m {
		if !e.due(second) {
			continue
		}
		if got[k] != e {
			return fmt.Errorf("by %d %v is due, got %v", second, e, got[k])
		}
		delete(got, k)
	}
	if len(got) > 0 {
		return fmt.Errorf("by %d these are not due: %v", second, got)
	}
	return nil
}

func TestDueReadsWhatIsDue(t *testing.T) {
	disk := vfs.NewMem()
	ix := mustOpen(t, disk)
	const n = 10_000
	key := func(i int) Key { return Key{Hash: name.Hash{byte(i >> 8), byte(i), 7}} }
	entry := func(i int, expires uint32) Entry {
		return Entry{Kind: Data, Times: packed(stamp(9), stamp(9), stamp(9)), Expires: expires, Data: Place{1, int64(8 * i), 100}}
	}
	for i := range n {
		ix.Apply(at(i), Change{Key: key(i), New: entry(i, 1_000_000+uint32(i/100))})
	}
	if err := ix.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	reads := vfs.Count(disk)
	ix.Close()
	ix, err := Open(config(reads))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ix.Close)
	look := func(second uint32) (found int, blocks int64) {
		before := reads.Counts()
		for _, err := range ix.Due(t.Context(), second) {
			if found++; err != nil {
				t.Fatal(err)
			}
		}
		return found, reads.Counts().Sub(before).Reads
	}
	if found, blocks := look(999_999); found != 0 || blocks != 0 {
		t.Errorf("before the first is due %d are found with %d reads", found, blocks)
	}
	found, blocks := look(1_000_000)
	if found != 100 || blocks > 200 {
		t.Errorf("%d of 100 are found with %d reads", found, blocks)
	}
	for i := range 100 {
		ix.Apply(at(n+i), Change{Key: key(i), Old: entry(i, 1_000_000), New: Entry{Kind: Tombstone, Data: Place{2, int64(8 * i), 100}}})
	}
	if found, _ := look(1_000_000); found != 0 {
		t.Errorf("%d are found that are gone", found)
	}
	if found, blocks := look(1_000_000); found != 0 || blocks != 0 {
		t.Errorf("what is known to be gone is read again: %d found with %d reads", found, blocks)
	}
	ix.Apply(at(n+100), Change{Key: key(5), New: entry(6, 1_000_000)})
	if found, _ := look(math.MaxUint32); found != n-100+1 {
		t.Errorf("%d are found in the end, want %d", found, n-99)
	}
}

// An index of the format that had nothing of what expires is to be made again.
func TestFirstFormatIsRefused(t *testing.T) {
	disk := vfs.NewMem()
	if err := disk.Mkdir("/index"); err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(filepath.Join("testdata", "v1-manifest.golden"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := disk.OpenFile("/index/"+manifestName, os.O_CREATE|os.O_WRONLY)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(old, 0); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, err := Open(config(disk)); errs.KindOf(err) != errs.Corrupt {
		t.Errorf("opened with %v, want an error of kind corrupt", err)
	}
}

func TestEarliestOfABlock(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Uint32Range(0, 3).Draw(t, "a"), rapid.Uint32Range(0, 3).Draw(t, "b")
		want := min(a, b)
		if want == 0 {
			want = max(a, b)
		}
		if got := earlier(a, b); got != want {
			t.Fatalf("of %d and %d the earlier is %d", a, b, got)
		}
	})
}
