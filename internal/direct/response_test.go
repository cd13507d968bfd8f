package direct

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
)

func TestAnswersThatAreTaken(t *testing.T) {
	long := strings.Repeat("v", 20000)
	for name, tt := range map[string]struct {
		method, text string
		status       int
		length       int64
		body         string
		fields       backend.Header
	}{
		"length":             {"GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, 5, "hello", backend.Header{{Name: "Content-Length", Value: "5"}}},
		"no reason":          {"GET", "HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n", 404, 0, "", backend.Header{{Name: "Content-Length", Value: "0"}}},
		"same length twice":  {"GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\ncontent-length: 2\r\n\r\nhi", 200, 2, "hi", backend.Header{{Name: "Content-Length", Value: "2"}, {Name: "content-length", Value: "2"}}},
		"chunks":             {"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n0002;x=y\r\nlo\r\n0\r\nT: v\r\n\r\n", 200, -1, "hello", backend.Header{{Name: "Transfer-Encoding", Value: "chunked"}}},
		"interim":            {"GET", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 P\r\nA: b\r\n\r\nHTTP/1.1 204 No\r\nA: c\r\n\r\n", 204, 0, "", backend.Header{{Name: "A", Value: "c"}}},
		"HEAD":               {"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n", 200, 77, "", backend.Header{{Name: "Content-Length", Value: "77"}}},
		"HEAD of no length":  {"HEAD", "HTTP/1.1 200 OK\r\n\r\n", 200, -1, "", nil},
		"not modified":       {"GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, 0, "", backend.Header{{Name: "Content-Length", Value: "9"}}},
		"bytes are kept":     {"GET", "HTTP/1.1 204 x\r\nX-Object-Meta-\xc3\xa9: \t\xff\xfe \x01 b \r\n\r\n", 204, 0, "", backend.Header{{Name: "X-Object-Meta-\xc3\xa9", Value: "\xff\xfe \x01 b"}}},
		"empty value":        {"GET", "HTTP/1.1 204 x\r\nA:\r\nB: \r\n\r\n", 204, 0, "", backend.Header{{Name: "A"}, {Name: "B"}}},
		"larger than buffer": {"GET", "HTTP/1.1 200 OK\r\nA: " + long + "\r\nContent-Length: 20000\r\n\r\n" + long, 200, 20000, long, backend.Header{{Name: "A", Value: long}, {Name: "Content-Length", Value: "20000"}}},
	} {
		t.Run(name, func(t *testing.T) {
			s := script(t, answers(tt.text))
			c := client(t, Config{})
			for range 2 { // the second on the same connection
				resp, err := c.Do(context.Background(), s.addr, &backend.Request{Method: tt.method, Path: "/"})
				if err != nil {
					t.Fatalf("%.100q: %v", tt.text, err)
				}
				body, err := slurp(resp)
				if err != nil || resp.Status != tt.status || resp.Length != tt.length || body != tt.body {
					t.Errorf("%.100q gave %d, length %d, %.50q, %v, want %d, %d, %.50q", tt.text, resp.Status, resp.Length, body, err, tt.status, tt.length, tt.body)
				}
				if !slices.Equal(resp.Header, tt.fields) {
					t.Errorf("%.100q gave fields %.200q, want %.200q", tt.text, resp.Header, tt.fields)
				}
			}
			if n := s.conns.Load(); n != 1 {
				t.Errorf("%d connections for two requests, want 1", n)
			}
		})
	}
}

// What has come with the head of an answer can be read without waiting, no more of it than is the body's.
func TestBuffered(t *testing.T) {
	for name, tt := range map[string]struct {
		text string
		want int
	}{
		"all of it":     {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 5},
		"a part":        {"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhello", 5},
		"nothing":       {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 0},
		"more than all": {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello again", 5},
		"chunks":        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := script(t, answers(tt.text))
			resp, err := client(t, Config{}).Do(t.Context(), s.addr, get())
			if err != nil {
				t.Fatal(err)
			}
			body := resp.Body.(interface{ Buffered() int })
			if got := body.Buffered(); got != tt.want {
				t.Errorf("%d bytes, want %d", got, tt.want)
			}
			if n, err := io.ReadFull(resp.Body, make([]byte, tt.want)); n != tt.want || err != nil {
				t.Errorf("%d bytes were read, %v", n, err)
			}
			if got := body.Buffered(); got != 0 {
				t.Errorf("%d bytes after these were read", got)
			}
			if err := resp.Body.Close(); err != nil {
				t.Error(err)
			}
			if got := body.Buffered(); got != 0 {
				t.Errorf("%d bytes of a body that is closed", got)
			}
		})
	}
}

func TestAnswersThatAreRefused(t *testing.T) {
	const chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	for name, tt := range map[string]struct {
		text string
		want error
	}{
		"nothing":                {"", io.ErrUnexpectedEOF},
		"half a head":            {"HTTP/1.1 200 OK\r\nA: b\r\n", io.ErrUnexpectedEOF},
		"short body":             {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", io.ErrUnexpectedEOF},
		"no body at all":         {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", io.ErrUnexpectedEOF},
		"short chunk":            {chunked + "5\r\nhell", io.ErrUnexpectedEOF},
		"no last chunk":          {chunked + "5\r\nhello\r\n", io.ErrUnexpectedEOF},
		"no end of trailer":      {chunked + "5\r\nhello\r\n0\r\n", io.ErrUnexpectedEOF},
		"another protocol":       {"220 mail.example.org ESMTP\r\n", ErrProtocol},
		"another version":        {"HTTP/1.2 200 OK\r\n\r\n", ErrProtocol},
		"no status":              {"HTTP/1.1 OK\r\n\r\n", ErrProtocol},
		"status of two digits":   {"HTTP/1.1 20 OK\r\n\r\n", ErrProtocol},
		"status of four":         {"HTTP/1.1 2000 OK\r\n\r\n", ErrProtocol},
		"status below 100":       {"HTTP/1.1 099 OK\r\n\r\n", ErrProtocol},
		"switching protocols":    {"HTTP/1.1 101 Sw\r\n\r\n", ErrProtocol},
		"endless interim":        {strings.Repeat("HTTP/1.1 100 C\r\n\r\n", maxInterim+1), ErrProtocol},
		"bare LF":                {"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n", ErrProtocol},
		"bare CR":                {"HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n", ErrProtocol},
		"NUL":                    {"HTTP/1.1 200 OK\r\nA: b\x00c\r\n\r\n", ErrProtocol},
		"folded field":           {"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", ErrProtocol},
		"space before the colon": {"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n", ErrProtocol},
		"no colon":               {"HTTP/1.1 200 OK\r\nA\r\n\r\n", ErrProtocol},
		"no name":                {"HTTP/1.1 200 OK\r\n: a\r\n\r\n", ErrProtocol},
		"no framing":             {"HTTP/1.1 200 OK\r\n\r\nhello", ErrProtocol},
		"negative length":        {"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", ErrProtocol},
		"signed length":          {"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na", ErrProtocol},
		"empty length":           {"HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n", ErrProtocol},
		"list of lengths":        {"HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\na", ErrProtocol},
		"huge length":            {"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", ErrProtocol},
		"two lengths":            {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", ErrProtocol},
		"length and chunks":      {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ErrProtocol},
		"chunks in HTTP/1.0":     {"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ErrProtocol},
		"another encoding":       {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", ErrProtocol},
		"chunked twice":          {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ErrProtocol},
		"too many fields":        {"HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", 21) + "Content-Length: 0\r\n\r\n", ErrProtocol},
		"too large a head":       {"HTTP/1.1 200 OK\r\nA: " + strings.Repeat("b", 16<<10) + "\r\n\r\n", ErrProtocol},
		"endless head":           {"HTTP/1.1 200 OK\r\nA: " + strings.Repeat("b", 64<<10), ErrProtocol},
		"chunk without length":   {chunked + "\r\n\r\n", ErrProtocol},
		"chunk of no number":     {chunked + "x\r\n\r\n", ErrProtocol},
		"negative chunk":         {chunked + "-1\r\n\r\n", ErrProtocol},
		"huge chunk":             {chunked + "1000000000000000\r\n", ErrProtocol},
		"chunk too long":         {chunked + "1\r\nab\r\n0\r\n\r\n", ErrProtocol},
		"overlong chunk line":    {chunked + "1;" + strings.Repeat("x", 300) + "\r\na\r\n0\r\n\r\n", ErrProtocol},
		"endless chunk line":     {chunked + "1;" + strings.Repeat("x", 3000), ErrProtocol},
		"chunk line without CR":  {chunked + "1\na\r\n0\r\n\r\n", ErrProtocol},
		"large trailer":          {chunked + "0\r\n" + strings.Repeat("A: "+strings.Repeat("b", 1000)+"\r\n", 20) + "\r\n", ErrProtocol},
		"many trailers":          {chunked + "0\r\n" + strings.Repeat("A: b\r\n", 30) + "\r\n", ErrProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			s := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
				if head, _ := request(r); head != "" {
					_, _ = io.WriteString(c, tt.text)
				}
			})
			c := client(t, Config{MaxHeaders: 20, MaxHeaderBytes: 16 << 10})
			status, body, err := fetch(c, s.addr, get())
			if !errors.Is(err, tt.want) || !errs.Is(err, errs.Unavailable) {
				t.Errorf("%.100q gave %d, %q, %v, want %v", tt.text, status, body, err, tt.want)
			}
			if err != nil && !strings.Contains(err.Error(), s.addr) {
				t.Errorf("%v does not name %s", err, s.addr)
			}
			if n := s.conns.Load(); n != 1 {
				t.Errorf("%d connections, want no second attempt", n)
			}
		})
	}
}

// TestEveryTruncation cuts a body at each byte: none may pass for whole.
func TestEveryTruncation(t *testing.T) {
	for _, whole := range []string{
		ok("hello, world"),
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n",
	} {
		for n := range len(whole) + 1 {
			body, err := parse([]byte(whole[:n]), "GET")
			if n == len(whole) {
				if err != nil || body != "hello, world" {
					t.Errorf("%q gave %q, %v", whole, body, err)
				}
			} else if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%q gave %q, %v, want an unexpected EOF", whole[:n], body, err)
			}
		}
	}
}

// canned is a connection on which everything has been said.
type canned struct {
	net.Conn
	r io.Reader
}

func (c canned) Read(p []byte) (int, error)     { return c.r.Read(p) }
func (canned) Write(p []byte) (int, error)      { return len(p), nil }
func (canned) Close() error                     { return nil }
func (canned) SetDeadline(time.Time) error      { return nil }
func (canned) SetReadDeadline(time.Time) error  { return nil }
func (canned) SetWriteDeadline(time.Time) error { return nil }

// parse reads an answer from bytes.
func parse(data []byte, method string) (string, error) {
	c := New(Config{MaxHeaderBytes: 4 << 10, MaxHeaders: 64, Dial: func(context.Context, string, string) (net.Conn, error) {
		return canned{r: bytes.NewReader(data)}, nil
	}})
	defer c.Close()
	_, body, err := fetch(c, "x", &backend.Request{Method: method, Path: "/"})
	return body, err
}

func FuzzResponse(f *testing.F) {
	for _, s := range []string{
		ok("hello"),
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\nA: b\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;a=b\r\nlo\r\n0\r\nT: v\r\n\r\n",
		"HTTP/1.0 404 x\r\nConnection: close, x\r\nContent-Length: 1\r\n\r\nab",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
	} {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, data []byte, headOnly bool) {
		method := "GET"
		if headOnly {
			method = "HEAD"
		}
		body, err := parse(data, method)
		if err != nil {
			if !errs.Is(err, errs.Unavailable) {
				t.Fatalf("%q: %v is not of kind unavailable", data, err)
			}
			return
		}
		if len(body) > len(data) {
			t.Fatalf("%q gave more than there is: %q", data, body)
		}
		// What is taken here means the same to a reader that is not ours, unless it
		// refuses it.
		theirs, err := readTheirs(data, method)
		if err == nil && theirs != body {
			t.Fatalf("%q is %q, and %q for net/http", data, body, theirs)
		}
	})
}

func readTheirs(data []byte, method string) (string, error) {
	r := bufio.NewReader(bytes.NewReader(data))
	for {
		resp, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			return "", err
		}
		if resp.StatusCode < 200 {
			continue
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return "", fmt.Errorf("body: %w", err)
		}
		return string(body), resp.Body.Close()
	}
}
