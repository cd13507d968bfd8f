package tempurl

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"hash"
	"net/http"
	neturl "net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"martlet/internal/name"
	"martlet/proxy/chain"
)

var (
	now    = time.Unix(1_700_000_000, 0)
	object = name.Path{Account: "AUTH_a", Container: "c d", Object: "dir/o é"}
)

const (
	later = "1700000060"
	path  = "/v1/AUTH_a/c d/dir/o é"
)

func sign(digest, key, text string) []byte {
	m := hmac.New(map[string]func() hash.Hash{"sha1": sha1.New, "sha256": sha256.New, "sha512": sha512.New}[digest], []byte(key))
	m.Write([]byte(text))
	return m.Sum(nil)
}

func hexOf(digest, key, text string) string { return hex.EncodeToString(sign(digest, key, text)) }

// keysOf has an account's key, and one of the container that is known only when
// it is asked for again.
func keysOf(_ context.Context, container name.Path, fresh bool) (account, own []string, err error) {
	if container.Container == "broken" {
		return nil, nil, errors.New("no answer")
	}
	if fresh && container.Container == object.Container {
		own = []string{"ckey"}
	}
	return []string{"old", "akey"}, own, nil
}

// ask sends a request with the parameters, in pairs, and returns what got through.
func ask(t *testing.T, cfg Config, method string, p name.Path, header http.Header, params ...string) (*chain.Response, *chain.Request) {
	t.Helper()
	q := neturl.Values{}
	for i := 0; i < len(params); i += 2 {
		q.Set(params[i], params[i+1])
	}
	if header == nil {
		header = http.Header{}
	}
	var seen *chain.Request
	h := Link(cfg, keysOf, func() time.Time { return now })(chain.HandlerFunc(func(_ context.Context, r *chain.Request) *chain.Response {
		was := *r
		seen = &was
		resp := chain.Empty(200)
		resp.Header["X-Object-Meta-Secret"], resp.Header["X-Object-Meta-Public-A"] = []string{"s"}, []string{"p"}
		if d := r.Header["Test-Disposition"]; d != nil {
			resp.Header["Content-Disposition"] = d
		}
		if d := r.Header["Test-Generator"]; d != nil {
			resp.Header[chain.Generator] = d
		}
		r.Path, r.Method = name.Path{Account: "another's"}, "another" // a handler may
		return resp
	}))
	r := &chain.Request{Method: method, Path: p, Query: q.Encode(), Header: header, Client: &http.Request{RemoteAddr: "192.0.2.7:1234"}}
	return h.Serve(t.Context(), r), seen
}

func TestSignatures(t *testing.T) {
	get := "GET\n" + later + "\n" + path
	url64 := func(digest string) string {
		return digest + ":" + base64.RawURLEncoding.EncodeToString(sign(digest, "akey", get))
	}
	all := Config{Methods: Defaults().Methods, Digests: []string{"sha1", "sha256", "sha512"}}
	for what, tt := range map[string]struct {
		cfg    Config
		method string
		params []string
		ok     bool
	}{
		"sha256":                 {Defaults(), "GET", []string{"temp_url_sig", hexOf("sha256", "akey", get)}, true},
		"sha512":                 {Defaults(), "GET", []string{"temp_url_sig", hexOf("sha512", "akey", get)}, true},
		"the other key":          {Defaults(), "GET", []string{"temp_url_sig", hexOf("sha256", "old", get)}, true},
		"the container's":        {Defaults(), "GET", []string{"temp_url_sig", hexOf("sha256", "ckey", get)}, true},
		"in capitals":            {Defaults(), "GET", []string{"temp_url_sig", strings.ToUpper(hexOf("sha256", "akey", get))}, true},
		"base64":                 {Defaults(), "GET", []string{"temp_url_sig", url64("sha512")}, true},
		"padded, other alphabet": {Defaults(), "GET", []string{"temp_url_sig", "sha256:" + base64.StdEncoding.EncodeToString(sign("sha256", "akey", get))}, true},
		"sha1 is off":            {Defaults(), "GET", []string{"temp_url_sig", hexOf("sha1", "akey", get)}, false},
		"sha1 in base64":         {Defaults(), "GET", []string{"temp_url_sig", url64("sha1")}, false},
		"sha1 that is on":        {all, "GET", []string{"temp_url_sig", hexOf("sha1", "akey", get)}, true},
		"another digest's name":  {all, "GET", []string{"temp_url_sig", "sha512:" + base64.StdEncoding.EncodeToString(sign("sha256", "akey", get))}, false},
		"no such digest":         {all, "GET", []string{"temp_url_sig", "md5:AAAA"}, false},
		"another key":            {Defaults(), "GET", []string{"temp_url_sig", hexOf("sha256", "nokey", get)}, false},
		"an empty key":           {Defaults(), "GET", []string{"temp_url_sig", hexOf("sha256", "", get)}, false},
		"no hexadecimal":         {Defaults(), "GET", []string{"temp_url_sig", strings.Repeat("z", 64)}, false},
		"cut":                    {Defaults(), "GET", []string{"temp_url_sig", hexOf("sha256", "akey", get)[:62]}, false},
		"empty":                  {Defaults(), "GET", []string{"temp_url_sig", ""}, false},
		"none":                   {Defaults(), "GET", nil, false},
		"no expiry":              {Defaults(), "GET", []string{"temp_url_sig", hexOf("sha256", "akey", get), "temp_url_expires", ""}, false},
		"past":                   {Defaults(), "GET", []string{"temp_url_sig", hexOf("sha256", "akey", "GET\n1699999999\n"+path), "temp_url_expires", "1699999999"}, false},
		"now":                    {Defaults(), "GET", []string{"temp_url_sig", hexOf("sha256", "akey", "GET\n1700000000\n"+path), "temp_url_expires", "1700000000"}, true},
		"ISO 8601":               {Defaults(), "GET", []string{"temp_url_sig", hexOf("sha256", "akey", get), "temp_url_expires", "2023-11-14T22:14:20Z"}, true},
		"no time":                {Defaults(), "GET", []string{"temp_url_sig", hexOf("sha256", "akey", get), "temp_url_expires", "soon"}, false},
		"HEAD of a GET":          {Defaults(), "HEAD", []string{"temp_url_sig", hexOf("sha256", "akey", get)}, true},
		"HEAD of a PUT":          {Defaults(), "HEAD", []string{"temp_url_sig", hexOf("sha256", "akey", "PUT\n"+later+"\n"+path)}, true},
		"HEAD of a DELETE":       {Defaults(), "HEAD", []string{"temp_url_sig", hexOf("sha256", "akey", "DELETE\n"+later+"\n"+path)}, false},
		"GET of a HEAD":          {Defaults(), "GET", []string{"temp_url_sig", hexOf("sha256", "akey", "HEAD\n"+later+"\n"+path)}, false},
		"PUT of a GET":           {Defaults(), "PUT", []string{"temp_url_sig", hexOf("sha256", "akey", get)}, false},
		"a method that is off":   {Config{Methods: []string{"PUT"}, Digests: all.Digests}, "GET", []string{"temp_url_sig", hexOf("sha256", "akey", get)}, false},
		"a copy":                 {Config{Methods: []string{"COPY"}, Digests: all.Digests}, "COPY", []string{"temp_url_sig", hexOf("sha256", "akey", "COPY\n"+later+"\n"+path)}, false},
		"a prefix":               {Defaults(), "GET", []string{"temp_url_prefix", "dir/", "temp_url_sig", hexOf("sha256", "akey", "GET\n"+later+"\nprefix:/v1/AUTH_a/c d/dir/")}, true},
		"the empty prefix":       {Defaults(), "GET", []string{"temp_url_prefix", "", "temp_url_sig", hexOf("sha256", "akey", "GET\n"+later+"\nprefix:/v1/AUTH_a/c d/")}, true},
		"another prefix":         {Defaults(), "GET", []string{"temp_url_prefix", "x", "temp_url_sig", hexOf("sha256", "akey", "GET\n"+later+"\nprefix:/v1/AUTH_a/c d/x")}, false},
		"a path for a prefix":    {Defaults(), "GET", []string{"temp_url_prefix", "dir/o é", "temp_url_sig", hexOf("sha256", "akey", get)}, false},
		"from a network":         {Defaults(), "GET", []string{"temp_url_ip_range", "192.0.2.0/24", "temp_url_sig", hexOf("sha256", "akey", "ip=192.0.2.0/24\n"+get)}, true},
		"from an address":        {Defaults(), "GET", []string{"temp_url_ip_range", "192.0.2.7", "temp_url_sig", hexOf("sha256", "akey", "ip=192.0.2.7\n"+get)}, true},
		"from elsewhere":         {Defaults(), "GET", []string{"temp_url_ip_range", "198.51.100.0/24", "temp_url_sig", hexOf("sha256", "akey", "ip=198.51.100.0/24\n"+get)}, false},
		"from nowhere":           {Defaults(), "GET", []string{"temp_url_ip_range", "x", "temp_url_sig", hexOf("sha256", "akey", "ip=x\n"+get)}, false},
		"the range is left out":  {Defaults(), "GET", []string{"temp_url_sig", hexOf("sha256", "akey", "ip=192.0.2.0/24\n"+get)}, false},
		"a range is put in":      {Defaults(), "GET", []string{"temp_url_ip_range", "192.0.2.0/24", "temp_url_sig", hexOf("sha256", "akey", get)}, false},
	} {
		resp, seen := ask(t, tt.cfg, tt.method, object, nil, append([]string{"temp_url_expires", later}, tt.params...)...)
		if (resp.Status == 200) != tt.ok || (seen != nil) != tt.ok || !tt.ok && (resp.Status != 401 || resp.Get("Www-Authenticate") != `Swift realm="unknown"`) {
			t.Errorf("%s: got %d, let through %v, want %v", what, resp.Status, seen != nil, tt.ok)
		}
	}
}

// What a URL opens is its account or its container, and nothing that its other
// parameters say.
func TestScope(t *testing.T) {
	text := "GET\n" + later + "\n" + path
	elsewhere := name.Path{Account: "AUTH_a", Container: "other", Object: "o"}
	for key, other := range map[string]bool{"akey": true, "ckey": false} {
		_, seen := ask(t, Defaults(), "GET", object, nil, "temp_url_sig", hexOf("sha256", key, text), "temp_url_expires", later, "multipart-manifest", "get")
		if seen == nil || seen.Grant == nil || seen.Query != "" {
			t.Fatalf("%s: got %+v", key, seen)
		}
		if !seen.Grant("GET", object) || seen.Grant("GET", elsewhere) != other || seen.Grant("GET", name.Path{Account: "AUTH_b", Container: "c d", Object: "o"}) {
			t.Errorf("%s: it opens %v, %v in the account", key, seen.Grant("GET", object), seen.Grant("GET", elsewhere))
		}
	}
	if resp, seen := ask(t, Defaults(), "GET", name.Path{Account: "AUTH_a", Container: "c"}, nil, "temp_url_sig", hexOf("sha256", "akey", text), "temp_url_expires", later); resp.Status != 401 || seen != nil {
		t.Errorf("a container: got %d", resp.Status)
	}
	if resp, _ := ask(t, Defaults(), "GET", name.Path{Account: "AUTH_a", Container: "broken", Object: "o"}, nil, "temp_url_sig", hexOf("sha256", "akey", text), "temp_url_expires", later); resp.Status != 500 {
		t.Errorf("keys that can't be had: got %d, want 500", resp.Status)
	}
	if _, seen := ask(t, Defaults(), "GET", object, nil, "filename", "x"); seen == nil || seen.Grant != nil {
		t.Errorf("no temporary URL: got %+v", seen)
	}
	if _, seen := ask(t, Defaults(), "OPTIONS", object, nil, "temp_url_sig", "x"); seen == nil || seen.Grant != nil {
		t.Errorf("OPTIONS: got %+v", seen)
	}
}

// The page of a web site about its container is the one thing that is no object.
func TestSites(t *testing.T) {
	container, page := object.Parent(), http.Header{"Test-Generator": {chain.GeneratorStaticWeb}}
	for what, tt := range map[string]struct {
		method, signed, prefix string
		p                      name.Path
		header                 http.Header
		status                 int
		sent                   bool
	}{
		"a page":                     {"GET", "GET", "", container, page, 200, true},
		"its head":                   {"HEAD", "GET", "", container, page, 200, true},
		"what is no page":            {"GET", "GET", "", container, nil, 401, true},
		"with a prefix":              {"GET", "GET", "dir/", container, page, 401, false},
		"a write":                    {"PUT", "PUT", "", container, page, 401, false},
		"a page of a folder":         {"GET", "GET", "dir/", object, page, 200, true},
		"an account":                 {"GET", "GET", "", container.Parent(), page, 401, false},
		"with the signature of none": {"GET", "PUT", "", container, page, 401, false},
	} {
		sig := hexOf("sha256", "akey", tt.signed+"\n"+later+"\nprefix:/v1/"+tt.p.Account+"/"+tt.p.Container+"/"+tt.prefix)
		resp, seen := ask(t, Defaults(), tt.method, tt.p, tt.header, "temp_url_sig", sig, "temp_url_expires", later, "temp_url_prefix", tt.prefix)
		if resp.Status != tt.status || (seen != nil) != tt.sent {
			t.Errorf("%s: got %d, sent on: %v", what, resp.Status, seen != nil)
		}
		if got := resp.Get("Content-Disposition"); resp.Status == 200 && got != "inline" {
			t.Errorf("%s: Content-Disposition is %q", what, got)
		}
	}
}

func TestShared(t *testing.T) {
	grant := func(string, name.Path) bool { return true }
	for what, tt := range map[string]struct {
		grant                chain.Grant
		query, prefix, again string
	}{
		"the whole":          {grant, "temp_url_sig=sha256:a%2Bb&temp_url_expires=2030-01-01T00:00:00Z&temp_url_prefix=", "", "temp_url_prefix=&temp_url_expires=2030-01-01T00%3A00%3A00Z&temp_url_sig=sha256%3Aa%2Bb"},
		"a prefix, and more": {grant, "temp_url_sig=a&x=y&temp_url_prefix=d%26/&inline=1&temp_url_expires=9&temp_url_ip_range=::/0", "d&/", "temp_url_prefix=d%26/&temp_url_expires=9&temp_url_sig=a&temp_url_ip_range=%3A%3A/0&inline"},
		"one object":         {grant, "temp_url_sig=a&temp_url_expires=9", "", ""},
		"none":               {grant, "", "", ""},
		"not granted":        {nil, "temp_url_sig=a&temp_url_expires=9&temp_url_prefix=", "", ""},
	} {
		prefix, query := Shared(&chain.Request{Grant: tt.grant, Client: &http.Request{URL: &neturl.URL{RawQuery: tt.query}}})
		if prefix != tt.prefix || query != tt.again {
			t.Errorf("%s: got %q, %q, want %q, %q", what, prefix, query, tt.prefix, tt.again)
		}
	}
}

func TestUploadsPointNowhere(t *testing.T) {
	for _, method := range []string{"PUT", "POST"} {
		sig := hexOf("sha256", "akey", method+"\n"+later+"\n"+path)
		for n, want := range map[string]int{"X-Object-Manifest": 400, "X-Symlink-Target": 400, "X-Copy-From": 400, "X-Object-Meta-A": 200} {
			resp, seen := ask(t, Defaults(), method, object, http.Header{n: {"c/o"}}, "temp_url_sig", sig, "temp_url_expires", later)
			if resp.Status != want || (seen != nil) != (want == 200) {
				t.Errorf("%s with %s: got %d, want %d", method, n, resp.Status, want)
			}
		}
	}
}

func TestWhatIsShown(t *testing.T) {
	sig := hexOf("sha256", "akey", "GET\n"+later+"\n"+path)
	for what, tt := range map[string]struct {
		header http.Header
		params []string
		want   string
	}{
		"by its name":     {nil, nil, `attachment; filename="o %C3%A9"; filename*=UTF-8''o%20%C3%A9`},
		"as the URL says": {nil, []string{"filename", "a \"b\"/\r\n"}, `attachment; filename="a %22b%22/%0D%0A"; filename*=UTF-8''a%20%22b%22/%0D%0A`},
		"inline":          {nil, []string{"inline", ""}, "inline"},
		"inline and name": {nil, []string{"inline", "", "filename", "f"}, `inline; filename="f"; filename*=UTF-8''f`},
		"as it is kept":   {http.Header{"Test-Disposition": {"kept"}}, nil, "kept"},
		"over what is":    {http.Header{"Test-Disposition": {"kept"}}, []string{"inline", ""}, "inline"},
	} {
		resp, _ := ask(t, Defaults(), "GET", object, tt.header, append([]string{"temp_url_sig", sig, "temp_url_expires", later}, tt.params...)...)
		if got := resp.Get("Content-Disposition"); got != tt.want {
			t.Errorf("%s: got %q, want %q", what, got, tt.want)
		}
		if resp.Get("X-Object-Meta-Secret") != "" || resp.Get("X-Object-Meta-Public-A") != "p" || resp.Get("Expires") != "Tue, 14 Nov 2023 22:14:20 GMT" {
			t.Errorf("%s: shown %v", what, resp.Header)
		}
	}
}

func TestValidate(t *testing.T) {
	for digest, ok := range map[string]bool{"sha1": true, "sha512": true, "md5": false, "": false} {
		if err := (Config{Digests: []string{digest}}).Validate(); (err == nil) != ok {
			t.Errorf("%q: %v, want ok %v", digest, err, ok)
		}
	}
}

// Whatever is sent as a signature and an expiry, nothing opens without the key.
func FuzzURL(f *testing.F) {
	f.Add("sha256:AAAA", later, "192.0.2.0/24", "dir/")
	f.Add(strings.Repeat("0", 64), "2023-11-14T22:14:20Z", "", "")
	f.Fuzz(func(t *testing.T, sig, expires, addresses, prefix string) {
		resp, seen := ask(t, Defaults(), "GET", object, nil, "temp_url_sig", sig, "temp_url_expires", expires, "temp_url_ip_range", addresses, "temp_url_prefix", prefix)
		if seen != nil || resp.Status != 401 {
			t.Errorf("%q, %q, %q, %q: got %d", sig, expires, addresses, prefix, resp.Status)
		}
		if at, ok := expiry(expires); ok && at <= 0 {
			t.Errorf("expiry(%q) = %s", expires, strconv.FormatInt(at, 10))
		}
	})
}
