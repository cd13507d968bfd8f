package ringpush

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"syscall"
	"time"

	"martlet/internal/errs"
	"martlet/ring"
	"martlet/ring/whole"
)

// holdWithin is how long it is waited for another process that writes the same file, and holdEvery
// how often it is looked.
const (
	holdWithin = 10 * time.Second
	holdEvery  = 20 * time.Millisecond
)

// install puts the ring that body holds into its file, and in use. When it returns nil that ring
// is in use, and file and name are on stable storage: the bytes are synced under another name,
// which is then changed, and the folder synced. Where it fails before the change of the name, the file
// is the one of before. After that it is the new one, and may after a power cut be either. What is in
// use already is written once more: whoever has put it there may not have synced it, or have
// failed to, and a sync that succeeds after one that has failed proves nothing.
func (s *Server) install(ctx context.Context, name string, source Source, body io.Reader, sum string) error {
	path := s.file(name)
	release, err := s.hold(ctx, path)
	if err != nil {
		return s.cannot(path, err)
	}
	defer release()
	if err := whole.Sweep(s.cfg.FS, path); err != nil {
		return s.cannot(path, err)
	}
	var is Running
	err = whole.Replace(s.cfg.FS, path, func(w io.Writer) (err error) {
		is, err = s.receive(name, source, w, body, sum)
		return err
	})
	if err == nil || errors.Is(err, whole.ErrUnsynced) {
		s.doubt(name, err != nil)
	}
	if errs.KindOf(err) != errs.Other {
		return err // the sender's
	}
	if _, e := source.Check(); err == nil && e != nil {
		err = e
	}
	if err != nil {
		return s.cannot(path, err)
	}
	if got := s.running(name, source.Ring()); got != is {
		return errs.E(op, errs.Subject(path), errs.Unavailable, errs.Public(fmt.Sprintf("in use is version %d of the %s ring, and not what was put there: somebody else has replaced it", got.Version, name)))
	}
	return nil
}

// receive writes what comes, and looks whether it is a ring that may be taken, and what was announced. It is judged
// against what is in use, or in the file, when all of it is there: a body may be long in coming, and who does not hold the
// file may have put something newer there meanwhile.
func (s *Server) receive(name string, source Source, w io.Writer, body io.Reader, sum string) (is Running, err error) {
	in := &intake{src: body, to: w, sum: sha256.New()}
	next, wrong := ring.Read(in)
	_, _ = io.Copy(io.Discard, in) // its error is kept
	switch {
	case in.err != nil:
		return is, in.err
	case hex.EncodeToString(in.sum.Sum(nil)) != sum:
		return is, errs.Refuse(errs.Mismatch, "what has arrived has not the checksum that was announced: it was damaged on the way, or while it was read")
	case wrong != nil:
		return is, errs.E(op, errs.Invalid, errs.Public("it is no ring file: "+wrong.Error()), wrong)
	}
	is = Of(next)
	_, _ = source.Check() // what can't be used of what is there is about to be replaced
	now := s.running(name, source.Ring())
	all, digests := map[string]*ring.Ring{}, map[string]string{}
	for other, source := range s.cfg.Rings {
		all[other] = source.Ring()
		digests[other] = s.running(other, all[other]).Digest
	}
	if is == now {
		return is, nil
	}
	if err = judge(name, now, next, is, all, digests); err == nil && s.cfg.Check != nil {
		err = s.cfg.Check(name, next)
	}
	return is, err
}

// intake hands on what it reads, and keeps its checksum and what went wrong on either side.
type intake struct {
	src io.Reader
	to  io.Writer
	sum hash.Hash
	err error
}

func (i *intake) Read(p []byte) (int, error) {
	if i.err != nil {
		return 0, i.err
	}
	n, err := i.src.Read(p)
	i.sum.Write(p[:n])
	if n > 0 {
		if _, i.err = i.to.Write(p[:n]); i.err != nil {
			return 0, i.err
		}
	}
	if err != nil && err != io.EOF {
		i.err = errs.E(op, broken(err), err)
	}
	return n, err
}

// broken is the kind of an error of reading what is sent.
func broken(err error) errs.Kind {
	if k := errs.KindOf(err); k != errs.Other {
		return k
	}
	return errs.Aborted
}

// hold keeps other processes that share the folder from writing a file until release is called.
// One that is not there can't be held: who writes it then replaces it whole as well.
func (s *Server) hold(ctx context.Context, path string) (release func(), err error) {
	ctx, stop := context.WithTimeout(ctx, holdWithin)
	defer stop()
	for {
		f, err := s.cfg.FS.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			return func() {}, nil
		}
		if err != nil {
			return nil, err
		}
		is := false
		if err = f.Lock(); err == nil {
			is, err = s.cfg.FS.Is(f, path)
		}
		if err == nil && is {
			return func() { _ = f.Close() }, nil // it was not written to
		}
		_ = f.Close() // likewise
		if err != nil && !errors.Is(err, whole.ErrLocked) && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", context.Cause(ctx), whole.ErrLocked)
		case <-time.After(holdEvery):
		}
	}
}

// cannot is the error of a file that can't be written. It is told to who has sent the ring: an
// operator.
func (s *Server) cannot(path string, err error) error {
	kind := errs.Unavailable
	if errors.Is(err, syscall.ENOSPC) {
		kind = errs.NoSpace
	}
	text := "the ring can't be put into rings.folder: " + err.Error()
	if errors.Is(err, whole.ErrUnsynced) {
		text = "the ring is in use, but not certain to survive a power cut: " + err.Error()
	}
	return errs.E(op, errs.Subject(path), kind, errs.Public(text), err)
}
