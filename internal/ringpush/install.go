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

// errSame says that what came is in use and in its place already.
var errSame = errors.New("it is in use already")

// install puts the ring that body holds into its file, and in use. When it returns nil that ring
// is in use, and file and name are on stable storage: the bytes are synced under another name,
// which is then changed, and the folder synced. Where it fails before the change of the name, the file
// is the one of before. After that it is the new one, and may after a power cut be either; where
// this is known, it is written anew the next time, since a sync that has failed proves
// nothing by succeeding later.
func (s *Server) install(ctx context.Context, name string, source Source, body io.Reader, sum string) (changed bool, err error) {
	path := s.file(name)
	release, err := s.hold(ctx, path)
	if err != nil {
		return false, s.cannot(path, err)
	}
	defer release()
	_, stale := source.Check() // why what is in the file is not in use; nil where it is
	before := source.Ring()
	now := s.running(name, before)
	if err := whole.Sweep(s.cfg.FS, path); err != nil {
		return false, s.cannot(path, err)
	}
	var is Running
	err = whole.Replace(s.cfg.FS, path, func(w io.Writer) error {
		same, err := false, error(nil)
		if is, same, err = s.receive(name, now, w, body, sum); err == nil && same && stale == nil && !s.doubtful[name] {
			err = errSame
		}
		return err
	})
	switch {
	case errors.Is(err, errSame):
		err = s.settle(path)
	case errors.Is(err, whole.ErrUnsynced):
		s.doubtful[name] = true
	case err == nil:
		delete(s.doubtful, name)
	}
	if errs.KindOf(err) != errs.Other {
		return false, err // the sender's
	}
	if _, e := source.Check(); err == nil && e != nil {
		err = e
	}
	if err != nil {
		return false, s.cannot(path, err)
	}
	if got := s.running(name, source.Ring()); got != is {
		return false, errs.E(op, errs.Subject(path), errs.Unavailable, errs.Public(fmt.Sprintf("in use is version %d of the %s ring, and not what was put there: somebody else has replaced it", got.Version, name)))
	}
	return source.Ring() != before, nil
}

// receive writes what comes, and looks whether it is a ring that may be taken, and what was announced.
func (s *Server) receive(name string, now Running, w io.Writer, body io.Reader, sum string) (is Running, same bool, err error) {
	in := &intake{src: body, to: w, sum: sha256.New()}
	next, wrong := ring.Read(in)
	_, _ = io.Copy(io.Discard, in) // its error is kept
	switch {
	case in.err != nil:
		return is, false, in.err
	case hex.EncodeToString(in.sum.Sum(nil)) != sum:
		return is, false, errs.Refuse(errs.Mismatch, "what has arrived has not the checksum that was announced: it was damaged on the way, or while it was read")
	case wrong != nil:
		return is, false, errs.E(op, errs.Invalid, errs.Public("it is no ring file: "+wrong.Error()), wrong)
	}
	is = Of(next)
	all, digests := map[string]*ring.Ring{}, map[string]string{}
	for other, source := range s.cfg.Rings {
		all[other] = source.Ring()
		digests[other] = s.running(other, all[other]).Digest
	}
	if same, err = judge(name, now, next, is, all, digests); err == nil && !same && s.cfg.Check != nil {
		err = s.cfg.Check(name, next)
	}
	return is, same, err
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

// settle makes a file and its name durable that is there as it should be: whoever put it there may
// not have done so.
func (s *Server) settle(path string) error {
	f, err := s.cfg.FS.Open(path)
	if err != nil {
		return err
	}
	err = f.Sync()
	_ = f.Close() // it was not written to
	if err != nil {
		return err
	}
	return s.cfg.FS.SyncDir(s.cfg.Folder)
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
