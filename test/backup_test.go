package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// changed changes a tree as people do between two backups.
func changed(t *testing.T, tree string) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(tree, "net", "http")); err != nil {
		t.Fatal(err)
	}
	randomFile(t, filepath.Join(tree, "big"), 20<<20)
	randomFile(t, filepath.Join(tree, "net", "new ü"), 5000)
}

// TestLongRestic: backups by restic restore to what was backed up, before and after
// old ones are pruned.
func TestLongRestic(t *testing.T) {
	_, env := devCluster(t)
	tree := sourceTree(t, "net", "crypto", "os", "go")
	randomFile(t, filepath.Join(tree, "big"), 40<<20)
	env += "export RESTIC_PASSWORD=secret RESTIC_REPOSITORY=swift:restic:/backups\n"
	run := func(script string) string {
		t.Helper()
		return shell(t, tree, env+script, 5*time.Minute)
	}
	restored := func(snapshot string) map[string]string {
		t.Helper()
		to := t.TempDir()
		run("restic restore " + snapshot + " --target " + to)
		return sums(t, filepath.Join(to, tree))
	}
	first := sums(t, tree)
	run("restic init\nrestic backup --tag first " + tree)
	if len(first) < 1000 {
		t.Fatalf("the tree has only %d files", len(first))
	}
	changed(t, tree)
	second := sums(t, tree)
	run("restic backup --tag second " + tree + "\nrestic check --read-data")
	same(t, "the first backup", restored("latest --tag first"), first)
	same(t, "the second backup", restored("latest --tag second"), second)
	run("restic forget --keep-last 1 --prune --max-unused 0\nrestic check --read-data")
	same(t, "the second backup after pruning", restored("latest"), second)
	if out := run("restic snapshots --compact"); !strings.Contains(out, "1 snapshots") {
		t.Errorf("snapshots are\n%s", out)
	}
}

// TestLongDuplicity: the same with duplicity, in full and in increments.
func TestLongDuplicity(t *testing.T) {
	me, env := devCluster(t)
	tree := sourceTree(t, "net", "crypto", "os", "go")
	randomFile(t, filepath.Join(tree, "big"), 40<<20)
	env += "export SWIFT_AUTHURL=$ST_AUTH SWIFT_USERNAME=$ST_USER SWIFT_PASSWORD=$ST_KEY SWIFT_AUTHVERSION=1 PASSPHRASE=secret\n"
	run := func(script string) {
		t.Helper()
		shell(t, tree, env+strings.ReplaceAll(script, "duplicity ", "duplicity --volsize 10 --archive-dir "+filepath.Join(t.TempDir(), "archive")+" "), 5*time.Minute)
	}
	restored := func(age string) map[string]string {
		t.Helper()
		to := filepath.Join(t.TempDir(), "back")
		run("duplicity restore " + age + " swift://duplicity " + to)
		return sums(t, to)
	}
	first := sums(t, tree)
	began := time.Now()
	run("duplicity full " + tree + " swift://duplicity")
	changed(t, tree)
	second := sums(t, tree)
	// Backups are told apart by the second.
	poll(t, 5*time.Second, "another second", func() error {
		if time.Now().Unix() > began.Unix()+1 {
			return nil
		}
		return os.ErrDeadlineExceeded
	})
	between := time.Now().UTC().Format("2006-01-02T15:04:05Z")
	run("duplicity incremental " + tree + " swift://duplicity\nduplicity verify --compare-data swift://duplicity " + tree)
	same(t, "the last backup", restored(""), second)
	same(t, "the first backup", restored("--time "+between), first)
	run("duplicity full " + tree + " swift://duplicity\nduplicity remove-all-but-n-full 1 --force swift://duplicity")
	same(t, "a full backup once older ones are gone", restored(""), second)
	if a := me.want(t, 200, "GET", "/duplicity", ""); strings.Contains(string(a.body), "duplicity-inc") {
		t.Errorf("an increment is still there:\n%s", a.body)
	}
}
