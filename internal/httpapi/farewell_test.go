package httpapi

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// oncePipes is pipes that may be closed more than once, as a socket may.
type oncePipes struct {
	pipes
	once *sync.Once
}

func (p oncePipes) Close() error {
	p.once.Do(func() { close(p.pipes) })
	return nil
}

// Where another process serves, every client is told that its connection ends, those that ask to keep it, too: Swift's do.
func TestFarewell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := oncePipes{make(pipes), new(sync.Once)}
		s := &Server{
			Name: "test", Listener: l, Log: slog.New(slog.DiscardHandler),
			Handler: Observe(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }), Observed{Log: slog.New(slog.DiscardHandler)}),
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		ended := make(chan error)
		go func() { ended <- s.Run(ctx) }()
		said := func(v *visitor) string {
			t.Helper()
			if _, err := io.WriteString(v, "GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(v.r, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.Close {
				return "close"
			}
			return resp.Header.Get("Connection")
		}
		v := l.visit()
		if got := said(v); got != "keep-alive" {
			t.Errorf("before it is %q", got)
		}
		cancel(ErrHandedOver)
		synctest.Wait()
		if got := said(v); got != "close" {
			t.Errorf("after another process has taken over it is %q, want close", got)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// A client that reads nothing holds up nobody when its connection makes room for another one: TLS would say farewell to it,
// for five seconds.
func TestSecureConnectionsMakeRoom(t *testing.T) {
	certFile, keyFile := filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	writePair(t, certFile, keyFile, 1)
	cert, err := LoadCertificate(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		c, err := NewConnections(prometheus.NewRegistry(), "test", 1, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		client, server := net.Pipe()
		defer client.Close()
		over := tls.Server(server, newSecure(nil, cert, 0).config)
		told := make(chan error)
		go func() {
			told <- tls.Client(client, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}).Handshake()
		}()
		if err := over.Handshake(); err != nil {
			t.Fatal(err)
		}
		if err := <-told; err != nil {
			t.Fatal(err)
		}
		first := &namedConn{Conn: over}
		if !c.take(first) {
			t.Fatal("there was no room")
		}
		c.state(first, http.StateActive)
		c.state(first, http.StateIdle)
		began := time.Now()
		_, second := net.Pipe()
		if !c.take(second) {
			t.Error("no room was made")
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("all waited %v for a client that reads nothing", took)
		}
		if _, err := client.Read(make([]byte, 1)); err == nil {
			t.Error("its connection is open")
		}
	})
}
