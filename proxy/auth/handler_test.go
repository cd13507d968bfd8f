package auth

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"martlet/internal/conf"
)

func testAuth(t *testing.T, scheme string) *Auth {
	t.Helper()
	cfg := Defaults()
	cfg.StorageURLScheme = scheme
	cfg.TokenLife = conf.Duration(3600e9)
	cfg.Users = []User{
		{Account: "test", Name: "tester", Key: "testing", Groups: []string{RoleAdmin}},
		{Account: "é", Name: "ü", Key: "ö"},
		{Account: "far", Name: "away", Key: "k", StorageURL: "http://there:81/v1/AUTH_far"},
	}
	a, err := New(cfg, []string{secret}, (&clock{beginning}).now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestHandler(t *testing.T) {
	a := testAuth(t, SchemeDefault)
	type h map[string]string
	good := h{"X-Auth-User": "test:tester", "X-Auth-Key": "testing"}
	for _, tt := range []struct {
		method, path string
		header       h
		status       int
		want         string // storage URL, realm, or what is allowed
	}{
		{"GET", "/auth/v1.0", good, 200, "http://me:8080/v1/AUTH_test"},
		{"GET", "/auth/v1.0/", good, 200, "http://me:8080/v1/AUTH_test"},
		{"GET", "/auth/v1.0/x/y/z", good, 200, "http://me:8080/v1/AUTH_test"},
		{"GET", "/auth/auth", good, 200, "http://me:8080/v1/AUTH_test"},
		{"GET", "/auth/v1.0", h{"X-Storage-User": "test:tester", "X-Storage-Pass": "testing"}, 200, "http://me:8080/v1/AUTH_test"},
		{"GET", "/auth/v1.0", h{"X-Auth-User": "test:tester", "X-Storage-User": "no:body", "X-Storage-Pass": "testing"}, 200, "http://me:8080/v1/AUTH_test"},
		{"GET", "/auth/v1/test/auth", h{"X-Storage-User": "tester", "X-Storage-Pass": "testing"}, 200, "http://me:8080/v1/AUTH_test"},
		{"GET", "/auth/v1/test/auth", h{"X-Storage-User": "tester", "X-Auth-Key": "testing"}, 200, "http://me:8080/v1/AUTH_test"},
		{"GET", "/auth/v1/test/auth", good, 200, "http://me:8080/v1/AUTH_test"},
		{"GET", "/auth/v1.0", h{"X-Auth-User": "é:ü", "X-Auth-Key": "ö"}, 200, "http://me:8080/v1/AUTH_%C3%A9"},
		{"GET", "/auth/v1.0", h{"X-Auth-User": "far:away", "X-Auth-Key": "k"}, 200, "http://there:81/v1/AUTH_far"},

		{"GET", "/auth/v1.0", nil, 401, "unknown"},
		{"GET", "/auth/v1.0", h{"X-Auth-User": "test", "X-Auth-Key": "testing"}, 401, "unknown"},
		{"GET", "/auth/v1.0", h{"X-Auth-User": ":tester", "X-Auth-Key": "testing"}, 401, "unknown"},
		{"GET", "/auth/v1.0", h{"X-Auth-User": "test:", "X-Auth-Key": "testing"}, 401, "test"},
		{"GET", "/auth/v1.0", h{"X-Auth-User": "test:tester"}, 401, "test"},
		{"GET", "/auth/v1.0", h{"X-Auth-User": "test:tester", "X-Auth-Key": "Testing"}, 401, "test"},
		{"GET", "/auth/v1.0", h{"X-Auth-User": "test:nobody", "X-Auth-Key": "testing"}, 401, "test"},
		{"GET", "/auth/v1.0", h{"X-Auth-User": `a" b:c`, "X-Auth-Key": "k"}, 401, "a%22%20b"},
		{"GET", "/auth/v1/test/auth", h{"X-Auth-User": "tester", "X-Auth-Key": "testing"}, 401, "test"},
		{"GET", "/auth/v1/other/auth", good, 401, "other"},
		{"GET", "/auth/v1/other/auth", h{"X-Storage-User": "tester", "X-Storage-Pass": "testing"}, 401, "other"},
		{"GET", "/auth/v1//auth", h{"X-Storage-User": "tester", "X-Storage-Pass": "testing"}, 401, "unknown"},

		{"GET", "/auth/v1", good, 400, ""},
		{"GET", "/auth/v1/test", good, 400, ""},
		{"GET", "/auth/v1/test/auth/x", good, 400, ""},
		{"GET", "/auth/v2", good, 400, ""},
		{"GET", "/auth/", good, 404, ""},
		{"GET", "/auth//v1.0", good, 404, ""},
		{"GET", "/auth", good, 404, ""},
		{"POST", "/auth/v1.0", good, 405, "GET"},
		{"HEAD", "/auth/v1.0", good, 405, "GET"},
	} {
		r := httptest.NewRequest(tt.method, "http://me:8080"+tt.path, nil)
		for k, v := range tt.header {
			r.Header.Set(k, v)
		}
		w := httptest.NewRecorder()
		a.Handler.ServeHTTP(w, r)
		got, head := "", w.Header()
		switch w.Code {
		case 200:
			got = head.Get("X-Storage-Url")
			token := head.Get("X-Auth-Token")
			if id, err := use(a.Tokens, token); err != nil || id == nil || head.Get("X-Storage-Token") != token {
				t.Errorf("%s %s %v: token %q: %v", tt.method, tt.path, tt.header, token, err)
			}
			if head.Get("X-Auth-Token-Expires") != "3600" || w.Body.Len() != 0 || head.Get("Content-Length") != "0" {
				t.Errorf("%s %s %v: expires in %q, body %q", tt.method, tt.path, tt.header, head.Get("X-Auth-Token-Expires"), w.Body)
			}
		case 401:
			got = strings.TrimSuffix(strings.TrimPrefix(head.Get("WWW-Authenticate"), `Swift realm="`), `"`)
		case 405:
			got = head.Get("Allow")
		}
		if w.Code != tt.status || got != tt.want {
			t.Errorf("%s %s %v: got %d, %q; want %d, %q", tt.method, tt.path, tt.header, w.Code, got, tt.status, tt.want)
		}
		if w.Code != 200 && (head.Get("X-Auth-Token") != "" || w.Body.Len() == 0) {
			t.Errorf("%s %s %v: got token %q and body %q with a %d", tt.method, tt.path, tt.header, head.Get("X-Auth-Token"), w.Body, w.Code)
		}
	}
}

func TestStorageURLScheme(t *testing.T) {
	for _, tt := range []struct {
		configured, forwarded string
		tls                   bool
		user                  string
		want                  string
	}{
		{SchemeDefault, "", false, "test:tester", "http://me/v1/AUTH_test"},
		{SchemeDefault, "", true, "test:tester", "https://me/v1/AUTH_test"},
		{SchemeDefault, "https", false, "test:tester", "http://me/v1/AUTH_test"}, // anybody can send that
		{SchemeHTTPS, "", false, "test:tester", "https://me/v1/AUTH_test"},
		{SchemeHTTP, "", true, "test:tester", "http://me/v1/AUTH_test"},
		{SchemeHTTPS, "", false, "far:away", "https://there:81/v1/AUTH_far"},
		{SchemeForwarded, "HTTPS", false, "test:tester", "https://me/v1/AUTH_test"},
		{SchemeForwarded, "http", true, "test:tester", "http://me/v1/AUTH_test"},
		{SchemeForwarded, "", false, "test:tester", "http://me/v1/AUTH_test"},
		{SchemeForwarded, "javascript", false, "test:tester", "http://me/v1/AUTH_test"},
	} {
		a := testAuth(t, tt.configured)
		r := httptest.NewRequest(http.MethodGet, "http://me/auth/v1.0", nil)
		r.Header.Set("X-Auth-User", tt.user)
		r.Header.Set("X-Auth-Key", map[string]string{"test:tester": "testing", "far:away": "k"}[tt.user])
		if tt.forwarded != "" {
			r.Header.Set("X-Forwarded-Proto", tt.forwarded)
		}
		if tt.tls {
			r.TLS = &tls.ConnectionState{}
		}
		w := httptest.NewRecorder()
		a.Handler.ServeHTTP(w, r)
		if got := w.Header().Get("X-Storage-Url"); got != tt.want {
			t.Errorf("%+v: got %q", tt, got)
		}
	}
}

// HTTP/1.0 clients may send no Host: the URL then has the address they reached.
func TestNoHost(t *testing.T) {
	s := httptest.NewServer(testAuth(t, SchemeDefault).Handler)
	defer s.Close()
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Write([]byte("GET /auth/v1.0 HTTP/1.0\r\nX-Auth-User: test:tester\r\nX-Auth-Key: testing\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	var answer strings.Builder
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		answer.Write(buf[:n])
		if err != nil {
			break
		}
	}
	if want := "X-Storage-Url: http://" + s.Listener.Addr().String() + "/v1/AUTH_test\r\n"; !strings.Contains(answer.String(), want) {
		t.Errorf("got %q, want %q in it", answer.String(), want)
	}
}
