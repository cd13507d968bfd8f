package versioning

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"martlet/internal/backend"
	"martlet/internal/listing"
	"martlet/proxy/chain"
)

// Of an object in the older modes what it was is kept before it changes, and comes back.
func TestOlderModes(t *testing.T) {
	const at, older, oldest = "001o/1700000000.00001", "001o/1600000000.00000", "001o/1500000000.00000"
	there := func(text string, pairs ...string) func(*chain.Request) *chain.Response {
		return func(r *chain.Request) *chain.Response {
			resp := reply(200, append([]string{"X-Timestamp", id1, "Content-Type", "a/b", "X-Object-Meta-A", "b", "Etag", "e"}, pairs...)...)(r)
			resp.SetText(text)
			return resp
		}
	}
	pages := func(list ...listing.Object) func(*chain.Request) *chain.Response {
		done := false
		return func(r *chain.Request) *chain.Response {
			if done {
				return rows()(r)
			}
			done = true
			return rows(list...)(r)
		}
	}
	data, mark := func(n string) listing.Object { return listing.Object{Name: n} }, func(n string) listing.Object {
		return listing.Object{Name: n, ContentType: backend.DeleteMarker}
	}
	type answers = map[string]func(*chain.Request) *chain.Response
	for what, tt := range map[string]struct {
		facts   map[string]string
		method  string
		answers answers
		seen    []string
		status  int
	}{
		"put of what is new": {stacked, "PUT", nil, []string{"ASK PUT c/o", "GET c/o", "PUT c/o"}, 201},
		"put":                {stacked, "PUT", answers{"GET c/o": there("x")}, []string{"ASK PUT c/o", "GET c/o", "PUT old/" + at, "PUT c/o"}, 201},
		"put, history":       {historic, "PUT", answers{"GET c/o": there("x")}, []string{"ASK PUT c/o", "GET c/o", "PUT old/" + at, "PUT c/o"}, 201},
		"put, refused":       {stacked, "PUT", answers{"ASK PUT c/o": reply(403)}, []string{"ASK PUT c/o"}, 403},
		"put, nowhere to go": {stacked, "PUT", answers{"GET c/o": there("x"), "PUT old/" + at: reply(404)}, []string{"ASK PUT c/o", "GET c/o", "PUT old/" + at}, 412},
		"put, not kept":      {stacked, "PUT", answers{"GET c/o": there("x"), "PUT old/" + at: unavailable}, []string{"ASK PUT c/o", "GET c/o", "PUT old/" + at}, 503},
		"put, not read":      {stacked, "PUT", answers{"GET c/o": unavailable}, []string{"ASK PUT c/o", "GET c/o"}, 503},
		"get":                {stacked, "GET", answers{"GET c/o": there("x")}, []string{"GET c/o"}, 200},

		"delete of the first": {stacked, "DELETE", nil, []string{"ASK DELETE c/o", "GET old", "DELETE c/o"}, 204},
		"delete": {stacked, "DELETE", answers{"GET old": pages(data(older), data(oldest)), "GET old/" + older: there("x")},
			[]string{"ASK DELETE c/o", "GET old", "GET old/" + older, "PUT c/o", "DELETE old/" + older}, 204},
		"delete, one went": {stacked, "DELETE", answers{"GET old": pages(data(older), data(oldest)), "GET old/" + oldest: there("x")},
			[]string{"ASK DELETE c/o", "GET old", "GET old/" + older, "GET old/" + oldest, "PUT c/o", "DELETE old/" + oldest}, 204},
		"delete, not restored": {stacked, "DELETE", answers{"GET old": pages(data(older)), "GET old/" + older: there("x"), "PUT c/o": unavailable},
			[]string{"ASK DELETE c/o", "GET old", "GET old/" + older, "PUT c/o"}, 503},
		"delete, refused": {stacked, "DELETE", answers{"ASK DELETE c/o": reply(403)}, []string{"ASK DELETE c/o"}, 403},
		"delete, others whose names begin alike": {stacked, "DELETE", answers{"GET old": pages(data("001o/p"), data("001o/9/1600000000.00000"))},
			[]string{"ASK DELETE c/o", "GET old", "GET old", "DELETE c/o"}, 204},
		"delete of what is there, down to a mark": {stacked, "DELETE", answers{"GET old": pages(mark(older), data(oldest)), "HEAD c/o": reply(200)},
			[]string{"ASK DELETE c/o", "GET old", "HEAD c/o", "DELETE c/o"}, 204},
		"delete of a mark": {stacked, "DELETE", answers{"GET old": pages(mark(older), data(oldest)), "GET old/" + oldest: there("x")},
			[]string{"ASK DELETE c/o", "GET old", "HEAD c/o", "GET old/" + oldest, "PUT c/o", "DELETE old/" + oldest, "DELETE old/" + older}, 204},
		"delete of a mark on a mark": {stacked, "DELETE", answers{"GET old": pages(mark(older), mark(oldest))},
			[]string{"ASK DELETE c/o", "GET old", "HEAD c/o", "DELETE old/" + older}, 204},
		"delete, not listed": {stacked, "DELETE", answers{"GET old": unavailable}, []string{"ASK DELETE c/o", "GET old"}, 503},
	} {
		w := &world{facts: tt.facts, answers: tt.answers}
		resp := serve(t, w, tt.method, object, "")
		w.saw(t, what, tt.seen...)
		if resp.Status != tt.status {
			t.Errorf("%s: got %d, want %d", what, resp.Status, tt.status)
		}
	}
	// In history mode a DELETE leaves a mark of its time.
	w := &world{facts: historic, answers: answers{"GET c/o": there("x")}}
	resp := serve(t, w, "DELETE", object, "")
	if resp.Status != 204 || len(w.seen) != 5 || w.seen[2] != "PUT old/"+at || !strings.HasPrefix(w.seen[3], "PUT old/001o/") || !strings.HasSuffix(w.seen[3], " Delete-Marker=true") || w.seen[4] != "DELETE c/o" {
		t.Errorf("history: got %d, %q", resp.Status, w.seen)
	}
	// The same where the null version is deleted by its ID.
	w = &world{facts: historic}
	if resp := serve(t, w, "DELETE", object, "version-id=null"); resp.Status != 204 || w.seen[len(w.seen)-1] != "DELETE c/o" || len(w.seen) != 4 {
		t.Errorf("history, null: got %d, %q", resp.Status, w.seen)
	}
}

// A write of another cluster that comes once more, or too late, moves no versions about.
func TestOlderModesReplayed(t *testing.T) {
	const older = "1600000000.00000"
	for _, facts := range []map[string]string{stacked, historic} {
		for _, method := range []string{"PUT", "DELETE"} {
			for what, answer := range map[string]func(*chain.Request) *chain.Response{
				"it is there":        reply(200, "X-Timestamp", id1),
				"it was deleted":     reply(404, backend.BackendStamp, id1),
				"something newer is": reply(200, "X-Timestamp", id1, backend.BackendStamp, id2),
			} {
				w := &world{facts: facts, answers: map[string]func(*chain.Request) *chain.Response{"HEAD c/o": answer, method + " c/o": reply(409)}}
				if resp := serve(t, w, method, object, "", chain.Stamp, id1); resp.Status != 409 {
					t.Errorf("%s: got %d", what, resp.Status)
				}
				w.saw(t, method+", "+what, "HEAD c/o", method+" c/o")
			}
			w := &world{facts: facts, answers: map[string]func(*chain.Request) *chain.Response{"HEAD c/o": reply(200, "X-Timestamp", older)}}
			serve(t, w, method, object, "", chain.Stamp, id1)
			if len(w.seen) < 4 {
				t.Errorf("%s over what is older: behind it came %q", method, w.seen)
			}
			w = &world{facts: facts, answers: map[string]func(*chain.Request) *chain.Response{"HEAD c/o": unavailable}}
			if resp := serve(t, w, method, object, "", chain.Stamp, id1); resp.Status != 503 || len(w.seen) != 1 {
				t.Errorf("%s of what can't be read: got %d after %q", method, resp.Status, w.seen)
			}
		}
	}
}

// What is kept has all that is said of the object, as it is stored, and none of what the
// request for it brings along.
func TestOldVersionsAreWhole(t *testing.T) {
	var kept *chain.Request
	var text []byte
	w := &world{facts: stacked, answers: map[string]func(*chain.Request) *chain.Response{
		"GET c/o": func(r *chain.Request) *chain.Response {
			if r.Header.Get("X-Newest") != "true" || r.Grant == nil {
				t.Errorf("read with %v", r.Header)
			}
			resp := reply(200, "X-Timestamp", id1, "Last-Modified", "x", "Content-Type", "a/b", "X-Object-Meta-A", "b", "X-Object-Sysmeta-B", "c",
				"X-Static-Large-Object", "True", sloSize, "99", "Etag", "e", "X-Delete-At", "9999999999")(r)
			resp.SetText("manifest")
			return resp
		},
		"PUT old/001o/" + id1: func(r *chain.Request) *chain.Response {
			kept = r
			return chain.Empty(201)
		},
	}}
	w.t = t
	done := Link(Defaults(), Limits{1, 1}, w.find)(&reading{w, &text}).Serve(t.Context(), &chain.Request{Method: "PUT", Path: object, Header: http.Header{}, Body: strings.NewReader("new"), Length: 3})
	if done.Status != 201 || kept == nil || string(text) != "manifest" {
		t.Fatalf("got %d, %q", done.Status, text)
	}
	for n, want := range map[string]string{
		"Content-Type": "a/b", "X-Object-Meta-A": "b", "X-Object-Sysmeta-B": "c", "X-Static-Large-Object": "True", "Etag": "e", "X-Delete-At": "9999999999",
		chain.ListedBytes: "99", "X-Timestamp": "", "Last-Modified": "", backend.NewVersion: "",
	} {
		if got := kept.Header.Get(n); got != want {
			t.Errorf("%s is %q, want %q", n, got, want)
		}
	}
}

// reading keeps the body of what is put first.
type reading struct {
	*world
	text *[]byte
}

func (r *reading) Serve(ctx context.Context, rq *chain.Request) *chain.Response {
	if rq.Method == http.MethodPut && rq.Path.Container == "old" {
		b, err := io.ReadAll(rq.Body)
		if err != nil {
			r.t.Error(err)
		}
		*r.text, rq.Body = b, nil
	}
	return r.world.Serve(ctx, rq)
}
