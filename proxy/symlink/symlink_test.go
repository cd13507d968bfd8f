package symlink

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"martlet/internal/errs"
	"martlet/internal/listing"
	"martlet/internal/name"
	"martlet/proxy/chain"
)

// world is a core that keeps the headers of what is put, and data that tests set.
type world struct {
	objects map[name.Path]*chain.Response
	rows    []listing.Object
	asked   []string
}

func newWorld() *world { return &world{objects: map[name.Path]*chain.Response{}} }

func (w *world) Serve(_ context.Context, r *chain.Request) *chain.Response {
	w.asked = append(w.asked, r.Method+" "+r.Path.String())
	if r.Path.Object == "" {
		return &chain.Response{Status: 200, Header: http.Header{}, Rows: &chain.Rows{Objects: w.rows}}
	}
	if r.Method == http.MethodPut {
		resp := &chain.Response{Status: 200, Header: r.Header.Clone()}
		resp.Header.Set("Etag", nothing)
		w.objects[r.Path] = resp
		return chain.Empty(201)
	}
	o := w.objects[r.Path]
	if o == nil {
		return chain.Text(404, "")
	}
	resp := *o
	resp.Header = o.Header.Clone()
	switch {
	case r.Method == http.MethodPost:
		resp.Status = 202
	case r.Header.Get("If-Match") != "" && r.Header.Get("If-Match") != resp.Get("Etag"):
		resp.Status = 412
	case r.Header.Get("Range") != "" && resp.Length == 0:
		resp.Status = 416
	}
	return &resp
}

// set puts an object of so many bytes.
func (w *world) set(account, object, etag string, length int64) {
	w.objects[name.Path{Account: account, Container: "c", Object: object}] = &chain.Response{
		Status: 200, Length: length, Header: http.Header{"Etag": {etag}, "Content-Type": {"text/x"}},
	}
}

// ask sends a request about a/c/object; headers come in pairs.
func ask(t *testing.T, w *world, method, object, query string, headers ...string) *chain.Response {
	t.Helper()
	r := &chain.Request{Method: method, Path: name.Path{Account: "a", Container: "c", Object: object}, Query: query, Header: http.Header{}, Length: -1}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return Link(Defaults())(w).Serve(t.Context(), r)
}

func said(t *testing.T, resp *chain.Response) string {
	t.Helper()
	b, err := resp.ReadAll(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestPut(t *testing.T) {
	const form = "X-Symlink-Target header must be of the form <container name>/<object name>"
	for what, tt := range map[string]struct {
		header []string
		status int
		text   string // or what is kept as the target
		row    string
	}{
		"dynamic":                   {[]string{hdrTarget, "c/o"}, 201, "c/o", targetMark + "c/o"},
		"encoded":                   {[]string{hdrTarget, "c%2Fo%2F%20p;"}, 201, "c/o/%20p%3B", targetMark + "c/o/%20p%3B"},
		"of another account":        {[]string{hdrTarget, "c/o", hdrAccount, "AUTH%5Fb"}, 201, "c/o", targetMark + "c/o" + accountMark + "AUTH_b"},
		"static":                    {[]string{hdrTarget, "c/o", hdrETag, `"e"`}, 201, "c/o", targetMark + "c/o" + etagMark + "e" + bytesMark + "5"},
		"static, of a large object": {[]string{hdrTarget, "c/large", hdrETag, "m"}, 201, "c/large", "; slo_etag=whole" + targetMark + "c/large" + etagMark + "m" + bytesMark + "99"},
		"static, of a dynamic":      {[]string{hdrTarget, "c/link", hdrETag, nothing}, 201, "c/link", targetMark + "c/link" + etagMark + nothing + bytesMark + "0"},
		"static, of a static":       {[]string{hdrTarget, "c/fixed", hdrETag, "e"}, 201, "c/fixed", targetMark + "c/fixed" + etagMark + "e" + bytesMark + "5"},
		"static, of another static": {[]string{hdrTarget, "c/fixed", hdrETag, "f"}, 409, "X-Symlink-Target-Etag headers do not match", ""},
		"static, of another":        {[]string{hdrTarget, "c/o", hdrETag, "f"}, 409, "Object Etag 'e' does not match X-Symlink-Target-Etag header 'f'", ""},
		"static, of nothing":        {[]string{hdrTarget, "c/none", hdrETag, "f"}, 409, "X-Symlink-Target does not exist", ""},
		"static, too long a way":    {[]string{hdrTarget, "c/fixed3", hdrETag, "e"}, 409, "Too many levels of symbolic links, maximum allowed is 2", ""},
		"a bad ETag":                {[]string{hdrTarget, "c/o", hdrETag, "a;b"}, 400, "Bad X-Symlink-Target-Etag format", ""},
		"a broken quote":            {[]string{hdrTarget, "c/o", hdrETag, `"`}, 400, "Bad X-Symlink-Target-Etag format", ""},
		"itself":                    {[]string{hdrTarget, "c/new"}, 400, "Symlink cannot target itself", ""},
		"the same of another":       {[]string{hdrTarget, "c/new", hdrAccount, "b"}, 201, "c/new", targetMark + "c/new" + accountMark + "b"},
		"no object":                 {[]string{hdrTarget, "c"}, 412, form, ""},
		"nothing":                   {[]string{hdrTarget, ""}, 412, form, ""},
		"an empty object":           {[]string{hdrTarget, "c/"}, 412, form, ""},
		"a slash":                   {[]string{hdrTarget, "/c/o"}, 412, form, ""},
		"an encoded slash":          {[]string{hdrTarget, "%2Fc/o"}, 412, form, ""},
		"a NUL":                     {[]string{hdrTarget, "c/%00"}, 412, form, ""},
		"no UTF-8":                  {[]string{hdrTarget, "c/%ff"}, 412, form, ""},
		"broken encoding":           {[]string{hdrTarget, "c/%f"}, 412, form, ""},
		"an account with a slash":   {[]string{hdrTarget, "c/o", hdrAccount, "a%2Fb"}, 412, "Account name cannot contain slashes", ""},
		"no account":                {[]string{hdrTarget, "c/o", hdrAccount, ""}, 412, "Account name cannot be empty", ""},
	} {
		w := newWorld()
		w.set("a", "o", "e", 5)
		w.set("a", "large", "m", 300)
		large := w.objects[name.Path{Account: "a", Container: "c", Object: "large"}].Header
		large[sloETag], large[sloSize] = []string{"whole"}, []string{"99"}
		for object, of := range map[string][]string{
			"link": {hdrTarget, "c/none"}, "fixed": {hdrTarget, "c/o", hdrETag, "e"},
		} {
			if resp := ask(t, w, "PUT", object, "", of...); resp.Status != 201 {
				t.Fatalf("%s: PUT of %s: %d", what, object, resp.Status)
			}
		}
		for object, of := range map[string]string{"fixed2": "fixed", "fixed3": "fixed2"} {
			w.objects[name.Path{Account: "a", Container: "c", Object: object}] = &chain.Response{Status: 200, Header: http.Header{
				"Etag": {nothing}, keptTarget: {"c/" + of}, keptETag: {"e"},
			}}
		}
		w.asked = nil
		resp := ask(t, w, "PUT", "new", "", tt.header...)
		kept := w.objects[name.Path{Account: "a", Container: "c", Object: "new"}]
		if resp.Status != tt.status || (kept != nil) != (tt.status == 201) {
			t.Errorf("%s: got %d %s, kept %v, want %d", what, resp.Status, said(t, resp), kept, tt.status)
			continue
		}
		if kept == nil {
			if text := said(t, resp); text != tt.text {
				t.Errorf("%s: it says %q, want %q", what, text, tt.text)
			}
			continue
		}
		if got := kept.Get(keptTarget); got != tt.text || kept.Get(listed) != nothing+tt.row || kept.Get("Content-Type") == "" {
			t.Errorf("%s: kept %q as %q, %q, want %q as %q", what, got, kept.Get(listed), kept.Get("Content-Type"), tt.text, nothing+tt.row)
		}
	}
}

// A link has no body, whether its length is known or not.
func TestABody(t *testing.T) {
	broken := errs.E(errs.Aborted, "the client is gone")
	for what, tt := range map[string]struct {
		r    chain.Request
		want int
	}{
		"none":            {chain.Request{Length: -1}, 201},
		"empty":           {chain.Request{Length: 0, Body: strings.NewReader("")}, 201},
		"a body":          {chain.Request{Length: 1, Body: strings.NewReader("x")}, 400},
		"unknown, empty":  {chain.Request{Length: -1, Body: strings.NewReader("")}, 201},
		"unknown, a body": {chain.Request{Length: -1, Body: strings.NewReader("x")}, 400},
		"unknown, broken": {chain.Request{Length: -1, Body: iotest.ErrReader(broken)}, 499},
	} {
		w := newWorld()
		tt.r.Method, tt.r.Path, tt.r.Header = "PUT", name.Path{Account: "a", Container: "c", Object: "l"}, http.Header{hdrTarget: {"c/o"}}
		if resp := Link(Defaults())(w).Serve(t.Context(), &tt.r); resp.Status != tt.want || (len(w.objects) == 1) != (tt.want == 201) {
			t.Errorf("%s: got %d, want %d, keeps %d", what, resp.Status, tt.want, len(w.objects))
		}
	}
}

func TestGet(t *testing.T) {
	for what, tt := range map[string]struct {
		object string
		header []string
		status int
		at     string // Content-Location
		text   string // of a refusal
	}{
		"no link":                        {"o", nil, 200, "", ""},
		"a link":                         {"l", nil, 200, "/v1/a/c/o", ""},
		"of two":                         {"l2", nil, 200, "/v1/a/c/o", ""},
		"of three":                       {"l3", nil, 409, "", "Too many levels of symbolic links, maximum allowed is 2"},
		"a circle":                       {"round", nil, 409, "", "Too many levels of symbolic links, maximum allowed is 2"},
		"of nothing":                     {"lost", nil, 404, "/v1/a/c/none", "-"},
		"another account":                {"away", nil, 200, "/v1/b%20c/c/o", ""},
		"static":                         {"fixed", nil, 200, "/v1/a/c/o", ""},
		"static, changed":                {"stale", nil, 409, "/v1/a/c/o", "Object Etag 'e' does not match X-Symlink-Target-Etag header 'old'"},
		"static, of what is one":         {"fixed2", nil, 200, "/v1/a/c/o", ""},
		"static, of one of another":      {"mixed", nil, 409, "/v1/a/c/fixed", "X-Symlink-Target-Etag headers do not match"},
		"static, gone":                   {"gone", nil, 404, "/v1/a/c/none", "-"},
		"a condition of the target":      {"l2", []string{"If-Match", "e"}, 200, "/v1/a/c/o", ""},
		"a condition of the link":        {"l2", []string{"If-Match", nothing}, 412, "/v1/a/c/o", "-"},
		"static, changed, and condition": {"stale", []string{"If-Match", "x"}, 409, "/v1/a/c/o", "-"},
		"a range":                        {"l2", []string{"Range", "bytes=1-"}, 200, "/v1/a/c/o", ""},
	} {
		w := newWorld()
		w.set("a", "o", "e", 5)
		w.set("b c", "o", "f", 6)
		for object, kept := range map[string]http.Header{
			"l": {keptTarget: {"c/o"}}, "l2": {keptTarget: {"c/l"}}, "l3": {keptTarget: {"c/l2"}}, "round": {keptTarget: {"c/round2"}}, "round2": {keptTarget: {"c/round"}},
			"lost": {keptTarget: {"c/none"}}, "away": {keptTarget: {"c/o"}, keptAccount: {"b%20c"}}, "fixed": {keptTarget: {"c/o"}, keptETag: {"e"}},
			"stale": {keptTarget: {"c/o"}, keptETag: {"old"}}, "fixed2": {keptTarget: {"c/fixed"}, keptETag: {"e"}}, "mixed": {keptTarget: {"c/fixed"}, keptETag: {"f"}},
			"gone": {keptTarget: {"c/none"}, keptETag: {"e"}},
		} {
			w.set("a", object, nothing, 0)
			for n, v := range kept {
				w.objects[name.Path{Account: "a", Container: "c", Object: object}].Header[n] = v
			}
		}
		resp := ask(t, w, "GET", tt.object, "", tt.header...)
		if resp.Status != tt.status || resp.Get("Content-Location") != tt.at {
			t.Errorf("%s: got %d, %q, want %d, %q", what, resp.Status, resp.Get("Content-Location"), tt.status, tt.at)
		}
		if in := resp.Get(chain.FoundIn); (in != "") != (what == "another account") {
			t.Errorf("%s: it is found in %q", what, in)
		}
		if text := said(t, resp); tt.text != "-" && text != tt.text {
			t.Errorf("%s: it says %q, want %q", what, text, tt.text)
		}
		asked := len(w.asked)
		itself := ask(t, w, "GET", tt.object, "symlink=get", tt.header...)
		if link := itself.Get(hdrTarget) != ""; len(w.asked) != asked+1 || link != (tt.object != "o") {
			t.Errorf("%s: itself: asked %v, a link: %v", what, w.asked[asked:], link)
		}
	}
}

func TestPost(t *testing.T) {
	w := newWorld()
	w.set("a", "o", "e", 5)
	if resp := ask(t, w, "PUT", "l", "", hdrTarget, "c/o%20p", hdrAccount, "b"); resp.Status != 201 {
		t.Fatal(resp.Status)
	}
	resp := ask(t, w, "POST", "l", "", "X-Object-Meta-A", "1")
	if resp.Status != 307 || resp.Get("Location") != "/v1/b/c/o%20p" || w.asked[len(w.asked)-1] != "POST /a/c/l" {
		t.Errorf("got %d, %q, asked %v", resp.Status, resp.Get("Location"), w.asked)
	}
	asked := len(w.asked)
	for object, want := range map[string]int{"o": 202, "none": 404} {
		if resp := ask(t, w, "POST", object, ""); resp.Status != want {
			t.Errorf("%s: got %d, want %d", object, resp.Status, want)
		}
	}
	if len(w.asked) != asked+2 {
		t.Errorf("POST of what is no link asks for %v", w.asked[asked:])
	}
	if resp := ask(t, w, "POST", "o", "", hdrTarget, "c/x"); resp.Status != 400 || len(w.asked) != asked+2 {
		t.Errorf("a POST that would make a link: got %d, asked %v", resp.Status, w.asked[asked:])
	}
}

func TestRows(t *testing.T) {
	for hash, want := range map[string]listing.Object{
		nothing:                             {Hash: nothing},
		nothing + "; slo_etag=x":            {Hash: nothing + "; slo_etag=x"},
		nothing + "; symlink_target=c/o%3B": {Hash: nothing, SymlinkPath: "/v1/a%20b/c/o%3B"},
		nothing + "; slo_etag=x; symlink_target=c/o; symlink_target_account=b; symlink_target_etag=e; symlink_target_bytes=7": {
			Hash: nothing + "; slo_etag=x", SymlinkPath: "/v1/b/c/o", SymlinkETag: "e", SymlinkBytes: 7,
		},
		nothing + "; symlink_target=c/o; symlink_target_bytes=x; other=1": {Hash: nothing + "; other=1", SymlinkPath: "/v1/a%20b/c/o"},
	} {
		w := newWorld()
		w.rows = []listing.Object{{Hash: hash}}
		r := &chain.Request{Method: "GET", Path: name.Path{Account: "a b", Container: "c"}, Header: http.Header{}}
		if got := Link(Defaults())(w).Serve(t.Context(), r).Rows.Objects[0]; got != want {
			t.Errorf("%q is shown as %+v, want %+v", hash, got, want)
		}
	}
}

// What is no link costs one look, and nothing that the collector has to see.
func TestAPlainObjectCostsNothing(t *testing.T) {
	resp := &chain.Response{Status: 200, Header: http.Header{"Etag": {"e"}}}
	h := Link(Defaults())(chain.HandlerFunc(func(context.Context, *chain.Request) *chain.Response { return resp }))
	for _, method := range []string{"GET", "HEAD", "PUT", "POST", "DELETE"} {
		r := &chain.Request{Method: method, Path: name.Path{Account: "a", Container: "c", Object: "o"}, Header: http.Header{}}
		if n := testing.AllocsPerRun(100, func() { h.Serve(t.Context(), r) }); n != 0 {
			t.Errorf("%s: %v allocations", method, n)
		}
	}
}

func TestValidate(t *testing.T) {
	for most, ok := range map[int]bool{0: false, -1: false, 1: true, 9: true} {
		if err := (Config{LoopMax: most}).Validate(); (err == nil) != ok {
			t.Errorf("%d: %v", most, err)
		}
	}
}

// Whatever a client calls a target is refused, or read back as it was meant.
func FuzzTarget(f *testing.F) {
	f.Add("c/o", "a")
	f.Add("c%2Fo%20", "")
	f.Fuzz(func(t *testing.T, to, account string) {
		w := newWorld()
		header := http.Header{hdrTarget: {to}}
		if account != "" {
			header[hdrAccount] = []string{account}
		}
		at := name.Path{Account: "a", Container: "c", Object: "l"}
		resp := Link(Defaults())(w).Serve(t.Context(), &chain.Request{Method: "PUT", Path: at, Header: header, Length: -1})
		if resp.Status != 201 {
			if resp.Status != 412 && resp.Status != 400 || len(w.objects) > 0 {
				t.Errorf("%q in %q: got %d", to, account, resp.Status)
			}
			return
		}
		kept := w.objects[at].Header
		row := listing.Object{Hash: kept.Get(listed)}
		read(&row, at.Account)
		if p, err := targetOf(at, kept); err != nil || row.Hash != nothing || row.SymlinkPath != location(p) {
			t.Errorf("%q in %q: leads to %v, %v, is listed as %q, %q", to, account, p, err, row.SymlinkPath, row.Hash)
		}
	})
}

// What another cluster says of the target of a static link is so, be it here or not.
func TestALinkOfAnotherCluster(t *testing.T) {
	for bytes, want := range map[string]int{"7": 201, "": 400, "x": 400, "-1": 400, "7; x": 400} {
		w := newWorld()
		resp := ask(t, w, "PUT", "l", "", hdrTarget, "c/none", hdrETag, "e", hdrBytes, bytes, chain.Replayed, "true", "Content-Type", "a/b")
		if resp.Status != want {
			t.Errorf("%q: got %d, want %d", bytes, resp.Status, want)
			continue
		}
		kept := w.objects[name.Path{Account: "a", Container: "c", Object: "l"}]
		if want == 201 && (len(w.asked) != 1 || kept.Get(listed) != nothing+targetMark+"c/none"+etagMark+"e"+bytesMark+"7") {
			t.Errorf("asked %v, listed as %q", w.asked, kept.Get(listed))
		}
	}
}
