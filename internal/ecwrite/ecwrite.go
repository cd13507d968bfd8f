// Package ecwrite stores objects in fragments, for daemons that move what was acknowledged long
// ago and can do it again: nobody waits, and there is no client who could send the bytes
// once more. What proxies do for clients is package proxy's own.
//
// It goes by the rule of internal/ec/DESIGN.md. First an archive goes to each device, a segment at a time, until one more
// than a reader needs is on stable storage; nobody sees anything of that. Then the commit, which attests it, goes to
// the replicas of the object.
//
// # Doing it again
//
// The identity of a write is made of what is written: name, time, policy, layout, size and MD5. So two who store the
// same object as of the same time, at one time or one after the other's death, make the same archives, byte
// for byte, and either's commit attests to both's. For the same reason nothing is taken back that has been sent, when
// too few devices have it: it may be what another one has just committed. Devices find out by themselves what was never committed.
package ecwrite

import (
	"context"
	"crypto/md5" // the ETag of the API
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"net/http"
	"strconv"
	"strings"

	"martlet/internal/backend"
	"martlet/internal/ec"
	"martlet/internal/ecread"
	"martlet/internal/errs"
	"martlet/internal/lockstep"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/quorum"
	"martlet/internal/timestamp"
	"martlet/ring"
)

const op errs.Op = "ecwrite"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A Writer stores objects in a cluster. It is safe for concurrent use.
type Writer struct {
	cluster *quorum.Cluster
	codes   *ecread.Codes
}

// New returns a writer.
func New(cluster *quorum.Cluster, codes *ecread.Codes) *Writer { return &Writer{cluster, codes} }

// An Object is what is to be stored. Its body has to be the object's whole, of exactly that size, at least one byte, and MD5.
type Object struct {
	Policy policy.Policy // one that erasure-codes
	Path   name.Path
	Stamp  timestamp.T
	Size   int64
	ETag   string // 32 hexadecimal digits
	Body   io.Reader

	// Fields is the header for a replica of the object, but for what says where its data is.
	Fields func(slot int) backend.Header
}

// Put stores an object, and returns what the replicas have said to its commit. When enough of them have taken
// it (quorum.Place.Quorum), it and fragments enough, by the rule of the policy, are on stable storage. With
// any error no commit was sent anywhere, and what was there before stays: errs.Corrupt where the body is not the
// object's, errs.Unavailable where too few devices have their fragment.
//
// It holds the fragments of two segments in memory at most.
func (w *Writer) Put(ctx context.Context, o Object) ([]quorum.Answer, error) {
	place, err := w.cluster.Object(o.Policy.Index, o.Path)
	if err != nil {
		return nil, err
	}
	layout := ec.Of(ec.Shape{Data: o.Policy.Data, Parity: o.Policy.Parity})
	coded := backend.Coded{
		Data: layout.Data, Parity: layout.Parity, Segment: layout.Segment,
		Write: identity(layout, &o), Size: o.Size, Sized: true, ETag: o.ETag,
	}
	if err := w.fragments(ctx, layout, &o, coded.Write); err != nil {
		return nil, errs.E(op, errs.Subject(o.Path.String()), err)
	}
	text, nothing := coded.String(), md5.Sum(nil)
	empty := hex.EncodeToString(nothing[:])
	return w.cluster.Write(ctx, place, func(slot int, _ *ring.Device) *backend.Request {
		h := append(o.Fields(slot),
			backend.Field{Name: backend.CodedWrite, Value: text}, backend.Field{Name: backend.CommitETag, Value: empty}, closing(0))
		return &backend.Request{Method: http.MethodPut, Header: h}
	}), nil
}

// identity is that of the write. Each part ends before the next begins: no two objects have the same text.
func identity(l ec.Layout, o *Object) (id ec.WriteID) {
	text := fmt.Appendf(nil, "martlet ecwrite 1\n%v %d\n%d %v\n%d %s\n%q", l.Shape, l.Segment, o.Policy.Index, o.Stamp, o.Size, o.ETag, o.Path.String())
	sum := sha256.Sum256(text)
	copy(id[:], sum[:])
	return id
}

// closing is what closes an archive.
func closing(crc uint32) backend.Field {
	return backend.Field{Name: backend.CommitCRC, Value: fmt.Sprintf("%08x", crc)}
}

// fragments has the archives stored. When it returns nil as many are on stable storage, each on a device of its own, as
// have to be before the commit is sent.
func (w *Writer) fragments(ctx context.Context, layout ec.Layout, o *Object, id ec.WriteID) error {
	code, err := w.codes.Of(layout)
	if err != nil {
		return err
	}
	place, err := w.cluster.Object(o.Policy.Index.Fragments(), o.Path)
	if err != nil {
		return err
	}
	if n, need := len(place.Primaries), o.Policy.FragmentQuorum(); n != code.Fragments() || place.Quorum() < need {
		return errs.E(errs.Unavailable, fmt.Errorf("%d devices, of which %d are enough, for %v fragments", n, place.Quorum(), layout.Shape))
	}
	size := strconv.FormatInt(layout.ArchiveSize(o.Size), 10)
	up := lockstep.New(w.cluster, lockstep.What{Place: place, Request: func(slot int, _ *ring.Device) *backend.Request {
		return &backend.Request{Method: http.MethodPut, Length: -1, Header: backend.Header{
			{Name: backend.PolicyIndex, Value: o.Policy.Index.Fragments().String()}, {Name: backend.FragmentIndex, Value: strconv.Itoa(slot)},
			{Name: backend.Timestamp, Value: o.Stamp.String()}, {Name: backend.Announced, Value: size},
		}}
	}})
	defer up.Drop()
	sums := make([]uint32, code.Fragments())
	err = pump(code, o, id, func(archives [][]byte) error {
		for i, a := range archives {
			sums[i] = crc32.Update(sums[i], castagnoli, a)
		}
		if !up.Send(ctx, func(slot int) []byte { return archives[slot] }) {
			return enough(place, up.Answers())
		}
		return nil
	})
	if err != nil {
		return err
	}
	up.Commit(ctx, func(slot int) backend.Header { return backend.Header{closing(sums[slot])} })
	return enough(place, up.Answers())
}

// enough reports why too few devices have said that their archive is on stable storage.
func enough(place quorum.Place, answers []quorum.Answer) error {
	n, said := 0, make([]string, len(answers))
	for i := range answers {
		if said[i] = answers[i].String(); answers[i].Status/100 == 2 {
			n++
		}
	}
	if n >= place.Quorum() {
		return nil
	}
	return errs.E(errs.Unavailable, fmt.Errorf("%d of %d devices have their fragment, and %d have to: %s", n, len(answers), place.Quorum(), strings.Join(said, "; ")))
}

// pump encodes the body. When it returns nil that was the object's, and emit was given all of the archives.
func pump(code *ec.Code, o *Object, id ec.WriteID, emit func([][]byte) error) error {
	e, err := code.Encode(ec.Write{ID: id, Size: o.Size}, emit)
	if err != nil {
		return err
	}
	defer e.Abort()
	body := &summed{from: o.Body, md5: md5.New()}
	if _, err := e.ReadFrom(body); err != nil {
		return err
	}
	if etag := hex.EncodeToString(body.md5.Sum(nil)); etag != o.ETag {
		return errs.E(errs.Corrupt, fmt.Errorf("a body of MD5 %s came of an object of MD5 %s", etag, o.ETag))
	}
	return e.Close()
}

// summed takes the MD5 of what is read.
type summed struct {
	from io.Reader
	md5  hash.Hash
}

func (s *summed) Read(p []byte) (int, error) {
	n, err := s.from.Read(p)
	s.md5.Write(p[:n])
	return n, err
}
