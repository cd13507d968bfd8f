package errs

import (
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestKindIsTakenFromTheCause(t *testing.T) {
	inner := E(Op("store.open"), NotFound, io.EOF)
	for name, tt := range map[string]struct {
		err  error
		want Kind
	}{
		"nil":                         {nil, Other},
		"foreign":                     {io.EOF, Other},
		"direct":                      {inner, NotFound},
		"wrapped without a kind":      {E(Op("object.get"), inner), NotFound},
		"wrapped by fmt":              {fmt.Errorf("x: %w", inner), NotFound},
		"wrapped with another kind":   {E(Op("object.get"), Unavailable, inner), Unavailable},
		"joined":                      {errors.Join(io.EOF, inner), NotFound},
		"refusal":                     {Refuse(TooLarge, "limit %d", 3), TooLarge},
		"an error that has no kind":   {E(Op("x"), "words"), Other},
		"kindless around a fmt chain": {E(Op("x"), fmt.Errorf("y: %w", inner)), NotFound},
	} {
		if got := KindOf(tt.err); got != tt.want {
			t.Errorf("%s: KindOf(%v) = %v, want %v", name, tt.err, got, tt.want)
		}
	}
}

func TestTextSaysEverythingOnce(t *testing.T) {
	inner := E(Op("store.open"), Subject("sdb1"), NotFound, io.EOF)
	for name, tt := range map[string]struct {
		err  error
		want string
	}{
		"inner":            {inner, "store.open: sdb1: not found: EOF"},
		"kind not twice":   {E(Op("object.get"), inner), "object.get: store.open: sdb1: not found: EOF"},
		"other kind added": {E(Op("object.get"), Unavailable, inner), "object.get: unavailable: store.open: sdb1: not found: EOF"},
		"empty":            {E(), "internal error"},
		"refusal":          {Refuse(TooLarge, "limit %d", 3), "too large: limit 3"},
	} {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
	if !errors.Is(E(Op("a"), inner), io.EOF) {
		t.Error("the cause is lost")
	}
}

func TestPublicIsTheOutermostMessage(t *testing.T) {
	inner := E(Op("a"), Public("inner"), Invalid)
	for name, tt := range map[string]struct {
		err  error
		want string
	}{
		"none":     {io.EOF, ""},
		"direct":   {inner, "inner"},
		"through":  {E(Op("b"), inner), "inner"},
		"replaced": {E(Op("b"), Public("outer"), inner), "outer"},
	} {
		if got := PublicOf(tt.err); got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

func TestEveryKindHasWords(t *testing.T) {
	for k := range kinds {
		if k.String() == "" {
			t.Errorf("kind %d has no text", k)
		}
	}
}
