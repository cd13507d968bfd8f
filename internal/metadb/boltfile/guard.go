package boltfile

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime/debug"
	"syscall"

	berrors "go.etcd.io/bbolt/errors"

	"martlet/internal/errs"
)

// Errors of a file.
var (
	ErrChecksum = errors.New("a stored value fails its checksum")
	ErrShape    = errors.New("the file lacks what every database has")
	errPanic    = errors.New("the file could not be walked")
)

// Guard calls fn and turns a panic into an error of kind errs.Corrupt. bbolt
// trusts what it reads: a damaged page makes it panic, and a page that the disk
// can't deliver, or that a short file does not have, is a memory fault.
func Guard(fn func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		if p := recover(); p != nil {
			err = errs.E(errs.Corrupt, fmt.Errorf("%w: %v", errPanic, p))
		}
	}()
	return fn()
}

// Panicked reports whether the error is a caught panic.
func Panicked(err error) bool { return errors.Is(err, errPanic) }

// Corrupt marks an error as one of the file's content.
func Corrupt(err error) error { return errs.E(errs.Corrupt, err) }

// Classify gives an error of bbolt or the file system its kind.
func Classify(err error) error {
	if err == nil || errs.KindOf(err) != errs.Other {
		return err
	}
	for _, f := range []struct {
		target error
		kind   errs.Kind
	}{
		{fs.ErrNotExist, errs.NotFound},
		{syscall.ENOSPC, errs.NoSpace},
		{syscall.EDQUOT, errs.NoSpace},
		{syscall.EIO, errs.BadDevice},
		{syscall.EROFS, errs.BadDevice},
		{syscall.ENODEV, errs.BadDevice},
		{syscall.EMFILE, errs.Unavailable},
		{syscall.ENFILE, errs.Unavailable},
		{berrors.ErrTimeout, errs.Unavailable},
		{berrors.ErrInvalid, errs.Corrupt},
		{berrors.ErrVersionMismatch, errs.Corrupt},
		{berrors.ErrChecksum, errs.Corrupt},
		{berrors.ErrInvalidMapping, errs.Corrupt},
		{ErrChecksum, errs.Corrupt},
		{ErrShape, errs.Corrupt},
	} {
		if errors.Is(err, f.target) {
			return errs.E(f.kind, err)
		}
	}
	return err
}
