package listing

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"io"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"martlet/internal/errs"
)

func TestParse(t *testing.T) {
	for query, want := range map[string]Params{
		"":                               {Limit: 100},
		"limit=7":                        {Limit: 7},
		"limit=0":                        {Limit: 0},
		"limit=007":                      {Limit: 7},
		"limit=100":                      {Limit: 100},
		"limit=":                         {Limit: 100},
		"limit=ten":                      {Limit: 100},
		"limit=-1":                       {Limit: 100},
		"limit=%2B5":                     {Limit: 100},
		"limit=1.5":                      {Limit: 100},
		"limit=5&limit=6":                {Limit: 6},
		"marker=a%2Fb+c&end_marker=z":    {Limit: 100, Marker: "a/b c", EndMarker: "z"},
		"prefix=%C3%A9&delimiter=%2F%2F": {Limit: 100, Prefix: "é", Delimiter: "//"},
		"prefix=a%2&marker=%zz+b":        {Limit: 100, Prefix: "a%2", Marker: "%zz b"},
		"path":                           {Limit: 100, HasPath: true},
		"path=x&reverse=Yes":             {Limit: 100, Path: "x", HasPath: true, Reverse: true},
		"reverse=0":                      {Limit: 100},
		"reverse=on&format=json&x=%ff":   {Limit: 100, Reverse: true},
	} {
		if got, err := Parse(query, 100); err != nil || got != want {
			t.Errorf("Parse(%q) = %+v, %v; want %+v", query, got, err, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for query, want := range map[string]struct {
		kind   errs.Kind
		public string
	}{
		"limit=101":                  {errs.Precondition, "Maximum limit is 100"},
		"limit=99999999999999999999": {errs.Precondition, "Maximum limit is 100"},
		"marker=%ff":                 {errs.Invalid, `"marker" parameter not valid UTF-8`},
		"end_marker=%c3":             {errs.Invalid, `"end_marker" parameter not valid UTF-8`},
		"prefix=%ed%a0%80":           {errs.Invalid, `"prefix" parameter not valid UTF-8`},
		"format=%fe":                 {errs.Invalid, `"format" parameter not valid UTF-8`},
	} {
		_, err := Parse(query, 100)
		if errs.KindOf(err) != want.kind || errs.PublicOf(err) != want.public {
			t.Errorf("Parse(%q): kind %v, public %q; want %v, %q", query, errs.KindOf(err), errs.PublicOf(err), want.kind, want.public)
		}
	}
}

func text() *rapid.Generator[string] {
	return rapid.Map(rapid.SliceOfN(rapid.SampledFrom([]string{
		"a", "B", "/", "\\", "\"", "&", "<", ">", "'", "%", "+", " ", "\n", "\r", "\t", "\x01", "\x1f", "\x7f", "é", "￿", "𐍈", "=",
	}), 0, 6), func(s []string) string { return strings.Join(s, "") })
}

func TestParamsComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Params{
			Limit: rapid.IntRange(0, 50).Draw(t, "limit"), Marker: text().Draw(t, "marker"), EndMarker: text().Draw(t, "end"),
			Prefix: text().Draw(t, "prefix"), Delimiter: text().Draw(t, "delimiter"), Reverse: rapid.Bool().Draw(t, "reverse"),
		}
		if rapid.Bool().Draw(t, "has path") {
			want.Path, want.HasPath = text().Draw(t, "path"), true
		}
		if got, err := Parse(want.Encode(), 50); err != nil || got != want {
			t.Fatalf("Parse(%q) = %+v, %v; want %+v", want.Encode(), got, err, want)
		}
	})
}

func objects() *rapid.Generator[[]Object] {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Object {
		if rapid.IntRange(0, 3).Draw(t, "subdir") == 0 {
			return Object{Name: text().Draw(t, "name"), Subdir: true}
		}
		return Object{
			Name: text().Draw(t, "name"), Hash: text().Draw(t, "hash"), Bytes: rapid.Int64().Draw(t, "bytes"),
			ContentType: text().Draw(t, "type"), LastModified: "2024-01-02T03:04:05.000006",
		}
	}), 0, 5)
}

func array[E any](list []E, add func([]byte, *E) []byte) []byte {
	b := []byte{'['}
	for i := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = add(b, &list[i])
	}
	return append(b, ']')
}

func TestEntriesComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := objects().Draw(t, "objects")
		for form, body := range map[string][]byte{"wire": array(want, AppendObject), "edge": formatted(t, WriteObjectsJSON, want)} {
			got, err := DecodeObjects(body)
			if err != nil || len(got) != len(want) || len(got) > 0 && !reflect.DeepEqual(got, want) {
				t.Fatalf("%s: %s decodes as %+v, %v; want %+v", form, body, got, err, want)
			}
		}
	})
}

func formatted[E any](t interface{ Fatal(...any) }, write func(io.Writer, []E) error, list []E) []byte {
	var b bytes.Buffer
	if err := write(&b, list); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestContainersComeBack(t *testing.T) {
	want := []Container{
		{Name: "a\"é", Count: 3, Bytes: 1 << 40, LastModified: "2024-01-02T03:04:05.000006", PolicyIndex: 7},
		{Name: "b/", Subdir: true},
	}
	body := array(want, AppendContainer)
	if got, err := DecodeContainers(body); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%s decodes as %+v, %v; want %+v", body, got, err, want)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, body := range []string{"", "{}", `[{}]`, `[{"name":"a","subdir":"b"}]`, `[{"name":3}]`, `[{"name":"a"}`} {
		if _, err := DecodeObjects([]byte(body)); !errs.Is(err, errs.Unavailable) {
			t.Errorf("DecodeObjects(%s): got %v, want an error of kind unavailable", body, err)
		}
		if _, err := DecodeContainers([]byte(body)); !errs.Is(err, errs.Unavailable) {
			t.Errorf("DecodeContainers(%s): got %v, want an error of kind unavailable", body, err)
		}
	}
}

var someObjects = []Object{
	{Name: "a&\"<é\n\x01", Hash: "d41d8cd98f00b204e9800998ecf8427e", Bytes: 12, ContentType: "text/plain; charset=\"x\"", LastModified: "2024-01-02T03:04:05.000006"},
	{Name: "b/<", Subdir: true},
	{Name: "𐍈"},
}

var someContainers = []Container{
	{Name: "a&b", Count: 2, Bytes: 9, LastModified: "2024-01-02T03:04:05.000006", Policy: "gold"},
	{Name: "x-", Subdir: true},
	{Name: "c", LastModified: "2024-01-02T03:04:05.000006"},
}

func TestForms(t *testing.T) {
	xmlObjects := func(w io.Writer, list []Object) error { return WriteObjectsXML(w, "c\"\n", list) }
	xmlContainers := func(w io.Writer, list []Container) error { return WriteContainersXML(w, "AUTH_é", list) }
	for what, c := range map[string]struct{ got, want string }{
		"objects as text": {string(formatted(t, WriteObjectsText, someObjects)), "a&\"<é\n\x01\nb/<\n𐍈\n"},
		"objects as JSON": {string(formatted(t, WriteObjectsJSON, someObjects)),
			`[{"bytes": 12, "hash": "d41d8cd98f00b204e9800998ecf8427e", "name": "a&\"<\u00e9\n\u0001", "content_type": "text/plain; charset=\"x\"", ` +
				`"last_modified": "2024-01-02T03:04:05.000006"}, {"subdir": "b/<"}, {"bytes": 0, "hash": "", "name": "\ud800\udf48", "content_type": "", "last_modified": ""}]`},
		"objects as XML": {string(formatted(t, xmlObjects, someObjects)),
			`<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<container name="c&quot;&#10;"><object><name>a&amp;"&lt;é` + "\n" + `&#1;</name>` +
				`<hash>d41d8cd98f00b204e9800998ecf8427e</hash><bytes>12</bytes><content_type>text/plain; charset="x"</content_type>` +
				`<last_modified>2024-01-02T03:04:05.000006</last_modified></object><subdir name="b/&lt;"><name>b/&lt;</name></subdir>` +
				`<object><name>𐍈</name><hash /><bytes>0</bytes><content_type /><last_modified /></object></container>`},
		"containers as text": {string(formatted(t, WriteContainersText, someContainers)), "a&b\nx-\nc\n"},
		"containers as JSON": {string(formatted(t, WriteContainersJSON, someContainers)),
			`[{"name": "a&b", "count": 2, "bytes": 9, "last_modified": "2024-01-02T03:04:05.000006", "storage_policy": "gold"}, {"subdir": "x-"}, ` +
				`{"name": "c", "count": 0, "bytes": 0, "last_modified": "2024-01-02T03:04:05.000006"}]`},
		"containers as XML": {string(formatted(t, xmlContainers, someContainers)),
			`<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<account name="AUTH_é">` + "\n" +
				`<container><name>a&amp;b</name><count>2</count><bytes>9</bytes><last_modified>2024-01-02T03:04:05.000006</last_modified><storage_policy>gold</storage_policy></container>` + "\n" +
				`<subdir name="x-" />` + "\n" +
				`<container><name>c</name><count>0</count><bytes>0</bytes><last_modified>2024-01-02T03:04:05.000006</last_modified></container>` + "\n" + `</account>`},
		"nothing as text": {string(formatted(t, WriteObjectsText, nil)), ""},
		"nothing as JSON": {string(formatted(t, WriteObjectsJSON, nil)), "[]"},
		"no objects as XML": {string(formatted(t, xmlObjects, nil)),
			`<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<container name="c&quot;&#10;" />`},
		"no containers as XML": {string(formatted(t, xmlContainers, nil)),
			`<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<account name="AUTH_é">` + "\n" + `</account>`},
	} {
		if c.got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", what, c.got, c.want)
		}
	}
}

// failing takes so many bytes and then fails.
type failing struct{ room int }

func (f *failing) Write(p []byte) (int, error) {
	if f.room -= len(p); f.room < 0 {
		return 0, io.ErrShortWrite
	}
	return len(p), nil
}

func TestWriteError(t *testing.T) {
	long := make([]Object, 5000)
	for i := range long {
		long[i].Name = strings.Repeat("n", 20)
	}
	for _, room := range []int{0, flushAt + 4096, 90_000} {
		if err := WriteObjectsText(&failing{room}, long); err != io.ErrShortWrite {
			t.Errorf("a writer that fails after %d bytes: got %v", room, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"limit=3&marker=%2", "path=&reverse=1", "prefix=%C3%A9;&=&&", "%6dарker=+"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, query string) {
		p, err := Parse(query, 1000)
		if err != nil {
			if k := errs.KindOf(err); k != errs.Invalid && k != errs.Precondition {
				t.Fatalf("Parse(%q) is of kind %v", query, k)
			}
			return
		}
		if p.Limit < 0 || p.Limit > 1000 || !utf8.ValidString(p.Marker+p.Prefix+p.Path) {
			t.Fatalf("Parse(%q) = %+v", query, p)
		}
		if again, err := Parse(p.Encode(), 1000); err != nil || again != p {
			t.Fatalf("Parse(%q) = %+v, read back as %+v, %v", query, p, again, err)
		}
	})
}

func FuzzNames(f *testing.F) {
	f.Add("a\"\x00\xff𐍈</x>")
	f.Fuzz(func(t *testing.T, s string) {
		want := strings.ToValidUTF8(s, "\ufffd")
		list := []Object{{Name: s}}
		var wire, edge []Object
		var err error
		if wire, err = DecodeObjects(array(list, AppendObject)); err != nil {
			t.Fatal(err)
		}
		body := formatted(t, WriteObjectsJSON, list)
		if edge, err = DecodeObjects(body); err != nil {
			t.Fatal(err)
		}
		valid := utf8.ValidString(s)
		if valid && (wire[0].Name != s || edge[0].Name != s) {
			t.Fatalf("%q came back as %q and %q", s, wire[0].Name, edge[0].Name)
		}
		if !json.Valid(body) {
			t.Fatalf("%q: not JSON: %s", s, body)
		}
		if strings.ContainsFunc(want, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' || r == 0xfffe || r == 0xffff }) || !valid {
			return
		}
		var doc struct {
			Names []string `xml:"object>name"`
		}
		var b bytes.Buffer
		if err := WriteObjectsXML(&b, s, list); err != nil {
			t.Fatal(err)
		}
		if err := xml.Unmarshal(b.Bytes(), &doc); err != nil || doc.Names[0] != s {
			t.Fatalf("%q: %s gives %q, %v", s, b.Bytes(), doc.Names, err)
		}
	})
}

func BenchmarkAppendObject(b *testing.B) {
	o := &someObjects[0]
	buf := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendObject(buf[:0], o)
	}
}

// What is read quickly is what is read of any JSON, and so is most of what is written.
func FuzzDecodeObjects(f *testing.F) {
	list := []Object{{Name: "a/é", Hash: "h", Bytes: 12, ContentType: "x", LastModified: "t"}, {Name: "b/", Subdir: true}, {Name: "\x00o\x00829"}}
	b := []byte("[")
	for i := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = AppendObject(b, &list[i])
	}
	b = append(b, ']')
	if got, ok := quick(b); !ok || !reflect.DeepEqual(got, list) {
		f.Fatalf("of %s: got %+v, %v", b, got, ok)
	}
	f.Add(b)
	f.Add([]byte("[]"))
	for i := range b { // one byte is another one, or gone
		f.Add(append(bytes.Clone(b[:i]), b[i+1:]...))
		f.Add(append(append(bytes.Clone(b[:i]), b[i]^1), b[i+1:]...))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, ok := quick(body)
		if !ok {
			return
		}
		if want, err := decodeObjects(body); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("of %q: got %+v, want %+v, %v", body, got, want, err)
		}
	})
}

func BenchmarkDecodeObjects(b *testing.B) {
	body := []byte("[")
	for i := range 10_000 {
		if i > 0 {
			body = append(body, ',')
		}
		body = AppendObject(body, &Object{Name: "some/where/object-0001", Hash: "d41d8cd98f00b204e9800998ecf8427e", Bytes: 1 << 20, ContentType: "application/octet-stream", LastModified: "2014-05-13T16:53:20.000010"})
	}
	body = append(body, ']')
	for b.Loop() {
		if _, err := DecodeObjects(body); err != nil {
			b.Fatal(err)
		}
	}
}
