package etagquoter

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"martlet/internal/name"
	"martlet/proxy/chain"
)

func TestQuotes(t *testing.T) {
	object := name.Path{Account: "a", Container: "c", Object: "o"}
	broken := errors.New("no node answers")
	for what, tt := range map[string]struct {
		always bool
		path   name.Path
		said   string
		err    error
		etag   string
		want   string
	}{
		"nobody says anything":  {false, object, "", nil, "e", "e"},
		"by default":            {true, object, "", nil, "e", `"e"`},
		"said":                  {false, object, "true", nil, "e", `"e"`},
		"said in another word":  {false, object, "yes", nil, "e", `"e"`},
		"denied":                {true, object, "false", nil, "e", "e"},
		"not known":             {true, object, "", broken, "e", "e"},
		"has quotes":            {true, object, "", nil, `"e"`, `"e"`},
		"is weak":               {true, object, "", nil, `W/"e"`, `W/"e"`},
		"has one quote":         {true, object, "", nil, `"`, `"""`},
		"has none":              {true, object, "", nil, "", ""},
		"of a container":        {true, object.Parent(), "true", nil, "e", "e"},
		"of nothing of the API": {true, name.Path{}, "true", nil, "e", "e"},
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost} {
			for _, status := range []int{200, 201, 206, 304, 412, 416} {
				find := func(_ context.Context, container name.Path) (string, error) {
					if container != object.Parent() {
						t.Errorf("%s: asked for %v", what, container)
					}
					return tt.said, tt.err
				}
				last := chain.HandlerFunc(func(_ context.Context, r *chain.Request) *chain.Response {
					r.Path = name.Path{Account: "of", Container: "another"} // a handler may
					resp := chain.Empty(status)
					if tt.etag != "" {
						resp.Header.Set("Etag", tt.etag)
					}
					return resp
				})
				resp := Link(Config{Enabled: true, Always: tt.always}, find)(last).Serve(t.Context(), &chain.Request{Method: method, Path: tt.path})
				if got := resp.Get("Etag"); got != tt.want || resp.Status != status {
					t.Errorf("%s, %s, %d: got %d, %s, want %s", what, method, status, resp.Status, got, tt.want)
				}
			}
		}
	}
	if Link(Defaults(), nil) != nil {
		t.Error("containers are asked where nothing switches it on")
	}
}

func TestValue(t *testing.T) {
	for text, want := range map[string]string{"": "", "true": "true", "Yes": "true", "1": "true", "false": "false", "nonsense": "false"} {
		if got := Value(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
