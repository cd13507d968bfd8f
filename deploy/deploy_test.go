// Package deploy holds what comes with Martlet for real machines against Martlet itself.
package deploy

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// sources is the text of all code that is no test.
func sources(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		all.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// Every metric that an alert or a plot is of is one that processes have.
func TestMetricsAreThere(t *testing.T) {
	code := sources(t)
	metric := regexp.MustCompile(`\bmartlet_[a-z_]+\b`)
	histogram := regexp.MustCompile(`_(bucket|sum|count)$`)
	for _, file := range []string{"prometheus/martlet.rules.yml", "grafana/martlet.json"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found := metric.FindAllString(string(text), -1)
		if len(found) == 0 {
			t.Errorf("%s is of no metric", file)
		}
		for _, name := range found {
			name = histogram.ReplaceAllString(name, "")
			there := strings.Contains(code, `"`+name+`"`)
			for _, family := range []string{"martlet_replication_", "martlet_databases_"} { // whose names are put together
				rest, is := strings.CutPrefix(name, family)
				there = there || is && strings.Contains(code, `"`+family+`"`) && strings.Contains(code, `"`+rest+`"`)
			}
			if !there {
				t.Errorf("%s: no process has the metric %s", file, name)
			}
		}
	}
}

// The dashboard is JSON whose panels all ask for something, each in a place of its own.
func TestDashboard(t *testing.T) {
	text, err := os.ReadFile("grafana/martlet.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct {
			ID      int
			Type    string
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	taken := map[[2]int]string{}
	for _, p := range d.Panels {
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q asks for nothing", p.Title)
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other, is := taken[[2]int{x, y}]; is || x >= 24 {
					t.Fatalf("panel %q is where %q is, or outside", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
}

// Units, the package and the image name files that there are.
func TestFilesAreThere(t *testing.T) {
	for file, pattern := range map[string]string{
		"package/nfpm.yaml":    `(?m)^  - src: (\S+)|^  (?:post|pre)\w+: (\S+)`,
		"container/Dockerfile": `(?m)^COPY (deploy/\S+)`,
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(text), -1) {
			name := strings.Join(m[1:], "")
			if name == "bin/martlet" { // which is built
				continue
			}
			if _, err := os.Stat(filepath.Join("..", name)); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
	}
}
