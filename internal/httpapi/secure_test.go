package httpapi

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writePair writes a certificate for 127.0.0.1 that signs itself, with a serial number, and its key.
func writePair(t *testing.T, certFile, keyFile string, serial int64) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// A server speaks TLS, its handlers know that it does, and a certificate that is exchanged holds for what connects after.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	roots := x509.NewCertPool()
	roots.AddCert(writePair(t, certFile, keyFile, 1))
	cert, err := LoadCertificate(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := &Server{
		Name: "test", Listener: l, Log: slog.New(slog.DiscardHandler), NewID: func() string { return "tx1" }, Certificate: cert,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.TLS == nil || r.ProtoMajor != 1 {
				http.Error(w, "plain, or not HTTP/1", http.StatusTeapot)
				return
			}
			body, _ := io.ReadAll(r.Body)
			_, _ = w.Write(body)
		}),
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	// ask makes a request on a connection of its own, or the one that there is, and returns the serial of the certificate.
	client := func(most uint16) *http.Client {
		tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS10, MaxVersion: most}}
		t.Cleanup(tr.CloseIdleConnections)
		return &http.Client{Transport: tr}
	}
	ask := func(c *http.Client) (serial int64) {
		t.Helper()
		body := strings.Repeat("body", 100_000)
		resp, err := c.Post("https://"+l.Addr().String()+"/", "text/plain", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 200 || string(got) != body {
			t.Fatalf("%s, %d bytes, %v", resp.Status, len(got), err)
		}
		return resp.TLS.PeerCertificates[0].SerialNumber.Int64()
	}
	first := client(0)
	if got := ask(first); got != 1 {
		t.Errorf("the first certificate is %d", got)
	}
	if _, err := client(tls.VersionTLS11).Get("https://" + l.Addr().String()); err == nil {
		t.Error("TLS 1.1 was spoken")
	}
	if _, err := http.Get("http://" + l.Addr().String()); err == nil {
		t.Error("plain HTTP was spoken")
	}
	if changed, err := cert.Reload(); changed || err != nil {
		t.Errorf("nothing changed, and Reload is %v, %v", changed, err)
	}

	// In the middle of an exchange the two don't belong together.
	old, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	roots.AddCert(writePair(t, certFile, keyFile, 2))
	fresh, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(keyFile, old, 0o600); err != nil {
		t.Fatal(err)
	}
	if changed, err := cert.Reload(); changed || err == nil {
		t.Errorf("a key of another certificate: %v, %v", changed, err)
	}
	if got := ask(client(0)); got != 1 {
		t.Errorf("after a failed exchange the certificate is %d", got)
	}
	if err := os.WriteFile(keyFile, fresh, 0o600); err != nil {
		t.Fatal(err)
	}
	if changed, err := cert.Reload(); !changed || err != nil {
		t.Errorf("after the exchange: %v, %v", changed, err)
	}
	if got := ask(client(0)); got != 2 {
		t.Errorf("after the exchange the certificate is %d", got)
	}
	if got := ask(first); got != 1 {
		t.Errorf("a connection from before the exchange has %d now", got)
	}
	first.CloseIdleConnections()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
