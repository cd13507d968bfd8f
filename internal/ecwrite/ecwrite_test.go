package ecwrite_test

import (
	"bytes"
	"context"
	"crypto/md5" // the ETag of the API
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"martlet/internal/backend"
	"martlet/internal/direct"
	"martlet/internal/ec"
	"martlet/internal/ecread"
	"martlet/internal/ecwrite"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/quorum"
	"martlet/internal/quorum/nodetest"
	"martlet/internal/timestamp"
	"martlet/ring"
)

var (
	object = name.Path{Account: "a", Container: "c", Object: "o"}
	stamp  = timestamp.FromTicks(150_000_000_000_000)
	coded  = policy.Policy{Index: 1, Name: "coded", Data: 4, Parity: 2}
)

const fragments = 6 // of an object, and as many primaries

// world is devices that keep fragments and commits as the object server does, by its rules.
type world struct {
	*ecwrite.Writer
	t       *testing.T
	fleet   *nodetest.Fleet
	cluster *quorum.Cluster

	mu      sync.Mutex
	has     map[string]map[backend.FragmentID][]byte // by device; guarded by mu
	commits map[string]backend.Header                // by device; guarded by mu
	durable []int                                    // how many fragments there were as each commit came; guarded by mu
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, fleet: nodetest.Of(t, object, 2*fragments, fragments), has: map[string]map[backend.FragmentID][]byte{}, commits: map[string]backend.Header{}}
	client := direct.New(direct.Config{})
	cluster := quorum.New(quorum.Config{}, quorum.Rings{
		Account: w.fleet.Ring, Container: w.fleet.Ring,
		Objects: map[policy.Index]*ring.Source{1: w.fleet.Ring.First(coded.Replicas()), policy.Index(1).Fragments(): w.fleet.Ring},
		Needs:   map[policy.Index]int{1: coded.Quorum(), policy.Index(1).Fragments(): coded.FragmentQuorum()},
	}, w.fleet.Hasher, client)
	t.Cleanup(func() { cluster.Wait(); client.Close() })
	w.cluster, w.Writer = cluster, ecwrite.New(cluster, ecread.NewCodes())
	for i := range 2 * fragments {
		d := "d" + strconv.Itoa(i)
		w.has[d] = map[backend.FragmentID][]byte{}
		w.fleet.Script(d, func(_ context.Context, r *backend.Request) (*backend.Response, error) { return w.serve(d, r) })
	}
	return w
}

// fail has devices answer with a status.
func (w *world) fail(status int, devices ...int) {
	for _, i := range devices {
		w.fleet.Script("d"+strconv.Itoa(i), func(context.Context, *backend.Request) (*backend.Response, error) {
			return nodetest.Status(status, ""), nil
		})
	}
}

func (w *world) serve(d string, r *backend.Request) (*backend.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	p, err := policy.ParseIndex(r.Header.Get(backend.PolicyIndex))
	switch {
	case err != nil:
		return nil, err
	case r.Method == "HEAD":
		return w.list(d, r), nil
	case p.IsFragments():
		return w.keep(d, r, body)
	}
	w.commits[d] = append(slices.Clone(r.Header), r.Trailer...)
	w.durable = append(w.durable, w.distinct())
	return &backend.Response{Status: 201}, nil
}

func (w *world) list(d string, r *backend.Request) *backend.Response {
	var list []backend.FragmentID
	for f := range w.has[d] {
		if f.Time.String() == r.Header.Get(backend.FragmentTime) {
			list = append(list, f)
		}
	}
	return &backend.Response{Status: 204, Header: backend.Header{{Name: backend.FragmentsHeld, Value: backend.JoinFragmentIDs(list)}}}
}

func (w *world) keep(d string, r *backend.Request, body []byte) (*backend.Response, error) {
	t, err := timestamp.Parse(r.Header.Get(backend.Timestamp))
	if err != nil {
		return nil, err
	}
	h, err := ec.ParseHeader(body[:min(len(body), ec.HeaderSize)])
	if err != nil {
		return nil, err
	}
	crc := fmt.Sprintf("%08x", crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
	if r.Header.Get(backend.FragmentIndex) != strconv.Itoa(h.Index) || r.Trailer.Get(backend.CommitCRC)+r.Header.Get(backend.CommitCRC) != crc {
		return nodetest.Status(422, ""), nil
	}
	if said := r.Header.Get(backend.Announced); said != strconv.Itoa(len(body)) {
		w.t.Errorf("%s was told of %q bytes, and %d came", d, said, len(body))
	}
	id := backend.FragmentID{Time: t, Index: h.Index, Write: h.Write.ID}
	for was, is := range w.has[d] {
		if was.Time == t && was.Index == h.Index && (was != id || !bytes.Equal(is, body)) {
			return nodetest.Status(409, ""), nil
		}
	}
	w.has[d][id] = body
	return &backend.Response{Status: 201}, nil
}

// distinct is how many different fragments devices have. It is called with mu held.
func (w *world) distinct() int {
	found := map[int]bool{}
	for _, list := range w.has {
		for f := range list {
			found[f.Index] = true
		}
	}
	return len(found)
}

func hexOf(b []byte) string { sum := md5.Sum(b); return hex.EncodeToString(sum[:]) }

func (w *world) put(body []byte, change ...func(*ecwrite.Object)) ([]quorum.Answer, error) {
	o := ecwrite.Object{
		Policy: coded, Path: object, Stamp: stamp, Size: int64(len(body)), ETag: hexOf(body), Body: bytes.NewReader(body),
		Fields: func(int) backend.Header {
			return backend.Header{{Name: backend.Timestamp, Value: stamp.String()}, {Name: backend.PolicyIndex, Value: "1"}, {Name: "X-Object-Meta-A", Value: "b"}}
		},
	}
	for _, c := range change {
		c(&o)
	}
	defer w.cluster.Wait() // for commits that were not waited for
	return w.Put(w.t.Context(), o)
}

// archives returns those of a write, by index.
func (w *world) archives(write ec.WriteID) map[int][]byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := map[int][]byte{}
	for _, list := range w.has {
		for f, b := range list {
			if f.Write == write && f.Time == stamp {
				all[f.Index] = b
			}
		}
	}
	return all
}

// decode reads an object from the archives of some indexes.
func decode(of backend.Coded, archives map[int][]byte, indexes []int) ([]byte, error) {
	code, err := ec.New(ec.Layout{Shape: ec.Shape{Data: of.Data, Parity: of.Parity}, Segment: of.Segment})
	if err != nil {
		return nil, err
	}
	d, err := code.Decode(ec.Write{ID: of.Write, Size: of.Size}, 0, of.Size, func(segment int64) (ec.Part, error) {
		if len(indexes) == 0 {
			return ec.Part{}, io.EOF
		}
		b := archives[indexes[0]]
		indexes = indexes[1:]
		h, err := ec.ParseHeader(b[:min(len(b), ec.HeaderSize)])
		if err != nil {
			return ec.Part{}, err
		}
		return ec.Part{Header: h, Frames: io.NopCloser(bytes.NewReader(b[code.FrameAt(segment):]))}, nil
	})
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return io.ReadAll(d)
}

func bytesOf(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// What was stored can be read from any fragments that are enough, and its commit came when all were there.
func TestPut(t *testing.T) {
	for _, size := range []int{1, 1000, ec.Segment, ec.Segment + 1, 3*ec.Segment + 7} {
		w, body := newWorld(t), bytesOf(size)
		answers, err := w.put(body)
		if err != nil || len(answers) != coded.Replicas() || len(w.commits) != coded.Replicas() {
			t.Fatalf("%d bytes: %v, %v, %d commits", size, answers, err, len(w.commits))
		}
		h := w.commits["d0"]
		of, err := backend.ParseCoded(h.Get(backend.CodedWrite))
		if err != nil || of.Size != int64(size) || of.ETag != hexOf(body) || of.Data != 4 || of.Parity != 2 || !of.Sized {
			t.Fatalf("%d bytes: the commit says %+v, %v", size, of, err)
		}
		if h.Get("X-Object-Meta-A") != "b" || h.Get(backend.CommitETag) != hexOf(nil) || h.Get(backend.CommitCRC) != "00000000" {
			t.Errorf("%d bytes: the commit is %v", size, h)
		}
		if slices.Min(w.durable) != fragments {
			t.Errorf("%d bytes: commits came when there were %v fragments", size, w.durable)
		}
		all := w.archives(of.Write)
		for _, some := range [][]int{{0, 1, 2, 3}, {2, 3, 4, 5}, {5, 0, 4, 1}} {
			if got, err := decode(of, all, some); err != nil || !bytes.Equal(got, body) {
				t.Errorf("%d bytes: from %v came %d, %v", size, some, len(got), err)
			}
		}
	}
}

// The commit is sent when one more fragment than a reader needs is on stable storage, and never with fewer.
func TestDevicesFail(t *testing.T) {
	handoffs := []int{6, 7, 8, 9, 10, 11}
	for what, tt := range map[string]struct {
		status    int
		primaries []int
		handoffs  bool // fail as well
		done      bool
		have      int // fragments, then
	}{
		"none":                              {507, nil, false, true, 6},
		"one, with a handoff":               {507, []int{5}, false, true, 6},
		"half, with handoffs":               {507, []int{3, 4, 5}, false, true, 6},
		"one, and all handoffs":             {507, []int{5}, true, true, 5},
		"two, and all handoffs":             {503, []int{4, 5}, true, false, 0},
		"one has another write's":           {409, []int{5}, true, true, 5},
		"two have another write's":          {409, []int{4, 5}, false, false, 0},
		"all":                               {507, []int{0, 1, 2, 3, 4, 5}, true, false, 0},
		"one of them could take the commit": {507, []int{0}, true, true, 5},
	} {
		w, body := newWorld(t), bytesOf(ec.Segment-9) // of which a device that refuses it late is replaced as well
		w.fail(tt.status, tt.primaries...)
		if tt.handoffs {
			w.fail(tt.status, handoffs...)
		}
		_, err := w.put(body)
		if (err == nil) != tt.done || err != nil && !errs.Is(err, errs.Unavailable) {
			t.Errorf("%s: %v", what, err)
		}
		if !tt.done && len(w.commits) > 0 {
			t.Errorf("%s: a commit was sent: %v", what, w.commits)
		}
		if tt.done && (w.distinct() != tt.have || len(w.durable) == 0 || slices.Min(w.durable) < coded.FragmentQuorum()) {
			t.Errorf("%s: there are %d fragments, want %d, and commits came with %v", what, w.distinct(), tt.have, w.durable)
		}
	}
}

// A device that dies when it has much of its archive is left out; if that leaves too few no commit is sent.
func TestDevicesDieLater(t *testing.T) {
	for n := range 3 {
		w := newWorld(t)
		for i := range n {
			w.fleet.Script("d"+strconv.Itoa(i), func(_ context.Context, r *backend.Request) (*backend.Response, error) {
				if r.Body != nil {
					_, _ = io.CopyN(io.Discard, r.Body, 5*ec.Segment/8) // something of the third segment
				}
				return nodetest.Status(500, ""), nil
			})
		}
		_, err := w.put(bytesOf(4 * ec.Segment))
		if done := n < 2; (err == nil) != done || (len(w.commits) > 0) != done {
			t.Errorf("%d die: %v, %d commits", n, err, len(w.commits))
		}
	}
}

var errBroken = errors.New("broken off")

// Of a body that is not the object's nobody keeps anything.
func TestWrongBody(t *testing.T) {
	body := bytesOf(2*ec.Segment + 9)
	other := slices.Clone(body)
	other[len(other)-1]++
	for what, from := range map[string]io.Reader{
		"other":       bytes.NewReader(other),
		"shorter":     bytes.NewReader(body[:len(body)-1]),
		"longer":      io.MultiReader(bytes.NewReader(body), strings.NewReader("x")),
		"broken off":  io.MultiReader(bytes.NewReader(body[:ec.Segment+3]), brokenOff{}),
		"broken late": io.MultiReader(bytes.NewReader(body), brokenOff{}),
		"nothing":     strings.NewReader(""),
	} {
		w := newWorld(t)
		if _, err := w.put(body, func(o *ecwrite.Object) { o.Body = from }); err == nil || w.distinct() > 0 || len(w.commits) > 0 {
			t.Errorf("%s: %v, %d fragments, %d commits", what, err, w.distinct(), len(w.commits))
		}
	}
}

type brokenOff struct{}

func (brokenOff) Read([]byte) (int, error) { return 0, errBroken }

// The same object of the same time has the same archives whoever stores it, also where a go at it was broken off before, and any other
// has its own.
func TestAgain(t *testing.T) {
	w, body := newWorld(t), bytesOf(ec.Segment+9)
	// Two have all of it, and say that they don't; handoffs have no room.
	for _, i := range []int{0, 1} {
		d := "d" + strconv.Itoa(i)
		w.fleet.Script(d, func(_ context.Context, r *backend.Request) (*backend.Response, error) {
			_, err := w.serve(d, r)
			return nodetest.Status(500, ""), err
		})
	}
	w.fail(507, 6, 7, 8, 9, 10, 11)
	if _, err := w.put(body); err == nil || w.distinct() != 6 {
		t.Fatalf("with two that fail: %v, %d fragments", err, w.distinct())
	}
	for i := range 2 * fragments {
		d := "d" + strconv.Itoa(i)
		w.fleet.Script(d, func(_ context.Context, r *backend.Request) (*backend.Response, error) { return w.serve(d, r) })
	}
	for try := range 3 {
		if _, err := w.put(body); err != nil || w.distinct() != 6 {
			t.Fatalf("try %d: %v, %d fragments", try, err, w.distinct())
		}
	}
	writes := map[string]bool{w.commits["d0"].Get(backend.CodedWrite): true}
	for what, change := range map[string]func(*ecwrite.Object){
		"time": func(o *ecwrite.Object) { o.Stamp, _ = o.Stamp.Moved() },
		"name": func(o *ecwrite.Object) { o.Path.Object = "other" },
		"body": func(o *ecwrite.Object) {
			o.Body, o.Size, o.ETag, o.Stamp = strings.NewReader("x"), 1, hexOf([]byte("x")), o.Stamp.Next()
		},
	} {
		w.commits = map[string]backend.Header{}
		for _, list := range w.has {
			clear(list)
		}
		if _, err := w.put(body, change); err != nil {
			t.Errorf("another %s: %v", what, err)
		}
		for _, h := range w.commits {
			of, err := backend.ParseCoded(h.Get(backend.CodedWrite))
			if err != nil {
				t.Fatal(err)
			}
			of.Size, of.ETag = int64(len(body)), hexOf(body) // so that only the identity tells
			if writes[of.String()] {
				t.Errorf("another %s has the identity of what was before", what)
			}
			writes[of.String()] = true
			break
		}
	}
}

func TestHeld(t *testing.T) {
	w, body := newWorld(t), bytesOf(1000)
	w.fail(507, 5) // its fragment is on a handoff
	if _, err := w.put(body); err != nil {
		t.Fatal(err)
	}
	of, err := backend.ParseCoded(w.commits["d0"].Get(backend.CodedWrite))
	if err != nil {
		t.Fatal(err)
	}
	held := func(at timestamp.T, write ec.WriteID) int {
		n, err := w.Held(t.Context(), coded, object, at, write, fragments)
		if err != nil {
			t.Error(err)
		}
		return n
	}
	if n := held(stamp, of.Write); n != 6 {
		t.Errorf("%d fragments are there, want 6", n)
	}
	if n := held(stamp.Next(), of.Write); n != 0 {
		t.Errorf("%d fragments are there of another time", n)
	}
	if n := held(stamp, ec.NewWriteID()); n != 0 {
		t.Errorf("%d fragments are there of another write", n)
	}
	clear(w.has["d2"])
	w.fail(503, 1)
	if n := held(stamp, of.Write); n != 4 {
		t.Errorf("%d fragments are there when one is lost and one is away, want 4", n)
	}
}
