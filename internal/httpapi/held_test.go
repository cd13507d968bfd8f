package httpapi

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// However an answer comes in pieces, all of it goes out when the last has come, in one
// piece where it is small, and what comes behind it is not held.
func TestHolding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		body := strings.Repeat("\r\n\r\nb", rapid.IntRange(1, mostHeld/5).Draw(t, "body"))
		all := "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("h", rapid.IntRange(0, 2*heldRoom).Draw(t, "header")) + "\r\n\r\n" + body
		var h holding
		var out []byte
		pieces := 0
		h.begin(int64(len(body)))
		for rest := all; rest != ""; {
			n := min(rapid.SampledFrom([]int{1 << 20, 4096, 1000, len(all) / 3}).Draw(t, "piece")+1, len(rest))
			if !h.on {
				out = append(out, rest[:n]...) // as its connection does
			} else if p := h.take([]byte(rest[:n])); p != nil {
				out = append(out, p...)
				pieces++
				h.free()
			}
			rest = rest[n:]
		}
		if h.on || h.buf != nil || string(out) != all {
			t.Fatalf("%d of %d bytes went out, held is %v", len(out), len(all), h.on)
		}
		if pieces != 1 {
			t.Fatalf("in %d pieces", pieces)
		}
	})
	for _, length := range []int64{-1, 0, mostHeld + 1} {
		var h holding
		if h.begin(length); h.on {
			t.Errorf("an answer of %d bytes is held", length)
		}
	}
}

// counting counts the writes to the connections that it accepts.
type counting struct {
	net.Listener
	writes atomic.Int64
}

type countingConn struct {
	net.Conn
	n *atomic.Int64
}

func (l *counting) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return countingConn{c, &l.writes}, err
}
func (c countingConn) Write(p []byte) (int, error) { c.n.Add(1); return c.Conn.Write(p) }

// answering answers a GET of "/n" with n bytes, and does other things that an answer may
// come to.
func answering(w http.ResponseWriter, r *http.Request) {
	kind, size, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	n, _ := strconv.Atoi(size)
	body := []byte(strings.Repeat("x", n))
	w.Header().Set("X-Much", strings.Repeat("h", 600))
	if kind != "unknown" {
		w.Header().Set("Content-Length", strconv.Itoa(n))
	}
	switch kind {
	case "whole", "unknown":
		_, _ = w.Write(body)
	case "pieces":
		for len(body) > 0 {
			k := min(len(body), 1500)
			_, _ = w.Write(body[:k])
			body = body[k:]
		}
	case "none": // as with a HEAD, and 304
		w.WriteHeader(http.StatusNotModified)
	case "flushed":
		_, _ = w.Write(body[:1])
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	case "short":
		_, _ = w.Write(body[:n/2])
	case "panics":
		_, _ = w.Write(body[:n/2])
		panic("a bug")
	}
}

// An answer of up to 32 KiB leaves in one write, whatever becomes of its connection; one
// that has no length, or is flushed, leaves as it did; and one that is not whole never
// looks so.
func TestSmallAnswersLeaveInOneWrite(t *testing.T) {
	certFile, keyFile := filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	writePair(t, certFile, keyFile, 1)
	cert, err := LoadCertificate(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS %v", secure), func(t *testing.T) {
			tcp, err := Listen("127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			l := &counting{Listener: tcp}
			half, rest := make(chan struct{}), make(chan struct{})
			log := slog.New(slog.DiscardHandler)
			s := &Server{
				Name: "test", Listener: l, Log: log, NewID: func() string { return "tx" },
				Handler: Observe(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path != "/waits" {
						answering(w, r)
						return
					}
					w.Header().Set("Content-Length", "4000")
					_, _ = io.WriteString(w, strings.Repeat("x", 3000)) // more than net/http keeps
					close(half)
					<-rest
					_, _ = io.WriteString(w, strings.Repeat("x", 1000))
				}), Observed{Log: log, Silence: time.Minute}),
			}
			if secure {
				s.Certificate = cert
			}
			ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
			ended := make(chan error, 1)
			go func() { ended <- s.Run(ctx) }()
			dial := func() (net.Conn, *bufio.Reader) {
				t.Helper()
				c, err := net.Dial("tcp", tcp.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				if secure {
					c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
					if err := c.(*tls.Conn).Handshake(); err != nil {
						t.Fatal(err)
					}
				}
				t.Cleanup(func() { _ = c.Close() })
				_ = c.SetDeadline(time.Now().Add(time.Minute))
				return c, bufio.NewReader(c)
			}
			c, r := dial()
			ask := func(method, path, more string) (*http.Response, string, error) {
				t.Helper()
				if _, err := fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: h\r\n%s\r\n", method, path, more); err != nil {
					t.Fatal(err)
				}
				resp, err := http.ReadResponse(r, &http.Request{Method: method})
				if err != nil {
					return nil, "", err
				}
				body, err := io.ReadAll(resp.Body)
				return resp, string(body), err
			}
			if _, _, err := ask("GET", "/whole/1", ""); err != nil { // the first of TLS has other writes with it
				t.Fatal(err)
			}
			for _, tt := range []struct {
				method, path, more string
				body, writes       int
			}{
				{"GET", "/whole/4096", "", 4096, 1},
				{"GET", "/whole/100", "", 100, 1},
				{"GET", "/pieces/20000", "", 20000, 1},
				{"GET", "/pieces/32768", "Connection: keep-alive\r\n", 32768, 1},
				{"HEAD", "/whole/4096", "", 0, 1},
				{"GET", "/none/4096", "", 0, 1},
				{"GET", "/whole/0", "", 0, 1},
				{"GET", "/unknown/10", "", 10, 1},
				{"GET", "/whole/100000", "", 100000, -1},
				{"GET", "/whole/4096", "Connection: close\r\n", 4096, 1},
			} {
				before := l.writes.Load()
				resp, body, err := ask(tt.method, tt.path, tt.more)
				if err != nil || len(body) != tt.body {
					t.Fatalf("%s %s: %v, %d bytes, %v", tt.method, tt.path, resp, len(body), err)
				}
				if n := l.writes.Load() - before; tt.writes > 0 && !secure && // which begins with small records
					n != int64(tt.writes) {
					t.Errorf("%s %s %q: %d writes, want %d", tt.method, tt.path, tt.more, n, tt.writes)
				}
			}
			if n, err := r.ReadByte(); err == nil {
				t.Errorf("%q follows the end", n)
			}

			c, r = dial() // requests that came together
			if _, err := io.WriteString(c, strings.Repeat("GET /pieces/5000 HTTP/1.1\r\nHost: h\r\n\r\n", 5)); err != nil {
				t.Fatal(err)
			}
			for range 5 {
				resp, err := http.ReadResponse(r, nil)
				if err != nil {
					t.Fatal(err)
				}
				if body, err := io.ReadAll(resp.Body); err != nil || len(body) != 5000 {
					t.Errorf("%d bytes, %v", len(body), err)
				}
			}

			for _, path := range []string{"/short/4000", "/panics/4000"} {
				c, r = dial()
				if _, body, err := ask("GET", path, ""); err == nil {
					t.Errorf("%s: %d bytes look whole", path, len(body))
				}
			}

			c, r = dial() // what is flushed is there before the rest
			if _, err := io.WriteString(c, "GET /flushed/100 HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(err)
			}
			if n, err := io.ReadFull(resp.Body, make([]byte, 1)); err != nil {
				t.Errorf("%d bytes, %v", n, err)
			}
			_ = c.Close()

			c, r = dial() // one that is under way at the end
			if _, err := io.WriteString(c, "GET /waits HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			<-half
			cancel()
			close(rest)
			if resp, err = http.ReadResponse(r, nil); err != nil {
				t.Fatal(err)
			}
			if body, err := io.ReadAll(resp.Body); err != nil || len(body) != 4000 {
				t.Errorf("at the end: %d bytes, %v", len(body), err)
			}
			if err := <-ended; err != nil {
				t.Errorf("Run returned %v", err)
			}
		})
	}
}

// What an answer takes of buffers is no more than is said, to those who bound it.
func TestAnswerRoom(t *testing.T) {
	body, held := copyBuffers.Get().(*[]byte), heldBuffers.Get().(*[]byte)
	if n := cap(*body) + cap(*held); n > AnswerRoom {
		t.Errorf("buffers of %d bytes, want at most %d", n, AnswerRoom)
	}
	copyBuffers.Put(body)
	heldBuffers.Put(held)
}
