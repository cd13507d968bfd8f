package main

import (
	"encoding/json"
	"io"
	"strings"
	"testing"

	"martlet/internal/backend"
	"martlet/internal/ec"
	"martlet/internal/policy"
	"martlet/object"
	"martlet/object/engine"
)

// putCoded writes a commit, and two of its fragments, of which one has a file of its own; it returns the hash of the other.
func (s *shelf) putCoded(e *engine.Engine, o string) string {
	s.t.Helper()
	commit := backend.Coded{Data: 4, Parity: 2, Segment: 1 << 20, Write: [16]byte{7}, Size: 70_000, Sized: true, ETag: "0123456789abcdef0123456789abcdef"}
	at, t := engine.Location{Policy: 3, Hash: s.at(o).Hash}, s.next()
	write := func(at engine.Location, v engine.Version, data string) {
		w, err := e.Create(s.t.Context(), at, int64(len(data)))
		if err != nil {
			s.t.Fatal(err)
		}
		defer w.Close()
		if _, err = io.WriteString(w, data); err == nil {
			_, err = w.Commit(v, engine.Terms{})
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
	write(at, engine.Version{Time: t, Name: s.path(o), System: backend.Header{{Name: backend.CodedWrite, Value: commit.String()}}}, "")
	part := func(i int) engine.Location { return object.FragmentAt(policy.Index(3).Fragments(), at.Hash, t, i) }
	for i, size := range map[int]int{1: 1000, 5: large} {
		h := ec.Header{Layout: ec.Of(ec.Shape{Data: 4, Parity: 2}), Write: ec.Write{ID: commit.Write, Size: commit.Size}, Index: i}
		head := h.Append(nil)
		write(part(i), object.FragmentVersion(s.path(o), t, head), string(head)+strings.Repeat("x", size))
	}
	return part(1).Hash.String()
}

// Of an object whose data is in fragments it is said what it is, and which of them are here; and of a fragment which one it is.
func TestInspectFragments(t *testing.T) {
	s := newShelf(t)
	var hash string
	s.with(func(e *engine.Engine) { hash = s.putCoded(e, "o") })
	args := []string{"object", s.folder, "AUTH_a", "c", "o", "--config", s.config, "--policy", "silver"}
	out, _ := s.ask(0, args...)
	write := "07" + strings.Repeat("0", 30)
	for _, want := range []string{
		"state       object of 70,000 bytes, in fragments, 4+2, of the write " + write + ", in the log", "FRAGMENT  OF   TIME",
		"1         4+2  1700000000.00001  " + write + "  1.1 kB  yes    " + hash + "\n5         4+2  1700000000.00001",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not said:\n%s", want, out)
		}
	}
	out, _ = s.ask(0, append(args, "--json")...)
	var got struct {
		Coded     struct{ Shape, Write, MD5 string }
		Fragments []struct {
			Index int
			Shape string
			Whole bool
		}
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || got.Coded.Shape != "4+2" || got.Coded.Write != write || len(got.Fragments) != 2 || !got.Fragments[0].Whole {
		t.Errorf("as JSON: %+v, %v\n%s", got, err, out)
	}

	own := []string{"object", s.folder, "--hash", hash, "--policy", policy.Index(3).Fragments().String()}
	out, _ = s.ask(0, own...)
	for _, want := range []string{"policy      fragments of 3", "state       fragment 1 of 4+2, of the write " + write + ": 1,064 bytes, in the log"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not said:\n%s", want, out)
		}
	}
	out, _ = s.ask(0, append(own, "--json")...)
	var one struct{ Fragment struct{ Index int } }
	if err := json.Unmarshal([]byte(out), &one); err != nil || one.Fragment.Index != 1 {
		t.Errorf("as JSON: %+v, %v\n%s", one, err, out)
	}
	if out, _ = s.ask(0, "device", s.folder); !strings.Contains(out, "fragments of 3        2") {
		t.Errorf("of the device is said\n%s", out)
	}

	s.harm(s.one("blobs/*/*"), 4096+10)
	out, _ = s.ask(1, append(args, "--all")...)
	if !strings.Contains(out, "1.1 kB  yes ") || !strings.Contains(out, "300 kB  no ") {
		t.Errorf("of a damaged one is said\n%s", out)
	}
}
