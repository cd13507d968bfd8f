// Package ecread reads the data of erasure-coded objects from the storage nodes. Who has
// read the state of an object, as that of any, hands it the answer; it finds the fragments and
// gives out any range of the bytes.
//
// It promises what internal/ec does: the bytes of exactly the write that the state attests, each
// of a segment of which as many fragments as it takes were checked, or an error, and never an end
// that looks like the whole. It goes on as long as there are enough good fragments of each segment
// anywhere. Which version of an object is the one to read it leaves to its caller.
package ecread

import (
	"context"
	"errors"
	"fmt"
	"io"

	"martlet/internal/backend"
	"martlet/internal/ec"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/quorum"
	"martlet/internal/timestamp"
)

const op errs.Op = "ecread"

// A Reader reads objects of a cluster. It is safe for concurrent use.
type Reader struct {
	cluster *quorum.Cluster
	codes   *Codes
}

// New returns a reader.
func New(cluster *quorum.Cluster, codes *Codes) *Reader { return &Reader{cluster, codes} }

// An Object is one version of an object whose data is in fragments.
type Object struct {
	backend.Coded

	reader *Reader
	code   *ec.Code
	policy policy.Index
	place  quorum.Place // of the fragments
	time   timestamp.T  // of the data
}

// Object reads out of the answer to a GET or HEAD of an object (or the object's version that it
// has led to), under a policy, where the data is. It returns nil where the object has its data itself. What
// makes no sense is errs.Corrupt, a policy without a ring of fragments errs.Unavailable.
func (r *Reader) Object(p policy.Index, path name.Path, state backend.Header) (*Object, error) {
	text := state.Get(backend.CodedWrite)
	if text == "" {
		return nil, nil
	}
	o := &Object{reader: r, policy: p}
	var err error
	if o.Coded, err = backend.ParseCoded(text); err != nil {
		return nil, errs.E(op, err)
	}
	if o.code, err = r.codes.Of(ec.Layout{Shape: ec.Shape{Data: o.Data, Parity: o.Parity}, Segment: o.Segment}); err != nil {
		return nil, errs.E(op, errs.Corrupt, err)
	}
	if path, o.time, err = source(path, state); err != nil {
		return nil, errs.E(op, errs.Corrupt, err)
	}
	o.place, err = r.cluster.Object(p.Fragments(), path)
	return o, err
}

// source returns under which name fragments are, and of what time.
func source(path name.Path, state backend.Header) (name.Path, timestamp.T, error) {
	at := state.Get(backend.DataStamp)
	if id := state.Get(backend.VersionID); id != "" { // the data's time is the link's then
		version, err := timestamp.Parse(id)
		if err != nil {
			return path, timestamp.T{}, err
		}
		path, at = path.Version(version), id
	}
	if own := state.Get(backend.FragmentTime); own != "" {
		at = own
	}
	t, err := timestamp.Parse(at)
	return path, t, err
}

// Memory is how many bytes of buffers the body of n bytes from off on holds.
func (o *Object) Memory(off, n int64) int64 { return o.code.Memory(o.write(), off, n) }

// write is what is asked of the fragments.
func (o *Object) write() ec.Write {
	w := ec.Write{ID: o.Write, Size: o.Size}
	if !o.Sized {
		w.Size = ec.UnknownSize
	}
	return w
}

// Open returns n bytes of the object from off on, which must be there, or errs.Range. The first
// segment of them has been read when it returns. Too few fragments are errs.Unavailable and ec.ErrTooFew, with what
// each device said: now, or from the body.
//
// The body holds Memory bytes, and as many connections as an object has data fragments and one more beside each that is slow, until it is closed, which
// ends all that was begun for it, a Read of another goroutine included.
func (o *Object) Open(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if off < 0 || n < 0 || n > o.Size || off > o.Size-n {
		return nil, errs.E(op, errs.Range, fmt.Sprintf("%d bytes from %d on of %d", n, off, o.Size))
	}
	ctx, stop := context.WithCancel(ctx)
	b := &body{o: o, ctx: ctx, stop: stop}
	_, b.to = o.code.Part(o.Size, off, n)
	b.fragments = o.reader.cluster.Fragments(ctx, quorum.FragmentRead{Place: o.place, Data: o.Data, Build: b.ask, Judge: b.judge})
	var err error
	if b.decoder, err = o.code.Decode(o.write(), off, n, b.source); err != nil {
		b.stop()
		return nil, errs.E(op, err)
	}
	b.decoder.Hedge(b)
	if err := b.decoder.Prime(); err != nil {
		return nil, errors.Join(b.failed(err), b.Close())
	}
	return b, nil
}
