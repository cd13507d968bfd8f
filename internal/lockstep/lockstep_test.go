package lockstep_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"martlet/internal/backend"
	"martlet/internal/direct"
	"martlet/internal/errs"
	"martlet/internal/lockstep"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/quorum"
	"martlet/internal/quorum/nodetest"
	"martlet/ring"
)

const replicas = 3 // and as many handoffs

var (
	object     = name.Path{Account: "a", Container: "c", Object: "o"}
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// world is devices that keep what they were sent whole, and what each slot was to be sent.
type world struct {
	t       testing.TB
	fleet   *nodetest.Fleet
	cluster *quorum.Cluster
	place   quorum.Place

	mu      sync.Mutex
	kept    map[string][]byte            // by device and slot: "d3 0"; guarded by mu
	torn    int                          // bodies that had no end; guarded by mu
	conns   map[string][]syscall.RawConn // by address; guarded by mu
	failing map[string]failing           // by address

	sent [replicas][]byte
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, fleet: nodetest.Of(t, object, 2*replicas, replicas), kept: map[string][]byte{}, conns: map[string][]syscall.RawConn{}, failing: map[string]failing{}}
	client := direct.New(direct.Config{NodeTimeout: 5 * time.Minute, Dial: w.dial})
	w.cluster = quorum.New(quorum.Config{ErrorLimit: 1}, quorum.Rings{
		Account: w.fleet.Ring, Container: w.fleet.Ring, Objects: map[policy.Index]*ring.Source{0: w.fleet.Ring},
	}, w.fleet.Hasher, client)
	t.Cleanup(func() { w.cluster.Wait(); client.Close() })
	var err error
	if w.place, err = w.cluster.Object(0, object); err != nil {
		t.Fatal(err)
	}
	for i := range 2 * replicas {
		w.script(i, w.keep)
	}
	return w
}

func (w *world) script(device int, do backend.HandlerFunc) {
	w.fleet.Script("d"+strconv.Itoa(device), do)
}

// keep takes a body to its end, and keeps it if its sum is right.
func (w *world) keep(_ context.Context, r *backend.Request) (*backend.Response, error) {
	to, err := backend.ParseTarget(r.Path)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r.Body)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.torn++
		return nil, err
	}
	if r.Trailer.Get(backend.CommitCRC) != sumOf(b) {
		return nodetest.Status(422, ""), nil
	}
	w.kept[to.Device+" "+r.Header.Get("X-Slot")] = b
	return nodetest.Status(201, ""), nil
}

func sumOf(b []byte) string { return fmt.Sprintf("%08x", crc32.Checksum(b, castagnoli)) }

// fails is a device that takes some bytes of a body and answers with a status then, at once, whatever is still to come; 0 breaks the connection.
type fails struct {
	after  int
	status int
}

// serve is a server of one connection: net/http's would read on before it answers.
func (f fails) serve(c net.Conn) {
	defer c.Close()
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return
	}
	if _, err := io.CopyN(io.Discard, r.Body, int64(f.after)); err != nil || f.status == 0 {
		return
	}
	_, _ = fmt.Fprintf(c, "HTTP/1.1 %d Status\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", f.status)
	_, _ = io.Copy(io.Discard, c) // until the client closes it: a reset would take the answer along
}

// fail has a device fail from now on.
func (w *world) fail(device int, f fails) {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { f.serve(c) })
		}
	})
	w.t.Cleanup(func() { l.Close(); all.Wait() })
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failing[w.addr(device)] = failing{f, l.Addr().String()}
}

type failing struct {
	fails
	at string // the address of its server
}

// addr is where a device is.
func (w *world) addr(device int) string {
	for d := range w.place.Ring.Devices() {
		if d.ID == device {
			return d.Addr()
		}
	}
	w.t.Fatalf("there is no device %d", device)
	return ""
}

// settle waits until what devices say that fail when they have so many bytes has come back: who sends the next piece sees it.
func (w *world) settle(bytes int) {
	w.t.Helper()
	deadline := time.Now().Add(time.Minute)
	w.mu.Lock()
	list := maps.Clone(w.failing)
	w.mu.Unlock()
	for addr, f := range list {
		for f.after <= bytes && !w.spoke(addr) {
			if time.Now().After(deadline) {
				w.t.Fatalf("%s has not failed after %d bytes", addr, bytes)
			}
			<-time.After(time.Millisecond)
		}
	}
}

// spoke reports whether all connections to an address have something to be read, or were closed.
func (w *world) spoke(addr string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns[addr] {
		quiet := false
		_ = c.Control(func(fd uintptr) { // which fails where it was closed on this side
			_, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
			quiet = err == syscall.EAGAIN
		})
		if quiet {
			return false
		}
	}
	return true
}

// dial makes a connection with little room on its way.
func (w *world) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	w.mu.Lock()
	f, fails := w.failing[addr]
	w.mu.Unlock()
	to := addr
	if fails {
		to = f.at
	}
	c, err := new(net.Dialer).DialContext(ctx, network, to)
	if err != nil {
		return nil, err
	}
	raw, err := c.(*net.TCPConn).SyscallConn()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns[addr] = append(w.conns[addr], raw)
	return c, errors.Join(err, c.(*net.TCPConn).SetWriteBuffer(64<<10))
}

func (w *world) upload(good func(*quorum.Answer) bool) *lockstep.Upload {
	w.sent = [replicas][]byte{}
	return lockstep.New(w.cluster, lockstep.What{Place: w.place, Good: good, Request: func(slot int, _ *ring.Device) *backend.Request {
		return &backend.Request{Method: http.MethodPut, Length: -1, Header: backend.Header{{Name: "X-Slot", Value: strconv.Itoa(slot)}}}
	}})
}

// send sends a piece of some bytes, another one to each slot. The memory it is in is used for the next: nobody may keep it.
func (w *world) send(ctx context.Context, u *lockstep.Upload, room *[replicas][]byte, n int) bool {
	for slot := range room {
		room[slot] = append(room[slot][:0], bytes.Repeat([]byte{byte(17*len(w.sent[slot]) + slot + 1)}, n)...)
		w.sent[slot] = append(w.sent[slot], room[slot]...)
	}
	useful := u.Send(ctx, func(slot int) []byte { return room[slot] })
	for _, b := range room {
		clear(b)
	}
	return useful
}

func (w *world) commit(ctx context.Context, u *lockstep.Upload) {
	u.Commit(ctx, func(slot int) backend.Header {
		return backend.Header{{Name: backend.CommitCRC, Value: sumOf(w.sent[slot])}}
	})
}

// all sends pieces of some sizes and commits them, if all can be sent.
func (w *world) all(ctx context.Context, u *lockstep.Upload, sizes ...int) (sent int) {
	var room [replicas][]byte
	for i, n := range sizes {
		if !w.send(ctx, u, &room, n) {
			return i + 1
		}
		w.settle(len(w.sent[0]))
	}
	w.commit(ctx, u)
	return len(sizes)
}

// holders says which devices have what all of a slot came to, and fails where one has anything else.
func (w *world) holders() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for at, got := range w.kept {
		slot, err := strconv.Atoi(at[strings.Index(at, " ")+1:])
		if err != nil || !bytes.Equal(got, w.sent[slot]) {
			w.t.Errorf("%q has %d bytes, want the %d that were sent in order", at, len(got), len(w.sent[slot]))
		}
	}
	return strings.Join(slices.Sorted(maps.Keys(w.kept)), ", ")
}

// statuses are those of the answers, by slot; "?" is none.
func statuses(answers []quorum.Answer) string {
	list := make([]string, len(answers))
	for i, a := range answers {
		if list[i] = strconv.Itoa(a.Status); a.Status == 0 {
			list[i] = "?"
		}
		if a.Slot != i || a.Status == 0 && a.Err == nil {
			list[i] = a.String()
		}
	}
	return strings.Join(list, " ")
}

const (
	small = 1000    // is sent whatever becomes of it
	large = 8 << 20 // does not fit the buffers on the way to a device
)

// Who fails before the second piece was sent is replaced by a handoff, which gets all from the beginning on; who fails later is left out; who
// refuses for good, whenever, is not replaced.
func TestDevicesFail(t *testing.T) {
	for what, tt := range map[string]struct {
		fails    map[int]fails
		sizes    []int
		sent     int // pieces, until it was of no use to send more
		statuses string
		holders  string
	}{
		"none, one piece":                  {nil, []int{small}, 1, "201 201 201", "d0 0, d1 1, d2 2"},
		"none, several":                    {nil, []int{small, 1, small, small}, 4, "201 201 201", "d0 0, d1 1, d2 2"},
		"one that takes nothing":           {map[int]fails{1: {0, 507}}, []int{small, small}, 2, "201 201 201", "d0 0, d2 2, d3 1"},
		"one that breaks at once":          {map[int]fails{1: {0, 0}}, []int{small, small}, 2, "201 201 201", "d0 0, d2 2, d3 1"},
		"one that takes the first, full":   {map[int]fails{0: {small, 507}}, []int{small, small, small}, 3, "201 201 201", "d1 1, d2 2, d3 0"},
		"one that reads short, and breaks": {map[int]fails{0: {small - 9, 0}}, []int{small, small, small}, 3, "201 201 201", "d1 1, d2 2, d3 0"},
		"one at the commit of one piece":   {map[int]fails{2: {small, 500}}, []int{small}, 1, "201 201 201", "d0 0, d1 1, d3 2"},
		"one, and the first handoff":       {map[int]fails{2: {small, 500}, 3: {small, 0}}, []int{small}, 1, "201 201 201", "d0 0, d1 1, d4 2"},
		"one, and all handoffs": {
			map[int]fails{2: {small, 500}, 3: {small, 0}, 4: {0, 507}, 5: {small, 503}}, []int{small}, 1, "201 201 503", "d0 0, d1 1",
		},
		"one that refuses at once":       {map[int]fails{0: {0, 409}}, []int{small, small}, 2, "409 201 201", "d1 1, d2 2"},
		"one that refuses at the end":    {map[int]fails{0: {2 * small, 422}}, []int{small, small}, 2, "422 201 201", "d1 1, d2 2"},
		"one later":                      {map[int]fails{0: {2 * small, 500}}, []int{small, small, small}, 3, "500 201 201", "d1 1, d2 2"},
		"one that breaks later":          {map[int]fails{0: {2*small - 9, 0}}, []int{small, small, small}, 3, "? 201 201", "d1 1, d2 2"},
		"one at the commit of several":   {map[int]fails{0: {2 * small, 500}}, []int{small, small}, 2, "500 201 201", "d1 1, d2 2"},
		"two later":                      {map[int]fails{0: {2 * small, 500}, 1: {2 * small, 0}}, []int{small, small, small, small}, 3, "500 ? ?", ""},
		"two refuse":                     {map[int]fails{0: {0, 409}, 1: {0, 409}}, []int{small, small}, 2, "409 409 ?", ""},
		"an early answer that has it":    {map[int]fails{0: {0, 201}}, []int{small, small}, 2, "201 201 201", "d1 1, d2 2, d3 0"},
		"one that says so at the commit": {map[int]fails{0: {2 * small, 201}}, []int{small, small, small}, 3, "? 201 201", "d1 1, d2 2"},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			for i, do := range tt.fails {
				w.fail(i, do)
			}
			u := w.upload(nil)
			sent := w.all(t.Context(), u, tt.sizes...)
			if got := statuses(u.Answers()); got != tt.statuses || sent != tt.sent {
				t.Errorf("after %d pieces the answers are %q, want after %d %q: %v", sent, got, tt.sent, tt.statuses, u.Answers())
			}
			u.Drop()
			if got := w.holders(); got != tt.holders {
				t.Errorf("%q have it, want %q", got, tt.holders)
			}
		})
	}
}

// A refusal that is as good as having taken all counts as that, until nobody is left to send to.
func TestGoodRefusals(t *testing.T) {
	good := func(a *quorum.Answer) bool { return a.Status == 409 }
	for refuse, want := range []struct {
		sent     int
		statuses string
	}{{2, "201 201 201"}, {2, "409 201 201"}, {2, "409 409 201"}, {2, "409 409 409"}} {
		w := newWorld(t)
		for i := range refuse {
			w.fail(i, fails{0, 409})
		}
		u := w.upload(good)
		sent := w.all(t.Context(), u, small, small)
		if got := statuses(u.Answers()); got != want.statuses || sent != want.sent {
			t.Errorf("%d refuse: after %d pieces %q, want after %d %q", refuse, sent, got, want.sent, want.statuses)
		}
		u.Drop()
	}
}

// Whatever was sent, nobody keeps anything of it without the commit, and nobody is told before there is something to send.
func TestDropped(t *testing.T) {
	for pieces := range 4 {
		w := newWorld(t)
		u := w.upload(nil)
		var room [replicas][]byte
		for range pieces {
			if !w.send(t.Context(), u, &room, small) {
				t.Fatalf("%d pieces: %v", pieces, u.Answers())
			}
		}
		if n := len(w.fleet.Asked()); pieces == 0 && n > 0 {
			t.Errorf("%d devices were asked before anything was sent", n)
		}
		u.Drop()
		u.Drop() // harmless
		for _, a := range u.Answers() {
			if a.Status != 0 || a.Err == nil || a.Device == nil {
				t.Errorf("%d pieces: the answer of a stream that was dropped is %v of %v", pieces, &a, a.Device)
			}
		}
		w.ended(pieces, min(pieces, 1)*replicas)
		if got := w.holders(); got != "" {
			t.Errorf("%d pieces: %q have what was not committed", pieces, got)
		}
	}
}

// ended waits until devices have seen so many bodies that had no end.
func (w *world) ended(pieces, torn int) {
	w.t.Helper()
	var n int
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-time.After(time.Millisecond) {
		w.mu.Lock()
		n = w.torn
		w.mu.Unlock()
		if n == torn {
			return
		}
	}
	w.t.Fatalf("%d pieces: %d devices saw a body without its end, want %d", pieces, n, torn)
}

// When who sends is cancelled all streams end, no handoff is asked, nobody keeps anything, and no device is blamed.
func TestCancelled(t *testing.T) {
	for what, before := range map[string][]int{"before the first piece": nil, "in the first": {}, "in the second": {small}, "in the third": {small, small}} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			reading := make(chan struct{}, replicas)
			for i := range replicas {
				w.script(i, func(_ context.Context, r *backend.Request) (*backend.Response, error) {
					// It takes something of what comes when the others have been sent, and then no more.
					if _, err := io.CopyN(io.Discard, r.Body, int64(len(before)*small+1)); err != nil {
						return nil, err
					}
					reading <- struct{}{}
					<-ctx.Done()
					_, err := io.Copy(io.Discard, r.Body)
					return nil, errors.Join(err, errs.E(errs.Aborted, "broken off"))
				})
			}
			u := w.upload(nil)
			defer u.Drop()
			var room [replicas][]byte
			for _, n := range before {
				if !w.send(ctx, u, &room, n) {
					t.Fatal(u.Answers())
				}
			}
			if before == nil {
				cancel()
			} else {
				go func() {
					for range replicas {
						<-reading
					}
					cancel()
				}()
			}
			if w.send(ctx, u, &room, large) {
				t.Error("it is said to be of use to go on")
			}
			w.commit(ctx, u)
			if got := statuses(u.Answers()); got != "? ? ?" {
				t.Errorf("the answers are %q", got)
			}
			if n := len(w.fleet.Asked()); n > replicas {
				t.Errorf("%d devices were asked: %v", n, w.fleet.Asked())
			}
			if got := w.holders(); got != "" {
				t.Errorf("%q have it", got)
			}
			for _, d := range w.place.Primaries { // one that was blamed would come behind a handoff
				if first := w.cluster.Spare(w.place).Route(d).Next(); first != d {
					t.Errorf("%s is taken for failing", d.Name)
				}
			}
		})
	}
}

// Whatever the pieces are and whoever fails when, who has taken it has all of its slot in order, and as many say so as
// have it; and where fewer than a quorum can be had that is seen.
func TestAnyPieces(t *testing.T) {
	w := newWorld(t) // one for all: devices that have failed come later then
	rapid.Check(t, func(r *rapid.T) {
		w.mu.Lock()
		clear(w.kept)
		clear(w.failing)
		clear(w.conns)
		w.mu.Unlock()
		sizes := rapid.SliceOfN(rapid.IntRange(0, 5000), 1, 5).Draw(r, "sizes")
		total := 0
		for _, n := range sizes {
			total += n
		}
		for i := range 2 * replicas {
			switch rapid.SampledFrom([]string{"keeps", "keeps", "fails", "refuses", "breaks"}).Draw(r, "device") {
			case "fails":
				w.fail(i, fails{rapid.IntRange(0, total).Draw(r, "after"), 500})
			case "refuses":
				w.fail(i, fails{rapid.IntRange(0, total).Draw(r, "after"), 409})
			case "breaks":
				w.fail(i, fails{rapid.IntRange(0, total).Draw(r, "after"), 0})
			}
		}
		u := w.upload(nil)
		sent := w.all(r.Context(), u, sizes...)
		good := 0
		for _, a := range u.Answers() {
			if a.Status == 201 {
				good++
			}
		}
		u.Drop()
		w.holders() // checks what they have
		w.mu.Lock()
		defer w.mu.Unlock()
		if good != len(w.kept) {
			r.Fatalf("%d say that they have it, and %d have", good, len(w.kept))
		}
		if sent < len(sizes) && good > 0 {
			r.Fatalf("it was given up after %d of %d pieces, and %d have it", sent, len(sizes), good)
		}
	})
}
