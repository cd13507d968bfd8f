package replicator

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/replwire"
)

// A question is asked in as many requests as the peer makes of it, and each difference is
// told by its place in the whole.
func TestClientAsk(t *testing.T) {
	r := testRing(t, 1, []uint32{0, 1})
	q := replwire.Question{}
	for p := range uint32(10) {
		q.Parts = append(q.Parts, replwire.Extent{Range: name.PartitionRange(4, p), Sum: replwire.Digest{1}})
	}
	requests := 0
	good := func(_ string, req *backend.Request) (*backend.Response, error) {
		requests++
		asked, err := io.ReadAll(req.Body)
		if err != nil || int64(len(asked)) != req.Length || req.Method != "REPLICATE" || req.Path != "/d%201" || req.Header.Get(backend.PolicyIndex) != "3" {
			t.Errorf("asked is %+v with %d bytes, %v", req, len(asked), err)
		}
		part, err := replwire.ParseQuestion(asked)
		if err != nil {
			return nil, err
		}
		a := replwire.Answer{Answered: min(3, len(part.Parts)), Differ: []replwire.Difference{{At: 0, Sum: replwire.Digest{2}, Objects: 9}}, Strange: []int{0}}
		return answer(200, "b", string(a.Append(nil, asked, len(part.Parts))))
	}
	header := backend.Header{{Name: backend.PolicyIndex, Value: "3"}}
	to := &Peer{Addr: "x:1", Device: "d 1"}
	var differ []int
	var strange []int
	take := func(d replwire.Difference) { differ = append(differ, d.At) }
	odd := func(at int) { strange = append(strange, at) }
	c := Client{NodeID: "a", Device: "d", Sender: answers(good)}
	if n, err := c.Ask(t.Context(), r, to, header, q, take, odd); err != nil || n != 10 || requests != 4 || !slices.Equal(differ, []int{0, 3, 6, 9}) || !slices.Equal(strange, differ) {
		t.Errorf("%d answered in %d requests, %v differ, %v are strange, %v; want 10 in 4, 0 3 6 9 twice", n, requests, differ, strange, err)
	}

	// What was answered before something went wrong counts, and what went wrong is told.
	for what, tt := range map[string]struct {
		second func() (*backend.Response, error)
		says   string
	}{
		"fails":                     {func() (*backend.Response, error) { return answer(503, "b", "busy") }, "busy"},
		"is silent":                 {func() (*backend.Response, error) { return nil, errs.E(errs.Unavailable, "refused") }, "refused"},
		"is garbled":                {func() (*backend.Response, error) { return answer(200, "b", "garbage") }, replwire.ErrList.Error()},
		"is the asker":              {func() (*backend.Response, error) { return answer(200, "a", "") }, ""},
		"is another node":           {func() (*backend.Response, error) { return answer(200, "c", "") }, errAnother.Error()},
		"is of an earlier version":  {func() (*backend.Response, error) { return answer(400, "b", "REPLICATE has no body") }, errOld.Error()},
		"refuses what it was asked": {func() (*backend.Response, error) { return answer(400, "b", "no such policy") }, "no such policy"},
	} {
		requests, differ = 0, nil
		c := Client{NodeID: "a", Device: "d", Sender: answers(func(addr string, req *backend.Request) (*backend.Response, error) {
			if requests == 1 {
				return tt.second()
			}
			return good(addr, req)
		})}
		n, err := c.Ask(t.Context(), r, &Peer{Addr: "x:1", Device: "d 1"}, header, q, take, odd)
		if err == nil || n != 3 || !slices.Equal(differ, []int{0}) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("a peer that %s: %d answered, %v differ, %v; want 3, 0, %q", what, n, differ, err, tt.says)
		}
		if what == "refuses what it was asked" && errors.Is(err, errOld) {
			t.Errorf("a peer that %s is taken for an earlier version: %v", what, err)
		}
	}
}

// Many pushes have as many results, from the node that was asked before, or none is believed.
func TestClientPush(t *testing.T) {
	r := testRing(t, 1, []uint32{0, 1})
	var list replwire.Pushes
	for range 2 {
		list.Add(&replwire.Push{Method: "DELETE", Path: name.Path{Account: "a", Container: "c", Object: "o"}})
	}
	results := []replwire.Result{{Status: 204, Primary: true}, {Status: 409}}
	for what, tt := range map[string]struct {
		body string
		says string
	}{
		"answers":         {string(replwire.AppendResults(nil, results)), ""},
		"answers less":    {string(replwire.AppendResults(nil, results[:1])), replwire.ErrList.Error()},
		"answers garbage": {"x", replwire.ErrList.Error()},
	} {
		c := Client{NodeID: "a", Device: "d", Sender: answers(func(_ string, req *backend.Request) (*backend.Response, error) {
			if req.Method != "PUT" || req.Path != "/d1" || req.Header.Get(replwire.ReplicationHeader) != "true" {
				t.Errorf("%s: pushed is %+v", what, req)
			}
			return answer(200, "b", tt.body)
		})}
		via := &Peer{Addr: "x:1", Device: "d1"}
		got, err := c.Push(t.Context(), r, via, nil, &list)
		if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) || err == nil && !slices.Equal(got, results) {
			t.Errorf("a peer that %s: %+v, %v, want %+v, %q", what, got, err, results, tt.says)
		}
	}
	via := &Peer{Addr: "x:1", Device: "d1", node: "b"}
	for what, tt := range map[string]struct {
		before  string
		primary bool
		err     error
		doubt   bool
	}{
		"who has not been heard of": {"", true, nil, false},
		"who is the same":           {"b", true, nil, false},
		"who is another":            {"c", true, errAnother, false},
		"who is no primary":         {"b", false, nil, true},
	} {
		p := &Peer{Addr: "x:1", Device: "d1", node: tt.before}
		err := p.Heard(via, tt.primary)
		if at, _ := Doubt([]*Peer{p}); !errors.Is(err, tt.err) || (at != nil) != tt.doubt {
			t.Errorf("one %s: %v, doubted %v, want %v, %t", what, err, at, tt.err, tt.doubt)
		}
	}
}
