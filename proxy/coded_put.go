package proxy

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"martlet/internal/backend"
	"martlet/internal/ec"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/planted"
	"martlet/internal/policy"
	"martlet/internal/quorum"
	"martlet/internal/timestamp"
	"martlet/proxy/chain"
	"martlet/ring"
)

// Uploads under a policy of erasure coding (internal/ec/DESIGN.md). First fragments, each to a device
// of its own, until one more than a reader needs is on stable storage: nobody sees anything
// of that. Then the commit, a write like that of replicas but without the data, to the replicas of
// the object, and the client's answer is theirs. A body that fits WholeUpTo goes to these
// whole, at once.

// A codedUpload is what an upload needs for that.
type codedUpload struct {
	coding

	write ec.WriteID
	again bool                              // others may have made, and committed, the very same fragments
	sized bool                              // the fragments say the size where it is known
	path  func(stamp timestamp.T) name.Path // whose fragments they are: the object's, or its version's
	begin func(room int) backend.Header     // of a request for a device
}

// codedUpload is what uploads under a policy need beside; nil where it does not code. path is
// whose fragments they are as of a time.
func (s *Server) codedUpload(rq *request, p policy.Index, path func(timestamp.T) name.Path) *codedUpload {
	of, ok := s.codings[p]
	if !ok {
		return nil
	}
	return &codedUpload{coding: of, write: ec.NewWriteID(), sized: true, path: path, begin: rq.header}
}

// as has the upload make the very fragments that an object has, of which header is what a
// replica says, if it is in some: whoever keeps the same again, at the same time or after
// this proxy has died, sends nothing that others refuse.
func (c *codedUpload) as(header backend.Header) error {
	text := header.Get(backend.CodedWrite)
	if c == nil || text == "" {
		return nil
	}
	of, err := backend.ParseCoded(text)
	if err != nil {
		return err
	}
	if l := c.code.Layout; l == (ec.Layout{Shape: ec.Shape{Data: of.Data, Parity: of.Parity}, Segment: of.Segment}) {
		c.write, c.sized, c.again = of.Write, of.Sized, true
	}
	return nil
}

// fixed makes the identity of what the object is as of the time that it had in another cluster, if its size and MD5 were
// said: of the name, the time and these. It is sent again, by another proxy as well, until it is there, and is
// the same write then: what a proxy that died has left, or one that is under way at the same time, is not in its way. A body
// that is not so long or has another MD5 is refused before any archive of it is whole.
func (c *codedUpload) fixed(stamp timestamp.T, etag string, size int64) {
	if c == nil || etag == "" || size < 0 {
		return
	}
	l := c.code.Layout
	sum := sha256.Sum256(fmt.Appendf(nil, "martlet proxy 1\n%v %d\n%d %v\n%d %q\n%q", l.Shape, l.Segment, c.policy.Index, stamp, size, etag, c.path(stamp).String()))
	copy(c.write[:], sum[:])
	c.again = true
}

// segmentQueue is queueLen for fragments, of which a chunk is those of a segment.
const segmentQueue = 2

// fragments is one go at having the fragments of an upload stored.
type fragments struct {
	up    *upload
	place quorum.Place
	stamp timestamp.T

	mu    sync.Mutex
	asked [][]*ring.Device // by slot, which devices may have its fragment; guarded by mu
}

func (u *upload) fragments(stamp timestamp.T) (*fragments, error) {
	place, err := u.cluster.Object(u.coded.policy.Index.Fragments(), u.coded.path(stamp))
	if err != nil {
		return nil, err
	}
	return &fragments{up: u, place: place.Locally(), stamp: stamp, asked: make([][]*ring.Device, len(place.Primaries))}, nil
}

// note is told of each device before it is asked to keep a fragment.
func (f *fragments) note(slot int, d *ring.Device) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked[slot] = append(f.asked[slot], d)
}

// header begins the request for the fragment of a slot.
func (f *fragments) header(slot int) backend.Header {
	h := f.up.coded.begin(6)
	h.Add(backend.PolicyIndex, f.up.coded.policy.Index.Fragments().String())
	h.Add(backend.FragmentIndex, strconv.Itoa(slot))
	return h
}

// put is the header of one that is to be kept.
func (f *fragments) put(slot int) backend.Header {
	h := f.header(slot)
	h.Add(backend.Timestamp, f.stamp.String())
	return h
}

// closing is what closes an archive.
func closing(crc uint32) backend.Field {
	return backend.Field{Name: backend.CommitCRC, Value: fmt.Sprintf("%08x", crc)}
}

// stand returns nil where the answers say that enough fragments are on stable storage. If not
// it says why, and has those that may be somewhere deleted.
func (f *fragments) stand(ctx context.Context, answers []quorum.Answer) error {
	best, err := f.place.Best(answers, nil)
	if err == nil && best.Status/100 == 2 {
		return nil
	}
	f.undo(ctx, answers)
	if err != nil {
		return err
	}
	best.Body = nil
	return refusal(best)
}

// undo deletes what devices may have of the fragments, unless they have said that they didn't
// take them. It must not be called once a commit may be on its way; where others may have sent one of the very same fragments it
// does nothing. Nobody waits for it, and where it fails fragments stay that nobody will ever
// read, until the device finds that out by itself.
func (f *fragments) undo(ctx context.Context, answers []quorum.Answer) {
	if f.up.coded.again {
		return
	}
	c := f.up.cluster
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), f.up.silence)
	f.mu.Lock()
	defer f.mu.Unlock()
	var all sync.WaitGroup
	for slot, devices := range f.asked {
		devices = slices.DeleteFunc(slices.Clone(devices), func(d *ring.Device) bool {
			return slices.ContainsFunc(answers, func(a quorum.Answer) bool { return a.Slot == slot && a.Device == d && a.Status/100 == 4 })
		})
		all.Add(1)
		c.Go(func() {
			defer all.Done()
			for _, d := range devices {
				h := f.header(slot)
				h.Add(backend.FragmentTime, f.stamp.String())
				h.Add(backend.FragmentWrite, fmt.Sprintf("%x", f.up.coded.write))
				c.Ask(ctx, f.place, slot, d, &backend.Request{Method: http.MethodDelete, Header: h})
			}
		})
	}
	c.Go(func() {
		all.Wait()
		stop()
	})
}

// attest writes the commit. From now on fragments of the write may be wanted, whatever the answers
// say.
func (u *upload) attest(ctx context.Context, stamp timestamp.T, of backend.Coded) []quorum.Answer {
	coded, nothing := of.String(), newDigest(nil)
	commit, text := nothing.commit(nothing.etag()), stamp.String()
	return u.cluster.Write(ctx, u.place, func(slot int, _ *ring.Device) *backend.Request {
		h := append(u.header(slot, text), backend.Field{Name: backend.CodedWrite, Value: coded})
		return &backend.Request{Method: http.MethodPut, Header: append(h, commit...)}
	})
}

// describe is what the commit says of a body.
func (u *upload) describe(w ec.Write, sums *digest, etag string) backend.Coded {
	l := u.coded.code.Layout
	return backend.Coded{
		Data: l.Data, Parity: l.Parity, Segment: l.Segment,
		Write: w.ID, Size: sums.size, Sized: w.Size != ec.UnknownSize, ETag: etag,
	}
}

// writing is the write of a body whose size is known, or is -1.
func (u *upload) writing(size int64) ec.Write {
	if size < 0 || !u.coded.sized {
		size = ec.UnknownSize
	}
	return ec.Write{ID: u.coded.write, Size: size}
}

// encode is run for what is to be cut into fragments, of which first has been read.
func (u *upload) encode(ctx context.Context, first *chunk, sums *digest, last bool, body io.Reader) (stored, error) {
	if last {
		defer first.release()
		return u.encodeWhole(ctx, first.data(), sums)
	}
	return u.encodeStream(ctx, first, sums, body)
}

// encodeWhole sends the fragments of a body that is in memory, each in one request.
func (u *upload) encodeWhole(ctx context.Context, data []byte, sums *digest) (stored, error) {
	etag, err := u.check(sums)
	if err != nil {
		return stored{}, err
	}
	w := u.writing(sums.size)
	archives, err := u.coded.archives(w, data)
	if err != nil {
		return stored{}, err
	}
	of := u.describe(w, sums, etag)
	if planted.CommitBeforeFragments { // breaks: who has a commit can rely on its fragments
		u.cluster.Go(func() {
			<-time.After(2 * time.Second)
			_ = u.keep(context.WithoutCancel(ctx), u.stamp, archives) // nobody is left to be told
		})
		return stored{etag: etag, size: sums.size, answers: u.attest(ctx, u.stamp, of)}, nil
	}
	if err := u.keep(ctx, u.stamp, archives); err != nil {
		return stored{}, err
	}
	// An archive does not say of which time it is: the same ones serve. Those of a time at which they were
	// committed are not sent again: if that failed they would be undone.
	kept := u.stamp
	again := func(ctx context.Context, stamp timestamp.T) []quorum.Answer {
		if stamp != kept {
			if err := u.keep(ctx, stamp, archives); err != nil {
				return []quorum.Answer{{Err: err}}
			}
			kept = stamp
		}
		return u.attest(ctx, stamp, of)
	}
	return stored{etag, sums.size, u.attest(ctx, u.stamp, of), again}, nil
}

// keep has whole archives stored. When it returns nil, enough of them are on stable storage.
func (u *upload) keep(ctx context.Context, stamp timestamp.T, archives [][]byte) error {
	f, err := u.fragments(stamp)
	if err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx) // what has come whole is stored, whatever becomes of the client
	return f.stand(ctx, u.cluster.Write(ctx, f.place, func(slot int, d *ring.Device) *backend.Request {
		f.note(slot, d)
		h := append(f.put(slot), closing(crc32.Checksum(archives[slot], castagnoli)))
		return &backend.Request{Method: http.MethodPut, Header: h, Length: int64(len(archives[slot])), Body: newBytes(archives[slot])}
	}))
}

// archives encodes a body of one segment at most. They are in memory of their own, since a
// device that is not waited for may still be sent one.
func (c *coding) archives(w ec.Write, data []byte) ([][]byte, error) {
	each := int(c.code.ArchiveSize(int64(len(data))))
	room, list := make([]byte, 0, each*c.code.Fragments()), make([][]byte, c.code.Fragments())
	e, err := c.code.Encode(w, func(archives [][]byte) error {
		for i, a := range archives {
			from := len(room)
			room = append(room, a...)
			list[i] = room[from:len(room):len(room)]
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	defer e.Abort()
	if _, err := e.Write(data); err != nil {
		return nil, err
	}
	return list, e.Close()
}

// encodeStream sends fragments segment by segment, as the body comes.
func (u *upload) encodeStream(ctx context.Context, first *chunk, sums *digest, body io.Reader) (stored, error) {
	f, err := u.fragments(u.stamp)
	if err != nil {
		first.release()
		return stored{}, err
	}
	fan := u.fan(f.place, f.put)
	fan.queue, fan.pulse, fan.asked = segmentQueue, pulseEvery, f.note
	if u.length > 0 {
		fan.length = u.coded.code.ArchiveSize(u.length)
	}
	crcs := make([]uint32, u.coded.code.Fragments())
	w := u.writing(u.length)
	etag, err := u.pump(first, sums, body, w, func(archives [][]byte) error {
		if fan.replicas == nil { // not before: devices take a long silence for a proxy that is gone
			fan.start(ctx)
		}
		return fan.give(u.coded.segment(archives, crcs))
	})
	if err != nil {
		fan.drop()
		return stored{}, err
	}
	after := context.WithoutCancel(ctx) // what has come whole is stored, whatever becomes of the client
	answers := fan.commit(after, func(slot int) backend.Header { return backend.Header{closing(crcs[slot])} })
	err = f.stand(after, answers)
	if err != nil {
		fan.abort() // those that have not answered
		return stored{}, err
	}
	return stored{etag: etag, size: sums.size, answers: u.attest(ctx, u.stamp, u.describe(w, sums, etag))}, nil
}

// pump encodes a body of which first, which is not the caller's any more, has been read, and
// returns its MD5. When it returns nil it was checked, and emit was given all there is.
func (u *upload) pump(first *chunk, sums *digest, body io.Reader, w ec.Write, emit func([][]byte) error) (etag string, err error) {
	defer first.release()
	if u.length >= 0 && sums.size > u.length {
		return "", u.otherLength(sums)
	}
	e, err := u.coded.code.Encode(w, emit)
	if err != nil {
		return "", err
	}
	defer e.Abort()
	if _, err := e.Write(first.data()); err != nil {
		return "", err
	}
	if _, err := e.ReadFrom(&tally{u, sums, body}); err != nil {
		return "", err
	}
	if etag, err = u.check(sums); err != nil {
		return "", err
	}
	return etag, e.Close()
}

// segment takes over what comes next in each archive, and adds it to the sums.
func (c *coding) segment(archives [][]byte, crcs []uint32) *chunk {
	to := chunkOf(c.segments)
	for i, a := range archives {
		at := to.n
		to.n += copy(to.buf[at:], a)
		to.parts[i] = to.buf[at:to.n]
		crcs[i] = crc32.Update(crcs[i], castagnoli, a)
	}
	return to
}

// tally reads a body, sums it up, and ends where there is more than there may be.
type tally struct {
	up   *upload
	sums *digest
	body io.Reader
}

func (t *tally) Read(p []byte) (int, error) {
	n, err := t.body.Read(p)
	_, _ = t.sums.md5.Write(p[:n]) // never fails
	t.sums.size += int64(n)
	switch length := t.up.length; { // nobody is to look at the bytes first
	case t.sums.size > int64(t.up.limits.MaxFileSize):
		return 0, t.up.limits.TooLarge()
	case length >= 0 && (t.sums.size > length || err == io.EOF && t.sums.size < length):
		return 0, t.up.otherLength(t.sums)
	}
	return n, err
}

// taken reports whether the object is there as of a time, or was and was deleted, or something
// newer is.
func (s *Server) taken(rq *request, place quorum.Place, in facts, stamp timestamp.T) bool {
	build := func(int, *ring.Device) *backend.Request {
		return &backend.Request{Method: http.MethodHead, Header: append(rq.header(1), backend.Field{Name: backend.PolicyIndex, Value: in.policy.String()})}
	}
	reply, err := s.cluster.ReadNewest(rq.ctx, place, build, build)
	if err != nil {
		return false
	}
	defer letGo(reply)
	at, err := timestamp.Parse(reply.Header.Get(backend.DataStamp))
	return err == nil && !at.Before(stamp)
}

// refusedFragments reports whether an upload may have failed since one of the same time has
// fragments already.
func refusedFragments(err error) bool {
	var st *chain.StatusError
	return errs.Is(err, errs.Unavailable) || errors.As(err, &st) && st.Status == http.StatusConflict
}
