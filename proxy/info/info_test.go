package info

import (
	"crypto/hmac"
	"crypto/sha1" // what clients of this API sign with
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"martlet/internal/conf"
	"martlet/internal/policy"
	"martlet/proxy/chain"
	"martlet/proxy/limits"
)

func testCluster(t *testing.T) Cluster {
	t.Helper()
	set, err := policy.NewSet([]policy.Policy{
		{Index: 0, Name: "gold", Aliases: []string{"au", "yellow"}, Default: true},
		{Index: 1, Name: "silver"},
		{Index: 2, Name: "lead", Deprecated: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	return Cluster{Version: "1.2.3", Limits: limits.Defaults(), Policies: set, AccountAutocreate: true}
}

// ask sends one request through a real server, so that HEAD is what clients see.
func ask(t *testing.T, h chain.Handler, method, path string, header http.Header) (*http.Response, string) {
	t.Helper()
	s := httptest.NewServer(&chain.Face{Handler: h, Log: slog.New(slog.DiscardHandler)})
	defer s.Close()
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		r.Header[k] = v
	}
	resp, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestDocument(t *testing.T) {
	h, err := New(Defaults(), testCluster(t), map[string]Section{
		"tempauth": {"account_acls": true}, "staticweb": nil, "symlink": {"symloop_max": 2},
	}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	resp, body := ask(t, h, "GET", "/info", nil)
	if got := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || got != "application/json; charset=UTF-8" {
		t.Fatalf("got %d, content type %q", resp.StatusCode, got)
	}
	want := `{
	"staticweb": {},
	"symlink": {"symloop_max": 2},
	"tempauth": {"account_acls": true},
	"swift": {
		"version": "1.2.3", "strict_cors_mode": false, "allow_account_management": false, "account_autocreate": true, "allow_open_expired": false,
		"policies": [{"name": "gold", "aliases": "gold, au, yellow", "default": true}, {"name": "silver", "aliases": "silver"}],
		"max_file_size": 5368709122, "max_meta_name_length": 128, "max_meta_value_length": 256, "max_meta_count": 90,
		"max_meta_overall_size": 4096, "max_header_size": 8192, "max_request_line": 8192, "max_object_name_length": 1024,
		"container_listing_limit": 10000, "account_listing_limit": 10000, "max_account_name_length": 256,
		"max_container_name_length": 256, "extra_header_count": 0
	}}`
	var gotDoc, wantDoc any
	if err := json.Unmarshal([]byte(body), &gotDoc); err != nil {
		t.Fatalf("%q: %v", body, err)
	}
	if err := json.Unmarshal([]byte(want), &wantDoc); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(gotDoc, wantDoc) {
		t.Errorf("got %s, want %s", body, want)
	}
	head, empty := ask(t, h, "HEAD", "/info", nil)
	if head.StatusCode != http.StatusOK || empty != "" || head.Header.Get("Content-Length") != strconv.Itoa(len(body)) {
		t.Errorf("HEAD: got %d, body %q, length %s, want %d", head.StatusCode, empty, head.Header.Get("Content-Length"), len(body))
	}
}

// A limit that an operator sets is the limit that clients are told.
func TestDocumentFollowsLimits(t *testing.T) {
	c := testCluster(t)
	c.Limits.MaxFileSize, c.Limits.MaxMetaCount = 7, 3
	h, err := New(Config{Expose: true}, c, nil, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	_, body := ask(t, h, "GET", "/info", nil)
	for _, want := range []string{`"max_file_size":7,`, `"max_meta_count":3,`, `"valid_api_versions":["v1","v1.0"]`, `"auto_create_account_prefix":"."`} {
		if !strings.Contains(body, want) {
			t.Errorf("got %s, want %s in it", body, want)
		}
	}
}

func TestInfoRequests(t *testing.T) {
	c := testCluster(t)
	open, err := New(Defaults(), c, nil, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	closed, err := New(Config{}, c, nil, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		h            chain.Handler
		method, path string
		origin       string
		status       int
		allow        string
	}{
		{open, "GET", "/info", "", 200, ""},
		{open, "GET", "/info?a=b", "http://x.y", 200, ""},
		{open, "OPTIONS", "/info", "", 200, allowed},
		{open, "POST", "/info", "", 405, allowed},
		{open, "PUT", "/info", "", 405, allowed},
		{open, "GET", "/info?swiftinfo_sig=x&swiftinfo_expires=1", "", 403, ""},
		{open, "GET", "/info?swiftinfo_expires=1", "", 403, ""},
		{closed, "GET", "/info", "", 403, ""},
		{closed, "HEAD", "/info", "http://x.y", 403, ""},
		{closed, "OPTIONS", "/info", "", 200, allowed},
	} {
		header := http.Header{}
		if tt.origin != "" {
			header.Set("Origin", tt.origin)
		}
		resp, body := ask(t, tt.h, tt.method, tt.path, header)
		if resp.StatusCode != tt.status || resp.Header.Get("Allow") != tt.allow {
			t.Errorf("%s %s: got %d, Allow %q, want %d, %q", tt.method, tt.path, resp.StatusCode, resp.Header.Get("Allow"), tt.status, tt.allow)
		}
		if strings.Contains(body, "max_file_size") != (tt.status == 200 && tt.method == "GET") {
			t.Errorf("%s %s: got body %q with a %d", tt.method, tt.path, body, resp.StatusCode)
		}
		want := ""
		if tt.status == 200 {
			want = tt.origin
		}
		if got := resp.Header.Get("Access-Control-Allow-Origin"); got != want {
			t.Errorf("%s %s: allowed origin %q, want %q", tt.method, tt.path, got, want)
		}
	}
}

// What administrators see is for those who have their key, in time.
func TestAdminSection(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	h, err := New(Config{Expose: true, Hidden: []string{"swift.version"}, AdminKey: "secret"}, testCluster(t), nil, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	sign := func(key, text string) string {
		mac := hmac.New(sha1.New, []byte(key))
		mac.Write([]byte(text))
		return hex.EncodeToString(mac.Sum(nil))
	}
	for name, tt := range map[string]struct {
		method, sig, expires string
		status               int
	}{
		"good":                    {"GET", sign("secret", "GET\n1700000000\n/info"), "1700000000", 200},
		"HEAD":                    {"HEAD", sign("secret", "HEAD\n1700000009\n/info"), "1700000009", 200},
		"HEAD with that of a GET": {"HEAD", sign("secret", "GET\n1700000009\n/info"), "1700000009", 200},
		"GET with that of a HEAD": {"GET", sign("secret", "HEAD\n1700000009\n/info"), "1700000009", 401},
		"too late":                {"GET", sign("secret", "GET\n1699999999\n/info"), "1699999999", 401},
		"another key":             {"GET", sign("other", "GET\n1700000009\n/info"), "1700000009", 401},
		"another time":            {"GET", sign("secret", "GET\n1700000009\n/info"), "1700000010", 401},
		"no time":                 {"GET", sign("secret", "GET\n1700000009\n/info"), "", 401},
		"no signature":            {"GET", "", "1700000009", 401},
		"no hexadecimal":          {"GET", "xyz", "1700000009", 401},
		"no number":               {"GET", sign("secret", "GET\nx\n/info"), "x", 401},
	} {
		resp, body := ask(t, h, tt.method, "/info?swiftinfo_sig="+tt.sig+"&swiftinfo_expires="+tt.expires, nil)
		seen := strings.Contains(body, `"admin":{"disallowed_sections":["swift.version"]}`)
		if resp.StatusCode != tt.status || seen != (tt.status == 200 && tt.method == "GET") {
			t.Errorf("%s: got %d and %.200s, want %d", name, resp.StatusCode, body, tt.status)
		}
	}
	if _, body := ask(t, h, "GET", "/info", nil); strings.Contains(body, "admin") {
		t.Errorf("without a signature: got %s", body)
	}
}

func TestHidden(t *testing.T) {
	cfg := Config{Expose: true, Hidden: []string{"tempauth", "swift.version", "absent", "absent.key", "swift.absent", "symlink.a.b"}}
	feature := Section{"k": "kept"}
	h, err := New(cfg, testCluster(t), map[string]Section{"tempauth": {"a": 1}, "symlink": feature}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	_, body := ask(t, h, "GET", "/info", nil)
	for word, want := range map[string]bool{"tempauth": false, "version\"": false, "symlink": true, "kept": true, "max_file_size": true} {
		if strings.Contains(body, word) != want {
			t.Errorf("%q in %s: want %v", word, body, want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for name, features := range map[string]map[string]Section{
		"reserved": {"swift": {}}, "for administrators": {"admin": {}}, "dot in name": {"a.b": {}}, "no name": {"": {}},
		"dot in key": {"a": {"b.c": 1}}, "no JSON": {"a": {"b": func() {}}},
	} {
		if _, err := New(Defaults(), testCluster(t), features, time.Now); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

func TestConfig(t *testing.T) {
	cfg := Defaults()
	err := conf.Parse("proxy.toml", "expose_info = false\ndisallowed_sections = [\"swift.version\"]\nadmin_key = \"k\"\ndisable_path = \"/x\"\n", &cfg)
	if want := (Config{false, []string{"swift.version"}, "k", "/x"}); err != nil || !reflect.DeepEqual(cfg, want) {
		t.Errorf("got %+v, %v, want %+v", cfg, err, want)
	}
}
