package quotas

import (
	"context"
	"maps"
	"net/http"
	"strings"
	"testing"

	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/proxy/auth"
	"martlet/proxy/chain"
)

var (
	account   = name.Path{Account: "a"}
	container = name.Path{Account: "a", Container: "c"}
	object    = name.Path{Account: "a", Container: "c", Object: "o"}

	admin    = &auth.Identity{User: "r:r", Reseller: true}
	somebody = &auth.Identity{User: "u:u"}
)

func policies(t testing.TB) policy.Set {
	t.Helper()
	set, err := policy.NewSet([]policy.Policy{{Index: 0, Name: "gold", Aliases: []string{"au"}, Default: true}, {Index: 3, Name: "Tin-can"}})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// header makes one of pairs; of a value "" nothing is set where none is wanted.
func header(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

// core keeps what came, and answers.
type core struct {
	got    []*chain.Request
	status int
	header http.Header
}

func (c *core) Serve(_ context.Context, r *chain.Request) *chain.Response {
	c.got = append(c.got, r)
	resp := chain.Empty(c.status)
	maps.Copy(resp.Header, c.header)
	return resp
}

// known is the headers of a container of policy 3 and of its account; nil is what
// can't be had. old is what is remembered of the container, if that is different.
type known struct{ container, account, old http.Header }

func (k known) find(_ context.Context, p name.Path, fresh bool) (Facts, bool) {
	h := k.account
	if p.Container != "" {
		h = k.container
		if !fresh && k.old != nil {
			h = k.old
		}
	}
	return Facts{Header: h, Policy: 3}, h != nil
}

func TestUploads(t *testing.T) {
	full := header("X-Container-Meta-Quota-Bytes", "10", "X-Container-Bytes-Used", "10")
	free := header("X-Container-Bytes-Used", "4", "X-Container-Object-Count", "2")
	none := header("X-Account-Bytes-Used", "4", "X-Account-Object-Count", "2")
	bytes := func(quota string) http.Header {
		return header("X-Container-Meta-Quota-Bytes", quota, "X-Container-Bytes-Used", "4", "X-Container-Object-Count", "2")
	}
	count := func(quota string) http.Header {
		return header("X-Container-Meta-Quota-Count", quota, "X-Container-Bytes-Used", "4", "X-Container-Object-Count", "2")
	}
	of := func(kind, quota string) http.Header {
		return header("X-Account-Sysmeta-Quota-"+kind, quota, "X-Account-Bytes-Used", "4", "X-Account-Object-Count", "2",
			"X-Backend-Policy-3-Bytes-Used", "1", "X-Backend-Policy-3-Object-Count", "1")
	}
	all := Defaults()
	for what, tt := range map[string]struct {
		cfg    Config
		known  known
		length int64
		sender *auth.Identity
		want   string // what is said; "" is nothing
	}{
		"no quotas":                   {all, known{free, none, nil}, 1 << 40, somebody, ""},
		"all of it":                   {all, known{bytes("10"), none, nil}, 6, somebody, ""},
		"the byte over":               {all, known{bytes("10"), none, nil}, 7, somebody, exceeded},
		"of a reseller admin as well": {all, known{bytes("10"), none, nil}, 7, admin, exceeded},
		"nothing, nothing left":       {all, known{full, none, nil}, 0, somebody, ""},
		"something, nothing left":     {all, known{full, none, nil}, 1, somebody, exceeded},
		"in chunks":                   {all, known{bytes("4"), none, nil}, -1, somebody, ""},
		"in chunks, over already":     {all, known{bytes("3"), none, nil}, -1, somebody, exceeded},
		"a quota of 0":                {all, known{bytes("0"), none, nil}, 0, somebody, exceeded},
		"a quota beyond numbers":      {all, known{bytes("99999999999999999999"), none, nil}, 1 << 62, somebody, ""},
		"a quota that is none":        {all, known{bytes("ten"), none, nil}, 7, somebody, ""},
		"the last object":             {all, known{count("3"), none, nil}, 9, somebody, ""},
		"an object over":              {all, known{count("2"), none, nil}, 0, somebody, exceeded},
		"switched off":                {Config{Accounts: true}, known{count("2"), none, nil}, 0, somebody, ""},
		"room was made":               {all, known{bytes("10"), none, full}, 6, somebody, ""},
		"counts that are none": {
			all, known{header("X-Container-Meta-Quota-Bytes", "1", "X-Container-Bytes-Used", "x"), none, nil}, 6, somebody, "",
		},
		"nothing known of the container": {all, known{nil, of("Bytes", "0"), nil}, 7, somebody, ""},
		"nothing known of the account":   {all, known{free, nil, nil}, 7, somebody, ""},

		"all of an account":            {all, known{free, of("Bytes", "10"), nil}, 6, somebody, ""},
		"the byte over of an account":  {all, known{free, of("Bytes", "10"), nil}, 7, somebody, exceeded},
		"by nobody in particular":      {all, known{free, of("Bytes", "10"), nil}, 7, nil, exceeded},
		"by a reseller admin":          {all, known{free, of("Bytes", "10"), nil}, 7, admin, ""},
		"the last of an account":       {all, known{free, of("Count", "3"), nil}, 7, somebody, ""},
		"an object over of an account": {all, known{free, of("Count", "2"), nil}, 7, somebody, exceeded},
		"accounts switched off":        {Config{Containers: true}, known{free, of("Count", "2"), nil}, 7, somebody, ""},
		"all of a policy":              {all, known{free, of("Bytes-Policy-3", "10"), nil}, 9, somebody, ""},
		"the byte over of a policy":    {all, known{free, of("Bytes-Policy-3", "10"), nil}, 10, somebody, exceededPolicy},
		"the last of a policy":         {all, known{free, of("Count-Policy-3", "2"), nil}, 10, somebody, ""},
		"an object over of a policy":   {all, known{free, of("Count-Policy-3", "1"), nil}, 10, somebody, exceededPolicy},
		"of another policy":            {all, known{free, of("Count-Policy-0", "1"), nil}, 10, somebody, ""},
		"the first of a policy": {
			all, known{free, header("X-Account-Sysmeta-Quota-Count-Policy-3", "0"), nil}, 10, somebody, exceededPolicy,
		},
	} {
		last := &core{status: 201}
		r := &chain.Request{Method: "PUT", Path: object, Header: http.Header{}, Length: tt.length, Identity: tt.sender}
		resp := Link(tt.cfg, policies(t), tt.known.find)(last).Serve(t.Context(), r)
		said, err := resp.ReadAll(1 << 10)
		want := 201
		if tt.want != "" {
			want = 413
		}
		if err != nil || resp.Status != want || string(said) != tt.want {
			t.Errorf("%s: got %d %q, %v, want %d %q", what, resp.Status, said, err, want, tt.want)
		}
		if len(last.got) != 1 || (last.got[0] == r) != (want == 201) || (last.got[0].Header[chain.OnlyAsk] != nil) != (want == 413) {
			t.Errorf("%s: the core was sent %+v", what, last.got)
		}
	}
}

// Who may not put an object is told that, whatever the quota says.
func TestStrangersHearNothingOfQuotas(t *testing.T) {
	last := &core{status: 403}
	k := known{header("X-Container-Meta-Quota-Count", "0"), http.Header{}, nil}
	resp := Link(Defaults(), policies(t), k.find)(last).Serve(t.Context(), &chain.Request{Method: "PUT", Path: object, Header: http.Header{}, Length: 1})
	if resp.Status != 403 {
		t.Errorf("got %d, want 403", resp.Status)
	}
}

// A signature bounds what it is good for: it is no reseller admin's.
func TestGrantsAreNoResellerAdmins(t *testing.T) {
	r := &chain.Request{Identity: admin, Grant: func(string, name.Path) bool { return true }}
	if reseller(r) {
		t.Error("it is")
	}
}

// Nothing but PUT of an object looks anything up.
func TestOthersCostNothing(t *testing.T) {
	find := func(context.Context, name.Path, bool) (Facts, bool) {
		t.Error("something is looked up")
		return Facts{}, false
	}
	h := Link(Defaults(), policies(t), find)(&core{status: 200})
	for _, p := range []name.Path{{}, account, container, object} {
		for _, m := range []string{"GET", "HEAD", "POST", "DELETE", "OPTIONS"} {
			h.Serve(t.Context(), &chain.Request{Method: m, Path: p, Header: http.Header{}})
		}
	}
	Link(Config{}, policies(t), find)(&core{status: 200}).Serve(t.Context(), &chain.Request{Method: "PUT", Path: object, Header: http.Header{}})
}

func TestQuotasOfContainersAreNumbers(t *testing.T) {
	for value, ok := range map[string]bool{"": true, "0": true, "12": true, "99999999999999999999": true, "-1": false, "1.5": false, "x": false, "1 ": false, "٣": false, "1,2": false} {
		for n, said := range map[string]string{"X-Container-Meta-Quota-Bytes": "Invalid bytes quota.", "X-Container-Meta-Quota-Count": "Invalid count quota."} {
			for _, m := range []string{"PUT", "POST"} {
				last := &core{status: 204}
				r := &chain.Request{Method: m, Path: container, Header: header(n, value)}
				if a, b, two := strings.Cut(value, ","); two {
					r.Header[n] = []string{a, b}
				}
				resp := Link(Defaults(), policies(t), known{}.find)(last).Serve(t.Context(), r)
				body, err := resp.ReadAll(1 << 10)
				if err != nil || ok != (resp.Status == 204) || !ok && (resp.Status != 400 || string(body) != said || len(last.got) != 0) {
					t.Errorf("%s %s %q: got %d %q, %v", m, n, value, resp.Status, body, err)
				}
			}
		}
	}
}

func TestQuotasOfAccountsAreSet(t *testing.T) {
	for what, tt := range map[string]struct {
		set    http.Header
		sender *auth.Identity
		status int
		want   http.Header // that is kept
	}{
		"bytes":           {header("X-Account-Quota-Bytes", "12"), admin, 204, header("X-Account-Sysmeta-Quota-Bytes", "12")},
		"under the older": {header("X-Account-Meta-Quota-Bytes", "12"), admin, 204, header("X-Account-Sysmeta-Quota-Bytes", "12")},
		"under both": {
			header("X-Account-Meta-Quota-Bytes", "12", "X-Account-Quota-Bytes", "13"), admin, 204, header("X-Account-Sysmeta-Quota-Bytes", "13"),
		},
		"count":    {header("X-Account-Quota-Count", "0"), admin, 204, header("X-Account-Sysmeta-Quota-Count", "0")},
		"a policy": {header("X-Account-Quota-Bytes-Policy-Tin-Can", "7"), admin, 204, header("X-Account-Sysmeta-Quota-Bytes-Policy-3", "7")},
		"several": {
			header("X-Account-Quota-Count-Policy-Gold", "7", "X-Account-Quota-Count", "8"), admin, 204,
			header("X-Account-Sysmeta-Quota-Count-Policy-0", "7", "X-Account-Sysmeta-Quota-Count", "8"),
		},
		"emptied":               {header("X-Account-Quota-Count", ""), admin, 204, header("X-Account-Sysmeta-Quota-Count", "")},
		"removed":               {header("X-Remove-Account-Quota-Count", "t"), admin, 204, header("X-Account-Sysmeta-Quota-Count", "")},
		"removed by the older":  {header("X-Remove-Account-Meta-Quota-Bytes", "t"), admin, 204, header("X-Account-Sysmeta-Quota-Bytes", "")},
		"removed of a policy":   {header("X-Remove-Account-Quota-Count-Policy-Gold", "t"), admin, 204, header("X-Account-Sysmeta-Quota-Count-Policy-0", "")},
		"removed, set as well":  {header("X-Remove-Account-Quota-Count", "t", "X-Account-Quota-Count", "3"), admin, 204, header("X-Account-Sysmeta-Quota-Count", "")},
		"no quota at all":       {header("X-Account-Meta-Quota-Other", "12", "X-Account-Quota-Other", "1"), somebody, 204, http.Header{}},
		"no number":             {header("X-Account-Quota-Bytes", "many"), admin, 400, nil},
		"no number, older":      {header("X-Account-Meta-Quota-Bytes", "-1"), admin, 400, nil},
		"no such policy":        {header("X-Account-Quota-Bytes-Policy-Lead", "1"), admin, 400, nil},
		"an alias":              {header("X-Account-Quota-Bytes-Policy-Au", "1"), admin, 400, nil},
		"by somebody":           {header("X-Account-Quota-Bytes", "1"), somebody, 403, nil},
		"older, by somebody":    {header("X-Account-Meta-Quota-Bytes", "1"), somebody, 403, nil},
		"policy, by somebody":   {header("X-Account-Quota-Count-Policy-Gold", "1"), somebody, 403, nil},
		"emptied by somebody":   {header("X-Account-Meta-Quota-Bytes", ""), somebody, 403, nil},
		"removed by somebody":   {header("X-Remove-Account-Quota-Count", "t"), somebody, 403, nil},
		"by nobody":             {header("X-Account-Quota-Bytes", "1"), nil, 403, nil},
		"no number by somebody": {header("X-Account-Quota-Bytes", "many"), somebody, 403, nil},
	} {
		for _, m := range []string{"POST", "PUT"} {
			last := &core{status: 204}
			resp := Link(Defaults(), policies(t), known{}.find)(last).Serve(t.Context(), &chain.Request{Method: m, Path: account, Header: tt.set.Clone(), Identity: tt.sender})
			if resp.Status != tt.status || (len(last.got) == 1) != (tt.status == 204) {
				t.Errorf("%s: %s got %d, %d requests further in, want %d", what, m, resp.Status, len(last.got), tt.status)
				continue
			}
			if tt.status != 204 {
				continue
			}
			kept := http.Header{}
			for n, v := range last.got[0].Header {
				if strings.HasPrefix(n, sysmeta) || n == "X-Account-Meta-Quota-Bytes" {
					kept[n] = v
				}
			}
			if !maps.EqualFunc(kept, tt.want, func(a, b []string) bool { return strings.Join(a, ",") == strings.Join(b, ",") }) {
				t.Errorf("%s: %s: kept is %v, want %v", what, m, kept, tt.want)
			}
		}
	}
}

// All who read an account see its quotas, under all names; what only looks like one
// is not shown.
func TestQuotasOfAccountsAreShown(t *testing.T) {
	last := &core{status: 204, header: header("X-Account-Sysmeta-Quota-Bytes", "1", "X-Account-Sysmeta-Quota-Count", "2",
		"X-Account-Sysmeta-Quota-Bytes-Policy-3", "3", "X-Account-Sysmeta-Quota-Count-Policy-9", "4", "X-Account-Meta-Quota-Bytes", "99")}
	h := Link(Defaults(), policies(t), known{}.find)(last)
	resp := h.Serve(t.Context(), &chain.Request{Method: "HEAD", Path: account, Header: http.Header{}, Identity: somebody})
	for n, want := range map[string]string{
		"X-Account-Quota-Bytes": "1", "X-Account-Meta-Quota-Bytes": "1", "X-Account-Quota-Count": "2", "X-Account-Quota-Bytes-Policy-Tin-Can": "3",
		"X-Account-Quota-Count-Policy-9": "", "X-Account-Quota-Bytes-Policy-Gold": "",
	} {
		if got := resp.Get(n); got != want {
			t.Errorf("%s is %q, want %q", n, got, want)
		}
	}
	last.header = header("X-Account-Meta-Quota-Bytes", "99")
	if resp := h.Serve(t.Context(), &chain.Request{Method: "HEAD", Path: account, Header: http.Header{}}); resp.Get("X-Account-Meta-Quota-Bytes") != "" {
		t.Error("metadata that somebody set under its name is shown as a quota")
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "0", "12", "99999999999999999999", "-1", "+1", "1e3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		digits := text != "" && strings.Trim(text, "0123456789") == ""
		if n, ok := parse(text); ok != digits || n < 0 || !ok && n != 0 {
			t.Errorf("parse(%q) = %d, %v", text, n, ok)
		}
	})
}
