package node

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"martlet/cmd/internal/config"
	"martlet/internal/backend"
	"martlet/internal/throttle"
)

// An operator looks at the limits, and changes them, while the node runs.
func TestRateLimitsOverTheAdminAddress(t *testing.T) {
	settings, err := throttle.NewSettings(throttle.Defaults())
	if err != nil {
		t.Fatal(err)
	}
	s := &Storage{process: process{log: slog.New(slog.DiscardHandler)}, rates: settings}
	mux := http.NewServeMux()
	s.limiting(mux)
	for _, step := range []struct {
		method, query string
		status        int
		want          float64 // of accounts
	}{
		{"GET", "", 200, 0},
		{"POST", "?requests_per_account_per_second=50&requests_per_account_rate_buffer=2s", 200, 50},
		{"POST", "?requests_per_account_per_second=-1", 400, 50},
		{"POST", "?requests=1", 400, 50},
		{"POST", "?a=%zz", 400, 50},
		{"GET", "", 200, 50},
		{"POST", "?requests_per_account_per_second=0", 200, 0},
	} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(step.method, RateLimitPath+step.query, nil))
		if w.Code != step.status {
			t.Errorf("%s %s: %d %s, want %d", step.method, step.query, w.Code, w.Body, step.status)
		}
		var told throttle.Rates
		if w.Code == 200 {
			if err := json.Unmarshal(w.Body.Bytes(), &told); err != nil || told != settings.Rates() {
				t.Errorf("%s %s: told is %s, %v", step.method, step.query, w.Body, err)
			}
		} else if key, _, _ := strings.Cut(strings.TrimPrefix(step.query, "?"), "="); key != "a" && !strings.Contains(w.Body.String(), key) {
			t.Errorf("%s %s: %q does not name the key", step.method, step.query, w.Body)
		}
		if got := settings.Rates().Account; got != step.want {
			t.Errorf("%s %s: in force is %v, want %v", step.method, step.query, got, step.want)
		}
	}
}

// The places of a server of clients' requests are shared among accounts; of replication's they are not.
func TestPlacesAreSharedAmongAccounts(t *testing.T) {
	c := config.DefaultStorage()
	settings, err := throttle.NewSettings(c.BackendRateLimit)
	if err != nil {
		t.Fatal(err)
	}
	s := &Storage{rates: settings}
	for level, paths := range map[throttle.Level]map[string]string{
		0:                   nil,
		throttle.Accounts:   {"/d1/0/a%20b": "a%20b"},
		throttle.Objects:    {"/d1/0/a/c/o/p": "a", "/recon/held": "", "/": ""},
		throttle.Containers: {"/d1/0/a/c?x=/": "a", "/rows": ""},
	} {
		_, gate, err := s.limited(c, Options{Registry: prometheus.NewRegistry()}, service{name: "test", level: level})
		if err != nil || (gate.Carried != nil) != (level > 0) || gate.Requests != int64(c.Server.MaxRequests) {
			t.Errorf("level %d: %+v, %v", level, gate, err)
			continue
		}
		for path, want := range paths {
			if got := gate.Carried(&backend.Request{Path: path}); got != want {
				t.Errorf("level %d: %s is of %q, want %q", level, path, got, want)
			}
		}
	}
}
