package ecread_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"martlet/internal/backend"
	"martlet/internal/direct"
	"martlet/internal/ec"
	"martlet/internal/ecread"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/quorum"
	"martlet/internal/quorum/nodetest"
	"martlet/ring"
)

var object = name.Path{Account: "a", Container: "c", Object: "o"}

const stamp = "1000000000.00001"

// archive is one that a device has.
type archive struct {
	header ec.Header
	time   string
	bytes  []byte
	breaks int64 // after so many bytes of an answer the connection breaks; -1 is never
	stalls int64 // after so many bytes it is silent; -1 is never

	pace time.Duration // for each 5,000 bytes behind those that come with the head; 0 is none
}

// bench is scripted nodes that have archives.
type bench struct {
	t       testing.TB
	code    *ec.Code
	fleet   *nodetest.Fleet
	cluster *quorum.Cluster
	reader  *ecread.Reader

	mu    sync.Mutex
	has   map[string][]archive // by device; guarded by mu
	slow  map[string]time.Duration
	fails map[string]int // devices that answer with a status; guarded by mu
	sent  int64          // bytes of bodies that were asked for; guarded by mu
	asked []string       // "device index" or "device but indexes"; guarded by mu
}

// newBench makes nodes for objects in segments of so many bytes. The clock is that of a bubble
// where memory is set.
func newBench(t testing.TB, shape string, segment int, memory bool) *bench {
	t.Helper()
	return newBenchOf(t, shape, segment, memory, quorum.Config{})
}

// newBenchOf is newBench with readers that are as patient as told.
func newBenchOf(t testing.TB, shape string, segment int, memory bool, patience quorum.Config) *bench {
	t.Helper()
	s, err := ec.ParseShape(shape)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, has: map[string][]archive{}, slow: map[string]time.Duration{}, fails: map[string]int{}}
	if b.code, err = ec.New(ec.Layout{Shape: s, Segment: segment}); err != nil {
		t.Fatal(err)
	}
	n := s.Fragments()
	cfg := direct.Config{NodeTimeout: 10 * time.Second}
	if memory {
		b.fleet = nodetest.InMemoryOf(t, object, 2*n, n)
		cfg.Dial = b.fleet.Dial
	} else {
		b.fleet = nodetest.Of(t, object, 2*n, n)
	}
	client := direct.New(cfg)
	t.Cleanup(client.Close)
	b.cluster = quorum.New(patience, quorum.Rings{
		Account: b.fleet.Ring, Container: b.fleet.Ring, Objects: map[policy.Index]*ring.Source{policy.Index(1).Fragments(): b.fleet.Ring},
	}, b.fleet.Hasher, client)
	t.Cleanup(b.cluster.Wait)
	b.reader = ecread.New(b.cluster, ecread.NewCodes(b.code))
	for i := range 2 * n {
		d := device(i)
		b.fleet.Script(d, func(ctx context.Context, r *backend.Request) (*backend.Response, error) { return b.serve(ctx, d, r) })
	}
	return b
}

func device(i int) string { return "d" + strconv.Itoa(i) }

// serve does what an object server does with a GET of a fragment.
func (b *bench) serve(ctx context.Context, d string, r *backend.Request) (*backend.Response, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	index, but := r.Header.Get(backend.FragmentIndex), r.Header.Get(backend.FragmentsBut)
	what := d + " " + index
	if index == "" {
		what = d + " but " + but
	}
	b.asked = append(b.asked, what)
	if d := b.slow[d]; d > 0 {
		b.mu.Unlock()
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
		b.mu.Lock()
	}
	if status := b.fails[d]; status != 0 {
		return nodetest.Status(status, ""), nil
	}
	for _, a := range b.has[d] {
		i := strconv.Itoa(a.header.Index)
		if a.time != r.Header.Get(backend.FragmentTime) || index != "" && index != i || index == "" && slices.Contains(strings.Split(but, ","), i) {
			continue
		}
		var from, to int
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to); err != nil {
			return nil, errs.E(errs.Invalid, err)
		}
		b.sent += int64(to + 1 - from)
		size := len(a.bytes)
		if from >= size {
			return nodetest.Status(416, ""), nil
		}
		to = min(to+1, size)
		part := a.bytes[from:to]
		resp := &backend.Response{Status: 206, Length: int64(len(part)), Header: backend.Header{
			{Name: "Content-Range", Value: fmt.Sprintf("bytes %d-%d/%d", from, to-1, size)},
			{Name: backend.Fragment, Value: hex.EncodeToString(a.header.Append(nil))},
		}}
		if a.stalls >= 0 || a.pace > 0 {
			resp.Length = -1 // of a short body a server would send nothing before it has all of it
		}
		if a.breaks >= 0 {
			resp.Body = io.NopCloser(io.LimitReader(bytes.NewReader(part), a.breaks))
		} else if a.stalls >= 0 && a.stalls < int64(len(part)) {
			resp.Body = io.NopCloser(io.MultiReader(io.LimitReader(bytes.NewReader(part), a.stalls), silent{ctx}))
		} else if a.pace > 0 {
			resp.Body = io.NopCloser(&trickle{ctx: ctx, rest: part, pace: a.pace})
		} else {
			resp.Body = io.NopCloser(bytes.NewReader(part))
		}
		return resp, nil
	}
	return nodetest.Status(404, ""), nil
}

// silent says nothing until whoever reads it is gone.
type silent struct{ ctx context.Context }

func (s silent) Read([]byte) (int, error) {
	<-s.ctx.Done()
	return 0, errors.New("gone")
}

// trickle gives 5,000 bytes at a time, as fast as told, by the bubble's clock.
type trickle struct {
	ctx   context.Context
	rest  []byte
	pace  time.Duration
	begun bool
}

func (r *trickle) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	if r.begun {
		select {
		case <-time.After(r.pace):
		case <-r.ctx.Done():
			return 0, errors.New("gone")
		}
	}
	r.begun = true
	n := copy(p, r.rest[:min(5000, len(r.rest))])
	r.rest = r.rest[n:]
	return n, nil
}

// write encodes an object and gives the i-th fragment to the i-th device. It returns what the object's
// state says.
func (b *bench) write(id byte, data []byte, sized bool) backend.Header {
	b.t.Helper()
	w := ec.Write{ID: ec.WriteID{id}, Size: int64(len(data))}
	if !sized {
		w.Size = ec.UnknownSize
	}
	all := make([][]byte, b.code.Fragments())
	e, err := b.code.Encode(w, func(next [][]byte) error {
		for i := range next {
			all[i] = append(all[i], next[i]...)
		}
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := e.Write(data); err != nil {
		b.t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		b.t.Fatal(err)
	}
	for i, a := range all {
		b.give(device(i), archive{header: ec.Header{Layout: b.code.Layout, Write: w, Index: i}, time: stamp, bytes: a, breaks: -1, stalls: -1})
	}
	coded := backend.Coded{Data: b.code.Data, Parity: b.code.Parity, Segment: b.code.Segment, Write: w.ID, Size: int64(len(data)), Sized: sized, ETag: strings.Repeat("0", 32)}
	return backend.Header{{Name: backend.CodedWrite, Value: coded.String()}, {Name: backend.DataStamp, Value: stamp}}
}

func (b *bench) give(d string, a archive) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.has[d] = append(b.has[d], a)
}

// swap gives the devices other archives, and returns those that they had.
func (b *bench) swap(has map[string][]archive) (had map[string][]archive) {
	b.mu.Lock()
	defer b.mu.Unlock()
	had, b.has = b.has, has
	return had
}

// anew takes everything from the devices, and mends them. One may still be answering somebody who
// is gone.
func (b *bench) anew() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.has, b.fails = map[string][]archive{}, map[string]int{}
}

// take takes what a device has.
func (b *bench) take(d string) []archive {
	b.mu.Lock()
	defer b.mu.Unlock()
	has := b.has[d]
	delete(b.has, d)
	return has
}

// change changes the archive of a device.
func (b *bench) change(i int, how func(a *archive)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := &b.has[device(i)][0]
	a.bytes = bytes.Clone(a.bytes)
	how(a)
}

// open opens a range.
func (b *bench) open(ctx context.Context, state backend.Header, off, n int64) (io.ReadCloser, error) {
	o, err := b.reader.Object(1, object, state)
	if err != nil {
		return nil, err
	}
	return o.Open(ctx, off, n)
}

// read reads a range. bad counts what came although there was an error.
func (b *bench) read(state backend.Header, off, n int64) (data []byte, err error) {
	body, err := b.open(b.t.Context(), state, off, n)
	if err != nil {
		return nil, err
	}
	data, err = io.ReadAll(body)
	return data, errors.Join(err, body.Close())
}

func data(n int) []byte {
	p := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(p)
	return p
}

// What can be wrong with the fragment of a device.
const (
	good = iota
	lost
	damaged
	breaksOff
	foreign // of another write of the same bytes at the same time
	refused // the device fails
	kinds
)

// spoil does to the fragments of an object that was written what it is told, and returns how many
// are bad. Where is about where in an archive.
func (b *bench) spoil(what []int, where int, of []byte, sized bool) (bad int) {
	own := b.swap(map[string][]archive{})
	b.write(2, of, sized)
	other := b.swap(own)
	for i, kind := range what {
		at := ec.HeaderSize + (where*31+i*7)%(len(b.has[device(i)][0].bytes)-ec.HeaderSize)
		switch kind {
		case lost:
			b.take(device(i))
		case damaged:
			b.change(i, func(a *archive) { a.bytes[at] ^= 4 })
		case breaksOff:
			b.change(i, func(a *archive) { a.breaks = int64(at - ec.HeaderSize) })
		case foreign:
			b.take(device(i))
			b.give(device(i), other[device(i)][0])
		case refused:
			b.mu.Lock()
			b.fails[device(i)] = 500 + where%10
			b.mu.Unlock()
		}
		if kind != good {
			bad++
		}
	}
	return bad
}

// holds checks what was read with so many bad fragments.
func (b *bench) holds(t interface {
	Helper()
	Fatalf(string, ...any)
}, what any, bad int, want, got []byte, err error) {
	t.Helper()
	switch {
	case bad <= b.code.Parity && (err != nil || !bytes.Equal(got, want)):
		t.Fatalf("%v, %d bad: got %d bytes, %v", what, bad, len(got), err)
	case err == nil && !bytes.Equal(got, want) || !bytes.HasPrefix(want, got):
		t.Fatalf("%v, %d bad: wrong bytes", what, bad)
	case err != nil && (!errs.Is(err, errs.Unavailable) || !errors.Is(err, ec.ErrTooFew)):
		t.Fatalf("%v, %d bad: %v", what, bad, err)
	}
}

// Each fragment is there, lost, damaged, torn, foreign, or its device fails, in every
// combination: while no more than m are bad the bytes come, and with more there is an error and
// nothing that looks whole.
func TestEveryChoiceOfLosses(t *testing.T) {
	const segment = 64
	for shape, kinds := range map[string]int{"1+1": kinds, "2+1": kinds, "2+2": refused, "3+2": breaksOff} {
		b := newBench(t, shape, segment, false)
		want := data(3*segment + 5)
		what := make([]int, b.code.Fragments())
		choices := 1
		for range what {
			choices *= kinds
		}
		for choice := range choices {
			b.anew()
			for i, rest := 0, choice; i < len(what); i, rest = i+1, rest/kinds {
				what[i] = rest % kinds
			}
			sized := choice%2 == 0
			state := b.write(1, want, sized)
			bad := b.spoil(what, choice, want, sized)
			got, err := b.read(state, 0, int64(len(want)))
			b.holds(t, fmt.Sprint(shape, what, sized), bad, want, got, err)
		}
	}
}

// Larger codes, and ranges, by chance.
func TestAnyLosses(t *testing.T) {
	benches := map[string]*bench{}
	for _, shape := range []string{"4+2", "8+4", "10+4"} {
		benches[shape] = newBench(t, shape, 100, false)
	}
	rapid.Check(t, func(r *rapid.T) {
		b := benches[rapid.SampledFrom([]string{"4+2", "8+4", "10+4"}).Draw(r, "shape")]
		b.anew()
		all := data(rapid.IntRange(1, 450).Draw(r, "size"))
		off := rapid.IntRange(0, len(all)-1).Draw(r, "off")
		n := rapid.IntRange(0, len(all)-off).Draw(r, "n")
		sized := rapid.Bool().Draw(r, "sized")
		what := make([]int, b.code.Fragments())
		for range rapid.IntRange(0, b.code.Parity+1).Draw(r, "bad") {
			what[rapid.IntRange(0, len(what)-1).Draw(r, "index")] = rapid.IntRange(lost, kinds-1).Draw(r, "kind")
		}
		state := b.write(1, all, sized)
		bad := b.spoil(what, rapid.IntRange(0, 1000).Draw(r, "where"), all, sized)
		got, err := b.read(state, int64(off), int64(n))
		b.holds(r, what, bad, all[off:off+n], got, err)
	})
}

// Ranges are read from the segments that they are in, and from as many devices as it takes.
func TestRanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const segment = 1000
		b := newBench(t, "4+2", segment, true)
		want := data(10*segment + 77)
		state := b.write(1, want, true)
		for _, r := range []struct{ off, n, segments int64 }{
			{0, 1, 1}, {999, 1, 1}, {999, 2, 2}, {5000, 1000, 1}, {10076, 1, 1}, {0, 10077, 11}, {10000, 77, 1}, {3, 0, 0}, {9999, 78, 2},
		} {
			b.sent, b.asked = 0, nil
			got, err := b.read(state, r.off, r.n)
			if err != nil || !bytes.Equal(got, want[r.off:r.off+r.n]) {
				t.Errorf("%+v: got %d bytes, %v", r, len(got), err)
			}
			most := r.segments * 4 * (250 + 16)
			if b.sent > most || len(b.asked) > 4 && r.n > 0 {
				t.Errorf("%+v: %d bytes of fragments were asked for, want %d at most: %v", r, b.sent, most, b.asked)
			}
		}
		for _, r := range [][2]int64{{-1, 2}, {0, 10078}, {10077, 1}, {10078, 0}, {1, 1<<63 - 1}, {0, -1}} {
			if _, err := b.read(state, r[0], r[1]); !errs.Is(err, errs.Range) {
				t.Errorf("%v: %v", r, err)
			}
		}
	})
}

// A device that dies, in whatever part of its archive that is, is replaced by another, and what is on
// handoffs is found.
func TestDyingAnywhere(t *testing.T) {
	const segment = 40
	b := newBench(t, "2+1", segment, false)
	want := data(4*segment - 3)
	frame := int64(16 + segment/2)
	for at := int64(0); at <= 4*frame; at++ {
		for dies := range 2 {
			b.anew()
			state := b.write(1, want, true)
			b.change(dies, func(a *archive) { a.breaks = at })
			for _, spare := range []string{"d2", "d4"} {
				b.mu.Lock()
				if spare == "d4" {
					b.has["d4"] = b.has["d2"]
					delete(b.has, "d2")
				}
				b.mu.Unlock()
				got, err := b.read(state, 0, int64(len(want)))
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("d%d breaks off after %d bytes, the third fragment is on %s: got %d bytes, %v", dies, at, spare, len(got), err)
				}
			}
		}
	}
}

// Several fragments on one device are found, and those that primaries have that are not
// theirs, as after a change of rings; never the same one twice.
func TestFragmentsAtOtherPlaces(t *testing.T) {
	b := newBench(t, "4+2", 100, false)
	want := data(950)
	n := b.code.Fragments()
	for name, at := range map[string][]int{ // for each fragment its device
		"all on one handoff":     {6, 6, 6, 6, 6, 6},
		"turned around":          {1, 2, 3, 4, 5, 0},
		"all on one primary":     {3, 3, 3, 3, 3, 3},
		"two that are not home":  {0, 1, 7, 7, 4, 5},
		"four, on other devices": {-1, 0, -1, 6, 11, 0},
	} {
		b.anew()
		state := b.write(1, want, true)
		var all []archive
		for i := range n {
			all = append(all, b.take(device(i))...)
		}
		for i, d := range at {
			if d >= 0 {
				b.give(device(d), all[i])
			}
		}
		b.give(device(8), all[0]) // twice
		if got, err := b.read(state, 0, 950); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: got %d bytes, %v", name, len(got), err)
		}
	}
	// And where there are too few there is an end to it.
	b.anew()
	state := b.write(1, want, true)
	for i := range n {
		if a := b.take(device(i)); i < 3 {
			for d := range 2 * n {
				b.give(device(d), a[0])
			}
		}
	}
	b.asked = nil
	if _, err := b.read(state, 0, 950); !errors.Is(err, ec.ErrTooFew) || !strings.Contains(err.Error(), "/d11") {
		t.Errorf("three fragments, on all devices: %v", err)
	}
	if len(b.asked) > 200 {
		t.Errorf("%d requests", len(b.asked))
	}
}

// Whose answer is slow to begin is given company: after a moment by a device that has another
// fragment.
func TestSlowDevices(t *testing.T) {
	for name, tt := range map[string]struct {
		slow map[string]time.Duration
		most time.Duration
	}{
		"one":                   {map[string]time.Duration{"d1": 5 * time.Second}, 100 * time.Millisecond},
		"two":                   {map[string]time.Duration{"d1": 5 * time.Second, "d2": 5 * time.Second}, 100 * time.Millisecond},
		"all a little":          {map[string]time.Duration{"d0": time.Second, "d1": time.Second, "d2": time.Second, "d3": time.Second, "d4": time.Second, "d5": time.Second}, 1100 * time.Millisecond},
		"three, and no handoff": {map[string]time.Duration{"d1": 5 * time.Second, "d2": 5 * time.Second, "d3": 4 * time.Second}, 4100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, "4+2", 100, true)
				b.slow = tt.slow
				want := data(450)
				state := b.write(1, want, true)
				began := time.Now()
				got, err := b.read(state, 0, 450)
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("got %d bytes, %v", len(got), err)
				}
				if took := time.Since(began); took > tt.most {
					t.Errorf("took %v, want %v at most", took, tt.most)
				}
			})
		})
	}
}

// A device that falls silent in the middle where no other has a fragment is asked again after the usual silence, and Close ends
// what is under way at once.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, "2+1", 10_000, true)
		want := data(100_000)
		state := b.write(1, want, true)
		b.change(1, func(a *archive) { a.stalls = 26_000 })
		b.take("d2")
		began := time.Now()
		got, err := b.read(state, 0, 100_000)
		if took := time.Since(began); err != nil || !bytes.Equal(got, want) || took < 10*time.Second || took > 12*time.Second {
			t.Fatalf("got %d bytes, %v, after %v", len(got), err, took)
		}
		b.change(0, func(a *archive) { a.stalls = 26_000 })
		body, err := b.open(t.Context(), state, 0, 100_000)
		if err != nil {
			t.Fatal(err)
		}
		began = time.Now()
		over := make(chan error)
		go func() {
			_, err := io.Copy(io.Discard, body)
			over <- err
		}()
		time.Sleep(time.Second) // in the bubble
		if err := body.Close(); err != nil {
			t.Error(err)
		}
		if err := <-over; !errs.Is(err, errs.Aborted) || time.Since(began) > 2*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		b.cluster.Wait()
	})
}
