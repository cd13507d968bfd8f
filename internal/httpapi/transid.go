package httpapi

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"net/http"
	"time"

	"martlet/internal/backend"
	"martlet/internal/name"
)

type transKey struct{}

// maxTransExtra is how much of X-Trans-Id-Extra is kept, in bytes.
const maxTransExtra = 32

// NewTransID makes a transaction id in Swift's form: "tx", 21 hexadecimal
// digits by chance, a dash, the time in ten hexadecimal digits, and what the
// client asked to have behind it, cut at 32 characters.
func NewTransID(now time.Time, extra string) string {
	const digits = 21
	var chance [16]byte // nothing rests on nobody guessing it
	binary.NativeEndian.PutUint64(chance[:], rand.Uint64())
	binary.NativeEndian.PutUint64(chance[8:], rand.Uint64())
	var room [64]byte
	id := append(hex.AppendEncode(append(room[:0], "tx"...), chance[:])[:2+digits], '-')
	seconds := uint64(max(now.Unix(), 0))
	for shift := 36; shift >= 0; shift -= 4 {
		id = append(id, "0123456789abcdef"[seconds>>shift&15])
	}
	if extra != "" {
		id = append(append(id, '-'), name.Quote(extra[:min(len(extra), maxTransExtra)])...)
	}
	return string(id)
}

// watched is what a context carries of the request that it is of.
type watched struct {
	id    string
	by    *Observed     // nil where nobody watches it
	outer *http.Request // as it came in; nil likewise

	carried *backend.Request // in the place of outer, where net/http does not carry it
}

// WithTransID returns a context that carries the transaction id.
func WithTransID(ctx context.Context, id string) context.Context {
	w := watchedIn(ctx)
	w.id = id
	return context.WithValue(ctx, transKey{}, &w)
}

// TransID returns the context's transaction id, "" where it has none.
func TransID(ctx context.Context) string {
	return watchedIn(ctx).id
}

func watchedIn(ctx context.Context) watched {
	if w, ok := ctx.Value(transKey{}).(*watched); ok {
		return *w
	}
	return watched{}
}
