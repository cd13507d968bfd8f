package swift

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"martlet/cmd/internal/bench/sigv4"
	"martlet/internal/backend"
	"martlet/internal/direct"
	"martlet/internal/errs"
	"martlet/internal/name"
)

// connectWithin limits the making of a connection.
const connectWithin = 10 * time.Second

// Options say how a client behaves.
type Options struct {
	Endpoints   []string      // instead of the host of the storage URL: http://HOST:PORT each
	Connections int           // how many may be kept
	Timeout     time.Duration // the longest silence
	Agent       string
}

// Check says which endpoint makes no sense.
func (o Options) Check() error {
	for _, e := range o.Endpoints {
		u, err := base(e)
		if err != nil {
			return err
		}
		if strings.Trim(u.Path, "/") != "" {
			return fmt.Errorf("%q: an endpoint is a host, without a path", e)
		}
	}
	return nil
}

// A Client is an account that was signed in to. It is safe for concurrent use; its
// Senders are not.
type Client struct {
	creds     Credentials
	path      string // of the account, quoted
	endpoints []endpoint

	mu    sync.Mutex
	token string // mu
}

// endpoint is one host.
type endpoint struct {
	addr   string // that is dialled
	host   string // as it is named in requests, and signed
	client *direct.Client
}

// Open signs in.
func Open(ctx context.Context, c Credentials, o Options) (*Client, error) {
	if c.S3 != nil {
		return openS3(c, o)
	}
	got, err := c.signIn(ctx)
	if err != nil {
		return nil, err
	}
	storage, err := base(got.storage)
	if err != nil {
		return nil, err
	}
	client := &Client{creds: c, path: strings.TrimSuffix(storage.EscapedPath(), "/"), token: got.token}
	hosts, err := o.hosts(storage)
	if err != nil {
		return nil, err
	}
	for _, u := range hosts {
		client.endpoints = append(client.endpoints, newEndpoint(u, o))
	}
	return client, nil
}

// hosts are the endpoints, or else that of what they stand for.
func (o Options) hosts(usual *url.URL) ([]*url.URL, error) {
	if len(o.Endpoints) == 0 {
		return []*url.URL{usual}, nil
	}
	var hosts []*url.URL
	for _, text := range o.Endpoints {
		u, err := base(text)
		if err != nil {
			return nil, err
		}
		hosts = append(hosts, u)
	}
	return hosts, nil
}

func newEndpoint(u *url.URL, o Options) endpoint {
	usual := "80" // the port of the scheme, which clients leave out of the name of the host
	if u.Scheme == "https" {
		usual = "443"
	}
	port := cmp.Or(u.Port(), usual)
	addr := net.JoinHostPort(u.Hostname(), port)
	host := addr
	if port == usual {
		host = strings.TrimSuffix(addr, ":"+port)
	}
	cfg := direct.Config{ConnectTimeout: connectWithin, NodeTimeout: o.Timeout, MaxIdlePerAddr: o.Connections, IdleTimeout: time.Minute, UserAgent: o.Agent, Host: host}
	if u.Scheme == "https" {
		dialer := tls.Dialer{Config: &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12}}
		cfg.Dial = dialer.DialContext
	}
	return endpoint{addr, host, direct.New(cfg)}
}

// Close closes the connections.
func (c *Client) Close() {
	for _, e := range c.endpoints {
		e.client.Close()
	}
}

// Addresses are the hosts that requests go to.
func (c *Client) Addresses() []string {
	var all []string
	for _, e := range c.endpoints {
		all = append(all, e.addr)
	}
	return all
}

func (c *Client) currentToken() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.token
}

// renew signs in again where the token is still the one that was refused.
func (c *Client) renew(ctx context.Context, refused string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.token != refused {
		return c.token, nil
	}
	if c.creds.Token != "" {
		return "", errors.New("the token is not accepted")
	}
	got, err := c.creds.signIn(ctx) // the others wait: with this token nothing would come of what they send
	if err != nil {
		return "", err
	}
	c.token = got.token
	return c.token, nil
}

// A Sender sends requests, one at a time. It is for one goroutine.
type Sender struct {
	client *Client
	turn   int
	token  string
	signer sigv4.Signer // of S3
	path   []byte
	header backend.Header
	buf    []byte
}

// Sender makes one. Each begins with another endpoint, and goes round them.
func (c *Client) Sender(n int) *Sender {
	s := &Sender{client: c, turn: n, token: c.currentToken(), buf: make([]byte, 64<<10)}
	if c.creds.S3 != nil {
		s.signer = sigv4.Signer{Access: c.creds.User, Secret: c.creds.Key, Region: c.creds.S3.Region}
	}
	return s
}

// A Request is what to send.
type Request struct {
	Method            string
	Container, Object string
	List              *Listing // what is wanted of a GET of an account or container
	Header            backend.Header
	Length            int64
	Body              io.ReadSeeker
}

// A Listing is a page of names.
type Listing struct {
	JSON           bool // with all that is known of each, or else names alone, a line each
	Limit          int
	Prefix, Marker string
}

func (l *Listing) query() string {
	q := "limit=" + strconv.Itoa(l.Limit) + "&marker=" + escape(l.Marker)
	if l.JSON {
		q += "&format=json"
	} else {
		q += "&format=plain"
	}
	if l.Prefix != "" {
		q += "&prefix=" + escape(l.Prefix)
	}
	return q
}

// An Answer is what came back.
type Answer struct {
	Status int
	ETag   string // without quotes
	Length int64  // as was announced; -1 if it was not
	Bytes  int64  // of a body, that came
}

// Do sends a request, and hands the pieces of the answer's body to each, if that is not
// nil. An error means that there was no whole answer. A token that is not accepted
// any more is renewed, and the request sent again.
func (s *Sender) Do(ctx context.Context, r Request, each func([]byte)) (Answer, error) {
	if s.client.creds.S3 != nil {
		return s.doS3(ctx, r, each)
	}
	a, err := s.once(ctx, r, each)
	if err != nil || a.Status != 401 {
		return a, err
	}
	token, err := s.client.renew(ctx, s.token)
	if err != nil {
		return a, nil //nolint:nilerr // the answer is that the token was refused
	}
	s.token = token
	if r.Body != nil {
		if _, err := r.Body.Seek(0, io.SeekStart); err != nil {
			return a, err
		}
	}
	return s.once(ctx, r, each)
}

func (s *Sender) once(ctx context.Context, r Request, each func([]byte)) (Answer, error) {
	s.path = append(s.path[:0], s.client.path...)
	if r.Container != "" {
		s.path = append(append(s.path, '/'), r.Container...)
	}
	if r.Object != "" {
		s.path = append(append(s.path, '/'), r.Object...)
	}
	s.header = append(append(s.header[:0], backend.Field{Name: "X-Auth-Token", Value: s.token}), r.Header...)
	out := backend.Request{Method: r.Method, Path: string(s.path), Header: s.header, Length: r.Length}
	if r.List != nil {
		out.Query = r.List.query()
	}
	if r.Body != nil {
		out.Body = r.Body
	}
	return s.send(ctx, s.next(), &out, each)
}

// next is the endpoint whose turn it is.
func (s *Sender) next() *endpoint {
	e := &s.client.endpoints[s.turn%len(s.client.endpoints)]
	s.turn++
	return e
}

// send sends what is ready to be sent.
func (s *Sender) send(ctx context.Context, e *endpoint, out *backend.Request, each func([]byte)) (Answer, error) {
	resp, err := e.client.Do(ctx, e.addr, out)
	if err != nil {
		return Answer{}, err
	}
	a := Answer{Status: resp.Status, ETag: strings.Trim(resp.Header.Get(backend.ETag), `"`), Length: resp.Length}
	if resp.Body == nil {
		return a, nil
	}
	for {
		n, err := resp.Body.Read(s.buf)
		a.Bytes += int64(n)
		if each != nil && n > 0 && resp.Status/100 == 2 {
			each(s.buf[:n])
		}
		if err == nil {
			continue
		}
		closed := resp.Body.Close()
		if !errors.Is(err, io.EOF) {
			return a, err
		}
		return a, closed
	}
}

// Quote makes a name fit for a path.
func Quote(text string) string { return name.Quote(text) }

// Why says in a word or two why there was no answer: one of a few, to be counted by.
func Why(err error) string {
	switch {
	case errors.Is(err, direct.ErrTimeout):
		return "timeout"
	case errs.Is(err, errs.Aborted), errors.Is(err, context.Canceled):
		return "cut off at the end"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, direct.ErrProtocol):
		return "malformed answer"
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "connection broken"
	}
	return "other"
}
