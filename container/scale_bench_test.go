package container

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"martlet/internal/dbserver"
	"martlet/internal/device"
	"martlet/internal/metadb"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/timestamp"
	"martlet/internal/vfs"
	"martlet/object/engine"
	"martlet/object/engine/record"
)

// journaled is a server over one device whose rows go to the log of an engine first, as on
// a node.
type journaled struct {
	*Server
	dir    string
	engine *engine.Engine
	disk   *vfs.Counter // what the log does
}

func startJournaled(b *testing.B, dir string) *journaled {
	b.Helper()
	root := filepath.Join(dir, "sda")
	if err := os.MkdirAll(root, 0o750); err != nil {
		b.Fatal(err)
	}
	set, err := device.NewSet(vfs.OS, dir, []string{"sda"})
	if err != nil {
		b.Fatal(err)
	}
	hasher, err := name.NewHasher("p", "s")
	if err != nil {
		b.Fatal(err)
	}
	policies, err := policy.NewSet([]policy.Policy{{Name: "gold", Default: true}})
	if err != nil {
		b.Fatal(err)
	}
	j := &journaled{dir: dir, disk: vfs.Count(vfs.OS)}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	cfg := engine.Defaults()
	cfg.FS, cfg.Log = j.disk, log
	j.engine = engine.New(root, cfg)
	deps := dbserver.Deps{Devices: set, Hasher: hasher, Policies: policies, Log: log}
	deps.Journal = func(ctx context.Context, _ *device.Device, hooks metadb.JournalHooks) (metadb.Journal, error) {
		got, err := j.engine.Journal(ctx, record.Containers, engine.Hooks{Hurry: hooks.Hurry, Needed: hooks.Needed})
		if err != nil {
			return nil, err
		}
		return got, nil
	}
	if j.Server, err = New(Config{NodeTimeout: time.Second}, Deps{Accounts: &accounts{}, Deps: deps}); err != nil {
		b.Fatal(err)
	}
	return j
}

// end closes all, and returns how many transactions its databases have had.
func (j *journaled) end(b *testing.B) (commits int) {
	b.Helper()
	if err := j.Server.Close(); err != nil {
		b.Fatal(err)
	}
	if err := j.engine.Close(); err != nil {
		b.Fatal(err)
	}
	err := filepath.WalkDir(filepath.Join(j.dir, "sda", "containers"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".db" {
			return err
		}
		db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
		if err != nil {
			return err
		}
		if err := db.View(func(tx *bolt.Tx) error { commits += tx.ID(); return nil }); err != nil {
			return err
		}
		return db.Close()
	})
	if err != nil {
		b.Fatal(err)
	}
	return commits
}

func (j *journaled) at(b *testing.B, container string) metadb.Location {
	b.Helper()
	call, err := j.core.Parse(request("HEAD /sda/0/a/" + container))
	if err != nil {
		b.Fatal(err)
	}
	return call.At
}

// benchRow is a row like most.
func benchRow() []byte {
	row := NewRow(timestamp.Packed{Data: timestamp.FromTicks(140_246_467_704_188)}, 4096, "d41d8cd98f00b204e9800998ecf8427e", "application/octet-stream")
	return row.Append(nil)
}

// name40 is a name of 40 bytes, in a pseudo-folder.
func name40(folder, n uint64) string { return fmt.Sprintf("%03d/photos/objects-%016x.jpeg", folder, n) }

// spread is a number that looks like chance: a multiple alone would be spread too evenly,
// so that all pages of a file are full at the same time.
func spread(n uint64) uint64 {
	n = (n + 1) * 0x9E3779B97F4A7C15
	n = (n ^ n>>30) * 0xBF58476D1CE4E5B9
	n = (n ^ n>>27) * 0x94D049BB133111EB
	return n ^ n>>31
}

// insert has so many writers insert rows into containers, until all is merged, and reports
// how fast and at what price.
func (j *journaled) insert(b *testing.B, writers, rows int, at []metadb.Location, key func(n uint64) string) (perSecond float64) {
	b.Helper()
	row := benchRow()
	var next atomic.Int64
	var wg sync.WaitGroup
	began, used := time.Now(), cpuTime(b)
	for range writers {
		wg.Go(func() {
			for {
				n := next.Add(1) - 1
				if n >= int64(rows) {
					return
				}
				err := j.Store().MergeRows(b.Context(), at[n%int64(len(at))], nil, metadb.Row{Name: key(uint64(n)), Row: row})
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	acked := time.Since(began)
	next.Store(0)
	for range writers {
		wg.Go(func() {
			for n := next.Add(1) - 1; n < int64(len(at)); n = next.Add(1) - 1 { // what waits is merged before it
				if err := j.Store().Update(b.Context(), at[n], func(*metadb.Tx) error { return nil }); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	b.ReportMetric(float64(rows)/acked.Seconds(), "acked/s")
	b.ReportMetric(float64(rows)/took.Seconds(), "merged/s")
	b.ReportMetric(float64((cpuTime(b)-used).Nanoseconds())/1e3/float64(rows), "cpu-µs/row")
	return float64(rows) / took.Seconds()
}

// BenchmarkJournaled is 64 writers of rows into containers of one device, with its log, until all is merged:
// b.N rows in one run, so that it is to be run with -benchtime 500000x.
func BenchmarkJournaled(b *testing.B) {
	for _, containers := range []int{1, 1000} {
		b.Run(fmt.Sprintf("containers-%d", containers), func(b *testing.B) {
			if b.N == 1 {
				return // go test asks first whether it works
			}
			j := startJournaled(b, b.TempDir())
			var all []metadb.Location
			for i := range containers {
				want(b, j.Server, 201, "PUT /sda/0/a/c"+strconv.Itoa(i), at(1))
				all = append(all, j.at(b, "c"+strconv.Itoa(i)))
			}
			before := j.disk.Counts()
			b.ResetTimer()
			j.insert(b, 64, b.N, all, func(n uint64) string { return name40(0, spread(n)) })
			b.StopTimer()
			logSyncs := j.disk.Counts().Sub(before).Syncs
			commits := j.end(b) - 3*containers // the first transaction of a file is 3
			b.ReportMetric(float64(logSyncs)/float64(b.N), "log-syncs/row")
			b.ReportMetric(float64(2*commits)/float64(b.N), "db-syncs/row")
		})
	}
}

// BenchmarkTenMillion is a container of MARTLET_ROWS rows of 40-byte names, 10 million if
// that is not set, beside an empty one: -benchtime 1x.
func BenchmarkTenMillion(b *testing.B) {
	rows := 10_000_000
	if n, err := strconv.Atoi(os.Getenv("MARTLET_ROWS")); err == nil {
		rows = n
	}
	for _, order := range []struct {
		what string
		key  func(n uint64) string
	}{
		{"random", func(n uint64) string { return name40(spread(n)>>7%100, spread(n)) }},
		{"ascending", func(n uint64) string { return name40(n*100/uint64(rows), n) }},
	} {
		b.Run(order.what, func(b *testing.B) { benchmarkTenMillion(b, rows, order.key) })
	}
}

func benchmarkTenMillion(b *testing.B, rows int, key func(n uint64) string) {
	j := startJournaled(b, b.TempDir())
	defer j.end(b)
	for _, c := range []string{"big", "empty-1", "empty-2", "empty-3"} {
		want(b, j.Server, 201, "PUT /sda/0/a/"+c, at(1))
	}
	big := j.at(b, "big")
	row := benchRow()
	began := time.Now()
	const batch = 10_000
	for _, names := range rounds(rows, key) {
		for names := range slices.Chunk(names, batch) {
			err := j.Store().Update(b.Context(), big, func(tx *metadb.Tx) error {
				for _, n := range names {
					if _, err := tx.MergeRow(0, n, row); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Logf("made in %v", time.Since(began))
	b.Logf("%.1f bytes a row", float64(j.size(b))/float64(rows))
	const more = 100_000
	for i := range 3 {
		for _, c := range []string{"empty-" + strconv.Itoa(i+1), "big"} {
			b.Run(fmt.Sprintf("insert-%d/%s", i, c[:3]), func(b *testing.B) {
				at := []metadb.Location{j.at(b, c)}
				j.insert(b, 64, more, at, func(n uint64) string { return key(uint64(rows+i*more) + n) })
			})
		}
	}
	b.Logf("%.1f bytes a row", float64(j.size(b))/float64(rows+3*more))
	middle := name40(50, 0)
	for _, c := range []struct{ what, line string }{
		{"list10000/start", "GET /sda/0/a/big?limit=10000"},
		{"list10000/middle", "GET /sda/0/a/big?limit=10000&marker=" + middle},
		{"list10000/reverse", "GET /sda/0/a/big?limit=10000&reverse=true&marker=" + middle},
		{"delimiter", "GET /sda/0/a/big?delimiter=/"},
		{"delimiter/reverse", "GET /sda/0/a/big?delimiter=/&reverse=true"},
		{"head", "HEAD /sda/0/a/big"},
	} {
		b.Run(c.what, func(b *testing.B) {
			n := 0
			began := cpuTime(b)
			for n < 200 && (n < 20 || c.what == "head") {
				n++
				resp, err := j.Serve(b.Context(), request(c.line))
				if err != nil || resp.Status/100 != 2 {
					b.Fatal(resp, err)
				}
			}
			b.ReportMetric(float64((cpuTime(b)-began).Nanoseconds())/1e6/float64(n), "cpu-ms/call")
		})
	}
	b.Run("check", func(b *testing.B) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		began, used := time.Now(), cpuTime(b)
		if err := j.Store().Check(b.Context(), big); err != nil {
			b.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		b.ReportMetric(time.Since(began).Seconds(), "s")
		b.ReportMetric((cpuTime(b) - used).Seconds(), "cpu-s")
		b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/(1<<20), "MB-allocated")
	})
}

// rounds are names in ten rounds, each in order: what is not ascending anyway falls
// between those of earlier rounds.
func rounds(rows int, key func(n uint64) string) (all [][]string) {
	for r := range 10 {
		var names []string
		for i := r * rows / 10; i < (r+1)*rows/10; i++ {
			names = append(names, key(uint64(i)))
		}
		slices.Sort(names)
		all = append(all, names)
	}
	return all
}

// size is what the file of the largest database takes.
func (j *journaled) size(b *testing.B) (most int64) {
	b.Helper()
	err := filepath.WalkDir(filepath.Join(j.dir, "sda", "containers"), func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			most = max(most, info.Size())
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return most
}
