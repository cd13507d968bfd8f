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
`, address)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
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
