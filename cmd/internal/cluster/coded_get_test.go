package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"martlet/internal/backend"
	"martlet/internal/ec"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/ring"
)

// codedProbe starts a probe of nodes with one device each and a policy of erasure coding, whose
// container is /ec; /whole is one of replicas.
func codedProbe(t testing.TB, shape ec.Shape, nodes int) *probe {
	t.Helper()
	p := startProbe(t, func(o *Options) {
		o.Nodes, o.Devices, o.Policies = nodes, 1, []Policy{{Name: "coded", Shape: shape}}
	})
	p.want("PUT", p.url+"/ec", map[string]string{"X-Storage-Policy": "coded"}, "", 201)
	p.want("PUT", p.url+"/whole", nil, "", 201)
	return p
}

// randomText is so many bytes that can be told apart.
func randomText(n int) string {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return string(b)
}

// fetched is the answer to a request of a client.
type fetched struct {
	status int
	header http.Header
	body   string
}

func (p *probe) fetch(ctx context.Context, method, url string, header map[string]string) (f fetched, err error) {
	r, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return f, err
	}
	r.Header.Set("X-Auth-Token", p.token)
	for n, v := range header {
		r.Header.Set(n, v)
	}
	resp, err := p.client.Do(r)
	if err != nil {
		return f, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return fetched{resp.StatusCode, resp.Header, string(b)}, err
}

// upload sends a PUT, in chunks where the size is not to be known before the end.
func (p *probe) upload(object string, header map[string]string, body string, sized bool) {
	p.t.Helper()
	var content io.Reader = strings.NewReader(body)
	if !sized {
		content = struct{ io.Reader }{content}
	}
	r, err := http.NewRequestWithContext(p.t.Context(), "PUT", p.url+"/"+object, content)
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("X-Auth-Token", p.token)
	for n, v := range header {
		r.Header.Set(n, v)
	}
	resp, err := p.client.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 201 {
		p.t.Fatalf("PUT %s: %d", object, resp.StatusCode)
	}
}

// primariesOf returns the devices of a coded object's fragments.
func (p *probe) primariesOf(object string) (ring.Partition, []*ring.Device) {
	p.t.Helper()
	r, err := ring.Load(filepath.Join(p.configs[0].Rings.Folder, "object-1.ring.gz"))
	if err != nil {
		p.t.Fatal(err)
	}
	part := r.Partition(p.hasher.Hash(codedPath(object)))
	return part, r.AppendPrimaries(nil, part)
}

func codedPath(object string) name.Path {
	return name.Path{Account: "AUTH_test", Container: "ec", Object: object}
}

// A node that is behind names a version whose fragments are gone: the newer one is read. Where
// there is none it is a 503, and not the version before.
func TestACodedVersionThatWasSuperseded(t *testing.T) {
	p := codedProbe(t, ec.Shape{Data: 2, Parity: 1}, 4)
	old, now := randomText(1<<20), randomText(2<<20)
	p.upload("ec/o", nil, old, true)
	part, devices := p.primariesOf("o")
	behind := nodeOf(devices[0].IP)
	drop := func() (dropped int) {
		for _, d := range devices {
			target := backend.Target{Device: d.Name, Partition: uint32(part), Path: codedPath("o")}.Quoted()
			ask := func(method string, more ...backend.Field) *backend.Response {
				resp, err := p.direct.Do(t.Context(), d.Addr(), &backend.Request{Method: method, Path: target, Header: append(backend.Header{
					{Name: backend.PolicyIndex, Value: policy.Index(1).Fragments().String()}}, more...)})
				if err != nil {
					t.Fatal(err)
				}
				return resp
			}
			held := ask("HEAD").Header.Get(backend.FragmentsHeld)
			for one := range strings.SplitSeq(held, ",") {
				at, rest, _ := strings.Cut(one, "#")
				index, write, ok := strings.Cut(rest, "/")
				if !ok {
					continue
				}
				resp := ask("DELETE", backend.Field{Name: backend.FragmentTime, Value: at}, backend.Field{Name: backend.FragmentIndex, Value: index}, backend.Field{Name: backend.FragmentWrite, Value: write})
				if resp.Status != 204 {
					t.Fatalf("DELETE of %s: %d", one, resp.Status)
				}
				dropped++
			}
		}
		return dropped
	}
	if n := drop(); n != 3 {
		t.Fatalf("%d fragments were dropped", n)
	}
	if got, err := p.fetch(t.Context(), "GET", p.url+"/ec/o", nil); err != nil || got.status != 503 {
		t.Errorf("without fragments: %d, %v", got.status, err)
	}
	p.stop(behind)
	p.upload("ec/o", nil, now, true)
	p.start(behind)
	for range 15 {
		got, err := p.fetch(t.Context(), "GET", p.url+"/ec/o", map[string]string{"Range": "bytes=5-1500000"})
		if err != nil || got.status != 206 || got.body != now[5:1500001] {
			t.Fatalf("got %d, %d bytes, %v", got.status, len(got.body), err)
		}
	}
	p.stop(behind)
	p.want("DELETE", p.url+"/ec/o", nil, "", 204)
	p.start(behind)
	drop()
	for range 15 {
		if got, err := p.fetch(t.Context(), "GET", p.url+"/ec/o", nil); err != nil || got.status != 404 {
			t.Fatalf("after the DELETE: %d, %v", got.status, err)
		}
	}
}

// A node that ends while it sends is replaced where it was.
func TestACodedObjectGoesOn(t *testing.T) {
	p := codedProbe(t, ec.Shape{Data: 2, Parity: 2}, 5)
	body := randomText(32 << 20) // more than all that is on the way at a time
	p.upload("ec/o", nil, body, true)
	r, err := http.NewRequestWithContext(t.Context(), "GET", p.url+"/ec/o", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Auth-Token", p.token)
	resp, err := (&http.Client{Transport: &http.Transport{}}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got := make([]byte, len(body))
	at := 0
	_, devices := p.primariesOf("o")
	for _, d := range devices[:2] {
		n, err := io.ReadFull(resp.Body, got[at:at+1<<20])
		if at += n; err != nil {
			t.Fatal(err)
		}
		p.stop(nodeOf(d.IP))
	}
	if n, err := io.ReadFull(resp.Body, got[at:]); err != nil || string(got) != body {
		t.Fatalf("%d of %d bytes, %v", at+n, len(body), err)
	}
}

// What features make of objects is made of coded ones, too, and none of them is shown which are.
func TestFeaturesOverCodedObjects(t *testing.T) {
	p := codedProbe(t, ec.Shape{Data: 2, Parity: 1}, 4)
	body := randomText(2<<20 + 5)
	get := func(object, want string, header map[string]string) {
		t.Helper()
		got, err := p.fetch(t.Context(), "GET", p.url+"/"+object, header)
		if err != nil || got.status/100 != 2 || got.body != want {
			t.Errorf("GET %s: %d, %d bytes, %v, want %d", object, got.status, len(got.body), err, len(want))
		}
		for n := range got.header {
			if strings.Contains(n, "Sysmeta") || strings.Contains(n, "Backend") {
				t.Errorf("GET %s shows %s", object, n)
			}
		}
	}
	p.upload("ec/o", map[string]string{"X-Object-Meta-A": "1"}, body, true)
	p.want("PUT", p.url+"/ec/copy", map[string]string{"X-Copy-From": "/ec/o"}, "", 201)
	p.want("PUT", p.url+"/whole/copy", map[string]string{"X-Copy-From": "/ec/copy"}, "", 201)
	p.want("PUT", p.url+"/ec/back", map[string]string{"X-Copy-From": "/whole/copy"}, "", 201)
	for _, object := range []string{"ec/copy", "whole/copy", "ec/back"} {
		get(object, body, nil)
	}
	p.want("POST", p.url+"/ec/o", map[string]string{"X-Object-Meta-A": "2"}, "", 202)
	get("ec/o", body, nil)
	manifest := `[{"path": "/ec/o"}, {"path": "/ec/copy", "range": "1048570-1048580"}]`
	p.want("PUT", p.url+"/ec/slo?multipart-manifest=put", nil, manifest, 201)
	get("ec/slo", body+body[1048570:1048581], nil)
	get("ec/slo", (body + body[1048570:1048581])[2097150:2097160], map[string]string{"Range": "bytes=2097150-2097159"})

	p.want("PUT", p.url+"/versions", map[string]string{"X-Storage-Policy": "coded"}, "", 201)
	p.upload("versions/o", nil, body, true)
	p.want("POST", p.url+"/versions", map[string]string{"X-Versions-Enabled": "true"}, "", 204)
	var ids []string
	bodies := []string{randomText(1<<20 + 1), "short", randomText(9000)}
	for _, b := range bodies {
		ids = append(ids, p.want("PUT", p.url+"/versions/o", nil, b, 201).Header.Get("X-Object-Version-Id"))
	}
	for i, id := range ids {
		get("versions/o?version-id="+id, bodies[i], nil)
	}
	listing, err := p.fetch(t.Context(), "GET", p.url+"/versions?versions&format=json", nil)
	var rows []struct {
		Version string `json:"version_id"`
		Bytes   int
	}
	if err = errors.Join(err, json.Unmarshal([]byte(listing.body), &rows)); err != nil || len(rows) != 4 || rows[3].Bytes != len(body) {
		t.Fatalf("%v: %s", err, listing.body)
	}
	get("versions/o?version-id="+rows[3].Version, body, nil) // which was no version before
	get("versions/o", bodies[2], nil)
	get("versions/o", bodies[2][8990:], map[string]string{"Range": "bytes=-10"})
}
