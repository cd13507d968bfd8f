package httpapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"martlet/internal/splice"
)

// socketBody is a body that comes from a socket, and counts how.
type socketBody struct {
	net.Conn
	raw          syscall.RawConn
	read, moved  *atomic.Int64
	unableBefore int64 // how much of it has to be read
}

func (b *socketBody) Read(p []byte) (int, error) {
	n, err := b.Conn.Read(p[:min(len(p), 100_000)])
	b.read.Add(int64(n))
	return n, err
}

func (b *socketBody) Splice(p *splice.Pipe) (int, error) {
	if b.read.Load() < b.unableBefore {
		return 0, splice.ErrUnable
	}
	n, err := p.Fill(b.raw, 1<<20)
	b.moved.Add(int64(n))
	return n, err
}

// feed makes a connection on which data comes, and then its end.
func feed(t *testing.T, data []byte) net.Conn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	from, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	to, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = from.Write(data)
		_ = from.Close()
	}()
	t.Cleanup(func() { _ = to.Close() })
	return to
}

// A large body that comes from a socket goes to one past the memory of the process, and is the same; connections are of use
// for what follows, counts are right, and what is not whole never looks so. Over TLS it is copied.
func TestLargeBodiesAreSpliced(t *testing.T) {
	certFile, keyFile := filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	writePair(t, certFile, keyFile, 1)
	cert, err := LoadCertificate(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 6<<20+11)
	for i := range data {
		data[i] = byte(i * i >> 7)
	}
	for _, secure := range []bool{false, true} {
		var read, moved atomic.Int64
		sent := make(chan int64, 1)
		h := Observe(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var size, came, unable int64
			_, _ = fmt.Sscanf(r.URL.Path, "/%d/%d/%d", &size, &came, &unable)
			src := feed(t, data[:came])
			raw, _ := src.(syscall.Conn).SyscallConn()
			w.Header().Set("Content-Length", fmt.Sprint(size))
			err := CopyBody(r.Context(), w, &socketBody{src, raw, &read, &moved, unable}, size)
			sent <- w.(*Writer).Sent()
			if err != nil {
				panic(http.ErrAbortHandler)
			}
		}), Observed{Silence: time.Minute, LeastPace: 1, Pressed: func() bool { return true }, Log: slog.New(slog.DiscardHandler)})
		l, err := Listen("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := &Server{Name: "test", Listener: l, Handler: h, Log: slog.New(slog.DiscardHandler), NewID: func() string { return "tx" }}
		scheme := "http"
		if secure {
			s.Certificate, scheme = cert, "https"
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: false}} //nolint:gosec // the certificate is the test's own
		for _, tt := range []struct{ size, came, unable, most int64 }{                                                                       // most: how much of it is read where it can be moved
			{100 << 10, 100 << 10, 0, 100 << 10},
			{1 << 20, 1 << 20, 0, copyBlock},
			{6<<20 + 11, 6<<20 + 11, 0, copyBlock},
			{6<<20 + 11, 6<<20 + 11, 1 << 20, 1<<20 + copyBlock},
			{6 << 20, 6<<20 - 1, 0, copyBlock},
		} {
			read.Store(0)
			moved.Store(0)
			resp, err := client.Get(fmt.Sprintf("%s://%s/%d/%d/%d", scheme, l.Addr(), tt.size, tt.came, tt.unable))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if whole := tt.came == tt.size; (err == nil) != whole || !errors.Is(err, io.ErrUnexpectedEOF) && !whole || !bytes.HasPrefix(data[:tt.came], got) || whole && int64(len(got)) != tt.size {
				t.Errorf("TLS %v, %v: %d bytes came, %v", secure, tt, len(got), err)
			}
			if n := <-sent; n != tt.came {
				t.Errorf("TLS %v, %v: %d bytes are said to have been sent", secure, tt, n)
			}
			if r, m := read.Load(), moved.Load(); r+m != tt.came || secure && m > 0 || !secure && r > tt.most {
				t.Errorf("TLS %v, %v: %d bytes were read, %d moved", secure, tt, r, m)
			}
		}
		client.CloseIdleConnections()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// A client that takes nothing of a body that is moved is given up after the time that it may be silent for.
func TestSpliceToWhoTakesNothing(t *testing.T) {
	result := make(chan error, 1)
	h := Observe(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		src := feed(t, make([]byte, 64<<20))
		raw, _ := src.(syscall.Conn).SyscallConn()
		w.Header().Set("Content-Length", fmt.Sprint(64<<20))
		result <- CopyBody(r.Context(), w, &socketBody{src, raw, new(atomic.Int64), new(atomic.Int64), 0}, 64<<20)
		panic(http.ErrAbortHandler)
	}), Observed{Silence: 200 * time.Millisecond, Log: slog.New(slog.DiscardHandler)})
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Name: "test", Listener: l, Handler: h, Log: slog.New(slog.DiscardHandler), NewID: func() string { return "tx" }}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := io.Copy(c, strings.NewReader("GET / HTTP/1.1\r\nHost: h\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-result:
		if ne := net.Error(nil); !errors.As(err, &ne) || !ne.Timeout() {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("it is waited for")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
