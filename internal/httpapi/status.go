// Package httpapi is the HTTP plumbing that every server shares: the one table
// from kinds of errors to statuses, transaction ids, the access log, metrics,
// limits on silence, graceful shutdown, and the adapter that carries
// backend.Handlers over net/http.
//
// It knows nothing of accounts, containers and objects.
package httpapi

import (
	"errors"
	"io"
	"net/http"
	"os"

	"martlet/internal/errs"
)

// The statuses that net/http has no name for.
const (
	StatusClientGone = 499 // the client went away before its request was whole
)

var status = map[errs.Kind]int{
	errs.Invalid:       http.StatusBadRequest,
	errs.Unauthorized:  http.StatusUnauthorized,
	errs.Forbidden:     http.StatusForbidden,
	errs.NotFound:      http.StatusNotFound,
	errs.Method:        http.StatusMethodNotAllowed,
	errs.NotAcceptable: http.StatusNotAcceptable,
	errs.Timeout:       http.StatusRequestTimeout,
	errs.Conflict:      http.StatusConflict,
	errs.Stale:         http.StatusConflict,
	errs.Gone:          http.StatusGone,
	errs.Length:        http.StatusLengthRequired,
	errs.Precondition:  http.StatusPreconditionFailed,
	errs.TooLarge:      http.StatusRequestEntityTooLarge,
	errs.Range:         http.StatusRequestedRangeNotSatisfiable,
	errs.Mismatch:      http.StatusUnprocessableEntity,
	errs.Aborted:       StatusClientGone,
	errs.Other:         http.StatusInternalServerError,
	errs.Unsupported:   http.StatusNotImplemented,
	errs.Unavailable:   http.StatusServiceUnavailable,
	errs.Corrupt:       http.StatusServiceUnavailable, // another replica will do, but never "not found"
	errs.NoSpace:       http.StatusInsufficientStorage,
	errs.BadDevice:     http.StatusInsufficientStorage,
}

// Status returns the status for an error by its kind.
func Status(err error) int {
	if code, ok := status[errs.KindOf(err)]; ok {
		return code
	}
	return http.StatusInternalServerError
}

// Reason returns the words for a status.
func Reason(code int) string {
	if code == StatusClientGone {
		return "Client Disconnect"
	}
	if text := http.StatusText(code); text != "" {
		return text
	}
	return "Unknown"
}

// bodyError gives an error of reading a request's body its kind: a sender that
// was silent for too long, or one that went away before the end it announced.
func bodyError(err error) error {
	var tooBig *http.MaxBytesError
	switch {
	case err == nil || errors.Is(err, io.EOF):
		return err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errs.E(errs.Op("http.body"), errs.Timeout, err)
	case errors.As(err, &tooBig):
		return errs.E(errs.Op("http.body"), errs.TooLarge, err)
	case errs.KindOf(err) != errs.Other:
		return err
	}
	return errs.E(errs.Op("http.body"), errs.Aborted, err)
}
