package metadb

import (
	"encoding/binary"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"pgregory.net/rapid"

	"martlet/internal/device"
	"martlet/internal/listing"
	"martlet/internal/metadb/small"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/timestamp"
	"martlet/internal/vfs"
)

// testRow is the simplest row: a stamp, whether it is deleted, and a size.
type testRow struct {
	stamp   timestamp.T
	deleted bool
	size    int64
}

func (r testRow) encode() []byte {
	b := AppendStamp([]byte{1}, r.stamp)
	if r.deleted {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	return binary.AppendUvarint(b, uint64(r.size))
}

func decodeTestRow(b []byte) (testRow, error) {
	d := NewDecoder(b)
	if d.Byte() != 1 {
		d.Fail()
	}
	r := testRow{stamp: d.Stamp(), deleted: d.Byte() == 1, size: d.Size()}
	return r, d.Err()
}

// testSchema keeps the row with the latest stamp.
type testSchema struct{}

func (testSchema) Folder() string { return "tests" }

func (testSchema) Join(a, b []byte) ([]byte, error) {
	x, err := decodeTestRow(a)
	if err != nil {
		return nil, err
	}
	y, err := decodeTestRow(b)
	if err != nil {
		return nil, err
	}
	c := x.stamp.Compare(y.stamp)
	if c < 0 || c == 0 && (!x.deleted && y.deleted || x.deleted == y.deleted && x.size < y.size) {
		x = y
	}
	return x.encode(), nil
}

func (testSchema) Weigh(_ policy.Index, row []byte, deleted timestamp.T) (Weight, error) {
	r, err := decodeTestRow(row)
	return Weight{Live: !r.deleted && r.stamp.After(deleted), Policy: policy.Index(r.size % 2), Objects: 1, Bytes: r.size}, err
}

func (testSchema) Newest(row []byte) (timestamp.T, error) {
	r, err := decodeTestRow(row)
	return r.stamp, err
}

func at(ticks int64) timestamp.T { return timestamp.FromTicks(ticks) }

// live returns a row of a stamp and a size.
func live(ticks, size int64) []byte { return testRow{stamp: at(ticks), size: size}.encode() }

func dead(ticks int64) []byte { return testRow{stamp: at(ticks), deleted: true}.encode() }

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// open returns a store over one device below dir, closed with the test.
func open(t testing.TB, dir string, cfg Config) (*Store, *device.Device) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, "sda"), 0o755); err != nil {
		t.Fatal(err)
	}
	set, err := device.NewSet(vfs.OS, dir, []string{"sda"})
	if err != nil {
		t.Fatal(err)
	}
	dev, err := set.Lookup("sda")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Log = quiet
	s := New(cfg, testSchema{}, set)
	t.Cleanup(s.Close)
	return s, dev
}

// own has databases have files of their own from the first.
var own = Config{small: -1}

// homes runs a test with databases that are small, that have files of their own, and that move
// there after a few rows.
func homes(t *testing.T, fn func(t *testing.T, home Config)) {
	t.Helper()
	for what, home := range map[string]Config{"small": {}, "own": own, "moving": {small: 250}} {
		t.Run(what, func(t *testing.T) { fn(t, home) })
	}
}

// with is a configuration in which databases are where another one has them.
func with(home, c Config) Config {
	c.small = home.small
	return c
}

// drawHome is homes for a test of any history.
func drawHome(rt *rapid.T) int { return rapid.SampledFrom([]int{0, -1, 250, 400}).Draw(rt, "home") }

// one returns a store with one database in it.
func one(t testing.TB, home Config) (*Store, Location) {
	t.Helper()
	s, dev := open(t, t.TempDir(), home)
	loc := Location{dev, hashOf(1)}
	if err := s.Ensure(t.Context(), loc, Info{Path: name.Path{Account: "a"}, Created: at(1), Put: at(1)}, nothing); err != nil {
		t.Fatal(err)
	}
	return s, loc
}

func hashOf(n uint64) (h name.Hash) {
	binary.BigEndian.PutUint64(h[:], n*0x9E3779B97F4A7C15)
	return h
}

func nothing(*Tx) error { return nil }

// merge merges rows of space 0 in one transaction.
func merge(t testing.TB, s *Store, loc Location, rows map[string][]byte) {
	t.Helper()
	err := s.Update(t.Context(), loc, func(tx *Tx) error {
		for n, r := range rows {
			if _, err := tx.MergeRow(0, n, r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

var allParams = listing.Params{Limit: 10_000}

func yield() { runtime.Gosched() }

// deviceOf returns the one device of a store.
func deviceOf(s *Store) (dev *device.Device) {
	for dev = range s.disks {
	}
	return dev
}

// isThere fails if there is nothing of a database, readable or not, where it is to be.
func isThere(s *Store, loc Location) error {
	d := s.now(loc.Device)
	stored, err := d.small.Raw(small.Of(loc.Hash), small.Values, loc.Hash[:])
	if err == nil && stored == nil {
		_, err = os.Stat(s.path(loc))
	}
	return err
}

// opened returns the open database of a location.
func opened(t testing.TB, s *Store, loc Location) *database {
	t.Helper()
	c := s.now(loc.Device).cache
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[loc.Hash]
	if e == nil {
		t.Fatal("the database is not open")
	}
	return e.db
}

func busy(d *database) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.busy
}

// txID returns the number of the latest committed transaction.
func txID(t testing.TB, d *database) (id int) {
	t.Helper()
	if err := d.newest(func(tx *Tx) error { id = tx.id; return nil }); err != nil {
		t.Fatal(err)
	}
	return id
}
