package proxy

import (
	"bytes"
	"context"
	"crypto/md5" // the ETag of the API
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"martlet/internal/backend"
	"martlet/internal/direct"
	"martlet/internal/errs"
	"martlet/internal/md5lanes"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/quorum"
	"martlet/internal/quorum/nodetest"
	"martlet/internal/timestamp"
	"martlet/proxy/chain"
	"martlet/proxy/limits"
	"martlet/ring"
)

// bench is an upload to scripted nodes, with a memory of what they would have
// kept.
type bench struct {
	*upload
	fleet *nodetest.Fleet

	mu   sync.Mutex
	kept map[string][]byte // what a device was given with a good commit; guarded by mu
	said map[string]int    // how many devices were told of what length before it came; guarded by mu
}

func newBench(t *testing.T) *bench {
	t.Helper()
	return newBenchWith(t, quorum.Config{PostQuorum: 500 * time.Millisecond})
}

func newBenchWith(t *testing.T, cfg quorum.Config) *bench {
	t.Helper()
	path := name.Path{Account: "a", Container: "c", Object: "o"}
	fleet := nodetest.New(t, path)
	client := direct.New(direct.Config{NodeTimeout: 20 * time.Second})
	t.Cleanup(client.Close)
	c := quorum.New(cfg,
		quorum.Rings{Account: fleet.Ring, Container: fleet.Ring, Objects: map[policy.Index]*ring.Source{0: fleet.Ring}}, fleet.Hasher, client)
	t.Cleanup(c.Wait)
	place, err := c.Object(0, path)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{fleet: fleet, kept: map[string][]byte{}, said: map[string]int{}}
	b.upload = &upload{
		cluster: c, place: place, length: -1, limits: limits.Defaults(), stamp: timestamp.Now(), stall: 300 * time.Millisecond, silence: 20 * time.Second, grace: 50 * time.Millisecond, hashes: md5lanes.NewGroup(hashBehind),
		header: func(_ int, stamp string) backend.Header {
			return backend.Header{{Name: backend.Timestamp, Value: stamp}}
		},
	}
	for i := range nodetest.Nodes {
		fleet.Script(fmt.Sprint("d", i), b.store)
	}
	return b
}

// store does what an object server does with a body: it keeps it only when it is
// whole and its commit fits.
func (b *bench) store(_ context.Context, r *backend.Request) (*backend.Response, error) {
	to, err := backend.ParseTarget(r.Path)
	if err != nil {
		return nil, err
	}
	var data []byte
	if r.Body != nil {
		if data, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	crc := r.Header.Get(backend.CommitCRC) + r.Trailer.Get(backend.CommitCRC)
	if want := fmt.Sprintf("%08x", crc32.Checksum(data, castagnoli)); crc != want {
		return nodetest.Status(422, ""), nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kept[to.Device] = data
	if r.Header.Has(backend.Announced) {
		b.said[r.Header.Get(backend.Announced)]++
	}
	return nodetest.Status(201, ""), nil
}

func (b *bench) copies(want []byte) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, got := range b.kept {
		if bytes.Equal(got, want) {
			n++
		}
	}
	return n
}

func (b *bench) keeps() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.kept)
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

func md5Hex(b []byte) string {
	sum := md5.Sum(b)
	return hex.EncodeToString(sum[:])
}

// verdict is the status that an upload comes to; 0 is no quorum.
func verdict(sent stored, err error) (int, error) {
	if err != nil {
		return 0, err
	}
	best, err := quorum.Place{Primaries: make([]*ring.Device, 3)}.Best(sent.answers, nil)
	return best.Status, err
}

// sizes are on both sides of every border of the code.
var sizes = []int{0, 1, chunkSize - 1, chunkSize, chunkSize + 1, 3*chunkSize + 7, (queueLen + 3) * chunkSize}

func TestUploadStoresEverywhere(t *testing.T) {
	for _, size := range sizes {
		b, data := newBench(t), randomBytes(size)
		b.stall, b.grace = 20*time.Second, 20*time.Second // nobody is late, only the machine may be busy
		sent, err := b.run(t.Context(), bytes.NewReader(data))
		code, err := verdict(sent, err)
		if err != nil || code != 201 || sent.etag != md5Hex(data) || sent.size != int64(size) {
			t.Errorf("%d bytes: %d, %v, ETag %s, size %d", size, code, err, sent.etag, sent.size)
		}
		if n := b.copies(data); n != 3 {
			t.Errorf("%d bytes: %d copies, want 3", size, n)
		}
	}
}

// Uploads that come at one time, whose MD5s are computed together, have their own each.
func TestUploadsAtOneTime(t *testing.T) {
	uploadsAtOneTime(t, randomBytes(2*chunkSize+7), 3)
}

// uploadsAtOneTime sends n bodies that begin, and end, each at another byte of one.
func uploadsAtOneTime(t *testing.T, whole []byte, n int) {
	t.Helper()
	b := newBench(t)
	b.stall, b.grace = 20*time.Second, 20*time.Second
	var all sync.WaitGroup
	for i := range n {
		data, up := whole[i:len(whole)-i*chunkSize/3], *b.upload
		all.Go(func() {
			sent, err := up.run(t.Context(), bytes.NewReader(data))
			if code, err := verdict(sent, err); err != nil || code != 201 || sent.etag != md5Hex(data) || sent.size != int64(len(data)) {
				t.Errorf("upload %d: %d, %v, ETag %s, size %d", i, code, err, sent.etag, sent.size)
			}
		})
	}
	all.Wait()
}

// What an upload that fails has not summed up yet it keeps no memory for.
func TestUploadThatFailsGivesItsChunksBack(t *testing.T) {
	b := newBench(t)
	first := newChunk()
	if _, err := first.fill(bytes.NewReader(randomBytes(chunkSize)), 0); err != nil {
		t.Fatal(err)
	}
	gone := errs.E(errs.Aborted, "gone")
	if _, err := b.stream(t.Context(), first, newDigest(b.hashes), iotest.ErrReader(gone)); !errs.Is(err, errs.Aborted) {
		t.Errorf("%v, want aborted", err)
	}
	b.cluster.Wait()
	if held := first.held.Load(); held != 0 {
		t.Errorf("%d hold the first chunk, want nobody", held)
	}
}

// What is kept for a handoff is in small chunks, and nothing is kept any more when the first large one comes, so that
// uploadBytes is the most there is.
func TestChunksGrow(t *testing.T) {
	for behind, want := range map[int64]int{1: chunkSize, smallChunks * chunkSize: chunkSize, smallChunks*chunkSize + 1: largeChunk, 1 << 40: largeChunk} {
		c := nextChunk(behind)
		if len(c.buf) != want {
			t.Errorf("behind %d bytes there is room for %d, want %d", behind, len(c.buf), want)
		}
		c.release()
	}
	if small := smallChunks*chunkSize + largeChunk; small > uploadBytes {
		t.Errorf("small chunks and the first large one are %d bytes, more than %d", small, uploadBytes)
	}
}

// Of what a slow client sends no chunk is kept for the MD5, and the MD5 is that of all.
func TestSlowChunksAreNotKept(t *testing.T) {
	d := newDigest(md5lanes.NewGroup(hashBehind))
	var all []byte
	for i, tt := range []struct {
		n    int
		last bool
	}{{chunkSize, false}, {17, false}, {chunkSize, false}, {chunkSize - 1, false}, {5, true}} {
		c := &chunk{buf: make([]byte, chunkSize), n: tt.n, pool: new(sync.Pool)}
		copy(c.buf, randomBytes(tt.n))
		all = append(all, c.data()...)
		c.held.Add(1)
		d.addLater(c, tt.last)
		if slow := tt.n < chunkSize && !tt.last; slow && c.held.Load() != 0 {
			t.Errorf("chunk %d, of %d bytes, is kept", i, tt.n)
		}
	}
	if d.etag() != md5Hex(all) || d.size != int64(len(all)) {
		t.Errorf("%d bytes with the MD5 %s, want %d with %s", d.size, d.etag(), len(all), md5Hex(all))
	}
}

// Who gets a body in chunks is told its length, where the client has said it.
func TestUploadAnnouncesItsLength(t *testing.T) {
	for _, size := range sizes {
		for _, known := range []bool{true, false} {
			b := newBench(t)
			b.stall, b.grace = 20*time.Second, 20*time.Second
			want := map[string]int{}
			if known {
				b.length = int64(size)
			}
			if known && size > chunkSize {
				want[fmt.Sprint(size)] = 3
			}
			_, err := b.run(t.Context(), iotest.DataErrReader(bytes.NewReader(randomBytes(size))))
			if err != nil || !maps.Equal(b.said, want) {
				t.Errorf("%d bytes, known %t: %v, told %v, want %v", size, known, err, b.said, want)
			}
		}
	}
}

func TestUploadWithAWrongETagKeepsNothing(t *testing.T) {
	for _, size := range sizes {
		b := newBench(t)
		b.etag = md5Hex([]byte("something else"))
		if _, err := b.run(t.Context(), bytes.NewReader(randomBytes(size))); !errs.Is(err, errs.Mismatch) {
			t.Errorf("%d bytes: %v, want a mismatch", size, err)
		}
		b.cluster.Wait()
		if n := b.keeps(); n != 0 {
			t.Errorf("%d bytes: %d replicas kept it", size, n)
		}
	}
}

// failing gives some bytes and then an error, as a client that goes away.
type failing struct {
	data io.Reader
	err  error
}

func (f *failing) Read(p []byte) (int, error) {
	n, err := f.data.Read(p)
	if errors.Is(err, io.EOF) {
		err = f.err
	}
	return n, err
}

func TestUploadThatBreaksOffKeepsNothing(t *testing.T) {
	for what, why := range map[string]error{"gone": errs.E(errs.Aborted, "gone"), "a failure with an end in it": errs.E(errs.Aborted, io.EOF)} {
		for _, size := range sizes {
			b := newBench(t)
			_, err := b.run(t.Context(), &failing{bytes.NewReader(randomBytes(size)), why})
			if !errs.Is(err, errs.Aborted) {
				t.Errorf("%s, %d bytes: %v, want aborted", what, size, err)
			}
			b.cluster.Wait()
			if n := b.keeps(); n != 0 {
				t.Errorf("%s, %d bytes: %d replicas kept a part", what, size, n)
			}
		}
	}
}

func TestUploadOfAnotherLengthKeepsNothing(t *testing.T) {
	for _, size := range sizes {
		for _, said := range []int{size - 1, size, size + 1} {
			b := newBench(t)
			b.length = int64(said) // -1 is any
			_, err := b.run(t.Context(), bytes.NewReader(randomBytes(size)))
			if fits := said == size || said < 0; fits != (err == nil) || !fits && !errs.Is(err, errs.Aborted) {
				t.Errorf("%d bytes, %d were announced: %v", size, said, err)
			}
			b.cluster.Wait()
			if n := b.keeps(); err != nil && n != 0 {
				t.Errorf("%d bytes, %d were announced: %d replicas kept it", size, said, n)
			}
		}
	}
}

func TestUploadOverTheLimit(t *testing.T) {
	b := newBench(t)
	b.limits.MaxFileSize = 2 * chunkSize
	if _, err := b.run(t.Context(), bytes.NewReader(randomBytes(2*chunkSize+1))); !errs.Is(err, errs.TooLarge) {
		t.Errorf("one byte over: %v, want too large", err)
	}
	b.cluster.Wait()
	if n := b.keeps(); n != 0 {
		t.Errorf("%d replicas kept it", n)
	}
	if code, err := verdict(b.run(t.Context(), bytes.NewReader(randomBytes(2*chunkSize)))); code != 201 || err != nil {
		t.Errorf("at the limit: %d, %v", code, err)
	}
}

// refuse answers before the body has come.
func refuse(code int, stamp string) backend.HandlerFunc {
	return func(context.Context, *backend.Request) (*backend.Response, error) {
		return nodetest.Status(code, stamp), nil
	}
}

// breakAfter reads some of the body and drops the connection.
func breakAfter(n int64) backend.HandlerFunc {
	return func(_ context.Context, r *backend.Request) (*backend.Response, error) {
		_, _ = io.CopyN(io.Discard, r.Body, n)
		return &backend.Response{Status: 200, Length: 10, Body: io.NopCloser(bytes.NewReader(nil))}, nil // breaks off
	}
}

func TestUploadAroundFailures(t *testing.T) {
	const stamp = "1000000000.00001"
	for name, tt := range map[string]struct {
		say    map[string]backend.HandlerFunc
		size   int
		want   int // 0 is no quorum
		copies int
	}{
		"full device, small":          {map[string]backend.HandlerFunc{"d1": refuse(507, "")}, 100, 201, 3},
		"full device":                 {map[string]backend.HandlerFunc{"d1": refuse(507, "")}, 3 * chunkSize, 201, 3},
		"breaks while it can be sent": {map[string]backend.HandlerFunc{"d0": breakAfter(chunkSize)}, 3 * chunkSize, 201, 3},
		"breaks too late":             {map[string]backend.HandlerFunc{"d0": breakAfter((queueLen + 2) * chunkSize)}, (2*queueLen + 8) * chunkSize, 201, 2},
		"all primaries full":          {map[string]backend.HandlerFunc{"d0": refuse(507, ""), "d1": refuse(507, ""), "d2": refuse(507, "")}, 3 * chunkSize, 201, 3},
		"everything full": {map[string]backend.HandlerFunc{
			"d0": refuse(507, ""), "d1": refuse(507, ""), "d2": refuse(507, ""), "d3": refuse(507, ""), "d4": refuse(507, ""), "d5": refuse(507, ""),
		}, 3 * chunkSize, 0, 0},
		"only one is left": {map[string]backend.HandlerFunc{
			"d0": refuse(507, ""), "d1": refuse(507, ""), "d3": refuse(507, ""), "d4": refuse(507, ""), "d5": refuse(507, ""),
		}, (queueLen + 20) * chunkSize, 0, 0},
		"newer is there, small": {map[string]backend.HandlerFunc{"d0": refuse(409, stamp), "d1": refuse(409, stamp), "d2": refuse(409, stamp)}, 100, 409, 0},
		"newer is there on one": {map[string]backend.HandlerFunc{"d0": refuse(409, stamp)}, 3 * chunkSize, 201, 2},
	} {
		b, data := newBench(t), randomBytes(tt.size)
		for d, say := range tt.say {
			b.fleet.Script(d, say)
		}
		sent, err := b.run(t.Context(), bytes.NewReader(data))
		code, err := verdict(sent, err)
		if code != tt.want || (tt.want == 0) != errs.Is(err, errs.Unavailable) {
			t.Errorf("%s: %d, %v, want %d", name, code, err, tt.want)
		}
		b.cluster.Wait()
		if n := b.copies(data); n != tt.copies {
			t.Errorf("%s: %d copies, want %d", name, n, tt.copies)
		}
	}
}

func TestUploadRefusedByMostSaysWhy(t *testing.T) {
	b := newBench(t)
	for _, d := range []string{"d0", "d1", "d2"} {
		b.fleet.Script(d, refuse(409, "1000000000.00001"))
	}
	_, err := b.run(t.Context(), bytes.NewReader(randomBytes((queueLen+40)*chunkSize)))
	var st *chain.StatusError
	if !errors.As(err, &st) || st.Status != 409 {
		t.Errorf("got %v, want a 409", err)
	}
}

func TestAStalledReplicaIsLeftOut(t *testing.T) {
	b, data := newBench(t), randomBytes(64*chunkSize) // more than sockets buffer
	b.stall = 2 * time.Second
	leave := make(chan struct{})
	b.fleet.Script("d2", func(context.Context, *backend.Request) (*backend.Response, error) {
		<-leave
		return nodetest.Status(503, ""), nil
	})
	code, err := verdict(b.run(t.Context(), bytes.NewReader(data)))
	if code != 201 || err != nil {
		t.Errorf("%d, %v", code, err)
	}
	if n := b.copies(data); n != 2 {
		t.Errorf("%d copies, want the other 2", n)
	}
	close(leave)
}

func TestASmallUploadIsSentAgain(t *testing.T) {
	b := newBench(t)
	data := randomBytes(100)
	sent, err := b.run(t.Context(), bytes.NewReader(data))
	if err != nil || sent.again == nil {
		t.Fatalf("%v, again %v", err, sent.again != nil)
	}
	stamps := make(chan string, 3)
	for _, d := range []string{"d0", "d1", "d2"} {
		b.fleet.Script(d, func(_ context.Context, r *backend.Request) (*backend.Response, error) {
			stamps <- r.Header.Get(backend.Timestamp)
			return nodetest.Status(201, ""), nil
		})
	}
	later := b.stamp.Next()
	sent.again(t.Context(), later)
	for range 3 {
		if got := <-stamps; got != later.String() {
			t.Errorf("sent again as of %s, want %s", got, later)
		}
	}
}
