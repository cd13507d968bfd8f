package metadb

import (
	"errors"

	"martlet/internal/errs"
	"martlet/internal/metadb/boltfile"
)

var (
	errChecksum = boltfile.ErrChecksum
	errShape    = boltfile.ErrShape
)

func guard(fn func() error) error { return boltfile.Guard(fn) }

func panicked(err error) bool { return boltfile.Panicked(err) }

// corrupt is the error of what has the right checksum, or none, and can't be read.
func corrupt(err error) error {
	if errors.Is(err, ErrLater) {
		return errs.E(errs.BadDevice, err)
	}
	return boltfile.Corrupt(err)
}

// classify gives an error of a file, or of what is in it, its kind.
func classify(err error) error {
	if errs.KindOf(err) == errs.Other && errors.Is(err, ErrDecode) {
		return corrupt(err)
	}
	return boltfile.Classify(err)
}
