package httpapi

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"time"

	"martlet/internal/name"
)

type transKey struct{}

// maxTransExtra is how much of X-Trans-Id-Extra is kept, in bytes.
const maxTransExtra = 32

// NewTransID makes a transaction id in Swift's form: "tx", 21 hexadecimal
// digits by chance, a dash, the time in ten hexadecimal digits, and what the
// client asked to have behind it, cut at 32 characters.
func NewTransID(now time.Time, extra string) string {
	var chance [11]byte
	_, _ = rand.Read(chance[:]) // never fails
	id := fmt.Sprintf("tx%s-%010x", hex.EncodeToString(chance[:])[:21], now.Unix())
	if extra == "" {
		return id
	}
	if len(extra) > maxTransExtra {
		extra = extra[:maxTransExtra]
	}
	return id + "-" + name.Quote(extra)
}

// watched is what a context carries of the request that it is of.
type watched struct {
	id    string
	by    *Observed     // nil where nobody watches it
	outer *http.Request // as it came in; nil likewise
}

// WithTransID returns a context that carries the transaction id.
func WithTransID(ctx context.Context, id string) context.Context {
	w, _ := ctx.Value(transKey{}).(watched)
	w.id = id
	return context.WithValue(ctx, transKey{}, w)
}

// TransID returns the context's transaction id, "" where it has none.
func TransID(ctx context.Context) string {
	w, _ := ctx.Value(transKey{}).(watched)
	return w.id
}
