package proxy

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/direct"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/quorum"
	"martlet/internal/quorum/nodetest"
	"martlet/proxy/auth"
	"martlet/proxy/chain"
	"martlet/proxy/cors"
	"martlet/proxy/tempurl"
	"martlet/ring"
)

// changing is an info cache that knows what was, while another proxy has changed it.
type changing struct {
	was, is map[string]string // headers of account and container alike
	looks   int               // since it was filled
}

// infos returns the cache, filled with what was.
func (c *changing) infos(t *testing.T) *infoCache {
	t.Helper()
	header := c.was
	cache := newInfoCache(time.Hour, func(context.Context, name.Path) (facts, error) {
		c.looks++
		var h backend.Header
		for n, v := range header {
			h.Add(n, v)
		}
		return facts{exists: true, header: h, at: time.Now()}, nil
	})
	for _, p := range []name.Path{{Account: "AUTH_a"}, {Account: "AUTH_a", Container: "c"}} {
		if _, err := cache.get(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	header, c.looks = c.is, 0
	return cache
}

// What is known of accounts and containers is looked up again before a request is
// refused for it, once, and not before one that is granted.
func TestLooksAgainBeforeItRefuses(t *testing.T) {
	users, err := auth.New(auth.Config{
		Users:            []auth.User{{Account: "b", Name: "u", Key: "k"}},
		ResellerPrefixes: []string{"AUTH"}, AuthPrefix: "/auth/", StorageURLScheme: auth.SchemeDefault, TokenLife: auth.Defaults().TokenLife,
	}, []string{"a secret of the cluster"}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	granted := chain.HandlerFunc(func(_ context.Context, r *chain.Request) *chain.Response {
		resp := chain.Empty(200)
		if r.Method == http.MethodOptions {
			resp.Header["Allow"] = []string{"GET, OPTIONS"}
		}
		return resp
	})
	path := name.Path{Account: "AUTH_a", Container: "c", Object: "o"}
	expires := fmt.Sprint(time.Now().Add(time.Hour).Unix())
	mac := hmac.New(sha256.New, []byte("key"))
	mac.Write([]byte("GET\n" + expires + "\n/v1/AUTH_a/c/o"))
	signed := "temp_url_sig=" + hex.EncodeToString(mac.Sum(nil)) + "&temp_url_expires=" + expires

	ask := map[string]func(s *Server) int{
		"tempurl": func(s *Server) int {
			r := &chain.Request{Method: http.MethodGet, Path: path, Query: signed, Header: http.Header{}, Client: &http.Request{}}
			return tempurl.Link(tempurl.Defaults(), s.keys, time.Now)(granted).Serve(t.Context(), r).Status
		},
		"acl": func(s *Server) int {
			rq := newRequest(t.Context(), &chain.Request{Method: http.MethodGet, Path: path, Header: http.Header{}})
			if err := s.allowObject(rq, http.MethodGet, path); err != nil {
				return chain.Fail(t.Context(), err).Status
			}
			return 200
		},
		"preflight": func(s *Server) int {
			r := &chain.Request{Method: http.MethodOptions, Path: path, Header: http.Header{"Origin": {"http://x"}, "Access-Control-Request-Method": {"GET"}}}
			return cors.Link(cors.Defaults(), s.origins)(granted).Serve(t.Context(), r).Status
		},
	}
	type header = map[string]string
	for what, tt := range map[string]struct {
		ask     string
		was, is header
		want    int
		looks   int
	}{
		"an account's key came":    {"tempurl", header{"X-Account-Meta-Temp-Url-Key": "old"}, header{"X-Account-Meta-Temp-Url-Key": "key"}, 200, 2},
		"a container's key came":   {"tempurl", nil, header{"X-Container-Meta-Temp-Url-Key-2": "key"}, 200, 2},
		"the key is another":       {"tempurl", nil, header{"X-Container-Meta-Temp-Url-Key": "other"}, 401, 2},
		"the key is known":         {"tempurl", header{"X-Account-Meta-Temp-Url-Key": "key"}, nil, 200, 0},
		"a container was opened":   {"acl", nil, header{"X-Container-Read": ".r:*"}, 200, 2},
		"a container is closed":    {"acl", nil, header{"X-Container-Write": ".r:*"}, 401, 2},
		"a container is open":      {"acl", header{"X-Container-Read": ".r:*"}, nil, 200, 0},
		"an origin was allowed":    {"preflight", nil, header{cors.MetaAllowOrigin: "http://x"}, 200, 1},
		"an origin is not allowed": {"preflight", nil, header{cors.MetaAllowOrigin: "http://y"}, 401, 1},
		"an origin is known":       {"preflight", header{cors.MetaAllowOrigin: "http://x"}, nil, 200, 0},
	} {
		c := &changing{was: tt.was, is: tt.is}
		s := &Server{cfg: Defaults(), auth: users, log: slog.New(slog.DiscardHandler), infos: c.infos(t)}
		if got := ask[tt.ask](s); got != tt.want || c.looks != tt.looks {
			t.Errorf("%s: got %d after %d look-ups, want %d after %d", what, got, c.looks, tt.want, tt.looks)
		}
	}
}

// A container that was made anew with another policy, by way of another proxy, has
// its objects elsewhere: that is found out before one is said not to be there, be it
// with a 404 or, where there had to be one, with a 412.
func TestLooksAgainBeforeAnObjectIsNotThere(t *testing.T) {
	path := name.Path{Account: "a", Container: "c", Object: "o"}
	fleet := nodetest.New(t, path)
	client := direct.New(direct.Config{})
	t.Cleanup(client.Close)
	cluster := quorum.New(quorum.Config{}, quorum.Rings{
		Account: fleet.Ring, Container: fleet.Ring, Objects: map[policy.Index]*ring.Source{0: fleet.Ring, 1: fleet.Ring},
	}, fleet.Hasher, client)
	t.Cleanup(cluster.Wait)
	for i := range nodetest.Nodes {
		fleet.Script(fmt.Sprint("d", i), func(ctx context.Context, r *backend.Request) (*backend.Response, error) {
			if r.Header.Get(backend.PolicyIndex) == "1" && strings.HasSuffix(r.Path, "/o") {
				return nodetest.Body(200, "1000000000.00001", "x")(ctx, r)
			}
			return nodetest.Status(404, ""), nil
		})
	}
	two, err := policy.NewSet([]policy.Policy{{Index: 0, Name: "zero", Default: true}, {Index: 1, Name: "one"}})
	if err != nil {
		t.Fatal(err)
	}
	for what, tt := range map[string]struct {
		policies policy.Set
		object   string
		now      policy.Index
		cached   bool
		want     int
		looks    int
	}{
		"it moved":                  {two, "o", 1, true, 200, 2},
		"it did not":                {two, "o", 0, true, 404, 2},
		"it moved, without":         {two, "p", 1, true, 404, 2},
		"it was looked up just now": {two, "p", 1, false, 404, 1},
		"there is one policy alone": {policy.Single(), "p", 0, true, 404, 1},
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			for _, conditional := range []bool{false, true} {
				looks := 0
				s := &Server{cfg: Defaults(), policies: tt.policies, cluster: cluster, log: slog.New(slog.DiscardHandler)}
				s.infos = newInfoCache(time.Hour, func(context.Context, name.Path) (facts, error) {
					looks++
					p := tt.now
					if looks == 1 && tt.cached {
						p = 0
					}
					return facts{exists: true, policy: p, at: time.Now()}, nil
				})
				if tt.cached {
					if _, err := s.container(t.Context(), path); err != nil {
						t.Fatal(err)
					}
				}
				header, want := http.Header{}, tt.want
				if conditional {
					header.Set("If-Match", "*")
					if want == 404 {
						want = 412
					}
				}
				rq := newTestRequest(t, method, header)
				rq.Path.Object = tt.object
				rq.Grant = func(string, name.Path) bool { return true }
				resp := s.Serve(t.Context(), rq.Request)
				resp.Close()
				if resp.Status != want || looks != tt.looks {
					t.Errorf("%s, %s, conditional %v: got %d after %d look-ups, want %d after %d", what, method, conditional, resp.Status, looks, want, tt.looks)
				}
			}
		}
	}
}
