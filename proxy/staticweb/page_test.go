package staticweb

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"martlet/internal/listing"
	"martlet/internal/name"
	"martlet/proxy/chain"
)

func TestPages(t *testing.T) {
	for what, tt := range map[string]struct {
		change  func(*world)
		line    string
		has     []string
		hasNone []string
	}{
		"of a container": {
			nil, "GET /v1/a/c/",
			[]string{
				`<title>Listing of /v1/a/c/</title>`, `<a href="./a">a</a>`, `<a href="./with/">with/</a>`, `class="item subdir"`, `class="item type-text type-plain"`,
				`>2Ki<`, `>2026-01-02 03:04:05<`, `<style type="text/css">`, `<a href="./404error%2Ehtml">404error.html</a>`,
			},
			[]string{"../", "with/index", "stylesheet"},
		},
		"of a folder": {
			nil, "GET /v1/a/c/without/",
			[]string{`id="parent"`, `<a href="../">../</a>`, `<a href="./o">o</a>`}, []string{"without/o"},
		},
		"of a folder that something stands for": {nil, "GET /v1/a/c/mark/", []string{`<a href="./o">o</a>`}, []string{`href="./"`}},
		"names that are HTML, or a URL": {
			func(w *world) {
				for _, n := range []string{`"><script>`, "javascript:x", "a%2Fb", "a#b?c", "d//e", "//f", "é & è"} {
					w.objects["x/"+n] = "a|b"
				}
			},
			"GET /v1/a/c/x/",
			[]string{
				`<a href="./%22%3E%3Cscript%3E">&#34;&gt;&lt;script&gt;</a>`, `<a href="./javascript%3Ax">`, `<a href="./a%252Fb">a%2Fb</a>`, `<a href="./a%23b%3Fc">`,
				`<a href="./d/">d/</a>`, `<a href=".//">/</a>`, `<a href="./%C3%A9%20%26%20%C3%A8">é &amp; è</a>`,
			},
			[]string{"<script>"},
		},
		"a path with HTML in it": {
			func(w *world) { w.objects["<b>/x"] = "a|b" }, "GET /v1/a/c/%3Cb%3E/", []string{"<title>Listing of /v1/a/c/&lt;b&gt;/</title>"}, []string{"<b>"},
		},
		"a label":            {func(w *world) { w.site.Label = "<my>" }, "GET /v1/a/c/without/", []string{"Listing of &lt;my&gt;/without/<"}, []string{"/v1/"}},
		"a label of all":     {func(w *world) { w.site.Label = "my" }, "GET /v1/a/c/", []string{"Listing of my/<"}, nil},
		"a style sheet":      {func(w *world) { w.site.CSS = `a "b".css` }, "GET /v1/a/c/", []string{`<link rel="stylesheet" type="text/css" href="a%20%22b%22.css" />`}, []string{"<style"}},
		"that from below":    {func(w *world) { w.site.CSS = "a.css" }, "GET /v1/a/c/without/", []string{`href="../a.css"`}, nil},
		"one of another":     {func(w *world) { w.site.CSS = "https://h:1/a.css" }, "GET /v1/a/c/without/", []string{`href="https://h:1/a.css"`}, nil},
		"one of the cluster": {func(w *world) { w.site.CSS = "/v1/a/x/a.css" }, "GET /v1/a/c/without/", []string{`href="/v1/a/x/a.css"`}, nil},
		"no listings": {
			func(w *world) { w.site.Listings, w.site.Index = "off", "<i>" }, "GET /v1/a/c/",
			[]string{"<title>Listing of /v1/a/c/</title>", "&lt;i&gt;"}, []string{"<i>", "with/"},
		},
		"a temporary URL": {
			func(w *world) { w.shared, w.query = "", "temp_url_prefix=&sig=%22" }, "GET /v1/a/c/without/",
			[]string{`<a href="../?temp_url_prefix=&amp;sig=%22">../</a>`, `<a href="./o?temp_url_prefix=&amp;sig=%22">o</a>`}, nil,
		},
		"a temporary URL, as far as it goes": {
			func(w *world) { w.shared, w.query = "without/", "a=b" }, "GET /v1/a/c/without/", []string{`<a href="./o?a=b">o</a>`}, []string{"../"},
		},
	} {
		w := pages()
		w.site.Index, w.site.Error = "none", ""
		if tt.change != nil {
			tt.change(w)
		}
		resp, body := w.visits(t, tt.line, nil, nil, Defaults())
		for _, text := range tt.has {
			if !strings.Contains(body, text) {
				t.Errorf("%s: %d, no %s in\n%s", what, resp.Status, text, body)
			}
		}
		for _, text := range tt.hasNone {
			if strings.Contains(body, text) {
				t.Errorf("%s: %d, there is %s in\n%s", what, resp.Status, text, body)
			}
		}
		if page := resp.Get(chain.Generator) == chain.GeneratorStaticWeb; page != (resp.Status == 200) || resp.Get("Content-Type") != chain.PageType {
			t.Errorf("%s: %d, %v", what, resp.Status, resp.Header)
		}
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0", 1023: "1023", 1024: "1Ki", 1535: "1Ki", 1536: "2Ki", 1 << 20: "1Mi", 1<<20 - 1: "1Mi", 5 << 30: "5Gi", math.MaxInt64: "8Ei",
	} {
		if got := size(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}

// Whatever names, types and labels are, a page is the same elements: what is in it is text.
func FuzzPage(f *testing.F) {
	f.Add("x/", `"><script>`, "text/<b>", "l&", "c'")
	f.Add("", "&nbsp;", "\"", "", "https://a")
	f.Fuzz(func(t *testing.T, folder, object, contentType, label, css string) {
		v := &visit{feature: &feature{shared: func(*chain.Request) (string, string) { return "", "a=" + name.Quote(label) }}, Site: Site{Label: "l" + label, CSS: "c" + css, Listings: "t"}}
		text := func(folder, object, contentType, label, css string) string {
			v.Label, v.CSS = "l"+label, "c"+css
			return v.page(folder, []listing.Object{{Name: folder + "d" + object, Subdir: true}, {Name: folder + "o" + object, ContentType: contentType}})
		}
		if got, want := elements(t, text(folder, object, contentType, label, css)), elements(t, text(strings.Repeat("x", len(folder)), "x", "x", "x", "x")); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

// elements are those of a page, and their attributes, in order.
func elements(t *testing.T, page string) string {
	t.Helper()
	// The parser is one of XML, which has fewer characters than HTML, and no such entity.
	page = strings.Map(func(c rune) rune {
		if c < 0x20 && c != '\n' || c == 0xFFFE || c == 0xFFFF || c == 0xFFFD {
			return 'x'
		}
		return c
	}, page)
	d := xml.NewDecoder(strings.NewReader(strings.ReplaceAll(page, "&nbsp;", "")))
	var b strings.Builder
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return b.String()
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, page)
		}
		if e, ok := token.(xml.StartElement); ok {
			b.WriteString("<" + e.Name.Local)
			for _, a := range e.Attr {
				b.WriteString(" " + a.Name.Local)
			}
		}
	}
}
