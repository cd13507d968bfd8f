package healthcheck

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"martlet/proxy/chain"
)

func TestHealthcheck(t *testing.T) {
	file := filepath.Join(t.TempDir(), "disabled")
	is := func(disablePath, method string, status int, want string) {
		t.Helper()
		resp := New(disablePath).Serve(t.Context(), &chain.Request{Method: method})
		body, err := resp.ReadAll(100)
		if err != nil || resp.Status != status || string(body) != want || resp.Get("Content-Type") != "text/plain" {
			t.Errorf("%s: got %d, %q, %q, %v, want %d, %q", method, resp.Status, body, resp.Get("Content-Type"), err, status, want)
		}
	}
	is(file, http.MethodGet, 200, "OK")
	is(file, http.MethodPost, 200, "OK")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	is(file, http.MethodGet, 503, "DISABLED BY FILE")
	is("", http.MethodGet, 200, "OK")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	is(file, http.MethodGet, 200, "OK")
}
