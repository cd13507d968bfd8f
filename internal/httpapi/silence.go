package httpapi

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// A quiet limits silence on one request's connection: each read of the body and
// each write of the answer must move within the limit. The length of a transfer
// has no limit.
//
// Deadlines are set at most once a second, so that a busy transfer does not pay
// for them at each chunk; the limit is exact to that second.
type quiet struct {
	conn        deadlines
	limit       time.Duration
	read, write time.Time // when the deadlines were set last

	least   int64       // bytes a second that are to move while the peer is waited for; 0 is no bound
	pressed func() bool // whether the bound holds now; not nil where there is one
	in, out pace
}

// pace is how fast one direction moves: what it moved in the time that was spent
// waiting for the peer, and in no other.
type pace struct {
	waited time.Duration
	moved  int64
}

var errTrickle = fmt.Errorf("slower than is allowed while others wait: %w", os.ErrDeadlineExceeded)

// keeps counts n bytes that took their time since began. It fails once in a span
// of limit that was spent waiting when less than the least has moved in it, and
// room is wanted.
func (q *quiet) keeps(p *pace, n int, began time.Time) error {
	p.waited += time.Since(began)
	p.moved += int64(n)
	if p.waited < q.limit {
		return nil
	}
	slow := float64(p.moved) < float64(q.least)*p.waited.Seconds()
	*p = pace{}
	if slow && q.pressed() {
		return errTrickle
	}
	return nil
}

// paced reports whether transfers have a least pace.
func (q *quiet) paced() bool { return q.least > 0 && q.limit > 0 && q.pressed != nil }

const deadlineGrain = time.Second

// deadlines is what a quiet needs of a connection.
type deadlines interface {
	SetReadDeadline(deadline time.Time) error
	SetWriteDeadline(deadline time.Time) error
}

// deadlinesOf returns those of the connection that a writer leads to.
func deadlinesOf(w http.ResponseWriter) deadlines {
	if d, ok := w.(deadlines); ok {
		return d
	}
	return http.NewResponseController(w)
}

func (q *quiet) beforeRead() {
	if q.limit <= 0 {
		return
	}
	if now := time.Now(); now.Sub(q.read) >= min(deadlineGrain, q.limit/4) {
		q.read = now
		_ = q.conn.SetReadDeadline(now.Add(q.limit)) // a writer that has no deadlines has no limit
	}
}

func (q *quiet) beforeWrite() {
	if q.limit > 0 {
		q.writeAt(time.Now())
	}
}

// writeAt is beforeWrite for a caller who knows what time it is.
func (q *quiet) writeAt(now time.Time) {
	if q.limit > 0 && now.Sub(q.write) >= min(deadlineGrain, q.limit/4) {
		q.write = now
		_ = q.conn.SetWriteDeadline(now.Add(q.limit))
	}
}

// readDone takes the read deadline away: while the answer is worked out nothing
// is expected of the peer, and net/http would take a passed deadline for a peer
// that went away.
func (q *quiet) readDone() {
	if !q.read.IsZero() {
		q.read = time.Time{}
		_ = q.conn.SetReadDeadline(time.Time{})
	}
}

// requestBody reads a request's body under a quiet, counts it, and gives its
// errors their kinds.
type requestBody struct {
	body  io.ReadCloser
	q     *quiet
	n     int64
	from  *http.Request // as net/http made it: it puts the trailer there, not into copies
	atEOF func()        // called once, at the end of a whole body
	over  bool          // its end was read
	bad   bool          // reading it failed
}

func (b *requestBody) Read(p []byte) (int, error) {
	b.q.beforeRead()
	var began time.Time
	if b.q.paced() {
		began = time.Now()
	}
	n, err := b.body.Read(p)
	b.n += int64(n)
	if err == nil && !began.IsZero() {
		err = b.q.keeps(&b.q.in, n, began)
	}
	if err == nil {
		return n, nil
	}
	b.q.readDone()
	b.over, b.bad = errors.Is(err, io.EOF), !errors.Is(err, io.EOF)
	if b.over && b.atEOF != nil {
		b.atEOF()
		b.atEOF = nil
	}
	return n, bodyError(err)
}

func (b *requestBody) Close() error { return b.body.Close() }

const (
	// mostRest is how much of a body that nobody wants is read, in bytes, so that
	// its connection can be used again, and restTime how long for.
	mostRest = 256 << 10
	restTime = time.Second
)

// settle reads what is left of a body when its answer is to go out, and reports
// whether the connection is good for another request. net/http would read the
// same before it sends the answer, and wait for a silent client for ever.
func (b *requestBody) settle() bool {
	left := b.from.ContentLength - b.n
	switch {
	case b.over || b.from.ContentLength == 0 || b.q.limit <= 0:
		return true
	case b.from.Header.Get("Expect") != "":
		return true // net/http closes the connection, and reading would ask for the body
	case b.bad || left > mostRest:
		return false
	}
	b.q.read = time.Now()
	_ = b.q.conn.SetReadDeadline(b.q.read.Add(min(restTime, b.q.limit))) // a writer that has no deadlines has no limit
	n, err := io.CopyN(io.Discard, b.body, mostRest+1)
	b.n += n
	b.q.readDone()
	b.over = errors.Is(err, io.EOF)
	return b.over
}

// Writer is the http.ResponseWriter that Observe hands on: it limits silence
// and remembers what was sent.
type Writer struct {
	http.ResponseWriter
	q      quiet
	body   *requestBody // of the request that is answered; nil where nobody watches it
	status int
	sent   int64
	duplex bool // the body of the request is read while the answer is sent

	conn *namedConn // that the answer goes to; nil where that is another kind
}

// Duplex lets the body of a request be read while its answer is sent. It is called
// before the answer begins. The connection is closed afterwards: what nobody has
// read of the body by then can't be told from another request.
func Duplex(w http.ResponseWriter) {
	own, ok := w.(*Writer)
	if !ok {
		return
	}
	own.duplex = true
	_ = http.NewResponseController(own.ResponseWriter).EnableFullDuplex() // what can't needs not
}

// Status returns the status that was sent, 0 before there is one.
func (w *Writer) Status() int { return w.status }

// Sent returns how many bytes of body were sent.
func (w *Writer) Sent() int64 { return w.sent }

// WriteHeader sends the status. Informational ones do not count as the answer.
func (w *Writer) WriteHeader(code int) {
	if code >= 200 {
		w.begin(code)
	}
	w.q.beforeWrite()
	w.ResponseWriter.WriteHeader(code)
}

// begin is the start of the answer, once.
func (w *Writer) begin(code int) {
	if w.status != 0 {
		return
	}
	w.status = code
	if w.conn != nil && !w.duplex && w.body != nil && w.body.from.Method != http.MethodHead && !bodyless(code) {
		if length, err := strconv.ParseInt(w.Header().Get("Content-Length"), 10, 64); err == nil {
			w.conn.held.begin(length)
		}
	}
	switch {
	case w.duplex:
		w.Header()["Connection"] = []string{"close"}
	case w.body == nil:
	case !w.body.settle():
		w.Header()["Connection"] = []string{"close"}
	case w.Header().Get("Connection") != "": // it says that it ends
	case w.body.from.ProtoAtLeast(1, 1) && strings.EqualFold(w.body.from.Header.Get("Connection"), keepAlive[0]):
		w.Header()["Connection"] = keepAlive // net/http says close instead where it closes
	}
}

// keepAlive is what a client reads that asks for it, though HTTP/1.1 means it
// anyway: Swift's do. It is shared, and never changed.
var keepAlive = []string{"keep-alive"}

// Write sends a part of the body.
func (w *Writer) Write(p []byte) (int, error) {
	w.begin(http.StatusOK)
	w.q.beforeWrite()
	var began time.Time
	if w.q.paced() {
		began = time.Now()
	}
	n, err := w.ResponseWriter.Write(p)
	w.sent += int64(n)
	if err == nil && !began.IsZero() {
		err = w.q.keeps(&w.q.out, n, began)
	}
	return n, err
}

// FlushError sends what there is of the answer.
func (w *Writer) FlushError() error {
	w.begin(http.StatusOK)
	w.q.beforeWrite() // what is held may have been for long
	if w.conn != nil && w.conn.held.on {
		if err := w.conn.send(w.conn.held.let()); err != nil {
			return err
		}
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap lets an http.ResponseController reach the connection.
func (w *Writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }
