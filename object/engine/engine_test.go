package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/timestamp"
	"martlet/internal/vfs"
	"martlet/object/engine/blob"
	"martlet/object/index"
)

var (
	ctx      = context.Background()
	testBufs = blob.NewGuarded(testMemory) // who uses memory that is not his any more is found out
)

const testMemory = 16 << 20

func at(b byte) Location { return Location{Hash: name.Hash{b, 0x5a, 1}} }

func ts(n int64) timestamp.T {
	if n == 0 {
		return timestamp.T{}
	}
	return timestamp.FromTicks(1_700_000_000_00000 + n)
}

func newEngine(fs vfs.FS, root string) *Engine {
	return newEngineWith(fs, root, testBufs)
}

func newEngineWith(fs vfs.FS, root string, bufs *blob.Buffers) *Engine {
	cfg := Defaults()
	cfg.FS, cfg.Buffers, cfg.SegmentSize, cfg.Depth = fs, bufs, 1<<20, 12
	return New(root, cfg)
}

func put(e *Engine, l Location, t timestamp.T, data []byte, meta string, terms Terms) error {
	w, err := e.Create(ctx, l, int64(len(data)))
	return putBy(w, err, l, t, data, meta, terms)
}

func putBy(w *Writer, err error, l Location, t timestamp.T, data []byte, meta string, terms Terms) error {
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := w.ReadFrom(bytes.NewReader(data)); err != nil {
		return err
	}
	o, err := w.Commit(Version{
		Time: t, Name: path3(l), MD5: sum(data), ContentType: "type/" + meta,
		System: backend.Header{{Name: "X-Object-Sysmeta-S", Value: meta}}, Meta: fields(meta),
	}, terms)
	return written(o, err)
}

// written is why a write has written nothing: also that it was there already, which is no error of the engine's.
func written(o Outcome, err error) error {
	if err == nil && o.Already {
		return errs.E(errs.Stale, "it is there already")
	}
	return err
}

// fields is metadata of which the value tells all: p30 and m30, as of each third number,
// end in the second of it.
func fields(value string) backend.Header {
	h := backend.Header{{Name: "X-Object-Meta-M", Value: value}}
	if n, err := strconv.Atoi(strings.TrimLeft(value, "pm")); err == nil && n%3 == 0 && strings.ContainsAny(value, "pm") {
		h.Add(DeleteAtField, strconv.Itoa(n))
	}
	return h
}

// sum stands for the MD5, which the engine only keeps: it is quicker.
func sum(data []byte) (s [16]byte) {
	binary.LittleEndian.PutUint32(s[:], crc32.ChecksumIEEE(data))
	binary.LittleEndian.PutUint64(s[4:], uint64(len(data)))
	return s
}

func path3(l Location) name.Path {
	return name.Path{Account: "a", Container: "c", Object: l.Hash.String()}
}

func post(e *Engine, l Location, meta, ctype int64, value string, terms Terms) error {
	c := Change{Name: path3(l), MetaTime: ts(meta), ContentTypeTime: ts(ctype)}
	if meta != 0 {
		c.Meta = fields(value)
	}
	if ctype != 0 {
		c.ContentType = "type/" + value
	}
	return written(e.Update(ctx, l, c, terms))
}

func del(e *Engine, l Location, n int64, terms Terms) error {
	return written(e.Delete(ctx, l, path3(l), ts(n), terms))
}

// get returns all of an object.
func get(e *Engine, l Location) (State, []byte, error) {
	r, err := e.Open(ctx, l)
	if err != nil {
		var se *StateError
		if errors.As(err, &se) {
			return se.State, nil, err
		}
		return State{}, nil, err
	}
	defer r.Close()
	all := make([]byte, 0, r.State().Length)
	for {
		b, err := r.View(int64(len(all)), 1<<40)
		if err == io.EOF {
			return *r.State(), all, nil
		}
		if err != nil {
			return *r.State(), all, err
		}
		all = append(all, b...)
	}
}

// show returns what matters of a state, in words.
func show(s State) string {
	return fmt.Sprintf("%d %s/%s/%s %d %x %s %v %v", s.Kind, s.Time, s.ContentTypeTime, s.MetaTime, s.Length, s.MD5[:2], s.ContentType, s.System, s.Meta)
}

func forEachFS(t *testing.T, test func(t *testing.T, fs vfs.FS, root string)) {
	t.Run("os", func(t *testing.T) { test(t, vfs.OS, t.TempDir()) })
	t.Run("mem", func(t *testing.T) {
		fs := vfs.NewMem()
		if err := fs.Mkdir("/d1"); err != nil {
			t.Fatal(err)
		}
		test(t, fs, "/d1")
	})
}

func TestLifeOfAnObject(t *testing.T) {
	forEachFS(t, func(t *testing.T, fs vfs.FS, root string) {
		e := newEngine(fs, root)
		l := at(1)
		want := func(step string, err error, kind errs.Kind) {
			t.Helper()
			if (err == nil) != (kind == errs.Other) || errs.KindOf(err) != kind {
				t.Fatalf("%s: got %v, want kind %v", step, err, kind)
			}
		}
		data := bytes.Repeat([]byte("0123456789"), 60_000)
		_, _, err := get(e, l)
		want("get of nothing", err, errs.NotFound)
		want("post of nothing", post(e, l, 5, 0, "x", Terms{}), errs.NotFound)
		want("put", put(e, l, ts(10), data, "one", Terms{}), errs.Other)
		want("put again", put(e, l, ts(10), data, "one", Terms{}), errs.Stale)
		if o, err := e.Delete(ctx, at(2), path3(at(2)), ts(5), Terms{}); err != nil || o.Already {
			t.Fatalf("delete: %+v, %v", o, err)
		}
		if o, err := e.Delete(ctx, at(2), path3(at(2)), ts(5), Terms{}); err != nil || !o.Already || o.After.Time != ts(5) {
			t.Fatalf("the same delete: %+v, %v", o, err)
		}
		want("put older", put(e, l, ts(9), data[:5], "zero", Terms{}), errs.Stale)
		want("old post", post(e, l, 10, 0, "x", Terms{}), errs.Stale)
		want("post", post(e, l, 20, 0, "two", Terms{}), errs.Other)
		want("post with a type", post(e, l, 30, 30, "three", Terms{}), errs.Other)
		want("post", post(e, l, 40, 0, "four", Terms{}), errs.Other)

		e = newEngine(fs, root) // as after a restart
		s, got, err := get(e, l)
		want("get", err, errs.Other)
		if !bytes.Equal(got, data) {
			t.Fatalf("read %d bytes, not those written", len(got))
		}
		if s.Packed() != (timestamp.Packed{Data: ts(10), ContentType: ts(30), Meta: ts(40)}) ||
			s.ContentType != "type/three" || s.Meta.Get("x-object-meta-m") != "four" || s.System.Get("x-object-sysmeta-s") != "one" {
			t.Fatalf("state is %s", show(s))
		}
		want("put between", put(e, l, ts(35), []byte("new"), "five", Terms{}), errs.Other)
		s, got, err = get(e, l)
		want("get", err, errs.Other)
		if string(got) != "new" || s.Meta.Get("x-object-meta-m") != "four" || s.ContentType != "type/five" {
			t.Fatalf("state is %s, body %q", show(s), got)
		}
		r, err := e.Open(ctx, l)
		want("open", err, errs.Other)
		want("overwrite under a reader", put(e, l, ts(50), data, "six", Terms{}), errs.Other)
		want("delete", del(e, l, 60, Terms{}), errs.Other)
		if b, err := r.View(0, 100); err != nil || string(b) != "new" {
			t.Fatalf("the reader of a superseded version got %q, %v", b, err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		s, _, err = get(e, l)
		want("get of a tombstone", err, errs.NotFound)
		if s.Kind != Deleted || s.Time != ts(60) {
			t.Fatalf("state is %s", show(s))
		}
		want("old delete", del(e, l, 60, Terms{}), errs.Stale)
		want("delete of nothing", del(e, at(9), 1, Terms{}), errs.Other)
		refused := errors.New("no")
		err = put(e, l, ts(70), data, "x", Terms{Check: func(State) error { return refused }})
		if !errors.Is(err, refused) {
			t.Fatalf("Check's error came back as %v", err)
		}
		leftovers(t, fs, root)
	})
}

// leftovers fails if there is a temporary file anywhere.
func leftovers(t testing.TB, fs vfs.FS, dir string) {
	t.Helper()
	list, err := fs.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range list {
		if strings.HasPrefix(entry.Name, ".") && !strings.HasPrefix(entry.Name, ".spare-") {
			t.Errorf("%s was left in %s", entry.Name, dir)
		}
		if entry.Dir {
			leftovers(t, fs, dir+"/"+entry.Name)
		}
	}
}

func TestReserve(t *testing.T) {
	fs := vfs.NewMem()
	fs.SetCapacity(10 << 20)
	cfg := Defaults()
	cfg.FS, cfg.Buffers, cfg.Reserve, cfg.SegmentSize, cfg.Depth = fs, testBufs, 0.5, 1<<16, 12
	e := New("/", cfg)
	if err := put(e, at(1), ts(1), make([]byte, 4<<20), "a", Terms{}); err != nil {
		t.Fatalf("below the reserve: %v", err)
	}
	if _, err := e.Create(ctx, at(2), 2<<20); !errs.Is(err, errs.NoSpace) {
		t.Errorf("into the reserve: %v, want NoSpace", err)
	}
	if err := put(e, at(1), ts(2), nil, "a", Terms{}); err != nil {
		t.Errorf("a small object beside the reserve: %v", err)
	}
	fs.SetCapacity(8 << 20)
	if err := put(e, at(3), ts(2), nil, "a", Terms{}); err != nil {
		t.Logf("the overwritten object is gone, so there is room: %v", err)
	}
	fs.SetCapacity(1 << 20)
	if err := del(e, at(1), 3, Terms{}); err != nil {
		t.Errorf("a delete on a device without room to spare: %v", err)
	}
}

func TestErrorsOfTheDisk(t *testing.T) {
	for no, want := range map[syscall.Errno]errs.Kind{
		syscall.EIO: errs.BadDevice, syscall.EROFS: errs.BadDevice, syscall.ENOSPC: errs.NoSpace, syscall.EDQUOT: errs.NoSpace,
	} {
		failed := 0
		for n, fired := 0, true; fired; n++ {
			faulty := vfs.FailAt(vfs.NewMem(), n, vfs.FaultError(no))
			e := newEngine(faulty, "/")
			err := put(e, at(1), ts(1), []byte("x"), "a", Terms{})
			if fired = faulty.Fired(); fired && err != nil && !errs.Is(err, want) {
				t.Errorf("%v at call %d: %v, want kind %v", no, n, err, want)
			}
			if _, body, getErr := get(e, at(1)); fired && err == nil && (getErr != nil || string(body) != "x") {
				t.Errorf("%v at call %d was none of the write's, but it reads %q, %v", no, n, body, getErr)
			}
			if err != nil {
				failed++
			}
		}
		if failed < 15 {
			t.Errorf("%v: only %d calls were the write's", no, failed)
		}
	}
}

// A device that nothing was written to has an index of no log, and needs none made again.
func TestEmptyDeviceAgain(t *testing.T) {
	fs := vfs.NewMem()
	for range 3 {
		e := newEngine(fs, "/")
		if s, err := e.Stat(ctx, at(1)); err != nil || s.Kind != Absent {
			t.Fatalf("%s, %v", show(s), err)
		}
		if err := errors.Join(e.Scrub(ctx, time.Now(), nil), e.Compact(ctx, ts(1), nil), e.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := fs.Stat("/index/manifest"); err == nil {
		t.Error("the index has a manifest")
	}
}

func TestMissingDevice(t *testing.T) {
	e := newEngine(vfs.NewMem(), "/gone")
	if err := put(e, at(1), ts(1), nil, "a", Terms{}); !errs.Is(err, errs.BadDevice) {
		t.Errorf("put on a device that is not there: %v, want BadDevice", err)
	}
}

func TestWalk(t *testing.T) {
	forEachFS(t, func(t *testing.T, fs vfs.FS, root string) {
		e := newEngine(fs, root)
		var want []Location
		for i := range 64 {
			l := Location{Policy: 1, Hash: name.Hash{byte(i / 8 * 33), byte(i % 8 * 31), byte(i)}}
			want = append(want, l)
		}
		for i := range want {
			l := want[(i*37)%len(want)]
			var err error
			switch i % 3 {
			case 0:
				err = put(e, l, ts(1), []byte("x"), "a", Terms{})
			case 1:
				err = del(e, l, 1, Terms{})
			case 2:
				err = post(e, l, 1, 0, "m", Terms{Merge: true})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		for _, r := range [][2]int{{0, len(want) - 1}, {3, 17}, {9, 9}, {60, 63}} {
			var got []Location
			for entry, err := range e.Walk(ctx, 1, want[r[0]].Hash, want[r[1]].Hash) {
				if err != nil {
					t.Fatal(err)
				}
				if entry.State.Newest() != ts(1) {
					t.Errorf("%v has state %s", entry.Location, show(entry.State))
				}
				got = append(got, entry.Location)
			}
			if fmt.Sprint(got) != fmt.Sprint(want[r[0]:r[1]+1]) {
				t.Errorf("walk of %v gave %v", r, got)
			}
		}
		var live, present []name.Hash
		for entry, err := range e.Walk(ctx, 1, want[3].Hash, want[60].Hash) {
			if err == nil && entry.State.Kind == Live {
				live = append(live, entry.Hash)
			}
		}
		for h, err := range e.Present(ctx, 1, want[3].Hash, want[60].Hash) {
			if err != nil {
				t.Fatal(err)
			}
			present = append(present, h)
		}
		if len(present) == 0 || !slices.Equal(present, live) {
			t.Errorf("%v are present, and there is data of %v", present, live)
		}
		if p, err := e.Policies(); err != nil || fmt.Sprint(p) != "[1]" {
			t.Errorf("Policies gave %v, %v", p, err)
		}
		for entry, err := range e.Walk(ctx, 7, name.Hash{}, want[63].Hash) {
			t.Errorf("a policy that has nothing yielded %v, %v", entry, err)
		}
	})
}

// Sweep removes the files that no record names, and nothing else.
func TestSweep(t *testing.T) {
	forEachFS(t, func(t *testing.T, fs vfs.FS, root string) {
		e := newEngine(fs, root)
		large := bytes.Repeat([]byte("x"), 300_000)
		if err := put(e, at(1), ts(1), large, "x", Terms{}); err != nil {
			t.Fatal(err)
		}
		dir := root + blobFolder + "/01"
		orphan := fmt.Sprintf("%s/%s-0-%016x", dir, at(1).Hash, 77)
		for _, left := range []string{orphan, dir + "/" + vfs.TempPrefix + "0123", dir + "/keep"} {
			f, err := blob.Put(fs, dir, blob.Header{Kind: blob.Tombstone})
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(fs.Link(f, left), f.Close()); err != nil {
				t.Fatal(err)
			}
		}
		e = newEngine(fs, root)
		if err := e.Sweep(ctx); err != nil {
			t.Fatal(err)
		}
		leftovers(t, fs, root)
		list, err := fs.ReadDir(dir)
		if err != nil || len(list) != 2 {
			t.Errorf("there are %v, %v, want the object and what is not ours", list, err)
		}
		if _, got, err := get(e, at(1)); err != nil || !bytes.Equal(got, large) {
			t.Errorf("after the sweep: %d bytes, %v", len(got), err)
		}
	})
}

func TestDrop(t *testing.T) {
	forEachFS(t, func(t *testing.T, fs vfs.FS, root string) {
		e := newEngine(fs, root)
		if err := errors.Join(put(e, at(1), ts(1), []byte("x"), "a", Terms{}), post(e, at(1), 2, 0, "b", Terms{})); err != nil {
			t.Fatal(err)
		}
		now, err := e.Stat(ctx, at(1))
		if err != nil {
			t.Fatal(err)
		}
		drop := func(answer bool) (bool, error) {
			return e.Drop(ctx, at(1), func(s *State) bool {
				if show(*s) != show(now) {
					t.Errorf("asked is about %s, want %s", show(*s), show(now))
				}
				return answer
			})
		}
		if gone, err := drop(false); gone || err != nil {
			t.Fatalf("drop of a state that is not the one: %v, %v", gone, err)
		}
		if s, err := e.Stat(ctx, at(1)); err != nil || show(s) != show(now) {
			t.Errorf("after a drop that was not: %s, %v, want %s", show(s), err, show(now))
		}
		if gone, err := drop(true); !gone || err != nil {
			t.Fatalf("drop: %v, %v", gone, err)
		}
		if gone, err := e.Drop(ctx, at(1), func(*State) bool { t.Error("asked about nothing"); return true }); gone || err != nil {
			t.Errorf("drop of nothing: %v, %v", gone, err)
		}
		if s, err := e.Stat(ctx, at(1)); err != nil || s.Kind != Absent || !s.Newest().IsZero() {
			t.Errorf("after the drop: %s, %v", show(s), err)
		}
	})
}

// Readers see the old version or a new one, whole, while writers replace it.
func TestReadDuringOverwrite(t *testing.T) {
	forEachFS(t, func(t *testing.T, fs vfs.FS, root string) {
		e := newEngine(fs, root)
		const rounds = 40
		version := func(i int64) []byte { return bytes.Repeat([]byte{byte(i)}, int(i)*3001) }
		if err := put(e, at(1), ts(1), version(1), "1", Terms{}); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		done := make(chan struct{})
		for range 3 {
			wg.Go(func() {
				last := timestamp.T{}
				for {
					s, got, err := get(e, at(1))
					i := s.Time.Ticks() - ts(1).Ticks() + 1
					if err != nil || !bytes.Equal(got, version(i)) {
						t.Errorf("read %d bytes of version %d, %v", len(got), i, err)
						return
					}
					if s.Newest().Before(last) {
						t.Errorf("time went back from %v to %v", last, s.Newest())
						return
					}
					last = s.Newest()
					select {
					case <-done:
						return
					default:
					}
				}
			})
		}
		for i := int64(2); i < rounds; i++ {
			err := put(e, at(1), ts(i), version(i), "x", Terms{})
			if err == nil && i%3 == 0 { // in between two puts
				_, err = e.Update(ctx, at(1), Change{Name: path3(at(1)), MetaTime: ts(i).WithOffset(1)}, Terms{})
			}
			if err != nil {
				t.Error(err)
				break
			}
		}
		close(done)
		wg.Wait()
	})
}

// Concurrent writers of one name end in the newest of them.
func TestConcurrentWriters(t *testing.T) {
	e := newEngine(vfs.OS, t.TempDir())
	var wg sync.WaitGroup
	for i := int64(1); i <= 16; i++ {
		wg.Go(func() {
			err := put(e, at(1), ts(i), []byte{byte(i)}, "x", Terms{})
			if err != nil && !errs.Is(err, errs.Stale) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if s, got, err := get(e, at(1)); err != nil || s.Time != ts(16) || got[0] != 16 {
		t.Errorf("ended in %s, %v", show(s), err)
	}
}

// readByte returns one byte of a file.
func readByte(t testing.TB, fs vfs.FS, file string, off int64) byte {
	t.Helper()
	f, err := fs.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, off); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return b[0]
}

// flip changes one byte of a file of the engine.
func flip(t testing.TB, fs vfs.FS, file string, off int64) {
	t.Helper()
	b := []byte{readByte(t, fs, file, off) ^ 0x55}
	f, err := fs.OpenFile(file, syscall.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// where returns the file and the offset at which a part of a name is, of the data's bytes
// those that have a file of their own.
func where(t testing.TB, e *Engine, l Location, p part) (string, int64) {
	t.Helper()
	place, file := placeOf(t, e, l, p)
	d := e.now().ready.Load()
	if entry, err := d.get(l); err != nil {
		t.Fatal(err)
	} else if p == partData && entry.Blob {
		h, err := d.head(l, p, place)
		if err != nil {
			t.Fatal(err)
		}
		return d.blobPath(l, h.File), 0
	}
	return file, place.Offset
}

// placeOf returns a place of an entry, and the file of the log that it is in.
func placeOf(t testing.TB, e *Engine, l Location, p part) (index.Place, string) {
	t.Helper()
	d, err := e.now().open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	entry, err := d.get(l)
	if err != nil {
		t.Fatal(err)
	}
	place := [...]index.Place{entry.Data, entry.Meta, entry.Mark}[p]
	return place, fmt.Sprintf("%s/log/%016x.seg", d.root, place.Segment)
}

func TestQuarantine(t *testing.T) {
	for what, tt := range map[string]struct {
		size int
		part part
		off  int64
	}{
		"first block":  {500_000, partData, blob.PageSize + 10},
		"last block":   {500_000, partData, blob.PageSize + 499_999},
		"text":         {500_000, partData, 200},
		"fixed header": {500_000, partData, 40},
		"body":         {50_000, partData, 49_000},
		"head":         {50_000, partData, 130},
		"record":       {50_000, partData, 40},
		"metadata":     {50_000, partMeta, 120},
		"times of it":  {500_000, partMeta, 70},
	} {
		t.Run(what, func(t *testing.T) {
			forEachFS(t, func(t *testing.T, fs vfs.FS, root string) {
				data := bytes.Repeat([]byte("x"), tt.size)
				e := newEngine(fs, root)
				l := at(7)
				if err := errors.Join(put(e, l, ts(10), data, "one", Terms{}), post(e, l, 20, 20, "two", Terms{})); err != nil {
					t.Fatal(err)
				}
				file, at := where(t, e, l, tt.part)
				flip(t, fs, file, at+tt.off)
				_, got, err := get(e, l)
				if !errs.Is(err, errs.Corrupt) {
					t.Fatalf("read %d bytes, %v, want Corrupt", len(got), err)
				}
				for range 2 { // remembered, and across a restart
					if s, _, err := get(e, l); !errs.Is(err, errs.Corrupt) || s.Kind != Lost || s.Name != path3(l) {
						t.Fatalf("afterwards: %s, %v, want Corrupt", show(s), err)
					}
					e = newEngine(fs, root)
				}
				list, err := fs.ReadDir(root + "/quarantined/objects")
				if err != nil || len(list) != 2 || !strings.HasSuffix(list[1].Name, ".reason") {
					t.Fatalf("in quarantine: %v, %v, want the file and its reason", list, err)
				}
				if err := post(e, l, 90, 0, "x", Terms{}); !errs.Is(err, errs.Corrupt) {
					t.Errorf("update of a lost object: %v, want Corrupt", err)
				}
				if tt.part == partData {
					if err := put(e, l, ts(9), data, "old", Terms{Merge: true}); !errs.Is(err, errs.Stale) {
						t.Errorf("an older version from a peer: %v, want Stale", err)
					}
				}
				// What a peer has repairs it.
				if err := put(e, l, ts(10), data, "one", Terms{Merge: true}); tt.part == partData && err != nil {
					t.Fatalf("repair of the data: %v", err)
				}
				if err := post(e, l, 20, 20, "two", Terms{Merge: true}); tt.part == partMeta && err != nil {
					t.Fatalf("repair of the metadata: %v", err)
				}
				for range 2 {
					s, got, err := get(e, l)
					if err != nil || !bytes.Equal(got, data) || s.Meta.Get("X-Object-Meta-M") != "two" || s.ContentType != "type/two" {
						t.Fatalf("after the repair: %s, %d bytes, %v", show(s), len(got), err)
					}
					e = newEngine(fs, root)
				}
				leftovers(t, fs, root)
			})
		})
	}
}

// A file that is another object's is not served.
func TestMisplacedFile(t *testing.T) {
	fs := vfs.NewMem()
	e := newEngine(fs, "/")
	other := at(1)
	other.Hash[15] = 1
	for _, l := range []Location{at(1), other} {
		if err := put(e, l, ts(1), bytes.Repeat(l.Hash[:1], 300_000), "a", Terms{}); err != nil {
			t.Fatal(err)
		}
	}
	from, _ := where(t, e, at(1), partData)
	to, _ := where(t, e, other, partData)
	if err := fs.Rename(from, to); err != nil {
		t.Fatal(err)
	}
	for _, l := range []Location{at(1), other} {
		if _, _, err := get(e, l); !errs.Is(err, errs.Corrupt) {
			t.Errorf("read of a file that is misplaced or gone: %v, want Corrupt", err)
		}
	}
	if list, err := fs.ReadDir(path.Join("/quarantined/objects")); err != nil || len(list) != 3 {
		t.Errorf("quarantine has %v, %v", list, err)
	}
}

// A segment that is gone although the index needs it is damage of what it held, and no
// absence.
func TestSegmentIsGone(t *testing.T) {
	fs := vfs.NewMem()
	e := newEngine(fs, "/")
	if err := errors.Join(put(e, at(1), ts(1), []byte("x"), "a", Terms{}), e.Close()); err != nil {
		t.Fatal(err)
	}
	e = newEngine(fs, "/")
	if err := errors.Join(put(e, at(2), ts(1), []byte("y"), "a", Terms{}), e.Checkpoint(ctx)); err != nil {
		t.Fatal(err)
	}
	file, _ := where(t, e, at(1), partData)
	e = newEngine(fs, "/")
	if err := fs.Remove(file); err != nil {
		t.Fatal(err)
	}
	for _, read := range []func() error{
		func() error { return post(e, at(1), 5, 0, "b", Terms{}) },
		func() error { _, _, err := get(newEngine(fs, "/"), at(1)); return err },
	} {
		if err := read(); !errs.Is(err, errs.Corrupt) {
			t.Errorf("what was in it: %v, want Corrupt", err)
		}
	}
	if s, err := e.Stat(ctx, at(1)); err != nil || s.Kind != Lost {
		t.Errorf("afterwards: %s, %v, want lost", show(s), err)
	}
	if _, body, err := get(e, at(2)); err != nil || string(body) != "y" {
		t.Errorf("what was elsewhere: %q, %v", body, err)
	}
}

// The log ends before what the index knows: the names are lost, and not forgotten, and
// what is written later is not taken for known already.
func TestEndOfLogIsGone(t *testing.T) {
	fs := vfs.NewMem()
	e := newEngine(fs, "/")
	for i := range byte(3) {
		if err := put(e, at(1+i), ts(1), []byte("x"), "a", Terms{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Checkpoint(ctx); err != nil {
		t.Fatal(err)
	}
	file, off := where(t, e, at(2), partData)
	f, err := fs.OpenFile(file, syscall.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(off), f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		e = newEngine(fs, "/")
		for l, want := range map[Location]Kind{at(1): Live, at(2): Lost, at(3): Lost} {
			if s, err := e.Stat(ctx, l); err != nil || s.Kind != want || s.Time != ts(1) {
				t.Errorf("%v: %s, %v, want kind %d", l, show(s), err, want)
			}
		}
	}
	if err := put(e, at(3), ts(1), []byte("x"), "a", Terms{Merge: true}); err != nil {
		t.Fatal(err)
	}
	if _, body, err := get(newEngine(fs, "/"), at(3)); err != nil || string(body) != "x" {
		t.Errorf("after the repair: %q, %v", body, err)
	}
	// As a whole segment it is not known what the log had.
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	for _, segment := range e.now().logFiles(t, fs)[1:] {
		if err := fs.Remove(segment); err != nil {
			t.Fatal(err)
		}
	}
	e = newEngine(fs, "/")
	if err := put(e, at(4), ts(1), []byte("y"), "a", Terms{}); err != nil {
		t.Fatal(err)
	}
	for l, want := range map[Location]string{at(1): "x", at(4): "y"} {
		if _, body, err := get(newEngine(fs, "/"), l); err != nil || string(body) != want {
			t.Errorf("%v: %q, %v, want %q", l, body, err, want)
		}
	}
}

// logFiles are the segments of a store, in order.
func (s *store) logFiles(t *testing.T, fs vfs.FS) (list []string) {
	t.Helper()
	entries, err := fs.ReadDir(s.root + logFolder)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name, ".seg") {
			list = append(list, s.root+logFolder+"/"+entry.Name)
		}
	}
	return list
}

// What is known to be small takes none of the memory of what may be large, to be written or read.
func TestSmallTakesLittleMemory(t *testing.T) {
	const tiny = 16 << 10 // as in package blob
	for _, size := range []int{0, 1, 4 << 10, tiny - 300, tiny - 2, tiny - 1, tiny, tiny + 1} {
		cfg := Defaults()
		cfg.FS, cfg.Buffers, cfg.SegmentSize, cfg.Depth = vfs.NewMem(), blob.NewGuarded(0), 1<<20, 12
		e := New("/", cfg)
		data := bytes.Repeat([]byte{7}, size)
		for what, came := range map[string][]byte{"short": data[:max(0, size-1)], "long": append(data[:size:size], 8)} {
			for _, write := range []func(*Writer) error{
				func(w *Writer) error { _, err := w.ReadFrom(bytes.NewReader(came)); return err },
				func(w *Writer) error { _, err := w.Write(came); return err },
			} {
				w, err := e.Create(ctx, at(1), int64(size))
				if err != nil {
					t.Fatal(err)
				}
				err = write(w)
				if err == nil {
					_, err = w.Commit(Version{Time: ts(1), Name: path3(at(1))}, Terms{})
				}
				want := map[string]error{"short": io.ErrUnexpectedEOF, "long": blob.ErrTooMuch}[what]
				if len(came) == size {
					want = nil
				}
				if !errors.Is(err, want) {
					t.Errorf("%d bytes, %s: %v", size, what, err)
				}
				_ = w.Close() // it has failed before
				if size == 0 {
					break // the same twice is stale
				}
			}
		}
		small, err := cfg.Buffers.Take(ctx, blob.SmallMax)
		if err != nil {
			t.Fatal(err)
		}
		if size >= tiny {
			cfg.Buffers.Give(small)
		}
		if err := put(e, at(1), ts(2), data, "x", Terms{}); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
		if size < tiny && size > tiny-300 { // with what is said of it it is more
			cfg.Buffers.Give(small)
		}
		if _, got, err := get(e, at(1)); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes: %d are there, %v", size, len(got), err)
		}
	}
}
