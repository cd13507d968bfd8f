package metadb

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"martlet/internal/name"
	"martlet/internal/replwire"
)

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// scattered is a number that looks like chance.
func scattered(n uint64) uint64 {
	n = (n + 1) * 0x9E3779B97F4A7C15
	n = (n ^ n>>30) * 0xBF58476D1CE4E5B9
	return n ^ n>>27
}

// BenchmarkRefill is a database of a million rows, made in no order of their names, that another device gets, which has
// nothing of it: as a whole, part by part in the order of the file, and part by part in the order of changes. The time
// and processor time are those of both ends, without what is between them: -benchtime 1x.
func BenchmarkRefill(b *testing.B) {
	const rows = 1_000_000
	from, dev := open(b, b.TempDir(), own)
	loc := Location{dev, hashOf(1)}
	if err := from.Ensure(bg, loc, Info{Path: name.Path{Account: "a"}, Created: at(1), Put: at(1)}, nothing); err != nil {
		b.Fatal(err)
	}
	for n := 0; n < rows; n += 10_000 {
		err := from.Update(bg, loc, func(tx *Tx) error {
			for i := n; i < n+10_000; i++ {
				if _, err := tx.MergeRow(0, fmt.Sprintf("photos/objects-%016x-%06d.jpeg", scattered(uint64(i)), i), live(5, 1)); err != nil {
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
		what  string
		at    replwire.Cursor
		whole bool
	}{
		{"whole", replwire.Cursor{ByName: true}, true},
		{"by-name", replwire.Cursor{ByName: true}, false},
		{"by-change", replwire.Cursor{}, false},
	} {
		b.Run(c.what, func(b *testing.B) {
			for range b.N {
				to, _ := open(b, b.TempDir(), own)
				x := begun(from, to, loc)
				x.at = c.at
				sent := 0
				began, used := time.Now(), cpu(b)
				for more := true; more; x.whole.N++ {
					p := x.part(b)
					x.at, more, sent = p.Next, p.More, sent+len(p.Body)
					x.whole.Last = x.at.Rows && !x.at.ByName
					var err error
					if c.whole {
						_, err = to.Replicas().Build(bg, "sda", p.Path, loc.Hash, x.whole, p.Body)
					} else {
						_, err = to.Replicas().Merge(bg, "sda", p.Path, loc.Hash, p.Body)
					}
					if err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(time.Since(began).Seconds(), "s")
				b.ReportMetric(float64((cpu(b)-used).Nanoseconds())/1e3/rows, "cpu-µs/row")
				b.ReportMetric(float64(sent)/rows, "B-sent/row")
				if stateOf(b, from, loc).Digest != stateOf(b, to, x.dst).Digest {
					b.Fatal("they differ")
				}
			}
		})
	}
}
