// Package errs is the error value that crosses package borders.
//
// An error here says what was being done (Op), to what (Subject), of which
// sort the failure is (Kind) and why (the cause). Inside a package, sentinels
// serve; where an error leaves a package it is wrapped with E, so that a
// handler can turn its kind into a status without knowing who made it. Nothing
// is said twice: a wrapper without a kind takes the kind of its cause, and one
// that adds no word is left out of the text.
//
// Text that a client may read is set apart (Public): the rest can hold device
// names and addresses that are nobody's business outside the cluster.
package errs

import (
	"errors"
	"fmt"
	"strings"
)

// Op names the operation that failed: the package and the verb, such as
// "object.put".
type Op string

// Subject names what the operation was about: a path, a device, a file.
type Subject string

// Public is a message that a client may see, such as which limit was passed.
type Public string

// Kind sorts errors by what a caller can do about them. The list only grows at
// its end: kinds travel between nodes of different versions.
type Kind uint8

// The kinds of errors.
const (
	Other         Kind = iota // none of the others: a bug, or an unexpected failure
	Invalid                   // the request is malformed
	Unauthorized              // nobody has been identified, and somebody is needed
	Forbidden                 // identified, but not allowed
	NotFound                  // there is no such thing
	Method                    // the thing has no such method
	Timeout                   // the sender was silent for too long
	Conflict                  // the state does not allow it: a container with objects in it
	Stale                     // something newer is there already
	Gone                      // it was deleted and may not come back yet
	Length                    // the request does not say how long it is
	Precondition              // a condition of the request does not hold
	TooLarge                  // a limit on size or number was passed
	Range                     // no byte of the asked range exists
	Mismatch                  // the bytes are not those that were announced
	Aborted                   // the client went away
	Unsupported               // the request asks for what this server does not do
	Unavailable               // the cluster cannot do it now
	NoSpace                   // the device is full
	BadDevice                 // the device is missing, foreign or failing
	Corrupt                   // stored bytes fail their checksum: repair, never retry
	NotAcceptable             // no representation that the client accepts
	kinds                     // how many there are
)

var kindText = [kinds]string{
	Other:         "internal error",
	Invalid:       "invalid request",
	Unauthorized:  "not authenticated",
	Forbidden:     "forbidden",
	NotFound:      "not found",
	Method:        "method not allowed",
	Timeout:       "timed out",
	Conflict:      "conflict",
	Stale:         "older than what is stored",
	Gone:          "gone",
	Length:        "length required",
	Precondition:  "precondition failed",
	TooLarge:      "too large",
	Range:         "range not satisfiable",
	Mismatch:      "content does not match",
	Aborted:       "client went away",
	Unsupported:   "not supported",
	Unavailable:   "unavailable",
	NoSpace:       "no space left",
	BadDevice:     "device not usable",
	Corrupt:       "corrupt",
	NotAcceptable: "not acceptable",
}

// String returns a few words for the kind.
func (k Kind) String() string {
	if k < kinds {
		return kindText[k]
	}
	return fmt.Sprintf("error kind %d", uint8(k))
}

// Error is what E makes. Its zero fields are simply not said.
type Error struct {
	Op      Op
	Subject Subject
	Kind    Kind
	Public  Public
	Err     error
}

// E makes an *Error of its arguments, told apart by type: Op, Subject, Kind,
// Public, an error as the cause, and a string as a cause in words. Without a
// Kind it takes that of the cause.
func E(args ...any) error {
	e := &Error{}
	for _, arg := range args {
		switch a := arg.(type) {
		case Op:
			e.Op = a
		case Subject:
			e.Subject = a
		case Kind:
			e.Kind = a
		case Public:
			e.Public = a
		case error:
			e.Err = a
		case string:
			e.Err = errors.New(a)
		case nil:
		default:
			e.Err = fmt.Errorf("%v", a)
		}
	}
	if e.Kind == Other && e.Err != nil {
		e.Kind = KindOf(e.Err)
	}
	return e
}

// Refuse is an error of a kind with a message for the client, made with
// fmt.Sprintf.
func Refuse(kind Kind, format string, args ...any) error {
	return &Error{Kind: kind, Public: Public(fmt.Sprintf(format, args...))}
}

// Error says operation, subject, kind and cause, in that order, each once.
func (e *Error) Error() string {
	parts := make([]string, 0, 5)
	add := func(s string) {
		if s != "" {
			parts = append(parts, s)
		}
	}
	add(string(e.Op))
	add(string(e.Subject))
	var inner *Error
	if e.Kind != Other && !(errors.As(e.Err, &inner) && inner.Kind == e.Kind) {
		add(e.Kind.String())
	}
	add(string(e.Public))
	if e.Err != nil {
		add(e.Err.Error())
	}
	if len(parts) == 0 {
		return e.Kind.String()
	}
	return strings.Join(parts, ": ")
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of the outermost *Error in err's chain that has one,
// and Other where there is none.
func KindOf(err error) Kind {
	for err != nil {
		var e *Error
		if !errors.As(err, &e) {
			return Other
		}
		if e.Kind != Other {
			return e.Kind
		}
		err = e.Err
	}
	return Other
}

// Is reports whether err is of the kind.
func Is(err error, kind Kind) bool { return err != nil && KindOf(err) == kind }

// PublicOf returns the outermost message in err's chain that a client may see,
// or "" where there is none.
func PublicOf(err error) string {
	for err != nil {
		var e *Error
		if !errors.As(err, &e) {
			return ""
		}
		if e.Public != "" {
			return string(e.Public)
		}
		err = e.Err
	}
	return ""
}
