package seglog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"martlet/internal/errs"
	"martlet/internal/vfs"
)

const dir = "/log"

func config(fs vfs.FS) Config {
	c := Defaults()
	c.FS, c.Folder, c.SegmentSize, c.Ahead = fs, dir, 1<<16, 9000
	return c
}

func open(t testing.TB, c Config) *Log {
	t.Helper()
	l, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// record is the n-th of a series: what is in it follows from the number.
func record(n uint64) *Record {
	r := rand.New(rand.NewPCG(n, 1))
	some := func(most int) []byte {
		b := make([]byte, r.IntN(most))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	rec := &Record{Kind: byte(n % 200), Head: some(100), Body: some(3000)}
	binary.BigEndian.PutUint64(rec.Key[:], n)
	return rec
}

// found is what is in a log: by number of the record, where. It fails the test where
// something is not what was appended.
func found(t testing.TB, l *Log) map[uint64]Position {
	t.Helper()
	all := map[uint64]Position{}
	last := Position{}
	for e, err := range l.Scan(Position{}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Damage {
			t.Fatalf("damage from %v to %v", e.At, e.To)
		}
		if !last.Less(e.At) {
			t.Fatalf("%v comes after %v", e.At, last)
		}
		last = e.At
		n := binary.BigEndian.Uint64(e.Key[:])
		if _, ok := all[n]; ok {
			t.Fatalf("record %d is there twice", n)
		}
		all[n] = e.At
		got, _, err := l.Read(e.At, e.Size(), nil)
		if err != nil {
			t.Fatalf("record %d: %v", n, err)
		}
		if err := same(&got, record(n)); err != nil {
			t.Fatalf("record %d: %v", n, err)
		}
	}
	return all
}

func same(got, want *Record) error {
	if got.Kind != want.Kind || got.Key != want.Key || !bytes.Equal(got.Head, want.Head) || !bytes.Equal(got.Body, want.Body) {
		return fmt.Errorf("got kind %d, %d and %d bytes, want kind %d, %d and %d", got.Kind, len(got.Head), len(got.Body),
			want.Kind, len(want.Head), len(want.Body))
	}
	return nil
}

func TestAppendAndScan(t *testing.T) {
	for _, zero := range []bool{false, true} {
		c := config(vfs.NewMem())
		c.Zero = zero
		l := open(t, c)
		where := map[uint64]Position{}
		add := func(from, to uint64) {
			for n := from; n < to; n++ {
				told := Position{}
				at, err := l.Append(record(n), func(p Position) { told = p })
				if err != nil {
					t.Fatal(err)
				}
				if told != at {
					t.Fatalf("record %d is at %v, apply was told %v", n, at, told)
				}
				where[n] = at
			}
		}
		check := func(when string) {
			t.Helper()
			if got := found(t, l); !mapsEqual(got, where) {
				t.Fatalf("%s: found %d records, want %d", when, len(got), len(where))
			}
		}
		add(0, 200)
		check("open")
		if n := len(l.Segments()); n < 4 {
			t.Fatalf("%d segments, the test wants several", n)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Append(record(1), nil); !errors.Is(err, ErrClosed) {
			t.Errorf("append to a closed log: %v", err)
		}
		l = open(t, c)
		check("closed and opened")
		add(200, 300)
		check("with more")

		from := where[250]
		for e, err := range l.Scan(from) {
			if n := binary.BigEndian.Uint64(e.Key[:]); err != nil || n != 250 {
				t.Errorf("scan from record 250 begins with %d, %v", n, err)
			}
			break
		}
		first := l.Segments()[0]
		if err := l.Remove(first); err != nil {
			t.Fatal(err)
		}
		for n, at := range where {
			if at.Segment == first {
				if _, _, err := l.Read(at, Size(len(record(n).Head), len(record(n).Body)), nil); !errs.Is(err, errs.NotFound) {
					t.Fatalf("reading from a removed segment: %v", err)
				}
				delete(where, n)
			}
		}
		check("without the first segment")
		if err := l.Remove(slices.Max(l.Segments())); !errs.Is(err, errs.Conflict) {
			t.Errorf("removing what is appended to: %v", err)
		}
		if err := l.Remove(99); !errs.Is(err, errs.NotFound) {
			t.Errorf("removing what is not there: %v", err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = open(t, c)
		check("after the removal and a restart")
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func mapsEqual(a, b map[uint64]Position) bool {
	if len(a) != len(b) {
		return false
	}
	for n, at := range a {
		if b[n] != at {
			return false
		}
	}
	return true
}

// TestManyAtOnce: who waits together is synced together, and told in order.
func TestManyAtOnce(t *testing.T) {
	count := vfs.Count(vfs.NewMem())
	c := config(count)
	c.SegmentSize = 1 << 22
	l := open(t, c)
	if _, err := l.Append(record(1<<40), nil); err != nil { // the segment is made
		t.Fatal(err)
	}
	before := count.Counts()
	var order []Position
	var all sync.WaitGroup
	const writers, each = 32, 20
	for w := range uint64(writers) {
		all.Go(func() {
			for n := range uint64(each) {
				if _, err := l.Append(record(w*each+n), func(p Position) { order = append(order, p) }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if len(order) != writers*each || !slices.IsSortedFunc(order, func(a, b Position) int {
		if a.Less(b) {
			return -1
		}
		return 1
	}) {
		t.Errorf("%d calls of apply, or not in order", len(order))
	}
	if got := found(t, l); len(got) != writers*each+1 {
		t.Errorf("found %d", len(got))
	}
	// Not a count that holds on any machine: that writers share syncs at all.
	if syncs := count.Counts().Sub(before).Syncs; syncs > writers*each {
		t.Errorf("%d syncs for %d records", syncs, writers*each)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(record(3), nil); !errors.Is(err, ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}

// TestCloseWhileAppending: each record is in the log or was refused.
func TestCloseWhileAppending(t *testing.T) {
	mem := vfs.NewMem()
	l := open(t, config(mem))
	var acked sync.Map
	var all sync.WaitGroup
	for w := range uint64(8) {
		all.Go(func() {
			for n := range uint64(200) {
				if _, err := l.Append(record(w<<32|n), nil); err == nil {
					acked.Store(w<<32|n, true)
				} else if !errors.Is(err, ErrClosed) {
					t.Error(err)
					return
				} else {
					return
				}
			}
		})
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	all.Wait()
	got := found(t, open(t, config(mem)))
	acked.Range(func(n, _ any) bool {
		if _, ok := got[n.(uint64)]; !ok {
			t.Errorf("record %d was acknowledged, and is not there", n)
		}
		delete(got, n.(uint64))
		return true
	})
	if len(got) > 0 {
		t.Errorf("%d records are there that were refused", len(got))
	}
}

// written is a log with batches of records, of which the last was not followed by
// anything, as if the power had been cut: numbers of the records, batch by batch.
func written(t *testing.T, mem *vfs.Mem, batches ...[]uint64) map[uint64]Position {
	t.Helper()
	l := open(t, config(mem))
	where := map[uint64]Position{}
	for _, numbers := range batches {
		var batch []*ticket
		for _, n := range numbers {
			r := record(n)
			batch = append(batch, &ticket{front: r.seal(), body: r.Body, size: Size(len(r.Head), len(r.Body)), apply: func(p Position) { where[n] = p }})
		}
		if f := l.write(batch); f != nil {
			t.Fatal(f.err)
		}
	}
	return where
}

// TestWhatABrokenRecordMeans: of the last batch, the end; of one before, damage.
func TestWhatABrokenRecordMeans(t *testing.T) {
	for name, tt := range map[string]struct {
		broken uint64
		left   []uint64 // what is found
		damage bool
	}{
		"first of the last batch":   {5, []uint64{1, 2, 3, 4}, false},
		"in the middle of it":       {6, []uint64{1, 2, 3, 4, 5}, false},
		"the very last":             {7, []uint64{1, 2, 3, 4, 5, 6}, false},
		"first of the batch before": {3, []uint64{1, 2, 4, 5, 6, 7}, true},
		"last of the batch before":  {4, []uint64{1, 2, 3, 5, 6, 7}, true},
		"the first of all":          {1, []uint64{2, 3, 4, 5, 6, 7}, true},
	} {
		t.Run(name, func(t *testing.T) {
			mem := vfs.NewMem()
			where := written(t, mem, []uint64{1, 2}, []uint64{3, 4}, []uint64{5, 6, 7})
			f, err := mem.OpenFile(dir+"/"+segmentName(1), os.O_RDWR)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt([]byte("????????"), where[tt.broken].Offset+4); err != nil {
				t.Fatal(err)
			}
			l := open(t, config(mem))
			var left []uint64
			damage := false
			for e, err := range l.Scan(Position{}) {
				if err != nil {
					t.Fatal(err)
				}
				if e.Damage {
					damage = true
					if e.At != where[tt.broken] || e.To != where[tt.broken+1] {
						t.Errorf("damage from %v to %v, want from %v to %v", e.At, e.To, where[tt.broken], where[tt.broken+1])
					}
					continue
				}
				left = append(left, binary.BigEndian.Uint64(e.Key[:]))
			}
			if !slices.Equal(left, tt.left) || damage != tt.damage {
				t.Errorf("found %v and damage %v, want %v and %v", left, damage, tt.left, tt.damage)
			}
		})
	}
}

// TestCutOnce: what a crash has left is read as a whole once, to find where it ends, and not
// again each time the log is opened.
func TestCutOnce(t *testing.T) {
	mem := vfs.NewMem()
	where := written(t, mem, []uint64{1, 2}, []uint64{3, 4, 5})
	f, err := mem.OpenFile(dir+"/"+segmentName(1), os.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("????????"), where[5].Offset+4); err != nil { // it is torn
		t.Fatal(err)
	}
	var read []int64
	for range 3 {
		fs := vfs.Count(mem)
		l := open(t, config(fs))
		read = append(read, fs.Counts().BytesRead)
		if end := l.Stat()[0].Size; end != where[5].Offset {
			t.Errorf("it ends at %d, want %d, where the last record was", end, where[5].Offset)
		}
		if got := found(t, l); len(got) != 4 {
			t.Errorf("found %v, want records 1 to 4", got)
		}
		mem = mem.AfterCrash(1)
	}
	const front = firstRecord + fixedSize // and the seal
	if read[0] <= front || read[1] != front || read[2] != front {
		t.Errorf("%v bytes read, want %d from the second time on", read, front)
	}
	// Now that it is known what there is, the last record that is damaged is not cut off.
	if f, err = mem.OpenFile(dir+"/"+segmentName(1), os.O_RDWR); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("????????"), where[4].Offset+4); err != nil {
		t.Fatal(err)
	}
	var damage []Entry
	for e, err := range open(t, config(mem)).Scan(Position{}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Damage {
			damage = append(damage, e)
		}
	}
	if len(damage) != 1 || damage[0].At != where[4] || damage[0].To != where[5] {
		t.Errorf("found the damage %v, want one from %v to %v", damage, where[4], where[5])
	}
}

// TestNoRoomForSeal: a log is opened on a device on which nothing can be written, and read
// through each time.
func TestNoRoomForSeal(t *testing.T) {
	mem := vfs.NewMem()
	written(t, mem, []uint64{1, 2}, []uint64{3})
	for range 2 {
		if got := found(t, open(t, config(vfs.ReadOnly(mem)))); len(got) != 3 {
			t.Errorf("found %v, want records 1 to 3", got)
		}
	}
	if got := found(t, open(t, config(mem))); len(got) != 3 {
		t.Errorf("found %v, want records 1 to 3", got)
	}
}

// failing fails the syncs and truncations of files while it is told to, and does
// nothing then: a process that is killed before them.
type failing struct {
	vfs.FS
	fail bool
	only string // what the names of the files that fail have in them
}

func (f *failing) OpenFile(name string, flag int) (vfs.File, error) {
	file, err := f.FS.OpenFile(name, flag)
	return failingFile{file, f, name}, err
}

type failingFile struct {
	vfs.File
	of   *failing
	name string // that it was opened by
}

func (f failingFile) fails() bool { return f.of.fail && strings.Contains(f.name, f.of.only) }

func (f failingFile) Sync() error {
	if f.fails() {
		return syscall.EIO
	}
	return f.File.Sync()
}

func (f failingFile) Truncate(size int64) error {
	if f.fails() {
		return syscall.EIO
	}
	return f.File.Truncate(size)
}

// TestKilledBeforeSync: what is in the page cache only is not shown as if it were on
// the disk.
func TestKilledBeforeSync(t *testing.T) {
	mem := vfs.NewMem()
	fs := &failing{FS: mem}
	l := open(t, config(fs))
	if _, err := l.Append(record(1), nil); err != nil {
		t.Fatal(err)
	}
	fs.fail = true
	if _, err := l.Append(record(2), nil); err == nil {
		t.Fatal("it was acknowledged")
	}
	shown := found(t, open(t, config(mem)))
	if _, ok := shown[2]; !ok {
		t.Error("the test wants the record to be in the cache")
	}
	for seed := range uint64(20) {
		after := found(t, open(t, config(mem.AfterCrash(seed))))
		for n := range shown {
			if _, ok := after[n]; !ok {
				t.Fatalf("seed %d: record %d was shown, and is gone after a power cut", seed, n)
			}
		}
	}
}

// TestGiveRoom: the spare goes, also while others append, and what is appended next makes
// another one.
func TestGiveRoom(t *testing.T) {
	l := open(t, config(vfs.NewMem()))
	var wg sync.WaitGroup
	for i := range uint64(8) {
		wg.Go(func() {
			for j := range uint64(20) {
				if _, err := l.Append(record(i*20+j), nil); err != nil {
					t.Error(err)
				}
				if j%5 == i%5 {
					if _, err := l.GiveRoom(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	if got := found(t, l); len(got) != 160 {
		t.Errorf("found %d records", len(got))
	}
	for want := len(l.spares) > 0; want; want = len(l.spares) > 0 {
		if gave, err := l.GiveRoom(); !gave || err != nil {
			t.Fatalf("gave %v, %v", gave, err)
		}
	}
	if gave, err := l.GiveRoom(); gave || err != nil {
		t.Errorf("gave %v, %v, of nothing", gave, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.GiveRoom(); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// TestFailedSync: the segment is left at once, and whoever cares is told where.
func TestFailedSync(t *testing.T) {
	fs := &failing{FS: vfs.NewMem()}
	c := config(fs)
	var told []string
	c.Fault = func(segment uint64, end int64, err error) { told = append(told, fmt.Sprint(segment, end, err)) }
	l := open(t, c)
	first, err := l.Append(record(1), nil)
	if err != nil {
		t.Fatal(err)
	}
	fs.fail = true
	applied := false
	if _, err := l.Append(record(2), func(Position) { applied = true }); !errs.Is(err, errs.BadDevice) || applied {
		t.Errorf("got %v, want %v; applied: %v", err, errs.BadDevice, applied)
	}
	end := first.Offset + Size(len(record(1).Head), len(record(1).Body))
	if want := fmt.Sprint(first.Segment, end, syscall.EIO); !slices.Equal(told, []string{want}) {
		t.Errorf("told %q, want %q", told, want)
	}
	fs.fail = false
	second, err := l.Append(record(3), nil)
	if err != nil || second.Segment <= first.Segment {
		t.Errorf("the next record is at %v, %v; want another segment than %d", second, err, first.Segment)
	}
	if got := found(t, l); len(got) != 2 {
		t.Errorf("found %v", got)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestFailedSeal: that a full segment can't be sealed is told like any other failure.
func TestFailedSeal(t *testing.T) {
	fs := &failing{FS: vfs.NewMem(), only: sparePrefix} // segments, but not the spare that is made
	c := config(fs)
	var told []uint64
	c.Fault = func(segment uint64, _ int64, _ error) { told = append(told, segment) }
	l := open(t, c)
	body := make([]byte, 12<<10)
	var last Position
	for range 4 { // the next one does not fit
		at, err := l.Append(&Record{Body: body}, nil)
		if err != nil {
			t.Fatal(err)
		}
		last = at
	}
	fs.fail = true
	if _, err := l.Append(&Record{Body: body}, nil); !errs.Is(err, errs.BadDevice) {
		t.Errorf("got %v, want %v", err, errs.BadDevice)
	}
	if !slices.Equal(told, []uint64{last.Segment}) {
		t.Errorf("told of segments %v, want %d", told, last.Segment)
	}
	fs.fail = false
	if at, err := l.Append(&Record{Body: body}, nil); err != nil || at.Segment <= last.Segment {
		t.Errorf("afterwards: %v, %v", at, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestFullDisk: what is urgent goes on when nothing else does.
func TestFullDisk(t *testing.T) {
	mem := vfs.NewMem()
	mem.SetCapacity(5 << 16)
	l := open(t, config(mem))
	n := uint64(0)
	var err error
	for err == nil {
		_, err = l.Append(record(n), nil)
		n++
		if n > 10000 {
			t.Fatal("the disk never gets full")
		}
	}
	if !errs.Is(err, errs.NoSpace) {
		t.Fatalf("got %v, want %v", err, errs.NoSpace)
	}
	urgent := 0
	for ; urgent < 100; urgent++ {
		r := &Record{Kind: 3, Key: [16]byte{1}, Urgent: true}
		if _, err := l.Append(r, nil); err != nil {
			t.Fatalf("urgent record %d: %v", urgent, err)
		}
	}
	u, err := mem.Usage("/")
	if err != nil {
		t.Fatal(err)
	}
	gave, err := l.GiveRoom()
	after, _ := mem.Usage("/")
	if err != nil || gave != (after.Available-u.Available >= 1<<16) || gave && after.Available-u.Available != 1<<16 {
		t.Errorf("gave room: %v, %v; there were %d bytes, and are %d", gave, err, u.Available, after.Available)
	}
	if err := l.Remove(l.Segments()[0]); err != nil {
		t.Fatal(err)
	}
	if err := l.Remove(l.Segments()[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(record(n), nil); err != nil {
		t.Errorf("with room again: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestEveryByteFlips: damage is found wherever it is, bounded, and hides nothing else.
func TestEveryByteFlips(t *testing.T) {
	mem := vfs.NewMem()
	c := config(mem)
	l := open(t, c)
	where := map[Position]int64{}
	for n := range uint64(6) {
		r := &Record{Kind: byte(n), Key: record(n).Key, Head: []byte("head"), Body: bytes.Repeat([]byte{byte(n)}, 50)}
		at, err := l.Append(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		where[at] = Size(len(r.Head), len(r.Body))
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := mem.OpenFile(dir+"/"+segmentName(1), os.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	whole := make([]byte, size)
	if _, err := f.ReadAt(whole, 0); err != nil {
		t.Fatal(err)
	}
	for i := firstRecord; i < len(whole); i++ {
		if _, err := f.WriteAt([]byte{whole[i] ^ 0x10}, int64(i)); err != nil {
			t.Fatal(err)
		}
		l := open(t, c)
		hit, damage := 0, 0
		for e, err := range l.Scan(Position{}) {
			if err != nil {
				t.Fatal(err)
			}
			if e.Damage {
				damage++
				if e.At.Offset > int64(i) || e.To.Offset <= int64(i) {
					t.Fatalf("byte %d: damage is said to be from %v to %v", i, e.At, e.To)
				}
			}
		}
		for at, size := range where {
			r, _, err := l.Read(at, size, nil)
			in := int64(i) >= at.Offset && int64(i) < at.Offset+size
			switch {
			case in && !errs.Is(err, errs.Corrupt):
				t.Fatalf("byte %d: reading %v: %v", i, at, err)
			case in:
				hit++
			case err != nil || !bytes.Equal(r.Body, bytes.Repeat([]byte{r.Kind}, 50)):
				t.Fatalf("byte %d: reading %v, which it is not in: %v", i, at, err)
			}
		}
		if hit+damage == 0 && int64(i) < size-fixedSize {
			t.Fatalf("byte %d was flipped and nobody noticed", i)
		}
		if err := l.closeFiles(); err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(0); err != nil { // the log may have cut it
			t.Fatal(err)
		}
		if _, err := f.WriteAt(whole, 0); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRefusals(t *testing.T) {
	mem := vfs.NewMem()
	l := open(t, config(mem))
	for name, r := range map[string]*Record{
		"kind": {Kind: 255}, "head": {Head: make([]byte, MaxHead+1)}, "body": {Body: make([]byte, MaxBody+1)},
		"larger than a segment": {Body: make([]byte, 1<<16)},
	} {
		if _, err := l.Append(r, nil); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: got %v, want %v", name, err, errs.Invalid)
		}
	}
	at, err := l.Append(record(1), nil)
	if err != nil {
		t.Fatal(err)
	}
	size := Size(len(record(1).Head), len(record(1).Body))
	for name, tt := range map[string]struct {
		at   Position
		size int64
		want errs.Kind
	}{
		"no such segment": {Position{7, at.Offset}, size, errs.NotFound},
		"in the header":   {Position{at.Segment, 0}, size, errs.Corrupt},
		"behind the end":  {Position{at.Segment, at.Offset + size}, size, errs.Corrupt},
		"another size":    {at, size - alignment, errs.Corrupt},
		"no size":         {at, 0, errs.Corrupt},
		"huge":            {at, 1 << 60, errs.Corrupt},
		"within it":       {Position{at.Segment, at.Offset + alignment}, size - alignment, errs.Corrupt},
	} {
		if _, _, err := l.Read(tt.at, tt.size, nil); !errs.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", name, err, tt.want)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}

	// A segment of another log among its own.
	other := vfs.NewMem()
	o := open(t, config(other))
	if _, err := o.Append(record(2), nil); err != nil {
		t.Fatal(err)
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := mem.OpenFile(dir+"/"+segmentName(2), os.O_RDWR|os.O_CREATE)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(header(2, o.id), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(config(mem)); !errs.Is(err, errs.Corrupt) {
		t.Errorf("a foreign segment: got %v, want %v", err, errs.Corrupt)
	}
	if _, err := Open(Config{FS: mem, Folder: dir}); !errs.Is(err, errs.Invalid) {
		t.Errorf("no sizes: got %v", err)
	}
}
