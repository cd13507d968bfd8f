package cluster

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"martlet/internal/httpapi"
)

// deaf is a listener whose connections are closed as they come.
type deaf struct{ net.Listener }

func (l deaf) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		_ = c.Close()
	}
}

// inMemory is a probe of which no storage node hears anything over the sockets of the storage network.
func inMemory(t *testing.T) *probe {
	p := startProbe(t)
	p.beside = true
	p.listen = func(server, address string) (net.Listener, error) {
		l, err := httpapi.Listen(address)
		if err == nil && (server == "object" || server == "container" || server == "account") {
			l = deaf{l}
		}
		return l, err
	}
	for n := range p.nodes {
		p.stop(n + 1)
		p.start(n + 1)
	}
	return p
}

// TestInMemory: what shares a process needs no sockets, unless a node does not want that.
func TestInMemory(t *testing.T) {
	p := inMemory(t)
	p.object("PUT", "o", nil, "body", 201)
	p.object("GET", "o", nil, "", 200)
	p.object("POST", "o", map[string]string{"X-Object-Meta-A": "b"}, "", 202)
	p.want("GET", p.url+"/c", nil, "", 200)
	p.object("DELETE", "o", nil, "", 204)
	p.object("GET", "o", nil, "", 404)
	for n := range p.nodes {
		p.stop(n + 1)
		p.configs[n].Server.InProcess = false
		p.start(n + 1)
	}
	p.object("PUT", "o", nil, "body", 503)
}

// TestNodesStopInTheMiddleOverMemory: a GET goes on from another replica where its node ends, at the same byte, and the node is found again when it is
// back.
func TestNodesStopInTheMiddleOverMemory(t *testing.T) {
	p := inMemory(t)
	body := randomText(24 << 20) // more than the buffers of a client's socket
	p.object("PUT", "large", nil, body, 201)
	r, err := http.NewRequestWithContext(t.Context(), "GET", p.url+"/c/large", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Auth-Token", p.token)
	resp, err := p.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got := make([]byte, len(body))
	read := func(from, to int) {
		t.Helper()
		if n, err := io.ReadFull(resp.Body, got[from:to]); err != nil {
			t.Fatalf("after %d bytes: %v", from+n, err)
		}
	}
	const piece = 1 << 20
	primaries, _ := p.places("large")
	for i, place := range primaries { // one of them is the one that answers
		read(i*piece, (i+1)*piece)
		p.stop(nodeAt(place))
		p.start(nodeAt(place))
	}
	read(len(primaries)*piece, len(got))
	if _, err := resp.Body.Read(make([]byte, 1)); err != io.EOF || resp.StatusCode != 200 {
		t.Errorf("%d, and at the end %v", resp.StatusCode, err)
	}
	if !bytes.Equal(got, []byte(body)) {
		t.Error("what came is not what was stored")
	}
}

// TestBrokenUploadOverMemory: an upload whose client goes away leaves nothing.
func TestBrokenUploadOverMemory(t *testing.T) {
	p := inMemory(t)
	half, broken := strings.NewReader(strings.Repeat("x", 3<<20)), errors.New("the client goes away")
	r, err := http.NewRequestWithContext(t.Context(), "PUT", p.url+"/c/broken", io.MultiReader(half, failing{broken}))
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = 6 << 20
	r.Header.Set("X-Auth-Token", p.token)
	if resp, err := p.client.Do(r); !errors.Is(err, broken) {
		t.Fatalf("%v, %v", resp, err)
	}
	for n := range p.nodes { // which ends what is under way
		p.stop(n + 1)
		p.start(n + 1)
	}
	p.exactly("broken", nil, nil)
	p.object("GET", "broken", nil, "", 404)
}

// failing is a reader that fails.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestHungNodeOverMemory: nobody waits for long for a node that takes connections and says nothing.
func TestHungNodeOverMemory(t *testing.T) {
	p := inMemory(t)
	p.object("PUT", "o", nil, "body", 201)
	primaries, _ := p.places("o")
	for _, place := range primaries {
		n := nodeAt(place)
		p.stop(n)
		l, err := p.memory.Listen(netip.AddrPortFrom(netip.MustParseAddr(p.configs[n-1].Server.Address), uint16(p.configs[n-1].Object.Port)))
		if err != nil {
			t.Fatal(err)
		}
		taken := make(chan net.Conn, 64) // what says nothing
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for c, err := l.Accept(); err == nil; c, err = l.Accept() {
				taken <- c
			}
		}()
		p.object("GET", "o", nil, "", 200)
		p.object("PUT", "o", nil, "body", 201)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if <-ended; len(taken) == 0 {
			t.Error("nobody has asked the node that hangs")
		}
		for close(taken); len(taken) > 0; {
			_ = (<-taken).Close() // nobody waits for it any more
		}
		p.start(n)
	}
}
