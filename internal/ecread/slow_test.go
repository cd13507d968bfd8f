//go:build !race

package ecread_test

import (
	"bytes"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// Where all are slow, and about as slow, hardly anybody else is asked, however slow that is.
func TestAllAreSlow(t *testing.T) {
	const segment, reads = 40_000, 30
	for _, pace := range []time.Duration{100 * time.Millisecond, time.Second} { // for half a frame of 4+2
		for _, shape := range []string{"1+1", "4+2"} {
			t.Run(fmt.Sprint(shape, " ", pace), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newBench(t, shape, segment, true)
					want := data(4 * segment)
					state := b.write(1, want, true)
					for i := range b.code.Fragments() {
						b.change(i, func(a *archive) { a.pace = pace + time.Duration(i)*pace/20 })
					}
					for range reads {
						if got, err := b.read(state, 0, int64(len(want))); err != nil || !bytes.Equal(got, want) {
							t.Fatalf("got %d bytes, %v", len(got), err)
						}
					}
					needed := b.code.Data * reads
					if most := needed + needed/10 + 20; len(b.asked) > most {
						t.Errorf("%d requests for fragments, want %d and hardly more: %v", len(b.asked), needed, b.asked)
					}
				})
			})
		}
	}
}
