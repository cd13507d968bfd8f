package replicator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/device"
	"martlet/internal/errs"
	"martlet/internal/httpapi"
	"martlet/internal/name"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
	"martlet/internal/vfs"
)

// echo is a kind that says what it was called with.
type echo struct {
	pass func(ctx context.Context, device string, t *Tally)
}

func (echo) Name() string { return "object" }

func (echo) Primary(c *Call) bool { return c.Device == "d1" }

func (echo) Held(_ context.Context, device string) ([]Held, error) {
	if device == "d2" {
		return []Held{{Kind: "object", Partitions: 1}}, errors.New("cut short")
	}
	return []Held{{Kind: "object", Partitions: 3, Handoffs: 1}}, nil
}

func (echo) Serve(_ context.Context, c *Call) (*backend.Response, error) {
	text := fmt.Sprintf("%s %s %d/%d %q %s-%s", c.Method, c.Device, c.Partition, c.PartPower, c.Path.String(), c.From, c.To)
	if c.Whole {
		text = fmt.Sprintf("%s %s %d/%d %q whole", c.Method, c.Device, c.Partition, c.PartPower, c.Path.String())
	}
	return &backend.Response{Status: 200, Length: int64(len(text)), Body: io.NopCloser(strings.NewReader(text))}, nil
}

func (e echo) Pass(ctx context.Context, device string, _ timestamp.T, t *Tally) {
	if e.pass != nil {
		e.pass(ctx, device, t)
	}
}

// devices makes a node's devices d1 and d2, and one that is missing.
func devices(t testing.TB) *device.Set {
	t.Helper()
	root := t.TempDir()
	for _, d := range []string{"d1", "d2"} {
		if err := os.Mkdir(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	set, err := device.NewSet(vfs.OS, root, []string{"d1", "d2", "missing"})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func newReplicator(t testing.TB, kind Kind, peer func(netip.Addr) bool, log *slog.Logger) *Replicator {
	t.Helper()
	r, err := New(Deps{Devices: devices(t), Kinds: []Kind{kind}, NodeID: NewNodeID(), Peer: peer, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// safe is a buffer that a logger and a test share.
type safe struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *safe) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *safe) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.buf.Reset()
	return s.buf.String()
}

// serve listens for a replicator and returns the address.
func serve(t testing.TB, r *Replicator) string {
	t.Helper()
	l, err := httpapi.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	s := httpapi.Server{
		Name: "replication", Listener: l, Log: quiet, Drain: time.Second,
		Handler: httpapi.Observe(httpapi.Backend(r, quiet), httpapi.Observed{Server: "replication", Silence: 5 * time.Second, Log: quiet}),
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

const zeros, effs = "00000000000000000000000000000000", "ffffffffffffffffffffffffffffffff"

// What is no request of a peer is refused with a status that says why, logged with
// who sent it, and never reaches a kind.
func TestServe(t *testing.T) {
	var log safe
	r := newReplicator(t, echo{}, func(a netip.Addr) bool { return a == netip.MustParseAddr("127.0.0.1") }, slog.New(slog.NewTextHandler(&log, nil)))
	address := serve(t, r)
	good := map[string]string{replwire.KindHeader: "object", replwire.PartPowerHeader: "4", replwire.ReplicationHeader: "true"}
	with := func(key, value string) map[string]string {
		h := map[string]string{}
		for k, v := range good {
			h[k] = v
		}
		if h[key] = value; value == "" {
			delete(h, key)
		}
		return h
	}
	for what, tt := range map[string]struct {
		method, path string
		header       map[string]string
		body         io.Reader
		want         int
		says         string
	}{
		"list":                {"REPLICATE", "/d1/3", good, nil, 200, `REPLICATE d1 3/4 "/" 30000000` + zeros[8:] + "-3fffffff" + effs[8:]},
		"range":               {"REPLICATE", "/d1/0?from=01" + zeros[2:] + "&to=0f" + effs[2:], good, nil, 200, "01000000" + zeros[8:] + "-0fffffff" + effs[8:]},
		"all of part power 1": {"REPLICATE", "/d2/1", with(replwire.PartPowerHeader, "1"), nil, 200, "80000000" + zeros[8:] + "-" + effs},
		"part power 32":       {"REPLICATE", "/d2/4294967295", with(replwire.PartPowerHeader, "32"), nil, 200, "ffffffff" + zeros[8:] + "-" + effs},
		"push":                {"PUT", "/d1/3/a/c/o%2F", good, strings.NewReader("x"), 200, `PUT d1 3/4 "/a/c/o/"`},
		"account":             {"POST", "/d1/3/a", good, nil, 200, `POST d1 3/4 "/a"`},
		"delete":              {"DELETE", "/d1/3/a/c", good, nil, 200, `DELETE d1`},

		"question":                {"REPLICATE", "/d1", good, strings.NewReader("x"), 200, `REPLICATE d1 0/4 "/" whole`},
		"many pushes":             {"PUT", "/d1", good, strings.NewReader("x"), 200, `PUT d1 0/4 "/" whole`},
		"question about nothing":  {"REPLICATE", "/d2", good, nil, 400, ""},
		"question to no device":   {"REPLICATE", "/", good, strings.NewReader("x"), 400, ""},
		"question to a range":     {"REPLICATE", "/d1?from=" + zeros, good, strings.NewReader("x"), 400, ""},
		"question too long":       {"REPLICATE", "/d1", good, strings.NewReader(strings.Repeat("x", replwire.MaxList+1)), 413, ""},
		"question of no length":   {"REPLICATE", "/d1", good, struct{ io.Reader }{strings.NewReader("x")}, 411, ""},
		"question elsewhere":      {"REPLICATE", "/d9", good, strings.NewReader("x"), 507, ""},
		"no pushes":               {"PUT", "/d1", good, nil, 400, ""},
		"pushes too long":         {"PUT", "/d1", good, strings.NewReader(strings.Repeat("x", replwire.MaxPushBytes+1)), 413, ""},
		"pushes without the mark": {"PUT", "/d1", with(replwire.ReplicationHeader, ""), strings.NewReader("x"), 400, ""},
		"POST of a device":        {"POST", "/d1", good, strings.NewReader("x"), 400, ""},
		"DELETE of a device":      {"DELETE", "/d1", good, nil, 400, ""},

		"GET":                     {"GET", "/d1/3/a/c/o", good, nil, 405, ""},
		"HEAD of a list":          {"OPTIONS", "/d1/3", good, nil, 405, ""},
		"SSYNC":                   {"SSYNC", "/d1/3", good, nil, 405, ""},
		"no kind":                 {"REPLICATE", "/d1/3", with(replwire.KindHeader, ""), nil, 400, ""},
		"another kind":            {"REPLICATE", "/d1/3", with(replwire.KindHeader, "container"), nil, 400, ""},
		"no part power":           {"REPLICATE", "/d1/3", with(replwire.PartPowerHeader, ""), nil, 400, ""},
		"part power 0":            {"REPLICATE", "/d1/0", with(replwire.PartPowerHeader, "0"), nil, 400, ""},
		"part power 33":           {"REPLICATE", "/d1/0", with(replwire.PartPowerHeader, "33"), nil, 400, ""},
		"part power -1":           {"REPLICATE", "/d1/0", with(replwire.PartPowerHeader, "-1"), nil, 400, ""},
		"partition beyond":        {"REPLICATE", "/d1/16", good, nil, 400, ""},
		"partition beyond 32 bit": {"REPLICATE", "/d1/4294967296", good, nil, 400, ""},
		"no partition":            {"REPLICATE", "/d1", good, nil, 400, ""},
		"empty partition":         {"REPLICATE", "/d1/", good, nil, 400, ""},
		"negative partition":      {"REPLICATE", "/d1/-1", good, nil, 400, ""},
		"list of a path":          {"REPLICATE", "/d1/3/a/c/o", good, nil, 400, ""},
		"no device":               {"REPLICATE", "//3", good, nil, 400, ""},
		"device with a slash":     {"REPLICATE", "/d1%2F../3", good, nil, 400, ""},
		"device that isn't here":  {"REPLICATE", "/d9/3", good, nil, 507, ""},
		"device that is missing":  {"REPLICATE", "/missing/3", good, nil, 507, ""},
		"list with a body":        {"REPLICATE", "/d1/3", good, strings.NewReader("x"), 400, ""},
		"from outside":            {"REPLICATE", "/d1/3?from=" + zeros, good, nil, 400, ""},
		"to outside":              {"REPLICATE", "/d1/3?to=" + effs, good, nil, 400, ""},
		"from after to":           {"REPLICATE", "/d1/0?from=02" + zeros[2:] + "&to=01" + zeros[2:], good, nil, 400, ""},
		"from is no hash":         {"REPLICATE", "/d1/0?from=xyz", good, nil, 400, ""},
		"from twice":              {"REPLICATE", "/d1/0?from=" + zeros + "&from=" + zeros, good, nil, 400, ""},
		"unknown query":           {"REPLICATE", "/d1/0?limit=1", good, nil, 400, ""},
		"garbled query":           {"REPLICATE", "/d1/0?from=%zz", good, nil, 400, ""},
		"push without the mark":   {"PUT", "/d1/3/a/c/o", with(replwire.ReplicationHeader, ""), strings.NewReader("x"), 400, ""},
		"push with another mark":  {"PUT", "/d1/3/a/c/o", with(replwire.ReplicationHeader, "yes"), strings.NewReader("x"), 400, ""},
		"push of no length":       {"PUT", "/d1/3/a/c/o", good, struct{ io.Reader }{strings.NewReader("x")}, 411, ""},
		"push with a query":       {"PUT", "/d1/3/a/c/o?x", good, nil, 400, ""},
		"push beyond":             {"PUT", "/d1/16/a/c/o", good, nil, 400, ""},
		"push of nothing":         {"PUT", "/d1/3", good, nil, 400, ""},
		"push of no UTF-8":        {"PUT", "/d1/3/a/c/%ff", good, nil, 400, ""},
		"push to no device":       {"PUT", "/d9/3/a/c/o", good, nil, 507, ""},
	} {
		log.take()
		status, header, text := send(t, address, "", tt.method, tt.path, tt.header, tt.body)
		if status != tt.want || !strings.Contains(text, tt.says) {
			t.Errorf("%s: %s %s is %d %q, want %d %q", what, tt.method, tt.path, status, text, tt.want, tt.says)
		}
		said := log.take()
		refused := strings.Contains(said, "refused") && strings.Contains(said, "peer=127.0.0.1:")
		if (tt.want != 200) != refused {
			t.Errorf("%s: the log says %q", what, said)
		}
		primary := strconv.FormatBool(strings.HasPrefix(tt.path, "/d1/")) // of no partition nobody is one
		if tt.want == 200 && (header.Get(NodeHeader) != r.NodeID || header.Get(replwire.PrimaryHeader) != primary) {
			t.Errorf("%s: the answer says %v, want it of node %q, a primary: %s", what, header, r.NodeID, primary)
		}
		if tt.want != 200 && header.Get(replwire.PrimaryHeader) != "" {
			t.Errorf("%s: a refusal says %v", what, header)
		}
	}
	status, _, text := send(t, address, "127.0.0.9", "REPLICATE", "/d1/3", good, nil)
	if said := log.take(); status != 403 || !strings.Contains(said, "peer=127.0.0.9:") {
		t.Errorf("from somebody's address: %d %q, log %q", status, text, said)
	}
}

// send sends a request from a local address, "" for any.
func send(t *testing.T, address, from, method, path string, header map[string]string, body io.Reader) (status int, answer http.Header, text string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+address+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		r.Header.Set(k, v)
	}
	dialer := net.Dialer{}
	if from != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	transport := &http.Transport{DialContext: dialer.DialContext}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

// What is taken is whole and within its bounds, whatever is sent.
func FuzzCheck(f *testing.F) {
	root := f.TempDir()
	if err := os.Mkdir(filepath.Join(root, "d1"), 0o755); err != nil {
		f.Fatal(err)
	}
	set, err := device.NewSet(vfs.OS, root, []string{"d1"})
	if err != nil {
		f.Fatal(err)
	}
	r, err := New(Deps{Devices: set, Kinds: []Kind{echo{}}, NodeID: NewNodeID()})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("REPLICATE", "/d1/3", "", "4", int64(0))
	f.Add("REPLICATE", "/d1/0", "from="+zeros+"&to=0f"+effs[2:], "4", int64(0))
	f.Add("PUT", "/d1/3/a/c/o", "", "4", int64(7))
	f.Add("DELETE", "/d1/3/%2F/c", "", "32", int64(0))
	f.Add("REPLICATE", "/d1", "", "4", int64(7))
	f.Add("PUT", "/d1", "", "4", int64(7))
	f.Fuzz(func(t *testing.T, method, path, query, power string, length int64) {
		_, c, err := r.check(&backend.Request{
			Method: method, Path: path, Query: query, Length: length, Remote: "127.0.0.1:1",
			Header: backend.Header{
				{Name: replwire.KindHeader, Value: "object"}, {Name: replwire.PartPowerHeader, Value: power}, {Name: replwire.ReplicationHeader, Value: "true"},
			},
		})
		if err != nil {
			if k := errs.KindOf(err); k != errs.Invalid && k != errs.Method && k != errs.BadDevice && k != errs.Length && k != errs.TooLarge {
				t.Errorf("%q %q?%q: %v is of kind %v", method, path, query, err, k)
			}
			return
		}
		first, last := rangeOf(c.Partition, c.PartPower)
		ok := c.Device == "d1" && c.PartPower >= 1 && c.PartPower <= 32 && c.Holds(first) && c.Holds(last) && c.Peer == "127.0.0.1"
		switch {
		case c.Whole && c.Method == "REPLICATE":
			ok = ok && c.Length > 0 && c.Length <= replwire.MaxList
		case c.Whole:
			ok = ok && c.Method == "PUT" && c.Length > 0 && c.Length <= replwire.MaxPushBytes
		case c.Method == "REPLICATE":
			ok = ok && c.Holds(c.From) && c.Holds(c.To) && c.Path == (name.Path{})
		default:
			ok = ok && c.Path.Account != "" && c.Length >= 0
		}
		if !ok {
			t.Errorf("%q %q?%q is taken as %+v", method, path, query, c)
		}
	})
}
