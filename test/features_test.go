package test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// featuresPage is the page whose examples TestFeatures runs.
const featuresPage = "../docs/features.md"

// A feature is a section of the page.
type feature struct {
	name           string
	proxy, storage string // what its "toml" and "toml storage" blocks add to configuration files
	script         string // its "sh" blocks
}

// features reads the page.
func features(page string) (list []feature, err error) {
	into, fence := (*string)(nil), "```"
	for n, line := range strings.Split(page, "\n") {
		title, isTitle := strings.CutPrefix(line, "## ")
		switch {
		case into != nil && line == fence:
			into = nil
		case into != nil:
			*into += line + "\n"
		case isTitle:
			list = append(list, feature{name: title})
		case !strings.HasPrefix(line, fence):
		case len(list) == 0:
			return nil, fmt.Errorf("line %d: a block before the first section", n+1)
		default:
			f := &list[len(list)-1]
			kinds := map[string]*string{"sh": &f.script, "toml": &f.proxy, "toml storage": &f.storage}
			if into = kinds[line[len(fence):]]; into == nil {
				return nil, fmt.Errorf("line %d: a block of a kind that nothing is done with: %q", n+1, line)
			}
		}
	}
	if into != nil {
		return nil, fmt.Errorf("the last block does not end")
	}
	return list, nil
}

// checked makes a script of a section's commands that fails where one does, or where what was printed since
// the last "#> text" lacks the next one's text.
func checked(script string) (string, error) {
	const marker = "#> "
	var b strings.Builder
	b.WriteString("exec 3>&1\n")
	running, promises := false, 0
	for line := range strings.Lines(script) {
		text, is := strings.CutPrefix(strings.TrimSpace(line), marker)
		switch {
		case is:
			if running {
				b.WriteString("exec >&3 2>&3\n")
			}
			running = false
			promises++
			fmt.Fprintf(&b, "grep -qF -- %[1]s out || { echo; echo no %[1]s in:; cat out; exit 1; }\n", word(text))
		default:
			if !running && strings.TrimSpace(line) != "" {
				b.WriteString("exec >out 2>&1\n")
				running = true
			}
			b.WriteString(line)
		}
	}
	switch {
	case promises == 0:
		return "", fmt.Errorf("it says nowhere what comes of it")
	case running:
		return "", fmt.Errorf("it does not say what comes of its last commands")
	}
	return b.String(), nil
}

// word is a word of the shell's.
func word(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// adds puts settings into a configuration file. Those of a table that the file has come behind its heading.
func adds(t *testing.T, file, settings string) {
	t.Helper()
	was, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	heading, rest, _ := strings.Cut(settings, "\n")
	if at := []byte(heading + "\n"); heading != "" && bytes.Contains(was, at) {
		was = bytes.Replace(was, at, []byte(settings+"\n"), 1)
	} else {
		was = append(was, "\n"+heading+"\n"+rest...)
	}
	if err := os.WriteFile(file, was, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestFeatures runs every example of docs/features.md as it stands there, on clusters that are configured as
// it says.
func TestFeatures(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(featuresPage)
	if err != nil {
		t.Fatal(err)
	}
	list, err := features(string(page))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		t.Run(f.name, func(t *testing.T) {
			script, err := checked(f.script)
			if err != nil {
				t.Fatal(err)
			}
			c := newCluster(t, "--policy", "silver")
			adds(t, c.file("proxy.toml"), f.proxy)
			nodes, err := filepath.Glob(c.file("storage*.toml"))
			if err != nil || len(nodes) == 0 {
				t.Fatalf("%d storage nodes, %v", len(nodes), err)
			}
			for _, n := range nodes {
				adds(t, n, f.storage)
			}
			startDev(t, "--dir", c.dir)
			owner, admin := signIn(t, c.url(), "test:tester", "testing"), signIn(t, c.url(), "admin:admin", "admin")
			shell(t, t.TempDir(), fmt.Sprintf("HOST=%s URL=%s TOKEN=%s ADMIN=%s\n%s", c.url(), owner.url, owner.token, admin.token, script), time.Minute)
		})
	}
}

// TestFeaturesChecks: an example that is not true is noticed, as is one that promises nothing.
func TestFeaturesChecks(t *testing.T) {
	for script, fails := range map[string]bool{
		"echo a b\n#> a\n#> b\necho c\n#> c\n": false,
		"echo a\n#> b\n":                       true,
		"echo a\n#> a\necho b\n#> a\n":         true, // it was printed before
		"false\n#> \n":                         true,
		"echo a\n":                             true,
		"echo a\n#> a\necho b\n":               true,
		"echo \"it's\"\n#> it's\n":             false,
	} {
		got, err := checked(script)
		if err == nil {
			_, err = run(t, t.TempDir(), got, time.Minute)
		}
		if (err != nil) != fails {
			t.Errorf("%q: %v, want an error: %v", script, err, fails)
		}
	}
	for page, fails := range map[string]bool{
		"# x\n## a\n```sh\nb\n```\n## c\n```toml\nd\n```\n": false,
		"```sh\n```\n":          true,
		"## a\n```sh\nb\n":      true,
		"## a\n```js\nb\n```\n": true,
	} {
		if _, err := features(page); (err != nil) != fails {
			t.Errorf("%q: %v, want an error: %v", page, err, fails)
		}
	}
}
