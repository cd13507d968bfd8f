package survey

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"testing"

	"martlet/cmd/internal/node"
	"martlet/replicator"
	"martlet/ring"
)

// telling answers for nodes, by their addresses.
type telling map[string]node.Status

// RoundTrip implements http.RoundTripper.
func (t telling) RoundTrip(r *http.Request) (*http.Response, error) {
	st, ok := t[r.URL.Host]
	if !ok || r.URL.Path != node.StatusPath {
		return nil, errors.New("nobody is there")
	}
	b, err := json.Marshal(st)
	return &http.Response{StatusCode: 200, Body: io.NopCloser(bytes.NewReader(b)), Request: r}, err
}

// Nodes that have no objects are asked too, and one that several rings name says what it has to say once.
func TestFailing(t *testing.T) {
	ringOf := func(ports ...int) *ring.Ring {
		data := ring.Data{PartPower: 1, Rows: [][]uint32{{0, 0}}}
		for i, port := range ports {
			data.Devices = append(data.Devices, &ring.Device{ID: i, Region: 1, IP: "10.0.0.1", Port: port, Name: "d", Weight: 1})
		}
		r, err := ring.New(data)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	status := func(process, kind string, failed int64) node.Status {
		return node.Status{Process: process, Devices: []node.DeviceStatus{{
			DeviceUsage: node.DeviceUsage{Device: "d"}, Passes: []replicator.LastPass{{Kind: kind, Failed: failed, Why: "a test says so", Peer: "p"}},
		}}}
	}
	nodes := telling{
		"10.0.0.1:1": status("both", "object", 3), "10.0.0.1:2": status("both", "object", 3),
		"10.0.0.1:3": status("databases", "container", 2), "10.0.0.1:4": status("quiet", "object", 0),
	}
	got := HTTP{Client: &http.Client{Transport: nodes}}.Failing(t.Context(), []*ring.Ring{ringOf(1, 4, 5), ringOf(2, 3)})
	want := []string{
		"the last pass of 10.0.0.1:1/d over objects could not confirm 3: a test says so (p)",
		"the last pass of 10.0.0.1:3/d over containers could not confirm 2: a test says so (p)",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
