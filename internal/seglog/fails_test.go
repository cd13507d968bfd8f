//go:build !race

// One goroutine does all of it: the race detector has nothing to find, and takes most of a minute.

package seglog

import (
	"fmt"
	"syscall"
	"testing"

	"martlet/internal/vfs"
)

// workload appends records until one fails, from one goroutine, with a restart in the
// middle. It returns what was acknowledged, and how many were tried.
func workload(fs vfs.FS) (acked, refused []uint64, tried uint64) {
	for range 2 {
		l, err := Open(config(fs))
		if err != nil {
			return acked, refused, tried
		}
		var failed []uint64
		for range 14 {
			n := tried
			tried++
			if _, err := l.Append(record(n), nil); err != nil {
				failed = append(failed, n)
				continue
			}
			acked = append(acked, n)
			refused, failed = append(refused, failed...), nil // what comes later shows that they are not there
		}
		_ = l.Close() // it may have failed, too
	}
	return acked, refused, tried
}

// TestEveryCallFails: whatever call fails, once or for ever, and whatever a crash then
// leaves of what was not synced: what was acknowledged is there, in order, and all
// that is there was once appended; and what has failed, and the log went on without it,
// does not come back.
func TestEveryCallFails(t *testing.T) {
	for name, options := range map[string][]vfs.FaultOption{
		"once": nil, "for ever": {vfs.FaultForever()}, "no room": {vfs.FaultError(syscall.ENOSPC)},
	} {
		t.Run(name, func(t *testing.T) {
			for n, fired := 0, true; fired; n++ {
				mem := vfs.NewMem()
				faulty := vfs.FailAt(mem, n, options...)
				acked, refused, tried := workload(faulty)
				fired = faulty.Fired()
				for seed := range uint64(4) {
					checkAfter(t, mem.AfterCrash(seed), acked, refused, tried, fmt.Sprintf("call %d, seed %d", n, seed))
				}
				checkAfter(t, mem, acked, refused, tried, fmt.Sprintf("call %d, killed", n))
			}
		})
	}
}

func checkAfter(t *testing.T, fs *vfs.Mem, acked, refused []uint64, tried uint64, what string) {
	t.Helper()
	l, err := Open(config(fs))
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	got := found(t, l)
	for _, n := range acked {
		if _, ok := got[n]; !ok {
			t.Fatalf("%s: record %d was acknowledged, and is not there", what, n)
		}
	}
	for _, n := range refused {
		if _, ok := got[n]; ok {
			t.Fatalf("%s: record %d was refused, and came back behind others", what, n)
		}
	}
	for n := range got {
		if n >= tried {
			t.Fatalf("%s: record %d was never appended", what, n)
		}
	}
	for _, s := range l.segments {
		if size, err := s.file.Size(); err != nil || size != s.end && size != s.end+Size(0, 0) { // a seal
			t.Fatalf("%s: segment %d ends at %d and has %d bytes, %v", what, s.number, s.end, size, err)
		}
	}
	// What was shown once stays, whatever was written before a kill and not synced.
	shown := found(t, open(t, config(fs.AfterCrash(1))))
	for n := range got {
		if _, ok := shown[n]; !ok {
			t.Fatalf("%s: record %d was there after the restart, and is not after the power was cut", what, n)
		}
	}
	// It goes on from there, and nothing that was cut comes back.
	if _, err := l.Append(record(1<<50), nil); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if err := l.Close(); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	l = open(t, config(fs))
	again := found(t, l)
	if _, ok := again[1<<50]; !ok || len(again) != len(got)+1 {
		t.Fatalf("%s: %d records, then one more, then %d", what, len(got), len(again))
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestCrashAnywhere: power is lost after any number of calls, with any part of what
// was not synced on the disk.
func TestCrashAnywhere(t *testing.T) {
	calls := vfs.FailAt(vfs.NewMem(), 1<<30)
	workload(calls)
	for n := range calls.Calls() {
		mem := vfs.NewMem()
		acked, refused, tried := workload(vfs.FailAt(mem, n, vfs.FaultForever()))
		for seed := range uint64(5) {
			checkAfter(t, mem.AfterCrash(seed*1000+uint64(n)), acked, refused, tried, fmt.Sprintf("call %d, seed %d", n, seed))
		}
	}
}

// Where a call fails, apply was called for what is in the log and for nothing else.
func TestAppendAllFails(t *testing.T) {
	for n, fired := 0, true; fired; n++ {
		mem := vfs.NewMem()
		faulty := vfs.FailAt(mem, n)
		l, err := Open(config(faulty))
		if err != nil {
			fired = faulty.Fired()
			continue
		}
		applied := map[uint64]Position{}
		failed := false
		for round := range uint64(3) {
			items := make([]Item, 30)
			for i := range items {
				k := round<<8 | uint64(i)
				items[i] = Item{Record: *record(k), Apply: func(p Position) { applied[k] = p }}
			}
			failed = l.AppendAll(items) != nil || failed
		}
		fired = faulty.Fired()
		if !failed && len(applied) != 90 {
			t.Fatalf("call %d: nothing failed, and %d of 90 are there", n, len(applied))
		}
		for seed := range uint64(4) {
			got := found(t, open(t, config(mem.AfterCrash(seed))))
			for k, at := range applied {
				if got[k] != at {
					t.Fatalf("call %d, seed %d: record %d is at %v, applied at %v", n, seed, k, got[k], at)
				}
			}
			if seed == 0 && !fired && len(got) != 90 {
				t.Fatalf("found %d of 90", len(got))
			}
		}
	}
}
