package config

import (
	"encoding"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"martlet/internal/conf"
)

var commented = regexp.MustCompile(`(?m)^# ([a-z0-9_]+ = |[A-Z]+ = |\[)`)

// sampleText is a sample with everything in it switched on.
func sampleText(t *testing.T, kind string) (asIs, all string) {
	t.Helper()
	s := NewSample()
	s.Address, s.Devices = "10.0.1.1", []string{"d1"}
	text, err := s.Text(kind)
	if err != nil {
		t.Fatal(err)
	}
	return string(text), commented.ReplaceAllString(string(text), "$1")
}

// keysOf collects the keys that a type may have in a file, and those that a sample shows as an example only.
func keysOf(t reflect.Type, at string, all map[string]bool) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t.Kind() == reflect.Struct && !reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
		for i := range t.NumField() {
			f := t.Field(i)
			switch tag := f.Tag.Get("toml"); {
			case tag == "-" || !f.IsExported():
			case tag == "" && f.Anonymous:
				keysOf(f.Type, at, all)
			default:
				keysOf(f.Type, strings.TrimPrefix(at+"."+tag, "."), all)
			}
		}
	case t.Kind() == reflect.Map, t.Kind() == reflect.Slice:
		if e := t.Elem(); e.Kind() == reflect.Struct {
			keysOf(e, at+".*", all)
			return
		}
		all[at] = true
	default:
		all[at] = true
	}
}

// values collects what a configuration has, by its keys.
func values(v reflect.Value, at string, all map[string]any) {
	if v.Kind() != reflect.Struct {
		all[at] = v.Interface()
		if (v.Kind() == reflect.Slice || v.Kind() == reflect.Map) && v.Len() == 0 {
			all[at] = nil
		}
		return
	}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		switch tag := f.Tag.Get("toml"); {
		case tag == "-" || !f.IsExported():
		case tag == "" && f.Anonymous:
			values(v.Field(i), at, all)
		default:
			values(v.Field(i), strings.TrimPrefix(at+"."+tag, "."), all)
		}
	}
}

// shown collects the keys of a file, with tables of names and lists of tables as keys has them.
func shown(v any, at string, of, all map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		if of[at] {
			all[at] = true
			return
		}
		for k, e := range v {
			next := strings.TrimPrefix(at+"."+k, ".")
			if !slices.ContainsFunc(slices.Collect(maps.Keys(of)), func(known string) bool { return known == next || strings.HasPrefix(known, next+".") }) {
				next = at + ".*"
			}
			shown(e, next, of, all)
		}
	case []any:
		if len(v) > 0 {
			if _, tables := v[0].(map[string]any); tables {
				for _, e := range v {
					shown(e, at+".*", of, all)
				}
				return
			}
		}
		all[at] = true
	default:
		all[at] = true
	}
}

// A new configuration shows every key, and says of each that is commented out what its value is.
func TestSamplesShowEveryKey(t *testing.T) {
	examples := []string{ // of which there is one for each of something
		"cluster.policies", "auth.users", "auth.require_group", "proxy.policies", "proxy.container_sync.realms", "container_sync.realms",
		"proxy.ratelimit.container_ratelimit", "proxy.ratelimit.container_listing_ratelimit",
	}
	own := []string{ // which are not commented out
		"cluster.hash_path_suffix", "rings.folder", "auth.secrets", "storage.address", "replication.address", "storage.root", "storage.devices",
	}
	for kind, defaults := range map[string]any{KindProxy: DefaultProxy(), KindStorage: DefaultStorage()} {
		asIs, text := sampleText(t, kind)
		var tables map[string]any
		if err := conf.Parse(kind, text, &tables); err != nil {
			t.Fatal(err)
		}
		known, there := map[string]bool{}, map[string]bool{}
		keysOf(reflect.TypeOf(defaults), "", known)
		shown(tables, "", known, there)
		for _, k := range slices.Sorted(maps.Keys(known)) {
			if !there[k] && !strings.HasPrefix(k, "proxy.policies.*.") { // of which one shows how
				t.Errorf("%s: nothing is said of %s", kind, k)
			}
		}
		// What is said of a key holds: with everything switched on it is as with nothing.
		full, none := reflect.New(reflect.TypeOf(defaults).Elem()), reflect.New(reflect.TypeOf(defaults).Elem())
		full.Elem().Set(reflect.ValueOf(defaults).Elem())
		none.Elem().Set(reflect.ValueOf(defaults).Elem())
		if err := conf.Parse(kind, text, full.Interface()); err != nil {
			t.Fatalf("%s: with all of it switched on: %v", kind, err)
		}
		if err := conf.Parse(kind, asIs, none.Interface()); err != nil {
			t.Fatal(err)
		}
		with, without := map[string]any{}, map[string]any{}
		values(full.Elem(), "", with)
		values(none.Elem(), "", without)
		for _, k := range slices.Sorted(maps.Keys(without)) {
			example := slices.ContainsFunc(examples, func(e string) bool { return k == e || strings.HasPrefix(k, e+".") })
			if !example && !slices.Contains(own, k) && !reflect.DeepEqual(with[k], without[k]) {
				t.Errorf("%s: %s is said to be %v by default, and is %v", kind, k, with[k], without[k])
			}
		}
	}
}

// A new configuration is good as it is, but for what nobody else can know; and one that is like another is of the same
// cluster.
func TestSamples(t *testing.T) {
	dir := t.TempDir()
	write := func(name, kind string, s Sample) string {
		t.Helper()
		text, err := s.Text(kind)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	first := NewSample()
	if _, err := CheckFile(write("empty.toml", KindStorage, first)); err == nil || !strings.Contains(err.Error(), "storage.devices") {
		t.Errorf("a storage node without devices: %v", err)
	}
	first.Cluster, first.Listen = `a "cluster"`, "127.0.0.1:8000"
	first.Policies = []Policy{
		{Index: 0, Name: "gold", Aliases: []string{"g"}, Default: true}, {Index: 2, Name: "archive", EC: "4+2", WholeUpTo: new(conf.Size(4096)), Deprecated: true},
	}
	proxy := write("proxy.toml", KindProxy, first)
	var like Sample
	if err := like.Like(proxy); err != nil {
		t.Fatal(err)
	}
	like.Address, like.Root, like.Devices = "10.0.1.1", "/srv", []string{"d1", "d2"}
	storage := write("storage.toml", KindStorage, like)
	p, err := LoadProxy(proxy)
	if err != nil {
		t.Fatal(err)
	}
	s, err := LoadStorage(storage)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(p.Cluster, s.Cluster) || p.Cluster.Name != first.Cluster || p.Cluster.HashPathSuffix != first.Suffix {
		t.Errorf("the proxy is of %+v, the storage node of %+v", p.Cluster, s.Cluster)
	}
	if s.Server.Address != "10.0.1.1" || !slices.Equal(s.Server.Devices, []string{"d1", "d2"}) {
		t.Errorf("the node has %+v", s.Server)
	}
	var again Sample
	if err := again.Like(storage); err != nil {
		t.Fatal(err)
	}
	if len(again.Secrets) != 0 {
		t.Error("a storage node knows what signs tokens")
	}
	if p.Server.Listen != first.Listen || !slices.Equal(p.Auth.Secrets, first.Secrets) {
		t.Errorf("the proxy has %v, %v", p.Server.Listen, p.Auth.Secrets)
	}
}

// A key file beside the one file is one beside the other: files are written in one place and brought to their machines.
func TestSampleLikeKeepsKeyFile(t *testing.T) {
	dir := t.TempDir()
	s := NewSample()
	s.KeyFile, s.Address, s.Devices = "cluster.key", "10.0.1.1", []string{"d1"}
	if err := os.WriteFile(filepath.Join(dir, "cluster.key"), []byte(strings.Repeat("0123456789abcdef", 4)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{KindStorage, KindProxy} {
		text, err := s.Text(kind)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, kind+".toml"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		like := NewSample()
		if err := like.Like(filepath.Join(dir, kind+".toml")); err != nil {
			t.Fatal(err)
		}
		if like.KeyFile != "cluster.key" {
			t.Errorf("the key file of a %s is %q, want it as it was written", kind, like.KeyFile)
		}
	}
}
