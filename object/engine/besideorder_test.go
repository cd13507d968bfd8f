//go:build !race

// One goroutine does all of it: the race detector has nothing to find, and takes most of a minute.

package engine

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"martlet/internal/vfs"
)

// Each disk call fails once, and then the power does: what was answered is there, and
// nothing says what is current that is not there whole.
func TestCommitBesideIsInOrder(t *testing.T) {
	for _, size := range []int{3, 20_000, 300_000} { // in one page with what is beside it, in several, in a file
		for _, tombstone := range []bool{false, true} {
			data := bytes.Repeat([]byte("new"), size/3)
			calls, fired := 0, true
			for ; fired; calls++ {
				disk := vfs.NewMem()
				var options []vfs.FaultOption
				if calls%2 == 0 {
					options = append(options, vfs.FaultForever()) // as if the power went right there
				}
				faulty := vfs.FailAt(disk, calls/2, options...)
				e := newEngine(faulty, "/")
				_, _, first := putBeside(e, at(1), 10, []byte("old"), besideOf(at(3), 10, false))
				_, _, second := putBeside(e, at(2), 20, data, besideOf(at(3), 20, tombstone))
				fired = faulty.Fired()
				if !fired && (first != nil || second != nil) {
					t.Fatal(first, second)
				}
				for seed := range uint64(16) {
					cfg := newConfig(disk.AfterCrash(seed))
					if seed%2 == 1 {
						if err := withoutIndex(cfg); err != nil {
							t.Fatal(err)
						}
					}
					if err := inOrder(New("/", cfg), first == nil, second == nil, tombstone, data); err != nil {
						t.Fatalf("%d bytes, tombstone %v, call %d, power cut %d: %v", size, tombstone, calls, seed, err)
					}
				}
			}
			if calls < 20 {
				t.Errorf("only %d calls were failed", calls)
			}
		}
	}
}

func newConfig(fs vfs.FS) Config {
	cfg := Defaults()
	cfg.FS, cfg.Buffers, cfg.SegmentSize, cfg.Depth = fs, testBufs, 1<<20, 12
	return cfg
}

func inOrder(e *Engine, first, second, tombstone bool, data []byte) error {
	object, err := e.Stat(ctx, at(3))
	if err != nil {
		return err
	}
	has := func(l Location, want []byte) error {
		r, err := e.Open(ctx, l)
		if err != nil {
			return err
		}
		defer r.Close()
		var got []byte
		for {
			b, err := r.View(int64(len(got)), 1<<20)
			if err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
			got = append(got, b...)
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("%d bytes, want %d", len(got), len(want))
		}
		return nil
	}
	if second && object.Time != ts(20) || second && (object.Kind == Deleted) != tombstone || first && object.Time.Before(ts(10)) {
		return fmt.Errorf("the object is %v of %v", object.Kind, object.Time)
	}
	switch object.Time {
	case ts(10):
		return has(at(1), []byte("old"))
	case ts(20):
		return has(at(2), data)
	}
	return nil
}
