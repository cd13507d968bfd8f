package health

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"martlet/cmd/internal/config"
	"martlet/cmd/internal/node"
)

// network is processes by their addresses, in a bubble of testing/synctest. One that is not there refuses.
type network struct {
	mu    sync.Mutex
	asked []string // guarded by mu
	at    map[string]func(*http.Request) (*node.Status, error)
}

// What a way takes there, and what a process does to answer.
const (
	there, thinks, back = 100 * time.Millisecond, 3 * time.Second, 300 * time.Millisecond
	ahead               = 10 * time.Second // every clock there
)

func (n *network) RoundTrip(r *http.Request) (*http.Response, error) {
	n.mu.Lock()
	n.asked = append(n.asked, r.URL.Host)
	n.mu.Unlock()
	answer := n.at[r.URL.Host]
	if answer == nil {
		return nil, errors.New("connection refused")
	}
	trace := httptrace.ContextClientTrace(r.Context())
	trace.WroteRequest(httptrace.WroteRequestInfo{})
	time.Sleep(there) // in the bubble
	asked := time.Now().Add(ahead)
	st, err := answer(r)
	if err != nil {
		return nil, err
	}
	time.Sleep(thinks) // in the bubble
	st.Asked, st.Time = asked, time.Now().Add(ahead)
	time.Sleep(back) // in the bubble
	trace.GotFirstResponseByte()
	b, err := json.Marshal(st)
	return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(string(b)))}, err
}

func says(process string, servers ...string) func(*http.Request) (*node.Status, error) {
	return func(*http.Request) (*node.Status, error) {
		st := &node.Status{Process: process, Role: config.KindStorage}
		for _, s := range servers {
			st.Servers = append(st.Servers, node.ServerAt{Address: s})
		}
		return st, nil
	}
}

func hangs(r *http.Request) (*node.Status, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// Everybody is asked at one time and nobody holds up the rest; what one process serves is one answer; clocks are
// compared by the middle of the way, whatever the answer took.
func TestAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{at: map[string]func(*http.Request) (*node.Status, error){
			"10.0.0.1:6200": says("one", "10.0.0.1:6200", "10.0.0.1:6201"), // the third is not its own
			"10.0.0.2:6200": hangs, "10.0.0.2:6201": hangs,
			"10.0.0.3:6200": says("three", "10.9.9.9:6200"), "node3:6201": says("three"), // behind a host name, too
			"10.0.0.9:6209": says("proxy"),
		}}
		a := Asker{Client: &http.Client{Transport: n}, Timeout: 5 * time.Second, AtOnce: 2}
		began := time.Now()
		all := a.Ask(t.Context(), []Server{
			{Address: "10.0.0.1:6200", Devices: []string{"d1"}}, {Address: "10.0.0.1:6201", Devices: []string{"d1", "d2"}}, {Address: "10.0.0.1:6202"},
			{Address: "10.0.0.2:6200", Devices: []string{"d1"}}, {Address: "10.0.0.2:6201", Devices: []string{"d3"}},
			{Address: "10.0.0.3:6200"}, {Address: "node3:6201"},
		}, []string{"http://10.0.0.9:6209/", "10.0.0.8:6209"})
		if took := time.Since(began); took > 2*a.Timeout+4*(there+thinks+back) {
			t.Errorf("it took %v", took)
		}
		var got []string
		for _, one := range all {
			text := one.Role + " " + strings.Join(one.Addresses, "+") + " " + strings.Join(one.Devices, "+")
			if one.Err != nil {
				text += " " + one.Err.Error()
			} else if one.Offset != ahead+(there-back)/2 || one.Within != (there+back)/2 {
				t.Errorf("%v: the clock is ahead by %v within %v", one.Addresses, one.Offset, one.Within)
			}
			got = append(got, text)
		}
		want := []string{
			"storage 10.0.0.1:6200+10.0.0.1:6201 d1+d2", "storage 10.0.0.1:6202  connection refused",
			"storage 10.0.0.2:6200+10.0.0.2:6201 d1+d3 no answer within 5s",
			"storage 10.0.0.3:6200+node3:6201 ",
			"proxy 10.0.0.9:6209 ", "proxy 10.0.0.8:6209  connection refused",
		}
		if !slices.Equal(got, want) {
			t.Errorf("answers\n%q, want\n%q", got, want)
		}
		if slices.Contains(n.asked, "10.0.0.1:6201") {
			t.Errorf("a process is asked twice: %q", n.asked)
		}
	})
}

// What can't be a status is none.
func TestStrangeAnswers(t *testing.T) {
	for what, tt := range map[string]struct {
		status     int
		body, want string
	}{
		"an earlier version": {404, "", "answers 404"},
		"a web page":         {200, "<html>", "no status"},
		"another thing":      {200, "{}", "no status"},
	} {
		a := Asker{Timeout: time.Minute, Client: &http.Client{Transport: tripper(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: tt.status, Body: io.NopCloser(strings.NewReader(tt.body))}, nil
		})}}
		if one := a.ask(t.Context(), "10.0.0.1:6209"); one.Err == nil || !strings.Contains(one.Err.Error(), tt.want) {
			t.Errorf("%s: %+v", what, one)
		}
	}
	for _, at := range []string{"", "10.0.0.1:6209/path", "ftp://10.0.0.1", "http://", "http://a:b@c", "http://a?b"} {
		if CheckProxy(at) == nil {
			t.Errorf("%q is taken for an address", at)
		}
	}
}

type tripper func(*http.Request) (*http.Response, error)

func (f tripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
