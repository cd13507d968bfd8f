package test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"testing"
	"time"
)

// sums returns the SHA-256 of every file below a folder, by relative path.
func sums(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		h := sha256.New()
		if _, err := io.Copy(h, f); err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		all[name] = fmt.Sprintf("%x", h.Sum(nil))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// same wants two trees to be alike, file by file.
func same(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	wrong := 0
	for name, sum := range want {
		if got[name] != sum {
			if wrong++; wrong <= 5 {
				t.Errorf("%s: %s: sha256 %q, want %q", what, name, got[name], sum)
			}
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			if wrong++; wrong <= 5 {
				t.Errorf("%s: %s was never uploaded", what, name)
			}
		}
	}
	if wrong > 0 {
		t.Fatalf("%s: %d files are wrong, of %d", what, wrong, len(want))
	}
}

// sourceTree copies a part of the Go toolchain's source: thousands of files, as
// people have them.
func sourceTree(t *testing.T, parts ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	src := filepath.Join(strings.TrimSpace(string(out)), "src")
	root := filepath.Join(t.TempDir(), "tree")
	for _, part := range parts {
		if err := os.CopyFS(filepath.Join(root, part), os.DirFS(filepath.Join(src, part))); err != nil {
			t.Fatal(err)
		}
	}
	// Clients leave empty files and odd names behind, too.
	for name, text := range map[string]string{"empty": "", "a b/ü&?#%25+.txt": "odd", "deep/" + strings.Repeat("x/", 50) + "y": "deep"} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// A real tree goes in through swift and through rclone, and comes out again the
// same: at once, after every process was stopped and started, and after every
// process was killed.
func TestTree(t *testing.T) {
	t.Parallel()
	tree := sourceTree(t, "net", "os", "runtime", "internal")
	want := sums(t, tree)
	if len(want) < 3000 {
		t.Fatalf("the tree has only %d files", len(want))
	}
	c := newCluster(t)
	c.start(t)
	swift := fmt.Sprintf("swift -A %s/auth/v1.0 -U test:tester -K testing ", c.url())
	rclone := fmt.Sprintf("rclone --swift-auth %s/auth/v1.0 --swift-user test:tester --swift-key testing ", c.url())

	timed := func(what, script string) string {
		began := time.Now()
		out := shell(t, tree, script, 3*time.Minute)
		t.Logf("%s: %d files in %.1f s", what, len(want), time.Since(began).Seconds())
		return out
	}
	timed("swift upload", swift+"upload --quiet bySwift .")
	timed("rclone copy", rclone+"copy --transfers 8 --checkers 8 . :swift:byRclone")

	listed := strings.Split(strings.TrimSuffix(timed("swift list", swift+"list bySwift"), "\n"), "\n")
	names := make([]string, 0, len(want))
	for name := range want {
		names = append(names, name)
	}
	sort.Strings(names)
	if got, wanted := strings.Join(listed, "\n"), strings.Join(names, "\n"); got != wanted {
		t.Errorf("swift list has %d names, want %d, or in another order", len(listed), len(names))
	}
	if got := strings.Count(timed("rclone lsf", rclone+"lsf -R --files-only :swift:byRclone"), "\n"); got != len(want) {
		t.Errorf("rclone lists %d files, want %d", got, len(want))
	}

	for client, script := range map[string]string{
		"swift":  swift + "download --quiet bySwift --output-dir ",
		"rclone": rclone + "copy --transfers 8 :swift:byRclone ",
	} {
		to := filepath.Join(t.TempDir(), "back")
		timed(client+" download", script+to)
		same(t, client, sums(t, to), want)
	}
	c.stop(t, syscall.SIGTERM)
	c.start(t)
	timed("rclone check after a restart", rclone+"check --download --checkers 8 . :swift:bySwift")
	c.stop(t, os.Kill)
	c.start(t)
	timed("rclone check after a kill", rclone+"check --download --checkers 8 . :swift:byRclone")
}
