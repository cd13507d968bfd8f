package bulk

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"martlet/internal/name"
	"martlet/proxy/chain"
)

func target(object string) Target {
	return Target{Name: "/c/" + object, Path: name.Path{Account: "a", Container: "c", Object: object}}
}

// says answers a DELETE of an object that is named after a status with it.
var says = chain.HandlerFunc(func(_ context.Context, r *chain.Request) *chain.Response {
	var status int
	if _, err := fmt.Sscanf(r.Path.Object, "%d", &status); err != nil || r.Method != http.MethodDelete {
		return chain.Text(http.StatusTeapot, "")
	}
	return chain.Text(status, "")
})

func TestDelete(t *testing.T) {
	gone, bad := target("x"), target("y z")
	gone.Gone, bad.Err = true, errors.New("no & good")
	for what, tt := range map[string]struct {
		targets []Target
		want    string
	}{
		"all is well":    {[]Target{target("204"), target("204-1"), target("404")}, "Number Deleted: 2\nNumber Not Found: 1\nResponse Body: \nResponse Status: 200 OK\nErrors:\n"},
		"none":           {nil, "Number Deleted: 0\nNumber Not Found: 0\nResponse Body: Invalid bulk delete.\nResponse Status: 400 Bad Request\nErrors:\n"},
		"known before":   {[]Target{gone, bad}, "Number Deleted: 0\nNumber Not Found: 1\nResponse Body: \nResponse Status: 400 Bad Request\nErrors:\n/c/y%20z, no & good\n"},
		"refused":        {[]Target{target("409"), target("204")}, "Number Deleted: 1\nNumber Not Found: 0\nResponse Body: \nResponse Status: 400 Bad Request\nErrors:\n/c/409, 409 Conflict\n"},
		"unauthorized":   {[]Target{target("401")}, "Number Deleted: 0\nNumber Not Found: 0\nResponse Body: \nResponse Status: 400 Bad Request\nErrors:\n/c/401, 401 Unauthorized\n"},
		"cluster failed": {[]Target{target("503"), target("403")}, "Number Deleted: 0\nNumber Not Found: 0\nResponse Body: \nResponse Status: 502 Bad Gateway\nErrors:\n/c/503, 503 Service Unavailable\n/c/403, 403 Forbidden\n"},
	} {
		if got := Delete(t.Context(), says, &chain.Request{}, Limits{1, MostFailures}, slices.Values(tt.targets)).Text("text/plain"); got != tt.want {
			t.Errorf("%s: got %q, want %q", what, got, tt.want)
		}
	}
}

// However many fail, the report is bounded, and so is the work.
func TestItGivesUp(t *testing.T) {
	handed := 0
	endless := func(yield func(Target) bool) {
		for yield(target("409")) {
			if handed++; handed > 2*MostFailures {
				return
			}
		}
	}
	const workers = 7
	r := Delete(t.Context(), says, &chain.Request{}, Limits{workers, MostFailures}, endless)
	if len(r.Failures) != MostFailures || !strings.Contains(r.Text("text/plain"), "Max delete failures exceeded") || handed > MostFailures+workers {
		t.Errorf("%d failures are named of %d targets: %v", len(r.Failures), handed, r.Fields)
	}
}
