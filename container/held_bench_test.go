package container

import (
	"context"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"martlet/internal/metadb"
	"martlet/internal/timestamp"
)

// held measures for how long somebody who changes a container's metadata as a POST does, once every 20 ms, is held up while
// fn runs.
func (j *journaled) held(b *testing.B, at metadb.Location, fn func()) {
	b.Helper()
	var over atomic.Bool
	ended := make(chan []time.Duration)
	go func() {
		var all []time.Duration
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for n := int64(1); !over.Load(); n++ {
			began := time.Now()
			err := j.Store().UpdateApart(b.Context(), at, func(tx *metadb.Tx) error {
				return tx.MergeFields([]metadb.Field{{Name: "X-Container-Meta-N", Value: strconv.FormatInt(n, 10), Stamp: timestamp.Now()}})
			})
			if err != nil {
				b.Error(err)
			}
			all = append(all, time.Since(began))
			<-tick.C
		}
		ended <- all
	}()
	fn()
	over.Store(true)
	all := <-ended
	slices.Sort(all)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }
	b.ReportMetric(float64(len(all)), "changes")
	b.ReportMetric(ms(all[len(all)/2]), "p50-ms")
	b.ReportMetric(ms(all[len(all)*99/100]), "p99-ms")
	b.ReportMetric(ms(all[len(all)-1]), "max-ms")
}

// BenchmarkHeldUp is how long somebody who changes the metadata of a container of MARTLET_ROWS rows, 2 million if that is not
// set, in no order of names, half of them deleted long ago, waits for what else goes on with it: -benchtime 1x.
func BenchmarkHeldUp(b *testing.B) {
	rows := 2_000_000
	if n, err := strconv.Atoi(os.Getenv("MARTLET_ROWS")); err == nil {
		rows = n
	}
	j := startJournaled(b, b.TempDir())
	defer j.end(b)
	want(b, j.Server, 201, "PUT /sda/0/a/big", at(1))
	big := j.at(b, "big")
	tombstone := NewTombstone(timestamp.FromTicks(140_246_467_704_188))
	live, dead := benchRow(), tombstone.Append(nil)
	key := func(n uint64) string { return name40(spread(n)>>7%100, spread(n)) }
	const batch = 10_000
	for n := 0; n < rows; n += batch {
		err := j.Store().Update(b.Context(), big, func(tx *metadb.Tx) error {
			for i := n; i < n+batch; i++ {
				row := live
				if i%2 == 1 {
					row = dead
				}
				if _, err := tx.MergeRow(0, key(uint64(i)), row); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	for _, c := range []struct {
		what string
		fn   func()
	}{
		{"head", func() {
			for range 300_000 {
				if _, err := j.Serve(b.Context(), request("HEAD /sda/0/a/big")); err != nil {
					b.Error(err)
				}
			}
		}},
		{"rows-into-it", func() {
			j.insert(b, 64, 100_000, []metadb.Location{big}, func(n uint64) string { return key(uint64(rows) + n) })
		}},
		{"reclaim", func() {
			ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
			defer cancel()
			if err := j.Store().Reclaim(ctx, big.Device, timestamp.Now(), nil); err != nil && ctx.Err() == nil {
				b.Error(err)
			}
		}},
		{"audit", func() {
			if err := j.Store().Check(b.Context(), big); err != nil {
				b.Error(err)
			}
		}},
	} {
		b.Run(c.what, func(b *testing.B) { j.held(b, big, c.fn) })
	}
}
