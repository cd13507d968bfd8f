package cluster

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"martlet/cmd/internal/config"
	"martlet/internal/backend"
	"martlet/internal/conf"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/object/engine"
	"martlet/ring"
)

// startPolicies starts a probe with two policies beside the default one, gold and old.
func startPolicies(t *testing.T) *probe {
	t.Helper()
	p := startProbe(t, func(o *Options) { o.Policies = []Policy{{Name: "gold"}, {Name: "old"}} })
	for n, c := range p.configs {
		p.stop(n + 1)
		c.Stats.Interval = conf.Duration(100 * time.Millisecond)
		p.start(n + 1)
	}
	return p
}

// deprecate starts another proxy, where old is deprecated and gold has another name.
func (p *probe) deprecate() {
	p.t.Helper()
	p.proxy = func(c *config.Proxy) {
		c.Cluster.Policies[1].Aliases, c.Cluster.Policies[2].Deprecated = []string{"Au"}, true
		c.Server.InfoCache = conf.Duration(time.Millisecond)
	}
	p.startProxy()
}

// What clients may say of policies, one request after the other, and what they are told.
func TestPoliciesForClients(t *testing.T) {
	p := startPolicies(t)
	p.want("PUT", p.url+"/kept", map[string]string{"X-Storage-Policy": "OLD"}, "", 201)
	p.want("PUT", p.url+"/kept/before", nil, "b", 201)
	p.deprecate()
	for _, tt := range []struct {
		method, path, asked string
		status              int
		policy              string // of the container afterwards; "" is not looked at
	}{
		{"PUT", "/usual", "", 201, "Policy-0"},
		{"PUT", "/new", "GOLD", 201, "gold"},
		{"PUT", "/alias", "aU", 201, "gold"},
		{"PUT", "/none", "silver", 400, ""},
		{"PUT", "/none", "1", 400, ""},
		{"PUT", "/none", "old", 400, ""},
		{"HEAD", "/none", "", 404, ""},
		{"PUT", "/kept", "", 202, "old"},
		{"PUT", "/kept", "old", 400, "old"},
		{"PUT", "/kept", "gold", 409, "old"},
		{"PUT", "/kept/after", "", 201, "old"},
		{"GET", "/kept/before", "", 200, ""},
		{"POST", "/kept", "", 204, "old"},
		{"DELETE", "/kept/before", "", 204, ""},
		{"PUT", "/new", "", 202, "gold"},
		{"PUT", "/new", "au", 202, "gold"},
		{"PUT", "/new", "policy-0", 409, "gold"},
		{"POST", "/new", "Policy-0", 204, "gold"},
		{"PUT", "/usual", "gold", 409, "Policy-0"},
		{"DELETE", "/new", "", 204, ""},
		{"PUT", "/new", "Policy-0", 201, "Policy-0"},
		{"PUT", "/new", "gold", 409, "Policy-0"},
		{"DELETE", "/new", "", 204, ""},
		{"PUT", "/new", "gold", 201, "gold"},
	} {
		header := map[string]string{}
		if tt.asked != "" {
			header["X-Storage-Policy"] = tt.asked
		}
		p.want(tt.method, p.url+tt.path, header, "", tt.status)
		if tt.policy == "" {
			continue
		}
		container := "/" + strings.Split(tt.path, "/")[1]
		for _, method := range []string{"HEAD", "GET"} {
			resp := p.want(method, p.url+container+"?limit=0&format=json", nil, "", map[bool]int{true: 204, false: 200}[method == "HEAD"])
			if got := resp.Header.Get("X-Storage-Policy"); got != tt.policy {
				t.Fatalf("%s %s as %q: %s says then that the policy is %q, want %q", tt.method, tt.path, tt.asked, method, got, tt.policy)
			}
		}
	}

	var rows []struct {
		Name   string `json:"name"`
		Policy string `json:"storage_policy"`
	}
	p.decode(p.url+"?format=json", &rows)
	got := map[string]string{}
	for _, r := range rows {
		got[r.Name] = r.Policy
	}
	for container, want := range map[string]string{"alias": "gold", "c": "Policy-0", "kept": "old", "new": "gold", "usual": "Policy-0"} {
		if got[container] != want {
			t.Errorf("the account lists %s under policy %q, want %q", container, got[container], want)
		}
	}
	if text, err := p.answer("GET", p.url+"?format=xml", "", 200); err != nil || strings.Count(text, "<storage_policy>gold</storage_policy>") != 2 {
		t.Errorf("the listing in XML: %v, %s", err, text)
	}

	var info struct {
		Swift struct{ Policies []map[string]any }
	}
	p.decode(strings.TrimSuffix(p.url, "/v1/AUTH_test")+"/info", &info)
	if got, want := fmt.Sprint(info.Swift.Policies), "[map[aliases:Policy-0 default:true name:Policy-0] map[aliases:gold, Au name:gold]]"; got != want {
		t.Errorf("/info has policies %s, want %s", got, want)
	}
}

// decode reads the answer to a GET as JSON.
func (p *probe) decode(url string, to any) {
	p.t.Helper()
	text, err := p.answer("GET", url, "", 200)
	if err == nil {
		err = json.Unmarshal([]byte(text), to)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// Objects are where the ring of their container's policy says, and nowhere else.
func TestEachPolicyHasItsRing(t *testing.T) {
	p := startPolicies(t)
	differ := false
	for index, called := range []string{"Policy-0", "gold", "old"} {
		p.want("PUT", p.url+"/"+called, map[string]string{"X-Storage-Policy": called}, "", 201)
		file := "object"
		if index > 0 {
			file = fmt.Sprintf("object-%d", index)
		}
		r, err := ring.Load(filepath.Join(p.configs[0].Rings.Folder, file+".ring.gz"))
		if err != nil {
			t.Fatal(err)
		}
		for i := range 8 {
			object := name.Path{Account: "AUTH_test", Container: called, Object: fmt.Sprint("o", i)}
			p.want("PUT", p.url+"/"+called+"/"+object.Object, nil, "data", 201)
			hash := p.hasher.Hash(object)
			var want []string
			for _, d := range r.AppendPrimaries(nil, r.Partition(hash)) {
				want = append(want, placeOf(d))
			}
			slices.Sort(want)
			var usual []string
			for _, d := range p.objects.AppendPrimaries(nil, p.objects.Partition(hash)) {
				usual = append(usual, placeOf(d))
			}
			slices.Sort(usual)
			differ = differ || !slices.Equal(usual, want)
			if got := p.having(engine.Location{Policy: policy.Index(index), Hash: hash}); !slices.Equal(got, want) {
				t.Errorf("%v of policy %s is on %v, want %v", object, called, got, want)
			}
		}
	}
	if !differ {
		t.Error("the rings are the same: this shows nothing")
	}
}

// having returns the places that have something stored.
func (p *probe) having(at engine.Location) (places []string) {
	p.t.Helper()
	for n, c := range p.configs {
		for _, d := range c.Server.Devices {
			s, err := look(p.t.Context(), filepath.Join(c.Server.Root, d), at)
			if err != nil {
				p.t.Fatal(err)
			}
			if s.Kind != engine.Absent {
				places = append(places, nodeName(n+1)+"/"+d)
			}
		}
	}
	return places
}

// A container that only one replica knows of keeps its policy: others do not make it with
// another when they are asked to.
func TestAnotherPolicyIsRefusedWhereFewKnow(t *testing.T) {
	p := startPolicies(t)
	p.deprecate()
	path := name.Path{Account: "AUTH_test", Container: "few"}
	_, at := p.primaries(path)
	part, _ := p.primaries(path)
	resp, err := p.direct.Do(t.Context(), at[1].Addr(), &backend.Request{
		Method: "PUT", Path: backend.Target{Device: at[1].Name, Partition: uint32(part), Path: path}.Quoted(),
		Header: backend.Header{{Name: backend.Timestamp, Value: p.source.Next().String()}, {Name: backend.PolicyIndex, Value: "1"}},
	})
	if err != nil || resp.Status != 201 {
		t.Fatalf("%+v, %v", resp, err)
	}
	p.want("PUT", p.url+"/few", map[string]string{"X-Storage-Policy": "Policy-0"}, "", 409)
	for n, r := range p.each("container", path, head(""), 0) {
		if want := map[bool]int{true: 204, false: 404}[n == 1]; r.Status != want {
			t.Errorf("replica %d answers %d then, want %d", n, r.Status, want)
		}
	}
	p.want("PUT", p.url+"/few", map[string]string{"X-Storage-Policy": "gold"}, "", 202)
	if got := p.want("HEAD", p.url+"/few", nil, "", 204).Header.Get("X-Storage-Policy"); got != "gold" {
		t.Errorf("the policy is %q", got)
	}
}

// What an account says of each policy follows its containers: when they are filled, deleted,
// and made anew under another policy.
func TestAccountStatisticsOfPolicies(t *testing.T) {
	p := startPolicies(t)
	gold, old := map[string]string{"X-Storage-Policy": "gold"}, map[string]string{"X-Storage-Policy": "old"}
	is := func(what string, want map[string]string) {
		t.Helper()
		var got map[string]string
		p.until(what, func() bool {
			h := p.want("HEAD", p.url, nil, "", 204).Header
			got = map[string]string{"all": counts(h, "X-Account-")}
			for _, policy := range []string{"Policy-0", "gold", "old"} {
				got[policy] = counts(h, http.CanonicalHeaderKey("X-Account-Storage-Policy-"+policy+"-"))
			}
			return fmt.Sprint(got) == fmt.Sprint(want)
		})
	}
	is("an account with one container", map[string]string{"all": "1 0 0", "Policy-0": "1 0 0", "gold": "", "old": ""})
	p.want("PUT", p.url+"/g", gold, "", 201)
	p.want("PUT", p.url+"/h", gold, "", 201)
	for i := range 3 {
		p.want("PUT", fmt.Sprintf("%s/g/%d", p.url, i), nil, "12345", 201)
	}
	p.want("PUT", p.url+"/c/o", nil, "1", 201)
	is("two of gold", map[string]string{"all": "3 4 16", "Policy-0": "1 1 1", "gold": "2 3 15", "old": ""})
	for i := range 3 {
		p.want("DELETE", fmt.Sprintf("%s/g/%d", p.url, i), nil, "", 204)
	}
	p.want("DELETE", p.url+"/g", nil, "", 204)
	is("one of gold is deleted", map[string]string{"all": "2 1 1", "Policy-0": "1 1 1", "gold": "1 0 0", "old": ""})
	p.want("PUT", p.url+"/g", old, "", 201)
	p.want("PUT", p.url+"/g/o", nil, "12", 201)
	is("it is made anew of another policy", map[string]string{"all": "3 2 3", "Policy-0": "1 1 1", "gold": "1 0 0", "old": "1 1 2"})
	p.want("DELETE", p.url+"/h", nil, "", 204)
	p.want("DELETE", p.url+"/g/o", nil, "", 204)
	p.want("DELETE", p.url+"/g", nil, "", 204)
	is("none is left", map[string]string{"all": "1 1 1", "Policy-0": "1 1 1", "gold": "0 0 0", "old": "0 0 0"})
}

// counts is what headers say of containers, objects and bytes.
func counts(h http.Header, prefix string) string {
	return strings.TrimSpace(h.Get(prefix+"Container-Count") + " " + h.Get(prefix+"Object-Count") + " " + h.Get(prefix+"Bytes-Used"))
}
