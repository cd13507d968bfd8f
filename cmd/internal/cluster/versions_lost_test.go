package cluster

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/name"
	"martlet/internal/timestamp"
	"martlet/object/engine"
)

// startSuspended starts a cluster with an object of the text "a", which is no version, and
// which one of its primaries has missed. That one is up again, and its place is returned.
func startSuspended(t *testing.T, before ...string) (p *probe, missed string) {
	p = startProbe(t)
	p.enableVersions(true)
	for _, text := range before {
		p.object("PUT", "o", nil, text, 201)
	}
	p.enableVersions(false)
	primaries, _ := p.places("o")
	missed = primaries[0]
	p.stop(nodeAt(missed))
	p.object("PUT", "o", nil, "a", 201)
	p.start(nodeAt(missed))
	return p, missed
}

// Metadata that is later than data does not mean that the data was overwritten.
func TestUnversionedWithLaterMetadataIsKept(t *testing.T) {
	p, _ := startSuspended(t, "old")
	p.object("POST", "o", map[string]string{"X-Object-Meta-A": "1"}, "", 202)
	p.enableVersions(true)
	p.object("PUT", "o", nil, "b", 201)
	for range 3 {
		p.pass(false)
	}
	p.wantVersions("o", "b", "a", "old")
}

// A version that one replica took of a write that came to nothing, since others first had
// to keep what they had, is no reason not to keep that.
func TestUnversionedIsKeptAfterAWriteThatFailed(t *testing.T) {
	p, missed := startSuspended(t)
	p.at(missed, "PUT", "o", p.source.Next(), backend.Header{{Name: backend.NewVersion, Value: "true"}}, "x", 201)
	p.enableVersions(true)
	p.object("PUT", "o", nil, "b", 201)
	for range 3 {
		p.pass(false)
	}
	if got := len(p.versions("o")); got != 2 { // of the write that failed no listing was told
		t.Errorf("%d versions are listed, want 2", got)
	}
	var all []string
	for _, r := range p.versions("o") {
		all = append(all, p.body("o", "?version-id="+r.ID))
	}
	if strings.Join(all, " ") != "b a" {
		t.Errorf("versions %q, want b and a", all)
	}
}

// Of writers that come at the same time upon what is no version yet, none fails, and
// what each of them wrote is a version.
func TestFirstVersionsAtTheSameTime(t *testing.T) {
	p := startProbe(t)
	const writers = 4
	for round := range 20 {
		object := fmt.Sprint("o", round)
		p.enableVersions(false)
		p.object("PUT", object, nil, "plain", 201)
		p.enableVersions(true)
		failed := make([]error, writers)
		var all sync.WaitGroup
		for i := range writers {
			all.Go(func() { _, failed[i] = p.answer("PUT", p.url+"/c/"+object, fmt.Sprint(i), http.StatusCreated) })
		}
		all.Wait()
		if err := errors.Join(failed...); err != nil {
			t.Errorf("%s: %v", object, err)
		}
		var got []string
		for _, r := range p.versions(object) {
			got = append(got, p.body(object, "?version-id="+r.ID))
		}
		if slices.Sort(got); !slices.Equal(got, []string{"0", "1", "2", "3", "plain"}) {
			t.Errorf("%s: versions %q", object, got)
		}
	}
}

// Who deletes the current version hides no write of somebody else's that was done at the
// same time.
func TestCurrentVersionIsDeletedWhileOthersWrite(t *testing.T) {
	p := startProbe(t)
	p.enableVersions(true)
	for round := range 60 {
		object := fmt.Sprint("o", round)
		p.object("PUT", object, nil, "old", 201)
		first := p.versions(object)[0].ID
		var put, deleted error
		var both sync.WaitGroup
		both.Go(func() { _, put = p.answer("PUT", p.url+"/c/"+object, "new", http.StatusCreated) })
		both.Go(func() {
			_, deleted = p.answer("DELETE", p.url+"/c/"+object+"?version-id="+first, "", http.StatusNoContent)
		})
		both.Wait()
		if err := errors.Join(put, deleted); err != nil {
			t.Error(err)
		}
		p.wantVersions(object, "new")
	}
	p.pass(true)
	p.still()
}

// The current version is deleted for good, however old it is: a replica that was away does
// not bring back what says that it is current, and the tombstone is not so old as that.
func TestOldCurrentVersionStaysDeleted(t *testing.T) {
	p := startProbe(t)
	p.enableVersions(true)
	began := timestamp.Now()
	old := began.Add(-100 * 24 * time.Hour) // long before the reclaim age
	primaries, _ := p.places("o")
	for _, place := range primaries {
		p.at(place, "PUT", "o", old, backend.Header{{Name: backend.NewVersion, Value: "true"}}, "old", 201)
	}
	p.stop(nodeAt(primaries[0]))
	p.want("DELETE", p.url+"/c/o?version-id="+old.Normal(), nil, "", 204)
	for range 2 {
		p.pass(false)
	}
	p.start(nodeAt(primaries[0]))
	for range 3 {
		p.pass(false)
	}
	p.object("GET", "o", nil, "", 404)
	p.exactly("o", primaries, func(s engine.State) bool { return deleted(s) && !s.Packed().Happened().Before(began) })
}

// A link whose version was deleted so long ago that this is forgotten reads as what was
// deleted, and not as what can't be had just now, and something else can be put in its place.
func TestLinkToAForgottenVersion(t *testing.T) {
	p := startProbe(t)
	p.enableVersions(true)
	p.object("PUT", "o", nil, "kept", 201)
	kept := p.versions("o")[0].ID
	large := strings.Repeat("l", 700<<10)
	for i, again := range []func(object string){
		func(object string) { p.object("PUT", object, nil, "small", 201) },
		func(object string) { p.object("PUT", object, nil, large, 201) },
		func(object string) { p.object("DELETE", object, nil, "", 204) },
	} {
		object := fmt.Sprint("gone", i)
		old := timestamp.FromTime(time.Now().Add(-48 * time.Hour))
		link := backend.Link{ID: old, Bytes: 1, ETag: "e"}
		primaries, _ := p.places(object)
		for _, place := range primaries {
			p.at(place, "PUT", object, old, backend.Header{{Name: backend.VersionLink, Value: link.String()}}, "", 201)
		}
		p.object("GET", object, nil, "", 404)
		p.object("HEAD", object, nil, "", 404)
		p.stop(nodeAt(primaries[0]))
		p.object("GET", object, nil, "", 503)
		p.start(nodeAt(primaries[0]))
		if i > 0 {
			p.want("DELETE", p.url+"/c/"+object+"?version-id="+old.Normal(), nil, "", 404)
		}
		again(object)
	}
	p.want("PUT", p.url+"/c/o?version-id="+kept, nil, "", 201)
	if p.body("gone0", "") != "small" || p.body("gone1", "") != large || p.body("o", "") != "kept" {
		t.Error("what was put in the place of the links reads as something else")
	}
}

// Versions are not stored by one policy and looked for by another: a hidden container that
// is left of an earlier container serves one of the same policy, and no other.
func TestHiddenContainerOfAnotherPolicy(t *testing.T) {
	p := startReaping(t)
	hidden := name.Path{Account: "AUTH_test", Container: "c"}.Versions()
	p.want("DELETE", p.url+"/c", nil, "", 204)
	p.each("container", hidden, func() *backend.Request {
		return &backend.Request{Method: "PUT", Header: backend.Header{
			{Name: backend.Timestamp, Value: p.source.Next().String()}, {Name: backend.PolicyIndex, Value: "1"},
		}}
	}, 201)
	on := map[string]string{"X-Versions-Enabled": "true"}
	p.want("PUT", p.url+"/c", on, "", 409)
	p.want("HEAD", p.url+"/c", nil, "", 404)
	p.want("PUT", p.url+"/c", nil, "", 201)
	p.want("POST", p.url+"/c", on, "", 409)
	p.want("PUT", p.url+"/c/o", nil, "no version", 201)
	p.want("DELETE", p.url+"/c/o", nil, "", 204)
	p.want("DELETE", p.url+"/c", nil, "", 204)
	p.want("PUT", p.url+"/c", map[string]string{"X-Versions-Enabled": "true", "X-Storage-Policy": "tin"}, "", 201)
	p.want("PUT", p.url+"/c/o", nil, "a", 201)
	p.wantVersions("o", "a")
}
