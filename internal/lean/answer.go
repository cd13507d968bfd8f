package lean

import (
	"cmp"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"martlet/internal/backend"
	"martlet/internal/httpapi"
)

const (
	// smallAnswer is the size of the buffers for answers that are small, in bytes, and
	// headRoom how much of it is taken to be for the head.
	smallAnswer = 8 << 10
	headRoom    = 2 << 10

	// copyBlock is how much of a body there is room for behind a head, at least: up to
	// that an answer leaves in one write. largeAnswer is the size of buffers for it.
	copyBlock   = 64 << 10
	largeAnswer = copyBlock + headRoom

	// pieceBlock is how much of a body that is in pieces is written at once at most, in bytes: a limit on silence is one on each
	// write.
	pieceBlock = 256 << 10
)

// inPieces is a body that has what comes next in memory, as one that is read from a disk in large blocks and verified there:
// but for what leaves with the head it is sent from where it is.
type inPieces interface {
	// Piece returns the next bytes, one at least and at most that many; io.EOF at the end. They are good until
	// it returns others.
	Piece(most int64) ([]byte, error)
}

// inMemory is a body that is in memory as a whole, as a bytes.Buffer is.
type inMemory interface {
	Next(n int) []byte // the next n bytes, or what there is, which is nothing at the end
}

// ofMemory is that in pieces.
type ofMemory struct{ inMemory }

func (m ofMemory) Piece(most int64) ([]byte, error) {
	b := m.Next(int(most))
	if len(b) == 0 {
		return nil, io.EOF
	}
	return b, nil
}

// piecesOf returns a body that is in pieces, nil where it has to be read.
func piecesOf(body io.Reader) inPieces {
	switch body := body.(type) {
	case inPieces:
		return body
	case inMemory:
		return ofMemory{body}
	}
	return nil
}

var (
	smallAnswers = sync.Pool{New: func() any { b := make([]byte, 0, smallAnswer); return &b }}
	largeAnswers = sync.Pool{New: func() any { b := make([]byte, 0, largeAnswer); return &b }}
)

// answer is a response as it is sent.
type answer struct {
	c          *conn
	resp       *backend.Response
	old        bool   // to HTTP/1.0
	id         string // of the transaction
	connection string // what is said of it, "" for nothing
}

// send sends the answer, to a HEAD without the body, and returns how many bytes of body
// that were. An error means that the peer has not got the whole of it; nothing may follow
// it on the connection then.
func (a *answer) send(head bool) (n int64, err error) {
	length := a.resp.Length
	if head || bodyless(a.resp.Status) {
		length = 0
	}
	pool := &smallAnswers
	if length > smallAnswer-headRoom {
		pool = &largeAnswers
	}
	buf := pool.Get().(*[]byte) //nolint:forcetypeassert // the pools hold nothing else
	now := time.Now()
	out := a.appendHead((*buf)[:0], now)
	if cap(out) <= largeAnswer {
		defer func() { *buf = out[:0]; pool.Put(buf) }()
	}
	if length == 0 {
		return 0, a.c.write(out, now)
	}
	if a.resp.Body == nil {
		return 0, errors.New("a response has a length and no body")
	}
	if need := min(length, copyBlock); len(out) > headRoom && int64(cap(out)-len(out)) < need {
		out = append(make([]byte, 0, len(out)+int(need)), out...)
	}
	return a.sendBody(out, length)
}

// sendBody sends out, and a body of a length behind it, through what room out has. The
// last of the body is sent when its source says that it has ended.
func (a *answer) sendBody(out []byte, length int64) (sent int64, err error) {
	room := cap(out)
	pieces := piecesOf(a.resp.Body)
	for left := length; left > 0; {
		before := len(out)
		out, err = fill(out, a.resp.Body, min(left, int64(room-before)))
		if err != nil {
			return sent, err
		}
		n := int64(len(out) - before)
		if left -= n; left == 0 {
			if err := atEnd(a.resp.Body); err != nil {
				return sent, err
			}
		}
		if err := a.c.write(out, time.Now()); err != nil {
			return sent, err
		}
		sent += n
		out = out[:0]
		if pieces != nil && left > 0 {
			n, err := a.sendPieces(pieces, left)
			return sent + n, err
		}
	}
	return sent, nil
}

// sendPieces sends the rest of a body that is in pieces.
func (a *answer) sendPieces(from inPieces, left int64) (sent int64, err error) {
	for left > 0 {
		b, err := from.Piece(min(left, pieceBlock))
		switch left -= int64(len(b)); {
		case err == io.EOF: // not errors.Is: a failure may have one in it
			return sent, io.ErrUnexpectedEOF
		case err != nil:
			return sent, err
		case left == 0:
			if _, err := from.Piece(1); err != io.EOF {
				return sent, cmp.Or(err, errLonger)
			}
		}
		if err := a.c.write(b, time.Now()); err != nil {
			return sent, err
		}
		sent += int64(len(b))
	}
	return sent, nil
}

var errLonger = errors.New("a response is longer than announced")

// fill appends n bytes of a body to b, which has room for them.
func fill(b []byte, from io.Reader, n int64) ([]byte, error) {
	end := len(b) + int(n)
	for empty := 0; len(b) < end; {
		got, err := from.Read(b[len(b):end])
		b = b[:len(b)+got]
		switch {
		case err == io.EOF && len(b) < end: // not errors.Is: a failure may have one in it
			return b, io.ErrUnexpectedEOF
		case err == io.EOF:
			return b, nil
		case err != nil:
			return b, err
		case got > 0:
			empty = 0
		default:
			if empty++; empty > 100 {
				return b, io.ErrNoProgress
			}
		}
	}
	return b, nil
}

// atEnd returns why a body that should have ended has not.
func atEnd(from io.Reader) error {
	var one [1]byte
	for range 100 {
		n, err := from.Read(one[:])
		switch {
		case n > 0:
			return errLonger
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
	return io.ErrNoProgress
}

func bodyless(status int) bool {
	return status == http.StatusNoContent || status == http.StatusNotModified
}

// appendHead appends the status line and the header, with the empty line.
func (a *answer) appendHead(b []byte, now time.Time) []byte {
	if a.old {
		b = append(b, "HTTP/1.0 "...)
	} else {
		b = append(b, "HTTP/1.1 "...)
	}
	b = strconv.AppendInt(b, int64(a.resp.Status), 10)
	b = append(append(append(b, ' '), httpapi.Reason(a.resp.Status)...), "\r\nDate: "...)
	b = append(append(b, a.c.of.dateAt(now)...), "\r\n"...)
	if !bodyless(a.resp.Status) {
		b = strconv.AppendInt(append(b, "Content-Length: "...), a.resp.Length, 10)
		b = append(b, "\r\n"...)
	}
	if a.connection != "" {
		b = appendField(b, "Connection", a.connection)
	}
	if a.id != "" {
		b = appendField(b, backend.TransID, a.id)
	}
	for i := range a.resp.Header {
		if f := &a.resp.Header[i]; !own(f.Name) {
			b = appendField(b, f.Name, f.Value)
		}
	}
	return append(b, "\r\n"...)
}

// appendField appends a line of a header. What is no name is left out, and bytes that no
// value may have become spaces, so that nothing can pass for another line.
func appendField(b []byte, name, value string) []byte {
	if !all(name, tokenByte) {
		return b
	}
	b = append(append(b, name...), ": "...)
	if value == "" || all(value, valueByte) {
		return append(append(b, value...), "\r\n"...)
	}
	for i := range len(value) {
		if c := value[i]; byteSets[c]&valueByte != 0 {
			b = append(b, c)
		} else {
			b = append(b, ' ')
		}
	}
	return append(b, "\r\n"...)
}

// own reports whether a field is the server's to say.
func own(name string) bool {
	switch len(name) {
	case len("Date"):
		return strings.EqualFold(name, "Date")
	case len("Upgrade"):
		return strings.EqualFold(name, "Upgrade") || strings.EqualFold(name, "Trailer")
	case len("Connection"):
		return strings.EqualFold(name, "Connection") || strings.EqualFold(name, "Keep-Alive") || strings.EqualFold(name, backend.TransID)
	case len("Content-Length"):
		return strings.EqualFold(name, "Content-Length")
	case len("Transfer-Encoding"):
		return strings.EqualFold(name, "Transfer-Encoding")
	}
	return false
}

// dateLine is a time as answers say it.
type dateLine struct {
	second int64
	text   string
}

// dateAt is a time as answers say it; it is written out once a second.
func (s *serving) dateAt(now time.Time) string {
	if d := s.date.Load(); d != nil && d.second == now.Unix() {
		return d.text
	}
	d := &dateLine{now.Unix(), now.UTC().Format(http.TimeFormat)}
	s.date.Store(d)
	return d.text
}

// logRefused logs that what a peer sent is no request.
func (s *serving) logRefused(remote string, r *refusedError) {
	s.Log.LogAttrs(s.base, slog.LevelInfo, "request refused unread", slog.String("server", s.Name),
		slog.String("remote", remote), slog.Int("status", r.status), slog.String("why", r.why))
}
