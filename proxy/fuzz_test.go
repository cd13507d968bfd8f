package proxy

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"martlet/internal/backend"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/quorum"
	"martlet/internal/quorum/nodetest"
	"martlet/internal/realms"
	"martlet/proxy/auth"
	"martlet/proxy/etagquoter"
	"martlet/proxy/readonly"
	"martlet/proxy/staticweb"
	"martlet/proxy/versioning"
	"martlet/ring"
)

// everywhere is a storage node that has whatever is asked for: an object is a manifest of itself, so
// that features that read what they are given come upon one.
func everywhere(_ context.Context, r *backend.Request) (*backend.Response, error) {
	target, err := backend.ParseTarget(r.Path)
	if err != nil {
		return nil, err
	}
	if r.Body != nil {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return nil, err
		}
	}
	resp := nodetest.Status(201, "1400000000.00001")
	resp.Header.Set(backend.PolicyIndex, "0")
	body := "[]"
	switch {
	case r.Method == http.MethodDelete:
		resp.Status = 204
		return resp, nil
	case r.Method == http.MethodPost:
		resp.Status = 202
		return resp, nil
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		return resp, nil
	case target.Path.Object != "":
		body = `[{"name":"/c/o","bytes":1,"hash":"d41d8cd98f00b204e9800998ecf8427e","content_type":"a/b","last_modified":"2014-05-13T16:53:20.000010"}]`
		resp.Header.Set("Etag", "d41d8cd98f00b204e9800998ecf8427e")
		resp.Header.Set("Content-Type", "a/b")
		if strings.HasSuffix(target.Path.Object, "slo") {
			resp.Header.Set("X-Static-Large-Object", "True")
		}
		if strings.HasSuffix(target.Path.Object, "dlo") {
			resp.Header.Set("X-Object-Manifest", "c/o")
		}
		if strings.HasSuffix(target.Path.Object, "link") {
			resp.Header.Set("X-Object-Sysmeta-Symlink-Target", "c/slo")
		}
	case strings.HasPrefix(target.Path.Container, name.Reserved):
		resp.Header.Set("X-Container-Object-Count", "1")
		body = `[{"name":"\u0000o\u00008299999999.99998","hash":"h","bytes":1,"content_type":"a/b","last_modified":"2014-05-13T16:53:20.000010"}]`
	default:
		resp.Header.Set("X-Container-Object-Count", "1")
		switch target.Path.Container {
		case "v":
			resp.Header.Set(versioning.Container, "%00versions%00v")
			resp.Header.Set(versioning.Sysmeta+"Enabled", "True")
			body = `[{"name":"o","hash":"h; version_id=1700000000.00001","bytes":1,"content_type":"a/b","last_modified":"2014-05-13T16:53:20.000010"}]`
		case "stack", "history":
			resp.Header.Set(versioning.Sysmeta+"Location", "old")
			resp.Header.Set(versioning.Sysmeta+"Mode", target.Path.Container)
		case "old":
			if !strings.Contains(r.Query, "marker=001") {
				body = `[{"name":"001o/1700000000.00001","hash":"h","bytes":1,"content_type":"a/b","last_modified":"2014-05-13T16:53:20.000010"}]`
			}
		}
		if target.Path.Container == "quoted" {
			resp.Header.Set(etagquoter.ContainerMeta, "true")
		}
		if target.Path.Container == "site" {
			resp.Header.Set(staticweb.MetaIndex, "slo")
			resp.Header.Set(staticweb.MetaListings, "true")
			resp.Header.Set(staticweb.MetaDirType, "a/b")
		}
		if target.Path.Account == "AUTH_still" {
			resp.Header.Set(readonly.Meta, "true")
		}
		resp.Header.Set("X-Container-Read", ".r:*,.rlistings")
		resp.Header.Set("X-Container-Meta-Temp-Url-Key", "key")
		resp.Header.Set("X-Container-Sync-Key", "key")
		resp.Header.Set("X-Container-Meta-Access-Control-Allow-Origin", "http://a")
	}
	resp.Status, resp.Length = 200, int64(len(body))
	if r.Method == http.MethodGet {
		resp.Body = io.NopCloser(strings.NewReader(body))
	}
	return resp, nil
}

// whole is a whole proxy in front of nodes that have everything, and a token of who owns
// AUTH_test.
func whole(f testing.TB, cfg Config) (s *Server, token string) {
	f.Helper()
	fleet := nodetest.New(f, name.Path{Account: "AUTH_test", Container: "c", Object: "o"})
	for i := range nodetest.Nodes {
		fleet.Script(fmt.Sprint("d", i), everywhere)
	}
	policies, err := policy.NewSet([]policy.Policy{{Name: "Policy-0", Default: true}})
	if err != nil {
		f.Fatal(err)
	}
	authConfig := auth.Defaults()
	authConfig.Users = []auth.User{{Account: "test", Name: "tester", Key: "testing", Groups: []string{".admin"}}}
	a, err := auth.New(authConfig, []string{"a secret of the cluster"}, time.Now)
	if err != nil {
		f.Fatal(err)
	}
	s, err = New(cfg, Deps{
		Rings:  quorum.Rings{Account: fleet.Ring, Container: fleet.Ring, Objects: map[policy.Index]*ring.Source{0: fleet.Ring}},
		Hasher: fleet.Hasher, Policies: policies, Auth: a, Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Version: "test",
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(s.Close)
	token, _, err = a.Tokens.Issue("test:tester")
	if err != nil {
		f.Fatal(err)
	}
	return s, token
}

// FuzzRequests sends a whole proxy, in front of nodes that have everything, whatever net/http takes
// for a request: it never fails for its own fault, and answers soon.
func FuzzRequests(f *testing.F) {
	cfg := Defaults()
	cfg.Limits.MaxFileSize, cfg.ListEndpoints.Enabled = 1<<20, true
	cfg.ContainerSync.AcceptKeys = true // what such a request may do is reached without a signature
	cfg.ContainerSync.Realms = map[string]realms.Realm{"us": {Key: "key", Clusters: map[string]string{"b": "http://b/v1"}}}
	s, token := whole(f, cfg)
	for _, seed := range [][3]string{
		{"GET /v1/AUTH_test/c/o", "Range: bytes=0-1,3-\nIf-None-Match: \"a\", *\nX-Newest: true", ""},
		{"PUT /v1/AUTH_test/c/o", "X-Object-Meta-A: b\nX-Delete-After: 1\nIf-None-Match: *\nX-Copy-From: c/x%20", ""},
		{"PUT /v1/AUTH_test/c/slo?multipart-manifest=put&heartbeat=on", "", `[{"path":"/c/o","etag":null,"size_bytes":null,"range":"0-3"},{"data":"YQ=="}]`},
		{"GET /v1/AUTH_test/c/slo?multipart-manifest=get&format=raw&part-number=1", "Range: bytes=-4", ""},
		{"GET /v1/AUTH_test/c/dlo", "Range: bytes=1-2", ""},
		{"DELETE /v1/AUTH_test/c/slo?multipart-manifest=delete&async=yes", "", ""},
		{"COPY /v1/AUTH_test/c/o", "Destination: c/%e2%98%83\nDestination-Account: AUTH_test\nX-Fresh-Metadata: t", ""},
		{"POST /v1/AUTH_test?bulk-delete", "Accept: application/json;q=0.1", "c/o\nc/%zz\n"},
		{"PUT /v1/AUTH_test/c?extract-archive=tar.gz", "", "\x1f\x8b\x08\x00"},
		{"POST /v1/AUTH_test/c", "X-Container-Read: .r:-*.a,.rlistings, b:c ,*:d\nX-Container-Meta-Quota-Bytes: x", ""},
		{"POST /v1/AUTH_test", `X-Account-Access-Control: {"admin":["a:b"],"x":1}`, ""},
		{"GET /v1/AUTH_test/c?prefix=a/&delimiter=%2f&limit=5&marker=%00&reverse=on&format=xml", "", ""},
		{"OPTIONS /v1/AUTH_test/c/o", "Origin: http://a\nAccess-Control-Request-Method: GET", ""},
		{"GET /v1/AUTH_test/c/o?temp_url_sig=sha256:AAAA&temp_url_expires=2030-01-01T00:00:00Z&temp_url_ip_range=10.0.0.0/8&inline&filename=%22", "", ""},
		{"GET /v1/AUTH_test/site/%3Cb%3E/?x", "X-Web-Mode: on\nRange: bytes=1-", ""},
		{"POST /v1/AUTH_test/c/o", "Content-Type: multipart/form-data; boundary=x", formOfAll("x")},
		{"GET /endpoints/v2.0/AUTH_test/c/o%2F%20", "", ""},
		{"GET /info?swiftinfo_sig=a&swiftinfo_expires=9", "", ""},
		{"GET /auth/v1.0", "X-Auth-User: test:tester\nX-Auth-Key: testing", ""},
		{"GET /v1//c/../%2e%2e/%ff", "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT", ""},
		{"PUT /v1/AUTH_test/c/o", "X-Symlink-Target: c/%e2%98%83\nX-Symlink-Target-Account: a\nX-Symlink-Target-Etag: e", ""},
		{"GET /v1/AUTH_test/c/link?symlink=get", "Range: bytes=1-", ""},
		{"GET /v1/AUTH_test/c/link", "Range: bytes=1-", ""},
		{"PUT /v1/AUTH_test/v/o", "If-None-Match: *\nX-Delete-At: 9999999999", "x"},
		{"PUT /v1/AUTH_test/v/o?version-id=1700000000.00001", "", ""},
		{"DELETE /v1/AUTH_test/v/slo?version-id=1700000000.00001&multipart-manifest=delete", "", ""},
		{"GET /v1/AUTH_test/v/o?version-id=null&part-number=1", "", ""},
		{"GET /v1/AUTH_test/v?versions&marker=o&version_marker=1700000000.00001_1&delimiter=9&reverse=on", "Accept: text/plain;q=0.1,*/*", ""},
		{"POST /v1/AUTH_test/c", "X-Versions-Enabled: true\nX-Container-Sync-To: //a/b/c/d", ""},
		{"PUT /v1/AUTH_test/v", "X-Versions-Location: %00versions%00v\nX-History-Location: \nX-Remove-History-Location: x", ""},
		{"DELETE /v1/AUTH_test/stack/o", "", ""},
		{"PUT /v1/AUTH_test/history/o", "", "x"},
		{"PUT /v1/AUTH_test/c/slo", "X-Container-Sync-Auth: US n 00\nX-Timestamp: 1\nX-Static-Large-Object: True", "[]"},
		{"PUT /v1/AUTH_test/c/o", "X-Container-Sync-Key: key\nX-Timestamp: 1400000000.00000\nX-Static-Large-Object: True", "[]"},
		{"POST /v1/AUTH_test/c", "X-Container-Sync-To: //US/b/AUTH_test/c%20d\nX-Container-Sync-Key: key", ""},
		{"POST /v1/AUTH_test/c/o", "X-Timestamp: 1e99\nContent-Type: a/b; c=\"\nX-Backend-Replication: true", ""},
	} {
		f.Add(seed[0], seed[1], []byte(seed[2]), true)
		f.Add(seed[0], seed[1], []byte(seed[2]), false)
	}
	f.Fuzz(func(t *testing.T, line, header string, body []byte, signedIn bool) {
		if len(line)+len(header)+len(body) > 64<<10 {
			return // what is longer is not let in, and costs time
		}
		text := line + " HTTP/1.1\r\nHost: h\r\n"
		if signedIn {
			text += "X-Auth-Token: " + token + "\r\n"
		}
		for field := range strings.SplitSeq(header, "\n") {
			if field != "" {
				text += field + "\r\n"
			}
		}
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text + "Content-Length: " + fmt.Sprint(len(body)) + "\r\n\r\n" + string(body))))
		if err != nil {
			return
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		w := &statusSink{sink: sink{h: http.Header{}}, status: 200}
		began := time.Now()
		func() {
			defer func() { // that is how an answer which can't be ended well breaks its connection
				if p := recover(); p != nil && p != http.ErrAbortHandler {
					panic(p)
				}
			}()
			s.ServeHTTP(w, r.WithContext(ctx))
		}()
		if w.status >= 500 && w.status != 501 && w.status != 503 || w.status < 200 && w.status != 0 {
			t.Errorf("%q with %q and %d bytes is answered with %d", line, header, len(body), w.status)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%q with %q and %d bytes takes %v", line, header, len(body), took)
		}
	})
}

// formOfAll is a form that stores a file in /v1/AUTH_test/c/o.
func formOfAll(boundary string) string {
	const expires = "9999999999"
	m := hmac.New(sha256.New, []byte("key")) // of the container
	_, _ = io.WriteString(m, "/v1/AUTH_test/c/o\n\n9\n9\n"+expires)
	var b strings.Builder
	for _, f := range [][2]string{{"max_file_size", "9"}, {"max_file_count", "9"}, {"expires", expires}, {"signature", hex.EncodeToString(m.Sum(nil))}, {`f"; filename="x`, "data"}} {
		b.WriteString("--" + boundary + "\r\nContent-Disposition: form-data; name=\"" + f[0] + "\"\r\n\r\n" + f[1] + "\r\n")
	}
	return b.String() + "--" + boundary + "--\r\n"
}

// That form is good, so that what is made of it gets as far as there is.
func TestTheFormOfAll(t *testing.T) {
	s, token := whole(t, Defaults())
	if w := answered(t, s, token, "POST /v1/AUTH_test/c/o", formOfAll("x"), "Content-Type", "multipart/form-data; boundary=x"); w.Code != 201 {
		t.Errorf("got %d, %s", w.Code, w.Body)
	}
}
