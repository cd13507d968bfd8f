package object

import (
	"crypto/md5" // the ETag of the API
	"encoding/hex"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/object/engine"
)

// Commits. An object whose data is in fragments is a record without data, which says in a field
// (backend.CodedWrite) in which: the commit of its write (internal/ec/DESIGN.md). It is
// stored, replicated, superseded and deleted as any object is. What is said of it, in
// answers and to listings, is said of the whole; its data nobody is sent from here.

// parseCoded reads what a write says of its fragments, if its data is in some.
func (c *call) parseCoded() error {
	text := c.Header.Get(backend.CodedWrite)
	if text == "" {
		return nil
	}
	coded, err := backend.ParseCoded(text)
	if err != nil {
		return errs.E(errs.Op("object.put"), errs.Invalid, errs.Public(backend.CodedWrite+" does not say where the data is"), err)
	}
	if c.Length > 0 {
		return bodyOfCommit(c.Length)
	}
	c.coded = &coded
	return nil
}

func bodyOfCommit(n int64) error {
	return errs.Refuse(errs.Invalid, "the data of an object with %s is elsewhere, and there is a body of %d bytes or more", backend.CodedWrite, n)
}

// asCommit makes a version that was sent with a body of n bytes a commit, if it is to be one.
func (c *call) asCommit(v *engine.Version, n int64) error {
	if c.coded == nil {
		return nil
	}
	if n != 0 {
		return bodyOfCommit(n)
	}
	v.MD5 = md5.Sum(nil) // of what is stored: so it is the same from whomever it comes
	return nil
}

// written returns the size and the ETag, as clients see them, of what was written.
func (c *call) written(w *engine.Writer, v *engine.Version) (size int64, etag string) {
	if c.coded != nil {
		return c.coded.Size, c.coded.ETag
	}
	return w.Length(), md5Text(&v.MD5, c.commit(backend.CommitETag))
}

// md5Text is an MD5 in hexadecimal: the text itself that somebody has said it in, if that is it.
func md5Text(sum *[md5.Size]byte, said string) string {
	var text [2 * md5.Size]byte
	hex.Encode(text[:], sum[:])
	if string(text[:]) == said {
		return said
	}
	return string(text[:])
}

// commitOf returns the field of an object that says in which fragments its data is, "" for others.
func commitOf(s *engine.State) string {
	if s.Kind != engine.Live || s.Length != 0 {
		return ""
	}
	return s.System.Get(backend.CodedWrite)
}

// whole returns a state as clients see it: of one whose data is in fragments length and MD5 are
// those of the whole, and coded is true. Others are returned as they are. The error is of kind
// errs.Corrupt: nobody can say what it is, since a later version of this server has written it. It is
// no empty object.
func whole(s *engine.State) (as *engine.State, coded bool, err error) {
	text := commitOf(s)
	if text == "" {
		return s, false, nil
	}
	c, err := backend.ParseCoded(text)
	if err != nil {
		return s, true, err
	}
	of := *s
	of.Length = c.Size
	_, _ = hex.Decode(of.MD5[:], []byte(c.ETag)) // it has been parsed
	return &of, true, nil
}
