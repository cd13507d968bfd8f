package versioning

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"martlet/internal/backend"
	"martlet/internal/listing"
	"martlet/internal/name"
	"martlet/internal/timestamp"
	"martlet/proxy/chain"
)

// The versions of the tests, and the names that they have.
const (
	id1, id2 = "1700000000.00001", "1700000000.00002"
	inv1     = "\x00o\x008299999999.99998"
	inv2     = "\x00o\x008299999999.99997"
	hidden   = "\x00versions\x00c"
)

var object = name.Path{Account: "a", Container: "c", Object: "o"}

// world is what stands behind the feature: it answers by method and path, and notes what
// came.
type world struct {
	t       testing.TB
	answers map[string]func(r *chain.Request) *chain.Response // by "METHOD container/object"
	mu      sync.Mutex
	seen    []string          // guarded by mu
	facts   map[string]string // of the container; nil: there is none
	left    string            // the policy of the hidden container; "": there is none
}

func key(r *chain.Request) string {
	return r.Method + " " + strings.TrimSuffix(r.Path.Container+"/"+r.Path.Object, "/")
}

func (w *world) Serve(_ context.Context, r *chain.Request) *chain.Response {
	what := key(r)
	if r.Header[chain.OnlyAsk] != nil {
		what = "ASK " + what
	}
	note := what
	for _, n := range []string{backend.NewVersion, backend.VersionLink, chain.DeleteMarker, chain.AnyPolicy, Container, enabled, location, mode, account} {
		if v, ok := r.Header[n]; ok {
			note += " " + strings.TrimPrefix(strings.TrimPrefix(n, "X-Backend-"), "X-Container-Sysmeta-") + "=" + strings.Join(v, ",")
		}
	}
	w.mu.Lock()
	w.seen = append(w.seen, note)
	w.mu.Unlock()
	if r.Body != nil {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			w.t.Error(err)
		}
	}
	if answer := w.answers[what]; answer != nil {
		return answer(r)
	}
	return chain.Empty(map[string]int{"GET": 404, "HEAD": 404, "PUT": 201, "POST": 202, "DELETE": 204}[strings.Fields(what)[0]] + map[bool]int{true: 204}[strings.HasPrefix(what, "ASK")])
}

func (w *world) find(_ context.Context, p name.Path, _ bool) (Facts, error) {
	if p.Container == hidden {
		return Facts{Exists: w.left != "", Policy: cmp.Or(w.left, "gold")}, nil
	}
	if w.facts == nil {
		return Facts{Policy: "gold"}, nil
	}
	h := http.Header{}
	for n, v := range w.facts {
		h.Set(n, v)
	}
	return Facts{Exists: true, Header: h, Policy: "gold"}, nil
}

// reply is an answer with a header of names and values in turn.
func reply(status int, pairs ...string) func(*chain.Request) *chain.Response {
	return func(*chain.Request) *chain.Response {
		resp := chain.Empty(status)
		for i := 0; i < len(pairs); i += 2 {
			resp.Header[pairs[i]] = []string{pairs[i+1]}
		}
		return resp
	}
}

func rows(list ...listing.Object) func(*chain.Request) *chain.Response {
	return func(*chain.Request) *chain.Response {
		resp := chain.Empty(200)
		resp.Header[Container] = []string{"x"}
		resp.Rows = &chain.Rows{Objects: slices.Clone(list)}
		return resp
	}
}

// The states of a container.
var (
	never     = map[string]string{}
	versioned = map[string]string{Container: "x", enabled: "True"}
	suspended = map[string]string{Container: "x", enabled: "False"}
	stacked   = map[string]string{location: "old", mode: stack}
	historic  = map[string]string{location: "old", mode: history}
)

func serve(t testing.TB, w *world, method string, p name.Path, query string, pairs ...string) *chain.Response {
	t.Helper()
	w.t = t
	r := &chain.Request{Method: method, Path: p, Query: query, Header: http.Header{}, Length: -1}
	for i := 0; i < len(pairs); i += 2 {
		r.Header[pairs[i]] = []string{pairs[i+1]}
	}
	if method == http.MethodPut {
		r.Length, r.Body = 0, strings.NewReader("")
	}
	if text := r.Header.Get("Body"); text != "" {
		r.Length, r.Body = int64(len(text)), strings.NewReader(text)
	}
	return Link(Defaults(), Limits{10_000, 10_000}, w.find)(w).Serve(t.Context(), r)
}

func (w *world) saw(t testing.TB, what string, want ...string) {
	t.Helper()
	if !slices.Equal(w.seen, want) {
		t.Errorf("%s: behind it came\n%q, want\n%q", what, w.seen, want)
	}
}

func TestObjects(t *testing.T) {
	for what, tt := range map[string]struct {
		facts         map[string]string
		method, query string
		answers       map[string]func(*chain.Request) *chain.Response
		pairs         []string
		seen          []string
		status        int
		id, location  string
	}{
		"put, never":        {never, "PUT", "", nil, nil, []string{"PUT c/o"}, 201, "", ""},
		"put, versioned":    {versioned, "PUT", "", map[string]func(*chain.Request) *chain.Response{"PUT c/o": reply(201, backend.VersionID, id1)}, nil, []string{"PUT c/o New-Version=true"}, 201, id1, ""},
		"put, suspended":    {suspended, "PUT", "", nil, nil, []string{"PUT c/o"}, 201, "", ""},
		"delete":            {versioned, "DELETE", "", map[string]func(*chain.Request) *chain.Response{"DELETE c/o": reply(204, backend.VersionID, id1)}, nil, []string{"DELETE c/o New-Version=true"}, 204, id1, ""},
		"delete, suspended": {suspended, "DELETE", "", nil, nil, []string{"DELETE c/o"}, 204, "", ""},
		"get":               {versioned, "GET", "", map[string]func(*chain.Request) *chain.Response{"GET c/o": reply(200, backend.VersionID, id1)}, nil, []string{"GET c/o"}, 200, id1, "/v1/a/c/o?version-id=" + id1},
		"get of null":       {versioned, "GET", "", map[string]func(*chain.Request) *chain.Response{"GET c/o": reply(200, backend.VersionID, Null)}, nil, []string{"GET c/o"}, 200, Null, ""},
		"get, never":        {never, "GET", "", map[string]func(*chain.Request) *chain.Response{"GET c/o": reply(200)}, nil, []string{"GET c/o"}, 200, "", ""},
		"post":              {versioned, "POST", "", nil, nil, []string{"POST c/o"}, 202, "", ""},

		"version":           {suspended, "GET", "version-id=" + id1, map[string]func(*chain.Request) *chain.Response{"GET " + hidden + "/" + inv1: reply(200)}, nil, []string{"GET " + hidden + "/" + inv1}, 200, id1, ""},
		"no such version":   {versioned, "HEAD", "version-id=" + id1, nil, nil, []string{"HEAD " + hidden + "/" + inv1}, 404, "", ""},
		"beyond its end":    {versioned, "GET", "version-id=" + id1, map[string]func(*chain.Request) *chain.Response{"GET " + hidden + "/" + inv1: reply(416)}, nil, []string{"GET " + hidden + "/" + inv1}, 416, id1, ""},
		"marker":            {versioned, "GET", "version-id=" + id1, map[string]func(*chain.Request) *chain.Response{"GET " + hidden + "/" + inv1: reply(200, "Content-Type", backend.DeleteMarker)}, nil, []string{"GET " + hidden + "/" + inv1}, 404, id1, ""},
		"of no container":   {never, "GET", "version-id=" + id1, nil, nil, nil, 400, "", ""},
		"no ID":             {versioned, "GET", "version-id=x", nil, nil, nil, 400, "", ""},
		"ID with an offset": {versioned, "DELETE", "version-id=" + id1 + "_1", nil, nil, nil, 400, "", ""},
		"post of a version": {versioned, "POST", "version-id=" + id1, nil, nil, nil, 400, "", ""},
		"options":           {versioned, "OPTIONS", "version-id=" + id1, nil, nil, []string{"OPTIONS c/o"}, 0, "", ""},
		"null":              {versioned, "GET", "version-id=null", map[string]func(*chain.Request) *chain.Response{"GET c/o": reply(200, backend.VersionID, Null)}, nil, []string{"GET c/o"}, 200, Null, ""},
		"null, but none":    {versioned, "GET", "version-id=null", map[string]func(*chain.Request) *chain.Response{"GET c/o": reply(200, backend.VersionID, id1)}, nil, []string{"GET c/o"}, 404, "", ""},
		"null, never":       {never, "GET", "version-id=null", map[string]func(*chain.Request) *chain.Response{"GET c/o": reply(200)}, nil, []string{"GET c/o"}, 200, Null, ""},
		"delete of null":    {versioned, "DELETE", "version-id=null", nil, nil, []string{"DELETE c/o"}, 204, "", ""},
		"put of null":       {versioned, "PUT", "version-id=null", nil, nil, nil, 400, "", ""},
		"delete of the current": {versioned, "DELETE", "version-id=" + id1, map[string]func(*chain.Request) *chain.Response{"HEAD c/o": linkAt("1700000000.00009", id1)}, nil,
			[]string{"HEAD c/o", "ASK DELETE " + hidden + "/" + inv1, "DELETE c/o", "DELETE " + hidden + "/" + inv1}, 204, id1, ""},
		"delete of the current, not the version's owner": {versioned, "DELETE", "version-id=" + id1, map[string]func(*chain.Request) *chain.Response{"HEAD c/o": linkAt("1700000000.00009", id1), "ASK DELETE " + hidden + "/" + inv1: reply(403)}, nil,
			[]string{"HEAD c/o", "ASK DELETE " + hidden + "/" + inv1}, 403, "", ""},
		"delete of the current, refused": {versioned, "DELETE", "version-id=" + id1, map[string]func(*chain.Request) *chain.Response{"HEAD c/o": linkAt("1700000000.00009", id1), "DELETE c/o": reply(403)}, nil,
			[]string{"HEAD c/o", "ASK DELETE " + hidden + "/" + inv1, "DELETE c/o"}, 403, "", ""},
		"delete of another": {versioned, "DELETE", "version-id=" + id1, map[string]func(*chain.Request) *chain.Response{"HEAD c/o": linkAt("1700000000.00009", id2)}, nil,
			[]string{"HEAD c/o", "DELETE " + hidden + "/" + inv1}, 204, id1, ""},
		"delete, nothing current": {versioned, "DELETE", "version-id=" + id1, nil, nil, []string{"HEAD c/o", "DELETE " + hidden + "/" + inv1}, 204, id1, ""},
		"delete, not known":       {versioned, "DELETE", "version-id=" + id1, map[string]func(*chain.Request) *chain.Response{"HEAD c/o": unavailable}, nil, []string{"HEAD c/o"}, 503, "", ""},
		"made current": {versioned, "PUT", "version-id=" + id1, map[string]func(*chain.Request) *chain.Response{"HEAD " + hidden + "/" + inv1: reply(200, "Etag", "e", sloSize, "9", listedETag, "e; slo_etag=f")}, nil,
			[]string{"ASK PUT c/o", "HEAD " + hidden + "/" + inv1, "PUT c/o New-Version=true X-Object-Sysmeta-Version-Link=" + id1 + "/9/e; slo_etag=f"}, 201, id1, ""},
		"made current, suspended": {suspended, "PUT", "version-id=" + id1, map[string]func(*chain.Request) *chain.Response{"HEAD " + hidden + "/" + inv1: reply(200, "Etag", "e")}, nil,
			[]string{"ASK PUT c/o", "HEAD " + hidden + "/" + inv1, "PUT c/o X-Object-Sysmeta-Version-Link=" + id1 + "/0/e"}, 201, id1, ""},
		"made current, but is not there": {versioned, "PUT", "version-id=" + id1, nil, nil, []string{"ASK PUT c/o", "HEAD " + hidden + "/" + inv1}, 404, "", ""},
		"made current, refused":          {versioned, "PUT", "version-id=" + id1, map[string]func(*chain.Request) *chain.Response{"ASK PUT c/o": reply(403)}, nil, []string{"ASK PUT c/o"}, 403, "", ""},
		"made current with a body":       {versioned, "PUT", "version-id=" + id1, nil, []string{"Body", "x"}, nil, 400, "", ""},
	} {
		w := &world{facts: tt.facts, answers: tt.answers}
		if what == "options" {
			w.answers = map[string]func(*chain.Request) *chain.Response{"OPTIONS c/o": reply(200)}
			tt.status = 200
		}
		resp := serve(t, w, tt.method, object, tt.query, tt.pairs...)
		w.saw(t, what, tt.seen...)
		if resp.Status != tt.status || resp.Get(hdrID) != tt.id || resp.Get("Content-Location") != tt.location {
			t.Errorf("%s: got %d, %v, want %d, %q, %q", what, resp.Status, resp.Header, tt.status, tt.id, tt.location)
		}
	}
}

// linkAt is the head of an object that says since a time which version is current.
func linkAt(at, id string) func(*chain.Request) *chain.Response {
	return reply(200, backend.VersionID, id, backend.DataStamp, at, backend.BackendStamp, at)
}

// With the current version the object is deleted as it was when it named that one: what
// somebody else writes at the same time is later, and stays.
func TestDeleteOfTheCurrentVersion(t *testing.T) {
	gone := reply(404)
	for what, tt := range map[string]struct {
		heads   []func(*chain.Request) *chain.Response // of the object, one after the other
		deletes []int                                  // what its deletes are answered with
		ends    []string                               // the links that these are to end
		status  int
		current string
	}{
		"alone":                 {[]func(*chain.Request) *chain.Response{linkAt(id2, id1)}, []int{204}, []string{id2}, 204, Null},
		"overwritten meanwhile": {[]func(*chain.Request) *chain.Response{linkAt(id2, id1), linkAt("1700000000.00007", "1700000000.00007")}, []int{409}, []string{id2}, 204, "1700000000.00007"},
		"deleted meanwhile":     {[]func(*chain.Request) *chain.Response{linkAt(id2, id1), gone}, []int{409}, []string{id2}, 204, Null},
		"current again":         {[]func(*chain.Request) *chain.Response{linkAt(id2, id1), linkAt("1700000000.00008", id1)}, []int{409, 204}, []string{id2, "1700000000.00008"}, 204, Null},
		"again and again":       {[]func(*chain.Request) *chain.Response{linkAt(id2, id1), linkAt(id2, id1), linkAt(id2, id1), linkAt(id2, id1)}, []int{409, 409, 409, 409}, []string{id2, id2, id2, id2}, 409, ""},
		"not known meanwhile":   {[]func(*chain.Request) *chain.Response{linkAt(id2, id1), unavailable}, []int{409}, []string{id2}, 503, ""},
		"no time":               {[]func(*chain.Request) *chain.Response{reply(200, backend.VersionID, id1)}, nil, nil, 503, ""},
	} {
		var ends []string
		heads, began := 0, timestamp.Now()
		w := &world{facts: versioned, answers: map[string]func(*chain.Request) *chain.Response{
			"HEAD c/o": func(r *chain.Request) *chain.Response { heads++; return tt.heads[heads-1](r) },
			"DELETE c/o": func(r *chain.Request) *chain.Response {
				end, err := timestamp.Parse(r.Header.Get(chain.Stamp))
				if err != nil || end.Until().Before(began) || end.Happened().Before(began) || r.Header[backend.NewVersion] != nil {
					t.Errorf("%s: deleted as of %v, which is forgotten at %v, %v", what, end, end.Happened(), err)
				}
				link := timestamp.FromTicks(end.Ticks())
				if !link.Before(end) || !end.Before(link.Next()) {
					t.Errorf("%s: %v does not end %v, or what comes after it", what, end, link)
				}
				ends = append(ends, link.String())
				return chain.Empty(tt.deletes[len(ends)-1])
			},
		}}
		resp := serve(t, w, "DELETE", object, "version-id="+id1)
		if resp.Status != tt.status || resp.Get(hdrCurrent) != tt.current || !slices.Equal(ends, tt.ends) {
			t.Errorf("%s: got %d, %v, %v, and ended %q", what, resp.Status, resp.Err, resp.Header, ends)
		}
		if deleted := slices.Contains(w.seen, "DELETE "+hidden+"/"+inv1); deleted != (tt.status == 204) {
			t.Errorf("%s: the version is deleted: %v", what, deleted)
		}
	}
}

func unavailable(r *chain.Request) *chain.Response {
	resp := reply(503)(r)
	resp.Err = errors.New("no quorum")
	return resp
}

// Who signed a request about the object may make it about a version, and about nothing else.
func TestSignedForTheObject(t *testing.T) {
	r := &chain.Request{Method: "GET", Path: object, Grant: func(method string, p name.Path) bool { return method == "GET" && p == object }}
	id, err := parseID(id1)
	if err != nil {
		t.Fatal(err)
	}
	sub := of(r, id)
	if !sub.Grant("GET", sub.Path) || sub.Grant("PUT", sub.Path) || sub.Grant("GET", object) || of(&chain.Request{Path: object}, id).Grant != nil {
		t.Error("it allows what was not signed")
	}
}

func TestContainers(t *testing.T) {
	c := object.Parent()
	quoted := name.Quote(hidden)
	for what, tt := range map[string]struct {
		facts   map[string]string
		method  string
		pairs   []string
		answers map[string]func(*chain.Request) *chain.Response
		seen    []string
		status  int
	}{
		"plain": {never, "PUT", nil, nil, []string{"PUT c"}, 201},
		"enabled": {never, "POST", []string{hdrEnabled, "true"}, nil,
			[]string{"ASK POST c", "PUT " + hidden, "POST  X-Account-Sysmeta-Versions=true", "POST c Versions-Container=" + quoted + " Versions-Enabled=True"}, 202},
		"new and enabled": {nil, "PUT", []string{hdrEnabled, "1"}, nil,
			[]string{"ASK PUT c", "PUT " + hidden, "POST  X-Account-Sysmeta-Versions=true", "PUT c Versions-Container=" + quoted + " Versions-Enabled=True"}, 201},
		"not there":        {nil, "POST", []string{hdrEnabled, "1"}, map[string]func(*chain.Request) *chain.Response{"POST c": reply(404)}, []string{"ASK POST c", "POST c"}, 404},
		"enabled, refused": {never, "POST", []string{hdrEnabled, "true"}, map[string]func(*chain.Request) *chain.Response{"ASK POST c": reply(403)}, []string{"ASK POST c"}, 403},
		"enabled, failed after": {never, "POST", []string{hdrEnabled, "true"}, map[string]func(*chain.Request) *chain.Response{"POST c": reply(400)},
			[]string{"ASK POST c", "PUT " + hidden, "POST  X-Account-Sysmeta-Versions=true", "POST c Versions-Container=" + quoted + " Versions-Enabled=True", "DELETE " + hidden}, 400},
		"enabled, perhaps": {never, "POST", []string{hdrEnabled, "true"}, map[string]func(*chain.Request) *chain.Response{"POST c": unavailable},
			[]string{"ASK POST c", "PUT " + hidden, "POST  X-Account-Sysmeta-Versions=true", "POST c Versions-Container=" + quoted + " Versions-Enabled=True"}, 503},
		"enabled again, failed after": {suspended, "POST", []string{hdrEnabled, "true"}, map[string]func(*chain.Request) *chain.Response{"POST c": reply(400), "PUT " + hidden: reply(202)},
			[]string{"ASK POST c", "PUT " + hidden, "POST  X-Account-Sysmeta-Versions=true", "POST c Versions-Container=" + quoted + " Versions-Enabled=True"}, 400},
		"no hidden container":        {never, "POST", []string{hdrEnabled, "true"}, map[string]func(*chain.Request) *chain.Response{"PUT " + hidden: unavailable}, []string{"ASK POST c", "PUT " + hidden}, 503},
		"suspended":                  {versioned, "POST", []string{hdrEnabled, "no"}, nil, []string{"POST c Versions-Enabled=False"}, 202},
		"enabled with a stack":       {stacked, "POST", []string{hdrEnabled, "true"}, nil, nil, 400},
		"both":                       {never, "PUT", []string{hdrEnabled, "true", hdrStack, "old"}, nil, nil, 400},
		"stack of a versioned one":   {versioned, "POST", []string{hdrStack, "old"}, nil, nil, 400},
		"syncs":                      {map[string]string{"X-Container-Sync-To": "//r/c/a/c"}, "POST", []string{hdrEnabled, "true"}, nil, nil, 400},
		"to be synced":               {versioned, "POST", []string{"X-Container-Sync-To", "//r/c/a/c"}, nil, nil, 400},
		"stack":                      {never, "POST", []string{hdrStack, "o%6cd"}, nil, []string{"POST c Versions-Location=o%6cd Versions-Mode=stack"}, 202},
		"history":                    {stacked, "POST", []string{hdrHistory, "old"}, nil, []string{"POST c Versions-Location=old Versions-Mode=history"}, 202},
		"no more stack":              {stacked, "POST", []string{"X-Remove-Versions-Location", "x"}, nil, []string{"POST c Versions-Location= Versions-Mode="}, 202},
		"no more, empty":             {stacked, "POST", []string{hdrHistory, ""}, nil, []string{"POST c Versions-Location= Versions-Mode="}, 202},
		"one in the other's place":   {stacked, "POST", []string{hdrStack, "", hdrHistory, "old"}, nil, []string{"POST c Versions-Location=old Versions-Mode=history"}, 202},
		"both modes":                 {never, "POST", []string{hdrStack, "old", hdrHistory, "old"}, nil, nil, 400},
		"stack with a slash":         {never, "POST", []string{hdrStack, "old/er"}, nil, nil, 412},
		"stack with a hidden slash":  {never, "POST", []string{hdrStack, "old%2fer"}, nil, nil, 412},
		"a hidden container's stack": {never, "POST", []string{hdrStack, "%00versions%00c"}, nil, nil, 412},
		"deleted":                    {never, "DELETE", nil, nil, []string{"DELETE c"}, 204},
		"deleted, versioned": {versioned, "DELETE", nil, map[string]func(*chain.Request) *chain.Response{"HEAD " + hidden: reply(204, objectCount, "0")},
			[]string{"ASK DELETE c", "HEAD " + hidden, "DELETE " + hidden, "DELETE c"}, 204},
		"deleted, has versions": {versioned, "DELETE", nil, map[string]func(*chain.Request) *chain.Response{"HEAD " + hidden: reply(204, objectCount, "1")}, []string{"ASK DELETE c", "HEAD " + hidden}, 409},
		"deleted, got versions": {versioned, "DELETE", nil, map[string]func(*chain.Request) *chain.Response{"HEAD " + hidden: reply(204, objectCount, "0"), "DELETE " + hidden: reply(409)},
			[]string{"ASK DELETE c", "HEAD " + hidden, "DELETE " + hidden}, 409},
		"deleted, got an object": {versioned, "DELETE", nil, map[string]func(*chain.Request) *chain.Response{"HEAD " + hidden: reply(204, objectCount, "0"), "DELETE c": reply(409)},
			[]string{"ASK DELETE c", "HEAD " + hidden, "DELETE " + hidden, "DELETE c", "PUT " + hidden + " Any-Policy=true"}, 409},
		"deleted, half gone":   {versioned, "DELETE", nil, nil, []string{"ASK DELETE c", "HEAD " + hidden, "DELETE c"}, 204},
		"deleted, not known":   {versioned, "DELETE", nil, map[string]func(*chain.Request) *chain.Response{"HEAD " + hidden: unavailable}, []string{"ASK DELETE c", "HEAD " + hidden}, 503},
		"deleted, not allowed": {versioned, "DELETE", nil, map[string]func(*chain.Request) *chain.Response{"ASK DELETE c": reply(403)}, []string{"ASK DELETE c"}, 403},
		"deleted, has objects": {map[string]string{Container: "x", objectCount: "3"}, "DELETE", nil, map[string]func(*chain.Request) *chain.Response{"DELETE c": reply(409)}, []string{"ASK DELETE c", "DELETE c"}, 409},
	} {
		w := &world{facts: tt.facts, answers: tt.answers}
		resp := serve(t, w, tt.method, c, "", tt.pairs...)
		w.saw(t, what, tt.seen...)
		if resp.Status != tt.status {
			t.Errorf("%s: got %d, want %d", what, resp.Status, tt.status)
		}
	}
}

// A hidden container that is there already is used where its policy is that of the visible
// one, or the one that this is to have.
func TestEnabledWithWhatIsLeft(t *testing.T) {
	for what, tt := range map[string]struct {
		facts        map[string]string
		wanted, left string
		policy       string // of the hidden container that is asked for
		status       int
	}{
		"the same":                 {never, "", "gold", "gold", 202},
		"another":                  {never, "", "tin", "gold", 409},
		"new, the default":         {nil, "", "gold", "gold", 201},
		"new, not the default":     {nil, "", "tin", "gold", 409},
		"new, as wanted":           {nil, "tin", "tin", "tin", 201},
		"new, not as wanted":       {nil, "tin", "gold", "tin", 409},
		"there, and wanted not so": {never, "tin", "gold", "gold", 202},
		"gone meanwhile":           {never, "", "", "gold", 503},
	} {
		w := &world{facts: tt.facts, left: tt.left}
		asked, visible := "", ""
		w.answers = map[string]func(*chain.Request) *chain.Response{
			"PUT " + hidden: func(r *chain.Request) *chain.Response {
				asked = r.Header.Get("X-Storage-Policy")
				return chain.Empty(409)
			},
			"PUT c": func(r *chain.Request) *chain.Response {
				visible = r.Header.Get("X-Storage-Policy")
				return chain.Empty(201)
			},
		}
		method, pairs := http.MethodPost, []string{hdrEnabled, "true"}
		if tt.facts == nil {
			method = http.MethodPut
		}
		if tt.wanted != "" {
			pairs = append(pairs, "X-Storage-Policy", tt.wanted)
		}
		resp := serve(t, w, method, object.Parent(), "", pairs...)
		if resp.Status != tt.status || asked != tt.policy || visible != "" && visible != tt.policy || resp.Status == 201 && visible == "" {
			t.Errorf("%s: got %d, %v, asked for %q and then %q", what, resp.Status, resp.Err, asked, visible)
		}
	}
}

func TestContainerShows(t *testing.T) {
	c := object.Parent()
	w := &world{facts: versioned, answers: map[string]func(*chain.Request) *chain.Response{
		"HEAD c":         reply(204, Container, "x", enabled, "True", bytesUsed, "5"),
		"HEAD " + hidden: reply(204, bytesUsed, "37"),
		"GET c":          rows(listing.Object{Name: "o", Hash: "h; slo_etag=s; version_id=" + id1}, listing.Object{Name: "p", Hash: "h"}),
	}}
	resp := serve(t, w, "HEAD", c, "")
	if resp.Get(hdrEnabled) != "True" || resp.Get(bytesUsed) != "42" {
		t.Errorf("head: got %v", resp.Header)
	}
	resp = serve(t, w, "GET", c, "limit=3")
	want := []listing.Object{{Name: "o", Hash: "h; slo_etag=s", VersionLink: true, LinkPath: "/v1/a/c/o?version-id=" + id1}, {Name: "p", Hash: "h"}}
	if !slices.Equal(resp.Rows.Objects, want) {
		t.Errorf("rows: got %+v", resp.Rows.Objects)
	}
	for how, header := range map[string]string{stack: hdrStack, history: hdrHistory} {
		w.answers["HEAD c"] = reply(204, location, "old", mode, how)
		if resp = serve(t, w, "HEAD", c, ""); resp.Get(header) != "old" {
			t.Errorf("%s: got %v", how, resp.Header)
		}
	}
}

// What hidden containers hold is shown with those whose versions it is.
func TestAccount(t *testing.T) {
	a := name.Path{Account: "a"}
	list := func(mark string, all ...listing.Container) func(*chain.Request) *chain.Response {
		return func(*chain.Request) *chain.Response {
			resp := chain.Empty(200)
			resp.Header[account] = []string{mark}
			resp.Rows = &chain.Rows{Containers: slices.Clone(all)}
			return resp
		}
	}
	for what, tt := range map[string]struct {
		mark, query string
		want        []listing.Container
		asked       string
	}{
		"no versions": {"", "", []listing.Container{{Name: "b", Bytes: 1}, {Name: "c", Bytes: 2}}, ""},
		"all":         {"true", "prefix=x&marker=b&end_marker=d&limit=7&reverse=on", []listing.Container{{Name: "orphan", Bytes: 9}, {Name: "c", Bytes: 42}, {Name: "b", Bytes: 1}}, "end_marker=%00versions%00d&limit=7&marker=%00versions%00b&prefix=%00versions%00x&reverse=on"},
		"cut off":     {"true", "limit=2", []listing.Container{{Name: "b", Bytes: 1}, {Name: "c", Bytes: 42}}, "limit=2&prefix=%00versions%00"},
	} {
		asked := ""
		w := &world{t: t}
		first := list(tt.mark, listing.Container{Name: "b", Bytes: 1}, listing.Container{Name: "c", Bytes: 2})
		w.answers = map[string]func(*chain.Request) *chain.Response{"GET ": func(r *chain.Request) *chain.Response {
			if r.Header[chain.AllowReserved] == nil {
				return first(r)
			}
			asked = r.Query
			return list("true", listing.Container{Name: hidden, Bytes: 40, Count: 3}, listing.Container{Name: "\x00versions\x00orphan", Bytes: 9, Count: 3}, listing.Container{Name: "\x00other"})(r)
		}}
		resp := serve(t, w, "GET", a, tt.query)
		if !slices.Equal(resp.Rows.Containers, tt.want) || asked != tt.asked {
			t.Errorf("%s: got %+v, asked for %q", what, resp.Rows.Containers, asked)
		}
	}
}
