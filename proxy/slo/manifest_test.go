package slo

import (
	"reflect"
	"strings"
	"testing"

	"martlet/internal/errs"
	"martlet/internal/name"
)

func TestParse(t *testing.T) {
	own := path("c", "large")
	for what, tt := range map[string]struct {
		body string
		kind errs.Kind
		want string // in the message
	}{
		"good":                    {`[{"path":"/c/o"}]`, errs.Other, ""},
		"all it may have":         {`[{"path":"c/o","etag":"e","size_bytes":"12","range":"0-4"},{"data":"YWJj"},{"path":"/c/o","etag":null,"size_bytes":null,"range":null}]`, errs.Other, ""},
		"no JSON":                 {`[{"path"`, errs.Invalid, "JSON"},
		"junk behind it":          {`[] x`, errs.Invalid, "JSON"},
		"not UTF-8":               {"[{\"path\":\"/c/\xff\"}]", errs.Invalid, "JSON"},
		"no list":                 {`{"path":"/c/o"}`, errs.Invalid, "list"},
		"a number":                {`17`, errs.Invalid, "list"},
		"nothing":                 {``, errs.Invalid, "JSON"},
		"empty":                   {`[]`, errs.Invalid, "no segments"},
		"no object":               {`["x", {"path":"/c/o"}, null]`, errs.Invalid, "Index 0: not a JSON object\nIndex 2: not a JSON object"},
		"neither path nor data":   {`[{"etag":"e"}]`, errs.Invalid, "Index 0: expected keys to include one of 'data' or 'path'"},
		"unknown keys":            {`[{"path":"/c/o","foo":1,"bar":2}]`, errs.Invalid, `Index 0: extraneous keys "bar", "foo"`},
		"data and path":           {`[{"path":"/c/o","data":"YQ=="}]`, errs.Invalid, `extraneous keys "path"`},
		"a key twice":             {`[{"path":"/c/o","path":"/c/p"}]`, errs.Invalid, `key "path" is there twice`},
		"path is a number":        {`[{"path":1}]`, errs.Invalid, `"path" must be a string`},
		"path of a container":     {`[{"path":"/c"}]`, errs.Invalid, "does not refer to an object"},
		"path with only slashes":  {`[{"path":"/c//"}]`, errs.Invalid, "does not refer to an object"},
		"a name inside":           {`[{"path":"/\u0000c/o"}]`, errs.Invalid, "does not refer to an object"},
		"etag is a number":        {`[{"path":"/c/o","etag":1}]`, errs.Invalid, `"etag" must be a string`},
		"size is text":            {`[{"path":"/c/o","size_bytes":"x"}]`, errs.Invalid, "invalid size_bytes"},
		"size is negative":        {`[{"path":"/c/o","size_bytes":-1}]`, errs.Invalid, "invalid size_bytes"},
		"empty but not last":      {`[{"path":"/c/o","size_bytes":0},{"path":"/c/p"}]`, errs.Invalid, "Index 0: too small"},
		"empty and last":          {`[{"path":"/c/p"},{"path":"/c/o","size_bytes":0}]`, errs.Other, ""},
		"itself":                  {`[{"path":"/c/large"}]`, errs.Invalid, "must not include itself"},
		"range is junk":           {`[{"path":"/c/o","range":"x"}]`, errs.Invalid, "invalid range"},
		"range is a number":       {`[{"path":"/c/o","range":5}]`, errs.Invalid, "invalid range"},
		"range backwards":         {`[{"path":"/c/o","range":"5-2"}]`, errs.Invalid, "invalid range"},
		"two ranges":              {`[{"path":"/c/o","range":"0-1,3-4"}]`, errs.Invalid, "multiple ranges"},
		"range past the size":     {`[{"path":"/c/o","range":"9-","size_bytes":9}]`, errs.Invalid, "unsatisfiable range"},
		"data is no base64":       {`[{"data":"!"},{"path":"/c/o"}]`, errs.Invalid, "Index 0: data must be valid base64"},
		"data is a number":        {`[{"data":1},{"path":"/c/o"}]`, errs.Invalid, "Index 0: data must be valid base64"},
		"data is empty":           {`[{"data":""},{"path":"/c/o"}]`, errs.Invalid, "Index 0: too small"},
		"only data":               {`[{"data":"YQ=="}]`, errs.Invalid, "at least one object-backed segment"},
		"one line for each":       {`[{"path":1},{"path":"/c/o"},{"data":1}]`, errs.Invalid, "Index 0: \"path\" must be a string\nIndex 2: data must be valid base64"},
		"as many as may be":       {"[" + strings.Repeat(`{"path":"/c/o"},`, 2) + `{"path":"/c/o"}]`, errs.Other, ""},
		"one more":                {"[" + strings.Repeat(`{"path":"/c/o"},`, 3) + `{"path":"/c/o"}]`, errs.TooLarge, "must be <= 3"},
		"data counts not":         {"[" + strings.Repeat(`{"data":"YQ=="},`, 9) + `{"path":"/c/o"}]`, errs.Other, ""},
		"but is bounded":          {"[" + strings.Repeat(`{"data":"YQ=="},`, 1100) + `{"path":"/c/o"}]`, errs.TooLarge, "must be <= 3"},
		"nested beyond all sense": {strings.Repeat("[", 100_000), errs.Invalid, "JSON"},
	} {
		list, err := parse([]byte(tt.body), own, 3)
		if errs.KindOf(err) != tt.kind || (err == nil) != (tt.kind == errs.Other) || !strings.Contains(errs.PublicOf(err), tt.want) {
			t.Errorf("%s: parse(%.80q) = %+v, %v, want kind %v and %q", what, tt.body, list, err, tt.kind, tt.want)
		}
	}
	got, err := parse([]byte(`[{"path":"c/o","etag":"e","size_bytes":"12","range":"-4"},{"data":"YWJj"}]`), own, 3)
	want := []wanted{{path: path("c", "o"), text: "c/o", etag: "e", size: 12, span: "-4"}, {data: []byte("abc"), plain: true, size: -1}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

// What is kept is read back, and what is damaged is not taken for a manifest.
func TestRead(t *testing.T) {
	good := `[{"name":"/c/o","bytes":10,"hash":"h"},{"name":"/c/p","bytes":10,"hash":"i","range":"2-4","sub_slo":true},{"data":"YWJj"}]`
	m, err := read([]byte(good))
	if err != nil || m.size != 16 || m.etag != sum("h"+"i:2-4;"+sum("abc")) || !m.segments[1].Sub {
		t.Fatalf("got %+v, %v", m, err)
	}
	raw, err := m.raw()
	if want := `[{"etag":"h","path":"/c/o","size_bytes":10},{"etag":"i","path":"/c/p","range":"2-4","size_bytes":10},{"data":"YWJj"}]`; err != nil || string(raw) != want {
		t.Errorf("got %s, %v, want %s", raw, err, want)
	}
	for _, body := range []string{
		"", "x", "{}", `[{"bytes":1}]`, `[{"name":"/c","bytes":1}]`, `[{"name":"/c/o","bytes":-1}]`, `[{"name":"/c/o","bytes":5,"range":"0-5"}]`,
		`[{"name":"/c/o","bytes":5,"range":"x"}]`, `[{"name":"/c/o","bytes":5,"range":"3-2"}]`,
		`[{"name":"/c/o","bytes":9223372036854775807},{"name":"/c/o","bytes":9223372036854775807}]`, `[{"data":"!"}]`,
	} {
		if m, err := read([]byte(body)); !errs.Is(err, errs.Corrupt) {
			t.Errorf("read(%s) = %+v, %v, want corrupt", body, m, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`[{"path":"c/o","etag":"e","size_bytes":"12","range":"0-4"},{"data":"YWJj"}]`))
	f.Add([]byte(`[{"path":"/c/o","size_bytes":9e99}]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		list, err := parse(body, path("c", "large"), 10)
		if err != nil {
			if k := errs.KindOf(err); k != errs.Invalid && k != errs.TooLarge || errs.PublicOf(err) == "" {
				t.Errorf("parse(%q): %v", body, err)
			}
			return
		}
		for _, w := range list {
			if w.plain == (w.path != name.Path{}) || w.plain && len(w.data) == 0 || strings.Contains(w.path.String(), name.Reserved) {
				t.Errorf("parse(%q) has %+v", body, w)
			}
		}
	})
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`[{"name":"/c/o","bytes":10,"hash":"h"},{"name":"/c/p","bytes":10,"hash":"i","range":"2-4","sub_slo":true},{"data":"YWJj"}]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := read(body)
		if err != nil {
			return
		}
		var n int64
		for _, s := range m.spans {
			n += s.N
		}
		if n != m.size || n < 0 {
			t.Errorf("read(%q): size %d, spans of %d", body, m.size, n)
		}
	})
}
