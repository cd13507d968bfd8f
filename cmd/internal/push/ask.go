package push

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"time"

	"martlet/internal/backend"
	"martlet/internal/clusterkey"
	"martlet/internal/direct"
	"martlet/internal/errs"
	"martlet/internal/hosts"
	"martlet/internal/ringpush"
)

// connectWithin is how long a connection may take.
const connectWithin = 3 * time.Second

// An address is where a process can be reached.
type address struct {
	text  string // as a ring has it, or the URL of a proxy
	at    string // host:port
	tls   bool
	proxy bool
}

// proxyAt reads the URL of a proxy.
func proxyAt(text string) (address, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return address{}, fmt.Errorf("--proxy %s: is not of the form http://HOST:PORT or https://HOST:PORT", text)
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return address{text: u.Scheme + "://" + u.Host, at: net.JoinHostPort(u.Hostname(), port), tls: u.Scheme == "https", proxy: true}, nil
}

// asker speaks to processes.
type asker struct {
	plain, secure *direct.Client
	keys          *clusterkey.Source
	within        time.Duration
	lookup        hosts.Lookup
}

func newAsker(keys *clusterkey.Source, within time.Duration) *asker {
	cfg := direct.Config{ConnectTimeout: connectWithin, NodeTimeout: within, UserAgent: "martlet-ring-push"}
	over := cfg
	over.Dial = (&tls.Dialer{Config: &tls.Config{
		MinVersion: tls.VersionTLS12,
		// A proxy is asked by its own address, and its certificate is for the name that clients use. Who it
		// is shows in the signature of its answer, and what is sent to it is signed as well.
		InsecureSkipVerify: true, //nolint:gosec // see there
	}}).DialContext
	return &asker{plain: direct.New(cfg), secure: direct.New(over), keys: keys, within: within, lookup: hosts.System}
}

func (a *asker) close() {
	a.plain.Close()
	a.secure.Close()
}

// report asks whoever is at an address what it runs.
func (a *asker) report(ctx context.Context, to address) (r ringpush.Report, err error) {
	err = a.each(ctx, to, func(ctx context.Context, at string) error {
		return a.do(ctx, to, at, &backend.Request{Method: "GET", Path: ringpush.Path}, &r)
	})
	return r, err
}

// send hands a ring to a process at an address.
func (a *asker) send(ctx context.Context, to address, process string, ring *Ring) (t ringpush.Taken, err error) {
	err = a.each(ctx, to, func(ctx context.Context, at string) error {
		return a.do(ctx, to, at, &backend.Request{
			Method: "PUT", Path: ringpush.Path + "/" + ring.Name, Length: int64(len(ring.file)), Body: bytes.NewReader(ring.file),
			Header: backend.Header{{Name: ringpush.ProcessHeader, Value: process}, {Name: ringpush.ChecksumHeader, Value: ring.Checksum}},
		}, &t)
	})
	return t, err
}

// each tries the addresses behind a host name, one after the other, until one answers. A storage node
// knows itself by its address, and its name perhaps not before it has the ring that has it; a proxy
// knows neither, and is asked as the operator has written it.
func (a *asker) each(ctx context.Context, to address, f func(ctx context.Context, at string) error) error {
	ctx, stop := context.WithTimeoutCause(ctx, a.within, fmt.Errorf("no answer within %v", a.within))
	defer stop()
	host, port, err := net.SplitHostPort(to.at)
	if err != nil {
		return err
	}
	if _, err := netip.ParseAddr(host); err == nil || to.proxy {
		return f(ctx, to.at)
	}
	all, err := a.lookup(ctx, host)
	if err == nil && len(all) == 0 {
		err = errors.New("it has no address")
	}
	for _, one := range all {
		if err = f(ctx, net.JoinHostPort(one.Unmap().String(), port)); err == nil || !errs.Is(err, errs.Unavailable) {
			break
		}
	}
	return err
}

func (a *asker) do(ctx context.Context, to address, at string, r *backend.Request, into any) error {
	client := a.plain
	if to.tls {
		client = a.secure
	}
	resp, err := (&clusterkey.Sender{Next: client, Keys: a.keys}).Do(ctx, at, r)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	defer func() { _ = resp.Body.Close() }() // it was only read from
	body, err := io.ReadAll(io.LimitReader(resp.Body, ringpush.MaxReport))
	switch {
	case err != nil:
		return err
	case resp.Status != 200:
		return refusedError{resp.Status, string(bytes.TrimSpace(body))}
	}
	return json.Unmarshal(body, into)
}

// plainly is an error without what its text need not say beside the name of the process.
func plainly(err error) string {
	var e *errs.Error
	for errors.As(err, &e) && e.Err != nil && e.Public == "" {
		err = e.Err
	}
	return err.Error()
}

// refusedError is what a process says that could be reached, and does not do it.
type refusedError struct {
	status int
	text   string
}

func (e refusedError) Error() string { return fmt.Sprintf("%s (%d)", e.text, e.status) }
