package replwire

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"martlet/internal/name"
)

func someWanted(n int) (list []Wanted) {
	for i := range n {
		list = append(list, Wanted{[16]byte{byte(i), 1}, [16]byte{byte(i), 2}})
	}
	return list
}

func TestWanted(t *testing.T) {
	for _, n := range []int{1, 2, MaxWanted} {
		want := someWanted(n)
		if got, err := ParseWanted(AppendWanted(nil, want)); err != nil || !slices.Equal(got, want) {
			t.Errorf("%d: got %v, %v", n, got, err)
		}
	}
	for what, b := range map[string][]byte{
		"none":       AppendWanted(nil, nil),
		"too many":   AppendWanted(nil, someWanted(MaxWanted+1)),
		"half a one": seal(wanted, make([]byte, wantedSize/2), 1, false),
		"more":       seal(wanted, make([]byte, wantedSize), 1, true),
		"writes":     AppendWrites(nil, []Write{{Hash: [16]byte{1}, Time: at(5)}}),
	} {
		if list, err := ParseWanted(b); !errors.Is(err, ErrList) {
			t.Errorf("%s: taken as %v, %v", what, list, err)
		}
	}
}

// answerOf encodes archives as the answer to a question.
func answerOf(asked []byte, list []Archive) []byte {
	a := BeginArchives(nil, asked)
	for i := range list {
		if list[i].Given != Here {
			a.Tell(list[i].Given)
			continue
		}
		a.Give(int64(len(list[i].Bytes)), len(list)-1-i, func(b []byte) Given { copy(b, list[i].Bytes); return Here })
	}
	return a.Encoded()
}

func sameArchive(a, b Archive) bool { return a.Given == b.Given && bytes.Equal(a.Bytes, b.Bytes) }

// An answer is taken as it was made, and with any byte changed, missing or to another question not at all.
func TestArchives(t *testing.T) {
	asked := AppendWanted(nil, someWanted(5))
	want := []Archive{{Given: NotHere}, {Here, []byte("an archive")}, {Given: Alone}, {Given: NotNow}, {Here, []byte("another")}}
	b := answerOf(asked, want)
	if got, err := ParseArchives(b, len(want), asked); err != nil || !slices.EqualFunc(got, want, sameArchive) {
		t.Fatalf("got %v, %v", got, err)
	}
	for i := range b {
		damaged := bytes.Clone(b)
		damaged[i] ^= 1
		if _, err := ParseArchives(damaged, len(want), asked); !errors.Is(err, ErrList) {
			t.Errorf("with byte %d changed: %v", i, err)
		}
		if _, err := ParseArchives(b[:i], len(want), asked); !errors.Is(err, ErrList) {
			t.Errorf("cut at %d: %v", i, err)
		}
	}
	if _, err := ParseArchives(b, len(want), AppendWanted(nil, someWanted(6)[1:])); !errors.Is(err, ErrList) {
		t.Errorf("the answer to another question: %v", err)
	}
	if _, err := ParseArchives(b, len(want)-1, asked); !errors.Is(err, ErrList) {
		t.Errorf("of fewer: %v", err)
	}
	for what, list := range map[string][]Archive{
		"nothing that is whole": {{Here, nil}, {}, {}, {}, {}},
		"no such thing":         {{Given: endOfGiven}, {}, {}, {}, {}},
	} {
		if _, err := ParseArchives(answerOf(asked, list), len(list), asked); !errors.Is(err, ErrList) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// What could not be read to its end is as if nothing of it had been written.
func TestArchivesUnread(t *testing.T) {
	asked := AppendWanted(nil, someWanted(2))
	a := BeginArchives(nil, asked)
	a.Give(1000, 1, func(b []byte) Given { b[0] = 1; return Unread })
	a.Give(3, 0, func(b []byte) Given { copy(b, "abc"); return Here })
	got, err := ParseArchives(a.Encoded(), 2, asked)
	if want := []Archive{{Given: Unread}, {Here, []byte("abc")}}; err != nil || !slices.EqualFunc(got, want, sameArchive) {
		t.Errorf("got %v, %v", got, err)
	}
}

// However archives come there is room for what Room has said, and an answer that is full is taken.
func TestArchivesRoom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.Int64Range(1, MaxArchiveBytes), 1, 30).Draw(t, "sizes")
		asked := AppendWanted(nil, someWanted(len(sizes)))
		a := BeginArchives(nil, asked)
		for i, n := range sizes {
			if a.Room(n, len(sizes)-1-i) {
				a.Give(n, len(sizes)-1-i, func([]byte) Given { return Here })
			} else {
				a.Tell(NotNow)
			}
		}
		b := a.Encoded()
		if list, err := ParseArchives(b, len(sizes), asked); err != nil || len(list) != len(sizes) || len(b) > MaxArchiveBytes {
			t.Fatalf("%d bytes of %v: %v", len(b), sizes, err)
		}
	})
}

// hashesOf encodes a list of hashes.
func hashesOf(list []name.Hash, more bool) []byte {
	b := BeginHashes(nil)
	for i := range list {
		b = append(b, list[i][:]...)
	}
	return End(b, len(list), more)
}

// Hashes are taken in order, each once, and within bounds; a list of objects is told apart.
func TestHashes(t *testing.T) {
	list := []name.Hash{{1}, {2}, {2, 1}, {9}}
	from, to := everything()
	for n := range len(list) + 1 {
		got, more, ok, err := ParseHashes(hashesOf(list[:n], n > 0), from, to)
		if err != nil || !ok || more != (n > 0) || !slices.Equal(got, list[:n]) {
			t.Errorf("%d: %v, %v, %v, %v", n, got, more, ok, err)
		}
	}
	for what, b := range map[string][]byte{
		"out of order": hashesOf([]name.Hash{{2}, {1}}, false),
		"twice":        hashesOf([]name.Hash{{2}, {2}}, false),
		"outside":      hashesOf([]name.Hash{{2}, {9}}, false),
		"half a one":   seal(hashes, make([]byte, 8), 1, false),
		"wanted":       AppendWanted(nil, someWanted(1)),
		"cut short":    hashesOf(list, false)[:50],
	} {
		if got, _, _, err := ParseHashes(b, name.Hash{1}, name.Hash{3}); !errors.Is(err, ErrList) {
			t.Errorf("%s: taken as %v, %v", what, got, err)
		}
	}
	if _, _, ok, err := ParseHashes(seal(Objects, nil, 0, false), from, to); ok || err != nil {
		t.Errorf("a list of objects: %v, %v", ok, err)
	}
}

func FuzzParseHashes(f *testing.F) {
	f.Add(hashesOf([]name.Hash{{1}, {2}}, true))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = sealed(b)
		from, to := everything()
		list, more, ok, err := ParseHashes(b, from, to)
		if err != nil {
			if !errors.Is(err, ErrList) {
				t.Fatal(err)
			}
			return
		}
		if again := hashesOf(list, more); ok && !bytes.Equal(again, b) {
			t.Errorf("%x is taken as %v, which is %x", b, list, again)
		}
	})
}

func FuzzParseWanted(f *testing.F) {
	f.Add(AppendWanted(nil, someWanted(3)))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = sealed(b)
		list, err := ParseWanted(b)
		if err != nil {
			if !errors.Is(err, ErrList) {
				t.Fatal(err)
			}
			return
		}
		if again := AppendWanted(nil, list); !bytes.Equal(again, b) {
			t.Errorf("%x is taken as %v, which is %x", b, list, again)
		}
	})
}

func FuzzParseArchives(f *testing.F) {
	asked := AppendWanted(nil, someWanted(3))
	f.Add(answerOf(asked, []Archive{{Here, []byte("an archive")}, {Given: NotHere}, {Given: Unread}}))
	f.Add(answerOf(asked, make([]Archive, 3)))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = sealed(b)
		list, err := ParseArchives(b, 3, asked)
		if err != nil {
			if !errors.Is(err, ErrList) {
				t.Fatal(err)
			}
			return
		}
		if again := answerOf(asked, list); !bytes.Equal(again, b) {
			t.Errorf("%x is taken as %v, which is %x", b, list, again)
		}
	})
}
