package direct

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/memnet"
)

// network is where scripted servers listen and clients look first; nil is that all goes over sockets.
var network *memnet.Network

// TestInMemory: what is true over sockets is true over connections in memory.
func TestInMemory(t *testing.T) {
	network = memnet.New()
	defer func() { network = nil }()
	for name, test := range map[string]func(*testing.T){
		"used again":            TestConnectionsAreUsedAgainOnlyWhereInOrder,
		"stale":                 TestStaleConnectionIsNotUsed,
		"repeats once":          TestRepeatsOnceOnNewConnection,
		"early refusal":         TestEarlyRefusalOfBody,
		"body that fails":       TestBodyThatFails,
		"answers taken":         TestAnswersThatAreTaken,
		"buffered":              TestBuffered,
		"answers refused":       TestAnswersThatAreRefused,
		"truncated":             TestEveryTruncation,
		"stream":                TestStreamWithTrailer,
		"stream aborted":        TestStreamAborted,
		"stream's trailer":      TestStreamTrailerRefused,
		"stream answered early": TestStreamAnsweredEarly,
		"answered before":       TestStreamAnsweredBeforeCommit,
		"node that goes away":   TestStreamOnNodeThatGoesAway,
		"stream begins again":   TestStreamBeginsAgainOnNewConnection,
		"abort of a write":      TestAbortInterruptsWrite,
		"cancelled":             TestCancelInterrupts,
		"close of a read":       TestCloseInterruptsRead,
		"silence":               TestSilenceWhileSending,
		"pending cancelled":     TestPendingIsCancelledAsItIsAnswered,
		"begin on a dead one":   TestBeginOnADeadConnection,
	} {
		t.Run(name, test)
	}
}

// scripted is a raw TCP server that does with its n-th connection (from 1) what
// a test says.
type scripted struct {
	addr  string
	conns atomic.Int64
}

func script(t testing.TB, serve func(n int, c net.Conn, r *bufio.Reader)) *scripted {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &scripted{addr: l.Addr().String()}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	if network != nil { // where nobody is told apart from one who comes over a socket
		beside, err := network.Listen(netip.MustParseAddrPort(s.addr))
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
		l = beside
	}
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			n := int(s.conns.Add(1))
			wg.Go(func() {
				defer func() { _ = c.Close() }()
				serve(n, c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return s
}

// request reads a request with its body and returns its head as bytes, "" at the
// connection's end.
func request(r *bufio.Reader) (head, body string) {
	var b strings.Builder
	for !strings.HasSuffix(b.String(), "\r\n\r\n") {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", ""
		}
		b.WriteString(line)
	}
	head = b.String()
	req, err := http.ReadRequest(bufio.NewReader(io.MultiReader(strings.NewReader(head), r)))
	if err != nil {
		return head, ""
	}
	if n := req.ContentLength; n > 0 && n < 1<<24 { // read past http's buffer, which may hold more
		p := make([]byte, req.ContentLength)
		n, _ := io.ReadFull(r, p)
		return head, string(p[:n])
	}
	return head, ""
}

// answers serves every request on a connection with the same bytes.
func answers(text string) func(int, net.Conn, *bufio.Reader) {
	return func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			if head, _ := request(r); head == "" {
				return
			}
			if _, err := io.WriteString(c, text); err != nil {
				return
			}
		}
	}
}

func client(t testing.TB, cfg Config) *Client {
	t.Helper()
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 5 * time.Second // the machine may be busy
	}
	if network != nil && cfg.Dial == nil {
		cfg.Dial = network.Dialer(nil)
	}
	c := New(cfg)
	t.Cleanup(c.Close)
	return c
}

func get() *backend.Request { return &backend.Request{Method: "GET", Path: "/d/1/a/c/o"} }

func put(body string) *backend.Request {
	return &backend.Request{Method: "PUT", Path: "/d/1/a/c/o", Length: int64(len(body)), Body: strings.NewReader(body)}
}

// fetch does a request and reads the whole answer.
func fetch(c *Client, addr string, r *backend.Request) (status int, body string, err error) {
	resp, err := c.Do(context.Background(), addr, r)
	if err != nil {
		return 0, "", err
	}
	body, err = slurp(resp)
	return resp.Status, body, err
}

func slurp(resp *backend.Response) (string, error) {
	if resp.Body == nil {
		return "", nil
	}
	text, err := io.ReadAll(resp.Body)
	if closeErr := resp.Body.Close(); err == nil {
		err = closeErr
	}
	return string(text), err
}

func mustFetch(t *testing.T, c *Client, addr string, r *backend.Request, status int, body string) {
	t.Helper()
	gotStatus, gotBody, err := fetch(c, addr, r)
	if err != nil || gotStatus != status || gotBody != body {
		t.Fatalf("%s %s gave %d, %.100q, %v, want %d, %.100q", r.Method, r.Path, gotStatus, gotBody, err, status, body)
	}
}

// webServer is a real HTTP server; it returns its address.
func webServer(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// until polls a condition that has to come true.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range 10000 {
		if ok() {
			return
		}
		<-tick.C
	}
	t.Fatalf("never: %s", what)
}

// zeros is an endless body of which nothing can be read again.
type zeros struct{ n atomic.Int64 }

func (z *zeros) Read(p []byte) (int, error) {
	clear(p)
	z.n.Add(int64(len(p)))
	return len(p), nil
}

func ok(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}
