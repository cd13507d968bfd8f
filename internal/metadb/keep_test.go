package metadb

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"martlet/internal/device"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/vfs"
)

// spoil gives a row of an open database another content than its checksum says.
func spoil(t testing.TB, s *Store, loc Location, row string) {
	t.Helper()
	if err := s.View(bg, loc, nothing); err != nil {
		t.Fatal(err)
	}
	db := opened(t, s, loc)
	if db.small != nil {
		spoilValue(t, s, loc, 30)
		return
	}
	err := db.bolt.Update(func(b *bolt.Tx) error {
		return b.Bucket(bucketLive).Put(rowKey(nil, 0, row), []byte("spoilt"))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// spoilValue changes a byte of what a shared file has of a database, wherever it lies there, of the
// key where it is less than 16.
func spoilValue(t testing.TB, s *Store, loc Location, which int) {
	t.Helper()
	path := s.now(loc.Device).small.Path(loc.Hash)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	found := 0
	for at := 0; ; at++ {
		n := bytes.Index(b[at:], loc.Hash[:])
		if n < 0 {
			break
		}
		at += n
		if at+which < len(b) {
			found++
			if _, err := f.WriteAt([]byte{b[at+which] ^ 0x10}, int64(at+which)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if found == 0 {
		t.Fatal("the shared file has nothing of it")
	}
	closeAll(s, loc.Device)
}

// aside returns what is in quarantine of a device.
func aside(t testing.TB, dev *device.Device) (files, reasons []string) {
	t.Helper()
	list, err := filepath.Glob(dev.Dir(quarantineDir, "tests", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		if strings.HasSuffix(f, ".reason") {
			reasons = append(reasons, f)
		} else {
			files = append(files, f)
		}
	}
	return files, reasons
}

func made(t testing.TB, s *Store, loc Location, rows ...string) {
	t.Helper()
	err := s.Ensure(bg, loc, Info{Path: name.Path{Account: "a"}, Created: at(1), Put: at(1)}, func(tx *Tx) error {
		for _, r := range rows {
			if _, err := tx.MergeRow(0, r, live(5, 1)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A damaged database that a request has come upon goes into quarantine with the reason, and
// with what waits for it; then there is none, and a new one may be made.
func TestWhatARequestFindsDamagedIsIsolated(t *testing.T) {
	homes(t, testWhatARequestFindsDamagedIsIsolated)
}

func testWhatARequestFindsDamagedIsIsolated(t *testing.T, home Config) {
	j := openTestJournal(t, vfs.NewMem())
	s, dev := open(t, t.TempDir(), with(home, Config{Journal: j.of}))
	loc, whole := Location{dev, hashOf(1)}, Location{dev, hashOf(2)}
	made(t, s, loc, "a", "b")
	made(t, s, whole, "a")
	spoil(t, s, loc, "a")
	if _, err := page(s, loc, Query{Params: allParams}); !errs.Is(err, errs.Corrupt) {
		t.Fatalf("listed, with %v", err)
	}
	s.now(dev).suspects(whole.Hash, corrupt(errors.New("a memory that failed")))
	if err := s.MergeRows(bg, loc, nil, Row{0, "waits", live(6, 1)}); err != nil && !errs.Is(err, errs.Corrupt) {
		t.Fatal(err)
	}
	if err := s.Isolate(bg, dev, nil); err != nil {
		t.Fatal(err)
	}
	files, reasons := aside(t, dev)
	if len(files) != 1 || len(reasons) != 1 || !strings.HasPrefix(filepath.Base(files[0]), loc.Hash.String()) {
		t.Fatalf("in quarantine are %q, %q", files, reasons)
	}
	text, err := os.ReadFile(reasons[0])
	if err != nil || !strings.Contains(string(text), errChecksum.Error()) || !strings.Contains(string(text), "file: "+dev.Dir("tests")) {
		t.Errorf("the reason is %q, %v", text, err)
	}
	if c := s.Counts(); c.Quarantined != 1 || c.Checked != 1 {
		t.Errorf("counted are %+v", c)
	}
	for what, err := range map[string]error{
		"a look":    s.View(bg, loc, nothing),
		"an update": s.MergeRows(bg, loc, nil, Row{0, "late", live(6, 1)}),
	} {
		if !errs.Is(err, errs.NotFound) {
			t.Errorf("%s: got %v, want %v", what, err, errs.NotFound)
		}
	}
	if n := s.now(dev).journal.waiting; n != 0 {
		t.Errorf("%d updates wait", n)
	}
	made(t, s, loc, "new")
	mergeAll(s, dev)
	if got, err := page(s, loc, Query{Params: allParams}); err != nil || len(got) != 1 {
		t.Errorf("the new one has %q, %v", got, err)
	}
	if err := s.Isolate(bg, dev, nil); err != nil {
		t.Fatal(err)
	}
	if files, _ := aside(t, dev); len(files) != 1 {
		t.Errorf("in quarantine are %q", files)
	}
	if _, err := page(s, whole, Query{Params: allParams}); err != nil {
		t.Error(err)
	}
}

// A pass looks at every database once in a round, goes on where another process was ended,
// and moves aside what nobody has looked at.
func TestAuditRounds(t *testing.T) { homes(t, auditRounds) }

func auditRounds(t *testing.T, home Config) {
	dir := t.TempDir()
	s, dev := open(t, dir, home)
	if err := s.Audit(bg, dev, time.Hour, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dev.Dir("tests")); err == nil {
		t.Error("a folder was made for no databases")
	}
	for n := range uint64(6) {
		made(t, s, Location{dev, hashOf(n)}, "a")
	}
	spoil(t, s, Location{dev, hashOf(4)}, "a")
	s.Close()
	s, dev = open(t, dir, home)
	ctx, stop := context.WithCancel(bg)
	left := 3
	pace := func(ctx context.Context, n int64) error {
		if n == perFile || n == perValue {
			if left--; left < 0 {
				stop()
			}
		}
		return ctx.Err()
	}
	if err := s.Audit(ctx, dev, time.Hour, pace); err != nil {
		t.Fatal(err)
	}
	first := s.Counts()
	s.Close()
	s, dev = open(t, dir, home)
	for range 2 {
		if err := s.Audit(bg, dev, time.Hour, nil); err != nil {
			t.Fatal(err)
		}
	}
	second := s.Counts()
	if first.Checked+first.Quarantined != 3 || first.Checked+second.Checked != 5 || first.Quarantined+second.Quarantined != 1 {
		t.Errorf("first %+v, then %+v", first, second)
	}
	if files, reasons := aside(t, dev); len(files) != 1 || len(reasons) != 1 {
		t.Errorf("in quarantine are %q, %q", files, reasons)
	}
	if err := s.Audit(bg, dev, 0, nil); err != nil {
		t.Fatal(err)
	}
	if again := s.Counts(); again.Checked-second.Checked != 5 {
		t.Errorf("the next round: %+v", again)
	}
	if err := os.WriteFile(dev.Dir("tests", roundFile), []byte("martlet audit 1 ?"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Audit(bg, dev, time.Hour, nil); err != nil {
		t.Fatal(err)
	}
	if again := s.Counts(); again.Checked-second.Checked != 10 {
		t.Errorf("what can't be read of a round was believed: %+v", again)
	}
}

// Whichever call fails, a damaged database is where it was, or in quarantine with its
// reason, and it can be tried again after that.
func TestQuarantineFailsAtAnyCall(t *testing.T) { homes(t, testQuarantineFailsAtAnyCall) }

func testQuarantineFailsAtAnyCall(t *testing.T, home Config) {
	for n, fired := 0, true; fired; n++ {
		dir := t.TempDir()
		s, dev := open(t, dir, home)
		loc := Location{dev, hashOf(1)}
		made(t, s, loc, "a")
		spoil(t, s, loc, "a")
		s.Close()
		faulty := vfs.FailAt(vfs.OS, n)
		s, dev = open(t, dir, with(home, Config{FS: faulty}))
		loc.Device = dev
		s.now(dev).suspects(loc.Hash, corrupt(errChecksum))
		err := s.Isolate(bg, dev, nil)
		fired = faulty.Fired()
		if !fired && err != nil {
			t.Fatal(err)
		}
		files, reasons := aside(t, dev)
		there := isThere(s, loc)
		// Of a small one there is a copy before it goes.
		if len(files) == 0 && there != nil || len(files) == 1 && there == nil && home.small < 0 || len(reasons) < len(files) {
			t.Errorf("call %d failed: in quarantine are %q, %q; at its place: %v", n, files, reasons, there)
		}
		if there != nil {
			if err := s.MergeRows(bg, loc, nil, Row{0, "r", live(6, 1)}); !errs.Is(err, errs.NotFound) {
				t.Errorf("call %d failed: an update of what is gone: %v", n, err)
			}
		}
		if err == nil && there == nil {
			t.Errorf("call %d failed, nothing is said of it, and it is still there", n)
		}
		s.Close()
		s, dev = open(t, dir, home)
		if err := s.Audit(bg, dev, time.Hour, nil); err != nil {
			t.Error(err)
		}
		if files, reasons := aside(t, dev); len(files) != 1 && (len(files) != 2 || home.small < 0) || len(reasons) < 1 {
			t.Errorf("call %d failed: after the next round in quarantine are %q, %q", n, files, reasons)
		}
		s.Close()
	}
}

// What is moved aside is nobody's at that moment: whoever comes finds it damaged, gone, or new.
func TestQuarantineUnderLoad(t *testing.T) { homes(t, testQuarantineUnderLoad) }

func testQuarantineUnderLoad(t *testing.T, home Config) {
	j := openTestJournal(t, vfs.NewMem())
	s, dev := open(t, t.TempDir(), with(home, Config{Journal: j.of}))
	loc := Location{dev, hashOf(1)}
	allowed := func(err error) {
		if err != nil && !errs.Is(err, errs.NotFound) && !errs.Is(err, errs.Corrupt) {
			t.Error(err)
		}
	}
	for round := range 10 {
		made(t, s, loc, "a", "b")
		spoil(t, s, loc, "a")
		var wg sync.WaitGroup
		wg.Go(func() { _, err := page(s, loc, Query{Params: allParams}); allowed(err) })
		wg.Go(func() { allowed(s.MergeRows(bg, loc, nil, Row{0, "r", live(int64(round), 1)})) })
		wg.Go(func() {
			allowed(s.Update(bg, loc, func(tx *Tx) error { _, err := tx.MergeRow(0, "a", live(9, 1)); return err }))
		})
		wg.Go(func() { mergeAll(s, dev) })
		wg.Go(func() {
			d, err := s.Replicas().State(bg, dev.Name(), loc.Hash)
			if allowed(err); err == nil {
				d.Change++ // it is not that any more
				_, err = s.Replicas().Drop(bg, dev.Name(), d)
				allowed(err)
			}
		})
		_, err := s.inspect(bg, loc, nil)
		wg.Wait()
		if err != nil {
			t.Fatal(err)
		}
		if files, _ := aside(t, dev); len(files) != round+1 {
			t.Fatalf("round %d: in quarantine are %q", round, files)
		}
		if err := s.View(bg, loc, nothing); !errs.Is(err, errs.NotFound) {
			t.Fatal(err)
		}
	}
}

// While its disk fails nothing is taken for damaged.
func TestFailingDiskIsNoDamage(t *testing.T) { homes(t, testFailingDiskIsNoDamage) }

func testFailingDiskIsNoDamage(t *testing.T, home Config) {
	s, loc := one(t, home)
	merge(t, s, loc, map[string][]byte{"a": live(5, 1)})
	spoil(t, s, loc, "a")
	loc.Device.Fail(syscall.EIO)
	if _, err := s.inspect(bg, loc, nil); !errs.Is(err, errs.BadDevice) {
		t.Errorf("got %v, want %v", err, errs.BadDevice)
	}
	if files, _ := aside(t, loc.Device); len(files) != 0 {
		t.Errorf("in quarantine are %q", files)
	}
}
