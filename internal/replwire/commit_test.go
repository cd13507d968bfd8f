package replwire

import (
	"bytes"
	"crypto/md5"
	"errors"
	"fmt"
	"slices"
	"testing"

	"martlet/internal/backend"
	"martlet/internal/name"
	"martlet/internal/timestamp"
)

func hashOf(p name.Path) name.Hash { return md5.Sum([]byte(p.String())) }

func someCommits(n int) []Commit {
	var all []Commit
	for i := range n {
		c := Commit{
			Path: name.Path{Account: "a", Container: "c", Object: fmt.Sprint("o", i)}, Time: timestamp.FromTicks(1_000_000 + int64(i)).WithOffset(uint64(i % 2)),
			Coded: backend.Coded{Data: 4, Parity: 2, Segment: 1 << 20, Write: [16]byte{byte(i)}, Size: int64(i), Sized: i%2 == 0, ETag: "00112233445566778899aabbccddeeff"},
		}
		c.Hash = hashOf(c.Path)
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b Commit) int { return bytes.Compare(a.Hash[:], b.Hash[:]) })
	return all
}

func encoded(list []Commit, more bool) []byte {
	var l CommitList
	for _, c := range list {
		l.Add(c.Path, c.Time, c.Coded.String())
	}
	return l.Encoded(more)
}

// everything is the range of all hashes.
func everything() (from, to name.Hash) {
	for i := range to {
		to[i] = 0xff
	}
	return from, to
}

func TestCommits(t *testing.T) {
	from, to := everything()
	for _, n := range []int{0, 1, 50} {
		want := someCommits(n)
		got, more, err := ParseCommits(encoded(want, n > 0), hashOf, from, to)
		if err != nil || more != (n > 0) || !slices.Equal(got, want) {
			t.Errorf("%d: got %v, %v, %v", n, got, more, err)
		}
	}
	some := someCommits(3)
	last := slices.Clone(some)
	slices.Reverse(last)
	nameless, timeless := slices.Clone(some[:1]), slices.Clone(some[:1])
	nameless[0].Path.Object, timeless[0].Time = "", timestamp.T{}
	var foreign CommitList
	foreign.Add(some[0].Path, some[0].Time, "no commit")
	for what, b := range map[string][]byte{
		"out of order": encoded(last, false),
		"twice":        encoded([]Commit{some[0], some[0]}, false),
		"cut short":    encoded(some, false)[:60],
		"no object":    encoded(nameless, false),
		"no time":      encoded(timeless, false),
		"no commit":    foreign.Encoded(false),
	} {
		if _, _, err := ParseCommits(b, hashOf, from, to); !errors.Is(err, ErrList) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, _, err := ParseCommits(encoded(some, false), hashOf, some[1].Hash, to); !errors.Is(err, ErrList) {
		t.Errorf("outside: %v", err)
	}
}

func TestWrites(t *testing.T) {
	list := []Write{{name.Hash{1}, timestamp.FromTicks(7).WithOffset(9), [16]byte{2}}, {name.Hash{}, timestamp.FromTicks(1), [16]byte{}}}
	asked := AppendWrites(nil, list)
	if got, err := ParseWrites(asked); err != nil || !slices.Equal(got, list) {
		t.Errorf("got %v, %v", got, err)
	}
	for what, b := range map[string][]byte{
		"none": AppendWrites(nil, nil), "too many": AppendWrites(nil, make([]Write, MaxWrites+1)), "cut short": asked[:len(asked)-1], "another list": encoded(nil, false),
	} {
		if _, err := ParseWrites(b); !errors.Is(err, ErrList) {
			t.Errorf("%s: %v", what, err)
		}
	}
	said := []Judged{{Newer, true}, {Unsure, false}}
	answer := AppendVerdicts(nil, asked, said)
	if got, err := ParseVerdicts(answer, 2, asked); err != nil || !slices.Equal(got, said) {
		t.Errorf("got %v, %v", got, err)
	}
	other := AppendWrites(nil, list[:1])
	for what, err := range map[string]error{
		"of one":              second(ParseVerdicts(answer, 1, asked)),
		"of another question": second(ParseVerdicts(answer, 2, other)),
		"cut short":           second(ParseVerdicts(answer[:len(answer)-3], 2, asked)),
		"no verdict":          second(ParseVerdicts(AppendVerdicts(nil, asked, []Judged{{endOfVerdicts, true}}), 1, asked)),
	} {
		if !errors.Is(err, ErrList) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func FuzzCommits(f *testing.F) {
	f.Add(encoded(someCommits(3), true))
	f.Add(AppendWrites(nil, []Write{{name.Hash{1}, timestamp.FromTicks(7), [16]byte{2}}}))
	f.Add(AppendVerdicts(nil, nil, []Judged{{Newer, true}}))
	from, to := everything()
	f.Fuzz(func(t *testing.T, b []byte) {
		if list, more, err := ParseCommits(b, hashOf, from, to); err == nil && !bytes.Equal(encoded(list, more), b) {
			t.Errorf("%x is read as %v", b, list)
		}
		if list, err := ParseWrites(b); err == nil && !bytes.Equal(AppendWrites(nil, list), b) {
			t.Errorf("%x is read as %v", b, list)
		}
		if list, err := ParseVerdicts(b, 1, nil); err == nil && !bytes.Equal(AppendVerdicts(nil, nil, list), b) {
			t.Errorf("%x is read as %v", b, list)
		}
	})
}
