package segments

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"martlet/internal/conditional"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/proxy/chain"
)

// listed hands out pieces, and then an error.
type listed struct {
	pieces []Piece
	end    error
}

func (l *listed) Next(context.Context) (Piece, error) {
	if len(l.pieces) == 0 {
		return Piece{}, l.end
	}
	p := l.pieces[0]
	l.pieces = l.pieces[1:]
	return p, nil
}

func object(o string, off, n, size int64) Piece {
	return Piece{Path: name.Path{Account: "a", Container: "c", Object: o}, Off: off, N: n, Size: size, ETag: "e"}
}

// serve answers with what an object is scripted to say.
type serve map[string]*chain.Response

func (s serve) Serve(_ context.Context, r *chain.Request) *chain.Response {
	if resp := s[r.Path.Object]; resp != nil && r.Query == "multipart-manifest=get" {
		return resp
	}
	return chain.Text(404, "")
}

// body is a body that says whether it was closed.
type body struct {
	io.Reader
	closed bool
}

func (b *body) Close() error { b.closed = true; return nil }

func answers(status int, text string, length int64, headers ...string) *chain.Response {
	r := &chain.Response{Status: status, Header: http.Header{"Etag": {`"e"`}}, Length: length, Body: &body{Reader: strings.NewReader(text)}}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return r
}

func TestRead(t *testing.T) {
	data := func(s string) Piece { return Piece{Data: []byte(s), N: int64(len(s))} }
	for what, tt := range map[string]struct {
		pieces  []Piece
		end     error
		objects serve
		refused int    // status where it does not begin
		want    string // what comes
		broken  bool   // and then it breaks off
	}{
		"nothing":               {nil, io.EOF, nil, 0, "", false},
		"pieces":                {[]Piece{data("<"), object("o", 0, 3, 3), data(">"), object("p", 1, 2, 4)}, io.EOF, serve{"o": answers(200, "abc", 3), "p": answers(206, "yz", 2, "Content-Range", "bytes 1-2/4")}, 0, "<abc>yz", false},
		"ends early":            {[]Piece{object("o", 0, 3, 3)}, io.EOF, serve{"o": answers(200, "ab", 3)}, 0, "ab", true},
		"no first piece":        {[]Piece{data("<"), object("none", 0, 1, 1)}, io.EOF, nil, 409, "", false},
		"no second piece":       {[]Piece{object("o", 0, 3, 3), object("none", 0, 1, 1)}, io.EOF, serve{"o": answers(200, "abc", 3)}, 0, "abc", true},
		"not known which":       {nil, errs.E(errs.Unavailable), nil, 503, "", false},
		"not known later":       {[]Piece{object("o", 0, 3, 3)}, errors.New("broken"), serve{"o": answers(200, "abc", 3)}, 0, "abc", true},
		"an end in it":          {nil, errs.E(errs.Unavailable, io.EOF), nil, 503, "", false},
		"later, an end in it":   {[]Piece{object("o", 0, 3, 3)}, errs.E(errs.Unavailable, io.EOF), serve{"o": answers(200, "abc", 3)}, 0, "abc", true},
		"one fails with an end": {[]Piece{object("o", 0, 9, 9)}, io.EOF, serve{"o": {Status: 200, Header: http.Header{"Etag": {"e"}}, Length: 9, Body: &body{Reader: io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(errs.E(errs.Unavailable, io.EOF)))}}}, 0, "abc", true},
		"another ETag":          {[]Piece{object("o", 0, 3, 3)}, io.EOF, serve{"o": answers(200, "abc", 3, "Etag", "f")}, 409, "", false},
		"another size":          {[]Piece{object("o", 0, 3, 3)}, io.EOF, serve{"o": answers(200, "abcd", 4)}, 409, "", false},
		"size of the range":     {[]Piece{object("o", 1, 2, 4)}, io.EOF, serve{"o": answers(206, "bc", 2, "Content-Range", "bytes 1-2/9")}, 409, "", false},
		"whole for a range":     {[]Piece{object("o", 1, 2, 4)}, io.EOF, serve{"o": answers(200, "abcd", 4)}, 409, "", false},
		"no range is said":      {[]Piece{object("o", 1, 2, 4)}, io.EOF, serve{"o": answers(206, "bc", 2)}, 409, "", false},
		"less than asked":       {[]Piece{object("o", 1, 2, 4)}, io.EOF, serve{"o": answers(206, "b", 1, "Content-Range", "bytes 1-1/4")}, 409, "", false},
		"the cluster failed":    {[]Piece{object("o", 0, 3, 3)}, io.EOF, serve{"o": chain.Text(507, "")}, 503, "", false},
	} {
		r := &chain.Request{Method: "GET", Header: http.Header{}}
		got, refused := Open(t.Context(), tt.objects, r, &listed{slices.Clone(tt.pieces), tt.end}, Limits{})
		if tt.refused != 0 || refused != nil {
			if refused == nil || refused.Status != tt.refused {
				t.Errorf("%s: refused with %+v, want %d", what, refused, tt.refused)
			}
			closed(t, what, tt.objects)
			continue
		}
		text, err := io.ReadAll(got)
		if string(text) != tt.want || (err != nil) != tt.broken {
			t.Errorf("%s: got %q, %v, want %q, broken %v", what, text, err, tt.want, tt.broken)
		}
		_ = got.Close()
		closed(t, what, tt.objects)
	}
}

// closed makes sure that no connection is kept by a piece that is done with.
func closed(t *testing.T, what string, objects serve) {
	t.Helper()
	for o, resp := range objects {
		if b, ok := resp.Body.(*body); ok && !b.closed {
			t.Errorf("%s: %s is still open", what, o)
		}
	}
}

func TestClosedBeforeItsEnd(t *testing.T) {
	objects := serve{"o": answers(200, "abc", 3)}
	got, refused := Open(t.Context(), objects, &chain.Request{Header: http.Header{}}, &listed{[]Piece{object("o", 0, 3, 3)}, io.EOF}, Limits{})
	if refused != nil {
		t.Fatal(refused)
	}
	_ = got.Close()
	closed(t, "closed", objects)
	if n, err := got.Read(make([]byte, 9)); n != 0 || err == nil || errors.Is(err, io.EOF) {
		t.Errorf("read after it: %d, %v", n, err)
	}
}

// An end in the failure of a part's pieces is not the end of the part.
func TestSeveralRangesBreakOff(t *testing.T) {
	w := Whole{Size: 9, Pieces: func(conditional.Span) Pieces { return &listed{nil, errs.E(errs.Unavailable, io.EOF)} }}
	r := &chain.Request{Header: http.Header{"Range": {"bytes=0-1,3-4"}}}
	resp := Answer(t.Context(), serve{}, r, &chain.Response{Status: 200, Header: http.Header{}}, w, Limits{})
	if resp.Status != 503 {
		t.Errorf("got %d, want 503", resp.Status)
	}
}
