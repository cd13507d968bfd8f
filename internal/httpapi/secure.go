package httpapi

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

// Certificate is the certificate of a server, with its key, in two PEM files that may be exchanged while it serves.
type Certificate struct {
	certFile, keyFile string
	now               atomic.Pointer[loaded]
}

// loaded is what the files had at one time.
type loaded struct {
	cert        tls.Certificate
	text        string // of both
	notAfter    time.Time
	description string
}

// LoadCertificate reads the files. The first certificate is the server's own, those of who signed it follow.
func LoadCertificate(certFile, keyFile string) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile}
	l, err := c.load()
	if err != nil {
		return nil, err
	}
	c.now.Store(l)
	return c, nil
}

func (c *Certificate) load() (*loaded, error) {
	cert, err := os.ReadFile(c.certFile)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	key, err := os.ReadFile(c.keyFile)
	if err != nil {
		return nil, fmt.Errorf("key of the certificate: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s and key %s: %w", c.certFile, c.keyFile, err)
	}
	leaf := pair.Leaf
	if leaf == nil {
		if leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
			return nil, fmt.Errorf("certificate %s: %w", c.certFile, err)
		}
	}
	return &loaded{pair, string(cert) + string(key), leaf.NotAfter, fmt.Sprintf("serial %x of %s", leaf.SerialNumber, leaf.Subject)}, nil
}

// Reload reads the files again and reports whether they have another certificate now, which every new connection
// gets. Where they make no sense, as in the middle of an exchange, the old one stays in use.
func (c *Certificate) Reload() (changed bool, err error) {
	l, err := c.load()
	if err != nil {
		return false, err
	}
	if l.text == c.now.Load().text {
		return false, nil
	}
	c.now.Store(l)
	return true, nil
}

// NotAfter is the end of the certificate that is in use.
func (c *Certificate) NotAfter() time.Time { return c.now.Load().notAfter }

// String tells which certificate is in use.
func (c *Certificate) String() string {
	l := c.now.Load()
	return fmt.Sprintf("%s, until %s", l.description, l.notAfter.UTC().Format(time.RFC3339))
}

// secure accepts connections that speak TLS. The handshake is made by the first read, under the time that a client has for
// its header.
type secure struct {
	net.Listener
	config *tls.Config
}

// newSecure speaks HTTP/1.1 over TLS of at least the version: its clients have many connections, each with a stream
// that is a transfer, which HTTP/2 would put into one.
func newSecure(l net.Listener, c *Certificate, least uint16) secure {
	return secure{l, &tls.Config{
		MinVersion: max(least, tls.VersionTLS12), NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &c.now.Load().cert, nil },
	}}
}

// Accept returns the next connection, as a *tls.Conn.
func (l secure) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return tls.Server(c, l.config), nil
}

type secureKey struct{}

// registerSecure has requests say that they came by TLS. net/http does so by itself where it sees the connection, which is
// inside of others here.
func registerSecure(srv *http.Server) {
	before := srv.ConnContext
	srv.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if before != nil {
			ctx = before(ctx, c)
		}
		for {
			if t, ok := c.(*tls.Conn); ok {
				return context.WithValue(ctx, secureKey{}, t)
			}
			inner, ok := c.(interface{ NetConn() net.Conn })
			if !ok {
				return ctx
			}
			c = inner.NetConn()
		}
	}
	h := srv.Handler
	srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(secureKey{}).(*tls.Conn); ok && r.TLS == nil {
			state := c.ConnectionState()
			r.TLS = &state
		}
		h.ServeHTTP(w, r)
	})
}
