package fragments

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"testing"

	"martlet/internal/ec"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/replwire"
)

// between is a device on which another write takes a fragment's place between the two looks at it.
type between struct {
	Store
	first, then Entry
	archive     []byte
}

// Stat implements Store.
func (s between) Stat(context.Context, policy.Index, name.Hash) (Entry, error) { return s.first, nil }

// Open implements Store.
func (s between) Open(context.Context, policy.Index, name.Hash) (*Archive, error) {
	return &Archive{Object: s.then.Object, Body: io.NopCloser(bytes.NewReader(s.archive))}, nil
}

// A fragment that takes the place of one that was accused has not done what is said of that.
func TestVerifiedWhileReplaced(t *testing.T) {
	code, err := ec.New(ec.Of(ec.Shape{Data: 1, Parity: 1}))
	if err != nil {
		t.Fatal(err)
	}
	archive := func(id byte) (header string, b []byte) {
		w := ec.Write{ID: ec.WriteID{id}, Size: 5}
		e, err := code.Encode(w, func(archives [][]byte) error {
			b = append(b, archives[0]...)
			return nil
		})
		if err == nil {
			_, err = e.Write([]byte("bytes"))
		}
		if err == nil {
			err = e.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		h := ec.Header{Layout: code.Layout, Write: w}
		return hex.EncodeToString(h.Append(nil)), b
	}
	entry := func(fragment string, sum uint64) Entry {
		return Entry{Object: replwire.Object{Kind: replwire.Data, SystemSum: sum}, Fragment: fragment}
	}
	one, first := archive(1)
	_, other := archive(2)
	for what, tt := range map[string]struct {
		store      between
		bad, known bool
	}{
		"good":     {between{nil, entry(one, 1), entry(one, 1), first}, false, true},
		"bad":      {between{nil, entry(one, 1), entry(one, 1), first[:len(first)-1]}, true, true},
		"another":  {between{nil, entry(one, 1), entry(one, 1), other}, true, true},
		"replaced": {between{nil, entry(one, 1), entry("", 2), other}, false, false},
	} {
		_, _, bad, err := verified(t.Context(), tt.store, Lost{})
		if (bad != nil) != tt.bad || (err == nil) != tt.known {
			t.Errorf("%s: found to be bad: %v; not known: %v", what, bad, err)
		}
	}
}
