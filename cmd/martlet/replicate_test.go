package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"martlet/replicator"
)

// The exit status says whether everything was confirmed, and 2 that there was no
// pass at all.
func TestReplicate(t *testing.T) {
	report := replicator.Report{Seconds: 1.5, Devices: []replicator.DeviceReport{{Device: "d1", Kinds: []replicator.Counts{{Kind: "object", Pushed: 7}}}}}
	broken := report
	broken.Devices = []replicator.DeviceReport{{Device: "d1", Kinds: []replicator.Counts{{
		Kind: "object", Failed: 3, Failures: []replicator.Failure{{Peer: "10.0.0.1:6203/d2", Reason: "connection refused", Count: 3}},
	}}}}
	gone := report
	gone.Devices = []replicator.DeviceReport{{Device: "d1", Error: "device not usable"}}
	answer := func(status int, v any) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Method != "POST" || r.URL.Path != "/replicate" || r.URL.Query().Get("device") != "d1" {
				status = 400
			}
			w.WriteHeader(status)
			if text, ok := v.(string); ok {
				_, _ = w.Write([]byte(text))
			} else if err := json.NewEncoder(w).Encode(v); err != nil {
				t.Error(err)
			}
		}
	}
	for name, tt := range map[string]struct {
		node http.HandlerFunc // nil is one that does not run
		code int
		out  string
		err  string
	}{
		"confirmed":   {answer(200, report), 0, "object  0           0         0         7", ""},
		"unconfirmed": {answer(200, broken), exitFailure, "3 not confirmed by 10.0.0.1:6203/d2: connection refused", "not everything was confirmed"},
		"device away": {answer(200, gone), exitFailure, "d1: device not usable", "not everything was confirmed"},
		"no device":   {answer(404, "this node has no such device"), exitUsage, "", "this node has no such device"},
		"no report":   {answer(200, "hello"), exitUsage, "", "no report"},
		"not running": {nil, exitUsage, "", "does not answer"},
	} {
		address := freeAddress(t)
		if tt.node != nil {
			s := httptest.NewServer(tt.node)
			defer s.Close()
			address = strings.TrimPrefix(s.URL, "http://")
		}
		file := replicateFile(t, address)
		for _, asJSON := range []bool{false, true} {
			args := []string{"replicate", "--once", "--config", file, "--device", "d1"}
			if asJSON {
				args = append(args, "--json")
			}
			var stdout, stderr bytes.Buffer
			code := run(args, &stdout, &stderr)
			if code != tt.code || !strings.Contains(stderr.String(), tt.err) || !asJSON && !strings.Contains(stdout.String(), tt.out) {
				t.Errorf("%s: exit status %d, want %d\nstdout: %s\nstderr: %s", name, code, tt.code, stdout.String(), stderr.String())
			}
			var got replicator.Report
			if err := json.Unmarshal(stdout.Bytes(), &got); asJSON && tt.out != "" && (err != nil || len(got.Devices) != 1) {
				t.Errorf("%s: JSON %v\n%s", name, err, stdout.String())
			}
		}
	}
}

// replicateFile writes the configuration of a storage node with an admin address.
func replicateFile(t *testing.T, admin string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "storage.toml")
	text := fmt.Sprintf(`[cluster]
hash_path_suffix = "salt"
[rings]
folder = "rings"
[storage]
address = "127.0.1.1"
root = "/srv"
devices = ["d1"]
[replication]
address = "127.0.2.1"
[admin]
listen = %q
`, admin)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// What is asked about the pace reaches the node as it is meant, its answer is shown, and what
// makes no sense is refused with the key and the value.
func TestReplicatePace(t *testing.T) {
	report := []replicator.PaceReport{
		{Device: "d1", Limits: replicator.Limits{BytesPerSecond: 50e6, Concurrency: 8, Incoming: 4}, Partitions: 2, Factor: 1},
		{Device: "d2", Paused: "it is paused since then", Limits: replicator.DefaultLimits(), Factor: .5, Slowed: 3, Waited: replicator.Waited{Limits: 100}},
	}
	status, asked := 200, ""
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.Method + " " + r.URL.Path + " " + r.URL.Query().Encode()
		w.WriteHeader(status)
		if err := json.NewEncoder(w).Encode(report); err != nil {
			t.Error(err)
		}
	}))
	defer s.Close()
	file := replicateFile(t, strings.TrimPrefix(s.URL, "http://"))
	for what, tt := range map[string]struct {
		args   []string
		status int
		asked  string
		code   int
		says   string
	}{
		"the pace":         {[]string{"--pace"}, 200, "GET /replicate/pace ", 0, "d1      running  50.0 MB    unlimited     2 of 8      0 of 4    0        100%"},
		"what is paused":   {[]string{"--pace"}, 200, "GET /replicate/pace ", 0, "d2: it is paused since then"},
		"what is slowed":   {[]string{"--pace"}, 200, "GET /replicate/pace ", 0, "50% to 3 peers  1m 40s"},
		"in JSON":          {[]string{"--pace", "--json"}, 200, "GET /replicate/pace ", 0, `"pace_factor": 0.5`},
		"pause":            {[]string{"--pause"}, 200, "POST /replicate/pause ", 0, "DEVICE"},
		"pause a device":   {[]string{"--pause", "--device", "d1"}, 200, "POST /replicate/pause device=d1", 0, "DEVICE"},
		"resume":           {[]string{"--resume"}, 200, "POST /replicate/resume ", 0, "DEVICE"},
		"set":              {[]string{"--set", "bytes_per_second=50MB, concurrency=8", "--device", "d1"}, 200, "POST /replicate/pace bytes_per_second=50MB&concurrency=8&device=d1", 0, "DEVICE"},
		"could not":        {[]string{"--pause"}, 507, "POST /replicate/pause ", exitFailure, "507"},
		"no such device":   {[]string{"--pause", "--device", "d9"}, 404, "POST /replicate/pause device=d9", exitUsage, "404"},
		"no number":        {[]string{"--set", "concurrency=many"}, 200, "", exitUsage, `concurrency: "many" is not a whole number`},
		"no size":          {[]string{"--set", "bytes_per_second=fast"}, 200, "", exitUsage, `bytes_per_second: "fast" is not a size`},
		"no such limit":    {[]string{"--set", "speed=3"}, 200, "", exitUsage, "speed: no such limit: the keys are bytes_per_second, concurrency, incoming, operations_per_second"},
		"twice":            {[]string{"--set", "incoming=3,incoming=4"}, 200, "", exitUsage, "incoming:"},
		"no value":         {[]string{"--set", "incoming"}, 200, "", exitUsage, `"incoming" is not KEY=VALUE`},
		"nothing":          {nil, 200, "", exitUsage, "one of --once"},
		"two at one time":  {[]string{"--pause", "--resume"}, 200, "", exitUsage, "one of --once"},
		"no configuration": {[]string{"--pace", "--config", ""}, 200, "", exitUsage, "--config is missing"},
	} {
		status, asked = tt.status, ""
		var stdout, stderr bytes.Buffer
		code := run(append([]string{"replicate", "--config", file}, tt.args...), &stdout, &stderr)
		if code != tt.code || asked != tt.asked || !strings.Contains(stdout.String()+stderr.String(), tt.says) {
			t.Errorf("%s: exit status %d, asked was %q; want %d, %q, %q\nstdout: %s\nstderr: %s", what, code, asked, tt.code, tt.asked, tt.says, stdout.String(), stderr.String())
		}
	}
}

// freeAddress is one that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// What is told of what devices have to get is of all together, and when the last has it, if that is known of each.
func TestPassText(t *testing.T) {
	at := func(objects, bytes int64, seconds float64) replicator.PaceReport {
		r := replicator.PaceReport{Device: "d", ToGet: replicator.ToGet{Objects: objects, Bytes: bytes}}
		if seconds >= 0 {
			r.ToGet.ETASeconds = &seconds
		}
		return r
	}
	for want, report := range map[string][]replicator.PaceReport{
		"a pass is under way": {at(0, 0, 0), at(0, 0, 0)},
		"a pass is under way: 1,300 fragments to get, 5,000 bytes, in about 1m 30s":   {at(1000, 4000, 90), at(300, 1000, 5), at(0, 0, 0)},
		"a pass is under way: 1 fragment to get, 5,000 bytes, in about 11574d 1h":     {at(1, 5000, 1e12)}, // more than a time.Duration has
		"a pass is under way: 1,300 fragments to get, 5,000 bytes, nobody knows when": {at(1000, 4000, 90), at(300, 1000, -1)},
	} {
		if got := passText(report); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
