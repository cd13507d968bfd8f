package slo

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestDeleteWithoutAReport(t *testing.T) {
	for what, tt := range map[string]struct {
		object string
		refuse map[string]int
		status int
		text   string
		left   int // of 10 objects
	}{
		"a simple one":          {"large", nil, 204, "", 6},
		"only data":             {"data", nil, 204, "", 9},
		"a segment is gone":     {"gone", nil, 204, "", 9},
		"nothing there":         {"none", nil, 404, "", 10},
		"no large object":       {"other", nil, 400, "Not an SLO manifest", 10},
		"of two containers":     {"two", nil, 400, `All segments must be in one container. Found segments in &#34;c&#34;, &#34;d%20e&#34;`, 10},
		"a manifest in it":      {"above", nil, 400, "No segments may be large objects.", 10},
		"not for the sender":    {"large", map[string]int{"PUT /a/c/large": 403}, 403, "", 10},
		"nor its segments":      {"large", map[string]int{"PUT /a/c/s0": 401}, 401, "", 10},
		"it can't be read":      {"large", map[string]int{"GET /a/c/large": 403}, 403, "", 10},
		"the cluster fails":     {"large", map[string]int{"GET /a/c/large": 503}, 503, "", 10},
		"a segment stays":       {"large", map[string]int{"DELETE /a/c/s1": 503}, 503, "", 8},
		"the manifest stays":    {"large", map[string]int{"DELETE /a/c/large": 503}, 503, "", 7},
		"no container any more": {"large", map[string]int{"PUT /a/c/s0": 404}, 204, "", 6},
	} {
		w, h, _ := three(t)
		w.set("other", "x")
		w.put(path("d e", "far"), "x", http.Header{})
		makeLarge(t, h, "above", "large")
		makeLarge(t, h, "gone", "s0", "other")
		put := func(object, manifest string) {
			if resp, body := ask(t, h, "PUT", object, "multipart-manifest=put", manifest); resp.Status != 201 {
				t.Fatalf("%s: %d %s", object, resp.Status, body)
			}
		}
		put("two", `[{"path":"/c/s0"},{"path":"/d e/far"}]`)
		put("gone", `[{"path":"/c/other"}]`)
		if what == "a segment is gone" {
			delete(w.objects, path("c", "other"))
		}
		w.put(path("c", "data"), `[{"data":"eA=="}]`, http.Header{hdrStatic: {"True"}})
		w.refuse = tt.refuse
		w.asked = nil
		resp, body := ask(t, h, "DELETE", tt.object, "multipart-manifest=delete&async=yes", "")
		if resp.Status != tt.status || !strings.Contains(body, tt.text) || tt.status == 204 && body != "" {
			t.Errorf("%s: got %d %q, want %d %q", what, resp.Status, body, tt.status, tt.text)
		}
		left := len(w.objects)
		if what == "a segment is gone" {
			left++
		}
		if left != tt.left {
			t.Errorf("%s: %d objects are left, want %d: asked %v", what, left, tt.left, w.asked)
		}
		order := func(o string) int { return slices.Index(w.asked, "DELETE /a/c/"+o) }
		if tt.status == 204 && tt.object == "large" && order("large") < max(order("s0"), order("s1"), order("s2")) {
			t.Errorf("%s: the manifest goes before its segments: %v", what, w.asked)
		}
	}
}

// Where it is off, and where async says no, the answer is a report.
func TestAsyncMeansNothing(t *testing.T) {
	for query, cfg := range map[string]func(*Config){
		"multipart-manifest=delete&async=yes": func(c *Config) { c.AllowAsyncDelete = false },
		"multipart-manifest=delete&async=no":  nil,
		"multipart-manifest=delete&async":     nil,
	} {
		w := newWorld()
		h := at(w, cfg)
		w.set("s", "x")
		makeLarge(t, h, "large", "s")
		if resp, body := ask(t, h, "DELETE", "large", query, ""); resp.Status != 200 || !strings.Contains(body, "Number Deleted: 2") {
			t.Errorf("%s: got %d %q", query, resp.Status, body)
		}
	}
}
