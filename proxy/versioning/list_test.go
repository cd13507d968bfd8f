package versioning

import (
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/listing"
	"martlet/internal/name"
	"martlet/internal/timestamp"
	"martlet/proxy/chain"
)

func TestVersionsQuery(t *testing.T) {
	for query, want := range map[string]string{
		"versions": "", "versions&limit=3&prefix=o&delimiter=/&end_marker=x": "delimiter=%2F&end_marker=%00x%00&limit=3&prefix=%00o",
		"versions&reverse=on&marker=o&end_marker=x":          "end_marker=%00x%00%3A&marker=%00o%00&reverse=on",
		"versions&reverse=on&marker=o&version_marker=null":   "marker=%00o%00%3A&reverse=on",
		"versions&marker=&end_marker=&reverse=on":            "reverse=on",
		"versions&marker=a/&delimiter=/":                     "delimiter=%2F&marker=%00a%2F",
		"versions&marker=a/&delimiter=/&version_marker=null": "delimiter=%2F&marker=%00a%2F", // no version of that name is listed
		"versions&marker=a/&delimiter=/&prefix=a/":           "delimiter=%2F&marker=%00a%2F%00%3A&prefix=%00a%2F",
		"versions&marker=a/b/&delimiter=/":                   "delimiter=%2F&marker=%00a%2Fb%2F%00%3A",
		"versions&marker=o":                                  "marker=%00o%00%3A", "versions&marker=o&version_marker=null": "marker=%00o%00",
		"versions&marker=o&version_marker=" + id1: "marker=" + url.QueryEscape(inv1), "versions&prefix=": "prefix=%00",
		"versions&version_marker=" + id1: "bad", "versions&marker=o&version_marker=x": "bad", "versions&delimiter=7": "bad", "versions&delimiter=%00": "bad",
	} {
		q, err := versionsQuery(&chain.Request{Query: query})
		if want == "bad" && !errs.Is(err, errs.Invalid) || want != "bad" && (err != nil || q.Encode() != want) {
			t.Errorf("%s: got %q, %v, want %q", query, q.Encode(), err, want)
		}
	}
}

// version is a row of the hidden container, short is an entry as text.
func version(of, id string, deleted bool) listing.Object {
	at, err := timestamp.Parse(id)
	if err != nil {
		panic(err)
	}
	o := listing.Object{Name: name.Path{Object: of}.Version(at).Object, Hash: "h"}
	if deleted {
		o.ContentType = backend.DeleteMarker
	}
	return o
}

func short(list []listing.Object) string {
	var all []string
	for _, o := range list {
		s := o.Name
		if o.VersionID != "" {
			s += ":" + strings.TrimPrefix(o.VersionID, "1700000000.0000")
		}
		if o.Latest {
			s += "*"
		}
		if o.VersionLink || o.LinkPath != "" || o.Subdir != strings.HasSuffix(o.Name, "/") {
			s += "?"
		}
		all = append(all, s)
	}
	return strings.Join(all, " ")
}

func TestListVersions(t *testing.T) {
	link := func(of, id string) listing.Object { return listing.Object{Name: of, Hash: "h; version_id=" + id} }
	null := func(of string) listing.Object { return listing.Object{Name: of, Hash: "h"} }
	sub := func(of string) listing.Object { return listing.Object{Name: of, Subdir: true} }
	v := func(of, id string) listing.Object { return version(of, id, false) }
	gone := func(of, id string) listing.Object { return version(of, id, true) }
	for what, tt := range map[string]struct {
		query             string
		objects, versions []listing.Object
		want              string
	}{
		"nothing":             {"", nil, nil, ""},
		"current":             {"", []listing.Object{link("o", id2)}, []listing.Object{v("o", id2), v("o", id1)}, "o:2* o:1"},
		"older one current":   {"", []listing.Object{link("o", id1)}, []listing.Object{v("o", id2), v("o", id1)}, "o:2 o:1*"},
		"deleted":             {"", nil, []listing.Object{gone("o", id2), v("o", id1)}, "o:2* o:1"},
		"deleted twice":       {"", nil, []listing.Object{gone("o", id2), gone("o", id1)}, "o:2* o:1"},
		"deleted, and back":   {"", []listing.Object{link("o", id1)}, []listing.Object{gone("o", id2), v("o", id1)}, "o:2 o:1*"},
		"null is current":     {"", []listing.Object{null("o")}, []listing.Object{gone("o", id2), v("o", id1)}, "o:null* o:2 o:1"},
		"null alone":          {"", []listing.Object{null("o")}, nil, "o:null*"},
		"nothing is current":  {"", nil, []listing.Object{v("o", id2), gone("o", id1)}, "o:2 o:1"},
		"many":                {"", []listing.Object{null("a"), link("b", id1), link("d", id2)}, []listing.Object{v("b", id1), gone("c", id1), v("d", id2), v("d", id1)}, "a:null* b:1* c:1* d:2* d:1"},
		"not told of yet":     {"", []listing.Object{link("a", id1), link("b", id2)}, []listing.Object{v("b", id2)}, "a:1* b:2*"},
		"folders":             {"delimiter=/", []listing.Object{sub("a/"), null("b")}, []listing.Object{sub("\x00a/"), sub("\x00c/")}, "a/ b:null* c/"},
		"reverse":             {"reverse=on", []listing.Object{null("d"), link("b", id2)}, []listing.Object{gone("c", id1), gone("c", id2), v("b", id1), v("b", id2)}, "d:null* c:1 c:2* b:1 b:2*"},
		"page":                {"limit=2", []listing.Object{link("a", id2), link("b", id2)}, []listing.Object{v("a", id2), v("a", id1)}, "a:2* a:1"},
		"page ends within":    {"limit=1", []listing.Object{link("a", id1)}, []listing.Object{v("a", id2)}, "a:2"},
		"next page":           {"marker=a&version_marker=" + id2, []listing.Object{link("b", id1)}, []listing.Object{gone("a", id1), v("b", id1)}, "a:1 b:1*"},
		"reverse page":        {"reverse=on&limit=2", nil, []listing.Object{gone("b", id2), gone("a", id1)}, "b:2* a:1"},
		"next page, reversed": {"reverse=on&marker=b&version_marker=" + id1, nil, []listing.Object{gone("b", id2)}, "b:2*"},
		"not a version":       {"", nil, []listing.Object{{Name: "\x00odd"}, v("o", id1)}, "o:1"},
	} {
		w := &world{answers: map[string]func(*chain.Request) *chain.Response{"GET c": rows(tt.objects...), "GET " + hidden: rows(tt.versions...)}}
		resp := serve(t, w, "GET", object.Parent(), strings.TrimSuffix("versions&"+tt.query, "&"))
		if resp.Status != 200 || resp.Rows == nil || !resp.Rows.OnlyJSON {
			t.Errorf("%s: got %d, %+v", what, resp.Status, resp.Rows)
			continue
		}
		if got := short(resp.Rows.Objects); got != tt.want {
			t.Errorf("%s: got %q, want %q", what, got, tt.want)
		}
	}
	for what, tt := range map[string]struct {
		query, accept string
		visible       int
		hidden        func(*chain.Request) *chain.Response
		status        int
	}{
		"of no hidden one":      {"versions", "", 200, reply(404), 200},
		"not known":             {"versions", "", 200, unavailable, 503},
		"of none":               {"versions", "", 404, reply(404), 404},
		"as text":               {"versions&format=plain", "", 200, reply(404), 406},
		"as JSON":               {"versions&format=json", "text/plain", 200, reply(404), 200},
		"accepts text":          {"versions", "text/plain", 200, reply(404), 406},
		"accepts all":           {"versions", "text/plain, */*;q=0.1", 200, reply(404), 200},
		"accepts nothing of it": {"versions", "foo/bar", 200, reply(404), 406},
		"bad":                   {"versions&version_marker=1", "", 200, reply(404), 400},
	} {
		w := &world{answers: map[string]func(*chain.Request) *chain.Response{"GET " + hidden: tt.hidden, "GET c": rows()}}
		if tt.visible != 200 {
			w.answers["GET c"] = reply(tt.visible)
		}
		var pairs []string
		if tt.accept != "" {
			pairs = []string{"Accept", tt.accept}
		}
		if resp := serve(t, w, "GET", object.Parent(), tt.query, pairs...); resp.Status != tt.status {
			t.Errorf("%s: got %d, want %d", what, resp.Status, tt.status)
		}
	}
}

// stored answers as a container server does that has these rows, in the order of names.
func stored(t testing.TB, rows []listing.Object) func(*chain.Request) *chain.Response {
	return func(r *chain.Request) *chain.Response {
		p, err := listing.Parse(r.Query, 10_000)
		if err != nil {
			t.Error(err)
		}
		rows, after, before := slices.Clone(rows), p.Marker, p.EndMarker
		if p.Reverse {
			slices.Reverse(rows)
			after, before = before, after
		}
		resp := chain.Empty(200)
		resp.Header[Container], resp.Rows = []string{"x"}, &chain.Rows{}
		for _, o := range rows {
			tail, ok := strings.CutPrefix(o.Name, p.Prefix)
			if !ok || o.Name <= after || before != "" && o.Name >= before {
				continue
			}
			if head, _, found := strings.Cut(tail, p.Delimiter); found && p.Delimiter != "" {
				o = listing.Object{Name: p.Prefix + head + p.Delimiter, Subdir: true}
			}
			out := &resp.Rows.Objects
			if n := len(*out); n < p.Limit && (!o.Subdir || o.Name != after && (n == 0 || o != (*out)[n-1])) {
				*out = append(*out, o)
			}
		}
		return resp
	}
}

// Whoever goes through the pages of a listing sees every version once, in the order of
// the listing in one piece, and that has what there is.
func TestVersionsPages(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		part := rapid.SampledFrom([]string{"a", "b", "/", "/", "//", "-", "\x01", "é"})
		names := rapid.SliceOfNDistinct(rapid.Map(rapid.SliceOfN(part, 1, 4), func(s []string) string { return strings.Join(s, "") }), 0, 8, rapid.ID).Draw(r, "names")
		slices.Sort(names)
		var objects, versions []listing.Object
		all := map[string][]string{} // the IDs of each name, the newest first
		for _, n := range names {
			count := rapid.IntRange(0, 3).Draw(r, "versions")
			for i := count; i > 0; i-- {
				v := version(n, "1700000000.0000"+string(rune('0'+i)), rapid.Bool().Draw(r, "deleted"))
				versions, all[n] = append(versions, v), append(all[n], "1700000000.0000"+string(rune('0'+i)))
			}
			switch kind := rapid.IntRange(0, 2).Draw(r, "current"); {
			case kind == 0:
				objects, all[n] = append(objects, listing.Object{Name: n, Hash: "h"}), append([]string{Null}, all[n]...)
			case kind == 1 && count > 0:
				objects = append(objects, listing.Object{Name: n, Hash: "h; version_id=" + all[n][rapid.IntRange(0, count-1).Draw(r, "link")]})
			}
		}
		q := url.Values{"versions": {""}}
		if d := rapid.SampledFrom([]string{"", "/", "//", "b/"}).Draw(r, "delimiter"); d != "" {
			q.Set("delimiter", d)
		}
		if p := rapid.SampledFrom([]string{"", "", "a", "a/", "/"}).Draw(r, "prefix"); p != "" {
			q.Set("prefix", p)
		}
		reverse := rapid.Bool().Draw(r, "reverse")
		if reverse {
			q.Set("reverse", "true")
			slices.Reverse(names)
		}
		w := &world{answers: map[string]func(*chain.Request) *chain.Response{"GET c": stored(t, objects), "GET " + hidden: stored(t, versions)}}
		list := func(more ...string) (got []listing.Object) {
			ask := maps.Clone(q)
			for i := 0; i < len(more); i += 2 {
				ask.Set(more[i], more[i+1])
			}
			for _, o := range serve(t, w, "GET", object.Parent(), ask.Encode()).Rows.Objects {
				got = append(got, listing.Object{Name: o.Name, VersionID: o.VersionID, Subdir: o.Subdir})
			}
			return got
		}
		var want []listing.Object
		for _, n := range names {
			ids := all[n]
			if tail, ok := strings.CutPrefix(n, q.Get("prefix")); !ok || len(ids) == 0 {
				continue
			} else if head, _, found := strings.Cut(tail, q.Get("delimiter")); found && q.Has("delimiter") {
				dir := listing.Object{Name: q.Get("prefix") + head + q.Get("delimiter"), Subdir: true}
				if len(want) == 0 || want[len(want)-1] != dir {
					want = append(want, dir)
				}
				continue
			}
			if first := slices.Index(ids, Null) + 1; reverse {
				slices.Reverse(ids[first:])
			}
			for _, id := range ids {
				want = append(want, listing.Object{Name: n, VersionID: id})
			}
		}
		if got := list(); !slices.Equal(got, want) {
			r.Fatalf("%v: in one piece\n%+v, want\n%+v", q, got, want)
		}
		limit := rapid.IntRange(1, 4).Draw(r, "limit")
		var pages []listing.Object
		for next := []string{"limit", strconv.Itoa(limit)}; len(pages) <= len(want); {
			page := list(next...)
			pages = append(pages, page...)
			if len(page) < limit {
				break
			}
			last := page[len(page)-1]
			if next = append(next[:2], "marker", last.Name); !last.Subdir {
				next = append(next, "version_marker", last.VersionID)
			}
		}
		if !slices.Equal(pages, want) {
			r.Fatalf("%v: pages of %d\n%+v, want\n%+v", q, limit, pages, want)
		}
		if len(want) == 0 {
			return
		}
		// Between two names nothing is of either of them.
		from, to := rapid.SampledFrom(want).Draw(r, "from"), rapid.SampledFrom(want).Draw(r, "to")
		before := func(a, b string) bool { return a < b != reverse && a != b }
		between := slices.DeleteFunc(slices.Clone(want), func(o listing.Object) bool { return !before(from.Name, o.Name) || !before(o.Name, to.Name) })
		if got := list("marker", from.Name, "end_marker", to.Name); !slices.Equal(got, between) {
			r.Fatalf("%v: between %q and %q\n%+v, want\n%+v", q, from.Name, to.Name, got, between)
		}
	})
}

// Whatever rows there are, each version is listed once, in order, and of each name one at
// most is current.
func FuzzMerge(f *testing.F) {
	f.Add([]byte{1, 2, 3, 40, 50, 61}, false, uint8(3))
	f.Fuzz(func(t *testing.T, spec []byte, reverse bool, limit uint8) {
		var objects, versions []listing.Object
		seen := map[string]bool{}
		for _, b := range spec {
			of, id := string('a'+b&3), "1700000000.0000"+string('1'+b>>2&7)
			switch b >> 5 & 3 {
			case 0:
				if !seen[of] {
					objects = append(objects, listing.Object{Name: of, Hash: "h; version_id=" + id})
				}
				seen[of] = true
			case 1:
				if !seen[of] {
					objects = append(objects, listing.Object{Name: of})
				}
				seen[of] = true
			default:
				if v := version(of, id, b>>5&1 == 1); !slices.ContainsFunc(versions, func(o listing.Object) bool { return o.Name == v.Name }) {
					versions = append(versions, v)
				}
			}
		}
		byName := func(a, b listing.Object) int {
			if reverse {
				a, b = b, a
			}
			return strings.Compare(a.Name, b.Name)
		}
		slices.SortFunc(objects, byName)
		slices.SortFunc(versions, byName)
		m := merging{reverse: reverse, limit: int(limit), latest: map[string]bool{}}
		versions = versions[:min(len(versions), m.limit)]
		got := m.merge(objects, versions)
		latest, ids := map[string]bool{}, map[string]bool{}
		for _, o := range got {
			if o.Latest && latest[o.Name] || ids[o.Name+" "+o.VersionID] || o.VersionID == "" || o.VersionLink {
				t.Fatalf("%+v of %+v and %+v", got, objects, versions)
			}
			latest[o.Name] = latest[o.Name] || o.Latest
			ids[o.Name+" "+o.VersionID] = true
		}
		if len(got) > m.limit || !slices.IsSortedFunc(got, byName) {
			t.Fatalf("%+v of %+v and %+v, limit %d", got, objects, versions, limit)
		}
	})
}
