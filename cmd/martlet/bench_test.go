package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"martlet/cmd/internal/bench/result"
)

// invoke runs the program.
func invoke(args ...string) (code int, stdout, stderr string) {
	var out, errs strings.Builder
	code = run(args, &out, &errs)
	return code, out.String(), errs.String()
}

// What makes no sense is exit status 2, and nothing is sent.
func TestBenchUsage(t *testing.T) {
	var requests atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
	defer server.Close()
	for _, name := range []string{"ST_AUTH", "ST_USER", "ST_KEY"} {
		t.Setenv(name, "")
	}
	auth := []string{"--auth", server.URL + "/auth/v1.0", "--user", "u", "--key", "k"}
	dir := t.TempDir()
	for name, args := range map[string][]string{
		"no account":                  {"get"},
		"a token alone":               {"get", "--token", "t"},
		"no key":                      {"get", "--auth", server.URL, "--user", "u"},
		"an argument":                 append([]string{"get", "more"}, auth...),
		"no such operation":           append([]string{"copy"}, auth...),
		"no such flag":                append([]string{"put", "--filled"}, auth...),
		"a size that is none":         append([]string{"put", "--size", "4KB-1KB"}, auth...),
		"a mix that is none":          append([]string{"mixed", "--mix", "copy=1"}, auth...),
		"no clients":                  append([]string{"put", "--concurrency", "0"}, auth...),
		"a name that is none":         append([]string{"put", "--name", "a/b"}, auth...),
		"an empty name":               append([]string{"put", "--name", ""}, auth...),
		"filled, and no name":         append([]string{"get", "--filled"}, auth...),
		"no end":                      append([]string{"get", "--duration", "0"}, auth...),
		"two ways of naming servers":  append([]string{"get", "--servers", "1", "--servers-of", "x"}, auth...),
		"servers that are no numbers": append([]string{"get", "--servers", "x"}, auth...),
		"servers that are not there":  append([]string{"get", "--servers", "1073741824"}, auth...),
		"a command of nobody's":       append([]string{"get", "--servers-of", "no-such-program-anywhere"}, auth...),
		"a file in no folder":         append([]string{"get", "--json", filepath.Join(dir, "x", "y")}, auth...),
		"a file that is a folder":     append([]string{"get", "--html", dir}, auth...),
		"an endpoint that is none":    append([]string{"get", "--endpoint", "h:1"}, auth...),
		"Keystone, and no project":    append([]string{"get", "--keystone"}, auth...),
		"a project, and no Keystone":  append([]string{"get", "--project", "p"}, auth...),
		"S3 and Keystone":             append([]string{"get", "--s3", "--keystone", "--project", "p"}, auth...),
		"S3, and a token":             {"get", "--s3", "--token", "t", "--storage-url", server.URL},
		"a name that is no bucket's":  append([]string{"get", "--s3", "--name", "Up"}, auth...),
		"a policy of S3":              append([]string{"get", "--s3", "--policy", "p"}, auth...),
		"a region of nobody":          append([]string{"get", "--region", "r"}, auth...),
		"a floor of few devices":      {"floor", "put", "--devices", "2", "--dir", dir},
		"a floor of large objects":    {"floor", "get", "--size", "2MiB", "--dir", dir},
		"a floor of a mix of sizes":   {"floor", "get", "--size", "1KiB-4KiB", "--dir", dir},
		"a floor in no folder":        {"floor", "get", "--dir", filepath.Join(dir, "x")},
		"a floor without rounds":      {"floor", "get", "--rounds", "0", "--dir", dir},
		"a floor of nothing":          {"floor", "delete"},
		"cleanup of nothing":          append([]string{"cleanup"}, auth...),
		"cleanup of all and one":      append([]string{"cleanup", "--all", "--name", "x"}, auth...),
		"cleanup of an odd name":      append([]string{"cleanup", "--name", "x/y"}, auth...),
		"cleanup of nobody":           {"cleanup", "--all"},
	} {
		code, stdout, stderr := invoke(append([]string{"bench"}, args...)...)
		if code != exitUsage || stdout != "" || !strings.HasPrefix(stderr, "martlet: ") {
			t.Errorf("%s: exit status %d, %q, %q", name, code, stdout, stderr)
		}
	}
	if n := requests.Load(); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

// results writes a result with these rates.
func results(t *testing.T, name string, rates ...float64) string {
	t.Helper()
	r := &result.Report{Version: result.Version}
	for _, rate := range rates {
		r.Rounds = append(r.Rounds, result.Round{Operations: []result.Operation{{Kind: "get", OK: 1, Rate: rate, Latency: result.Latency{P50: 1e6 / rate}}}})
	}
	name = filepath.Join(t.TempDir(), name)
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := result.Write(file, r); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestBenchCompare(t *testing.T) {
	old := results(t, "old.json", 100, 101, 102, 103)
	slower := results(t, "slower.json", 80, 81, 82, 83)
	few := results(t, "few.json", 50)
	none := filepath.Join(t.TempDir(), "none.json")
	if err := os.WriteFile(none, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		args []string
		code int
		want string
	}{
		"slower":                {[]string{old, slower}, exitFailure, "worse"},
		"faster":                {[]string{slower, old}, 0, "better"},
		"the same":              {[]string{old, old}, 0, "same"},
		"slower by less":        {[]string{old, slower, "--threshold", "30"}, 0, "same"},
		"too few":               {[]string{old, few}, 0, "unsure"},
		"as JSON":               {[]string{old, slower, "--json"}, exitFailure, `"verdict": "worse"`},
		"one file":              {[]string{old}, exitUsage, ""},
		"no such file":          {[]string{old, none + "x"}, exitUsage, ""},
		"no result":             {[]string{old, none}, exitUsage, ""},
		"a threshold below 0":   {[]string{old, old, "--threshold", "-1"}, exitUsage, ""},
		"a threshold of no sum": {[]string{old, old, "--threshold", "NaN"}, exitUsage, ""},
	} {
		code, stdout, stderr := invoke(append([]string{"bench", "compare"}, tt.args...)...)
		if code != tt.code || !strings.Contains(stdout, tt.want) || (stdout == "") != (tt.code == exitUsage) {
			t.Errorf("%s: exit status %d, %q, %q", name, code, stdout, stderr)
		}
	}
}
