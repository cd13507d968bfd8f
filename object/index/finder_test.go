package index

import (
	"encoding/binary"
	"os"
	"testing"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/vfs"
)

// keyOf is the n-th of keys that are in order, and data that is somewhere in the log.
func keyOf(n int) (k Key, e Entry) {
	var h name.Hash
	binary.BigEndian.PutUint64(h[:], uint64(n)<<40)
	return Key{Hash: h}, Entry{Kind: Data, Data: Place{Segment: 1, Offset: int64(4096 + 8*n), Size: 8}}
}

// A finder reads each block once, and says what has come since: in memory, and in a run that was made meanwhile.
func TestFinder(t *testing.T) {
	const n = 2000
	disk := vfs.Count(vfs.NewMem())
	ix := mustOpen(t, disk)
	set := func(i, times int) {
		k, e := keyOf(i)
		old, err := ix.Get(k)
		if err != nil {
			t.Fatal(err)
		}
		e.Data.Size *= int64(times)
		ix.Apply(at(i+n*times), Change{Key: k, Old: old, New: e})
	}
	for i := range n {
		set(i, 1)
	}
	if err := ix.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	f := ix.Finder()
	defer f.Close()
	get := func(i, times int) {
		t.Helper()
		k, want := keyOf(i)
		want.Data.Size *= int64(times)
		if got, err := f.Get(k); err != nil || got != want {
			t.Fatalf("%d is %v, %v, want %v", i, got, err, want)
		}
	}
	before := disk.Counts().Reads
	for i := range n {
		get(i, 1)
	}
	if reads := disk.Counts().Reads - before; reads == 0 || reads > n/20 {
		t.Errorf("%d reads for %d entries", reads, n)
	}
	for i := range n / 2 {
		set(i, 2)
		get(i, 2)
	}
	if err := ix.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		get(i, 1+(n-1-i)/(n/2))
	}
}

// A block that is damaged is that however often it is asked for, and one that was found whole stays so.
func TestFinderOfDamage(t *testing.T) {
	disk := vfs.NewMem()
	ix := mustOpen(t, disk)
	for i := range 2000 {
		k, e := keyOf(i)
		ix.Apply(at(i), Change{Key: k, New: e})
	}
	if err := ix.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	f := ix.Finder()
	defer f.Close()
	whole, _ := keyOf(1)
	if _, err := f.Get(whole); err != nil {
		t.Fatal(err)
	}
	file, err := disk.OpenFile("/index/"+runName(1), os.O_RDWR)
	if err == nil {
		_, err = file.WriteAt([]byte{1, 2, 3}, 3*blockSize+100)
	}
	if err != nil {
		t.Fatal(err)
	}
	first, last := ix.view.runs[0].fence(2).key(), whole
	for range 2 {
		if _, err := f.Get(first); !errs.Is(err, errs.Corrupt) {
			t.Errorf("in a damaged block it is %v, want an error of kind corrupt", err)
		}
		if _, err := f.Get(last); err != nil {
			t.Errorf("in another one it is %v", err)
		}
	}
}
