//go:build !race

// One goroutine does all of it: the race detector has nothing to find, and takes minutes.

package engine

import (
	"bytes"
	"fmt"
	"path"
	"testing"
	"time"

	"martlet/internal/errs"
	"martlet/internal/vfs"
)

// Each byte of a store is damaged once. What is read is right, or said to be damaged; no
// other name is touched; where it was the index, nothing is lost.
func TestEveryByteFlips(t *testing.T) {
	var names []Location
	base := vfs.NewMem()
	e := New("/", smallConfig(base))
	bodies := map[string][]byte{}
	for i := range 6 {
		l := worldName(i)
		names = append(names, l)
		for v := int64(1); v < 3; v++ {
			body := fmt.Appendf(nil, "version %d of %v", v, l)
			if i == 2 {
				body = bytes.Repeat(body, largeBody/len(body)+1)
			}
			bodies[fmt.Sprint(l, ts(v))] = body
			if err := put(e, l, ts(v), body, fmt.Sprint(v), Terms{}); err != nil {
				t.Fatal(err)
			}
		}
		var err error
		switch i {
		case 3:
			err = post(e, l, 5, 5, "later", Terms{})
		case 4:
			err = del(e, l, 5, Terms{})
		case 5:
			_, err = e.Drop(ctx, l, func(*State) bool { return true })
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	want := map[Location]string{}
	for _, l := range names {
		s, err := e.Stat(ctx, l)
		if err != nil {
			t.Fatal(err)
		}
		want[l] = show(s)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	all, cuts := filesBelow(t, base, "/", map[string]int64{}), 0
	for name, size := range all {
		stride := int64(1)
		if path.Dir(path.Dir(name)) == "/blobs" {
			stride = 97
		}
		f, err := base.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		content := make([]byte, size)
		if _, err := f.ReadAt(content, 0); err != nil {
			t.Fatal(err)
		}
		for off := int64(0); off < size; off += stride {
			if content[off] == 0 && off%53 != 0 {
				continue // most of a store of this size is zeros
			}
			cuts++
			for _, rebuild := range []bool{false, true} {
				if rebuild && (path.Dir(name) != "/log" || cuts%3 > 0) {
					continue
				}
				disk := base.AfterCrash(whole)
				flip(t, disk, name, off)
				what := fmt.Sprintf("byte %d of %s, rebuild %v", off, name, rebuild)
				e := New("/", smallConfig(disk))
				if rebuild {
					if err := withoutIndex(smallConfig(disk)); err != nil {
						t.Fatalf("%s: %v", what, err)
					}
				}
				if cuts%2 == 0 {
					_ = e.Scrub(ctx, time.Now().Add(time.Hour), nil) // of an index that is damaged it may be told by any call
				}
				differ := 0
				for _, l := range names {
					s, body, err := get(e, l)
					if errs.Is(err, errs.BadDevice) {
						s, body, err = get(e, l) // opened again
					}
					if err == nil && !bytes.Equal(body, bodies[fmt.Sprint(l, s.Time)]) {
						t.Fatalf("%s: of %v there is read %q", what, l, body)
					}
					if err != nil && !errs.Is(err, errs.Corrupt) && !errs.Is(err, errs.NotFound) {
						t.Fatalf("%s: %v", what, err)
					}
					if show(s) == want[l] {
						continue
					}
					if differ++; path.Dir(name) == "/index" || !rebuild && s.Kind != Lost {
						t.Fatalf("%s: of %v there is %s, %v, want %s", what, l, show(s), err, want[l])
					}
				}
				if differ > 1 {
					t.Fatalf("%s: %d names differ", what, differ)
				}
			}
		}
	}
	if cuts < 1500 {
		t.Errorf("only %d bytes were damaged", cuts)
	}
}
