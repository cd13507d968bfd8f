package test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// devCluster runs `martlet dev` and signs in. The last is what a script begins
// with that drives it: the names under which clients look for a cluster.
func devCluster(t *testing.T) (*api, string) {
	t.Helper()
	n := network(t)
	address := n + ".0.1:8080"
	startDev(t, "--dir", filepath.Join(t.TempDir(), "dev"), "--network", n, "--listen", address)
	names := fmt.Sprintf("export ST_AUTH=http://%s/auth/v1.0 ST_USER=test:tester ST_KEY=testing\n", address)
	return signIn(t, "http://"+address, "test:tester", "testing"), names
}

// randomFile makes a file that doesn't compress.
func randomFile(t *testing.T, path string, size int) {
	t.Helper()
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(size)}).Read(data) // never fails
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestSwiftClient is what python-swiftclient does besides moving trees: segments
// in both forms, temporary URLs, and everything about many objects at once.
func TestSwiftClient(t *testing.T) {
	t.Parallel()
	me, env := devCluster(t)
	dir := t.TempDir()
	randomFile(t, filepath.Join(dir, "big"), 3<<20+17)
	for form, how := range map[string]struct{ flag, header string }{"slo": {"--use-slo", "X-Static-Large-Object"}, "dlo": {"", "X-Object-Manifest"}} {
		shell(t, dir, env+fmt.Sprintf(`
swift upload --quiet -S 1000000 %[2]s %[1]s big
swift stat %[1]s big | grep -i X-Timestamp >stamp
swift download --quiet %[1]s big -o back.%[1]s
cmp big back.%[1]s
test "$(swift list %[1]s_segments | wc -l)" = 4
# It is as it was: nothing is sent again.
swift upload --quiet --skip-identical -S 1000000 %[2]s %[1]s big
swift stat %[1]s big | grep -i X-Timestamp | cmp - stamp
# What replaces it takes its segments along.
swift upload --quiet -S 2000000 %[2]s %[1]s big
test "$(swift list %[1]s_segments | wc -l)" = 2
swift download --quiet %[1]s big -o back.%[1]s
cmp big back.%[1]s
`, form, how.flag), 5*time.Minute)
		a := me.want(t, 200, "HEAD", "/"+form+"/big", "")
		if a.Header.Get(how.header) == "" || a.ContentLength != 3<<20+17 {
			t.Errorf("%s: %v, want %s", form, a.Header, how.header)
		}
		shell(t, dir, env+fmt.Sprintf(`
swift delete --quiet %[1]s big
test -z "$(swift list %[1]s_segments)"
`, form), 5*time.Minute)
		me.want(t, 404, "GET", "/"+form+"/big", "")
	}

	out := shell(t, dir, env+`
swift post -m temp-url-key:secret
swift upload --quiet urls big
url=$(swift tempurl GET 600 /v1/AUTH_test/urls/big secret --digest sha256)
curl --fail --silent --show-error "${ST_AUTH%/auth/v1.0}$url" | cmp - big
put=$(swift tempurl PUT 600 /v1/AUTH_test/urls/new secret --digest sha512)
curl --fail --silent --show-error -T big "${ST_AUTH%/auth/v1.0}$put"
swift download --quiet urls new -o - | cmp - big
prefix=$(swift tempurl GET 600 /v1/AUTH_test/urls/b secret --prefix-based --digest sha256)
curl --fail --silent --show-error "${ST_AUTH%/auth/v1.0}${prefix/urls\/b/urls/big}" | cmp - big
curl --silent --output /dev/null --write-out '%{http_code}' "${ST_AUTH%/auth/v1.0}${url/big/new}"
`, 5*time.Minute)
	if out != "401" {
		t.Errorf("a URL for another object: %q, want 401", out)
	}

	out = shell(t, dir, env+"token="+me.token+" url="+me.url+`
mkdir many
for i in $(seq 30); do echo $i > "many/$i é"; done
tar czf many.tgz -C many .
curl --fail --silent --show-error -H "X-Auth-Token: $token" -T many.tgz "$url/many?extract-archive=tar.gz"
swift copy --destination /many2 many "7 é" --quiet
swift download --quiet many2 "7 é" -o - | cmp - "many/7 é"
swift download --quiet many --output-dir back
diff -r many back
swift delete many
test -z "$(swift list | grep -x many)"
swift delete --all
test -z "$(swift list)"
`, 5*time.Minute)
	if !strings.Contains(out, "Number Files Created: 30\n") {
		t.Errorf("it prints %s", out)
	}
}

// TestRcloneInSegments: rclone keeps a tree in step whose larger files are in segments.
func TestRcloneInSegments(t *testing.T) {
	t.Parallel()
	me, _ := devCluster(t)
	tree := sourceTree(t, "os", "net/textproto")
	randomFile(t, filepath.Join(tree, "big"), 5<<20+1)
	rclone := "rclone --swift-auth " + me.cluster() + "/auth/v1.0 --swift-user test:tester --swift-key testing --swift-chunk-size 1Mi "
	run := func(script string) string {
		t.Helper()
		return shell(t, tree, strings.ReplaceAll(script, "rclone ", rclone), 5*time.Minute)
	}
	run("rclone copy . :swift:kept\nrclone check . :swift:kept\nrclone check --download . :swift:kept")
	if a := me.want(t, 200, "HEAD", "/kept/big", ""); a.ContentLength != 5<<20+1 || a.Header.Get("X-Object-Manifest")+a.Header.Get("X-Static-Large-Object") == "" {
		t.Errorf("the large file is %v", a.Header)
	}
	if got := run("rclone cat --offset 1048570 --count 12 :swift:kept/big | cmp - <(tail -c +1048571 big | head -c 12) && echo same"); got != "same\n" {
		t.Errorf("a part of it: %q", got)
	}
	// Files change, come and go, and the large one becomes another.
	if err := os.RemoveAll(filepath.Join(tree, "os", "signal")); err != nil {
		t.Fatal(err)
	}
	randomFile(t, filepath.Join(tree, "big"), 2<<20+5)
	randomFile(t, filepath.Join(tree, "os", "new file"), 100)
	if run("rclone check . :swift:kept 2>/dev/null || echo differs") != "differs\n" {
		t.Error("rclone check finds nothing before the tree is in step")
	}
	run("rclone sync . :swift:kept\nrclone check --download . :swift:kept")
	back := filepath.Join(t.TempDir(), "back")
	run("rclone sync :swift:kept " + back)
	same(t, "rclone sync", sums(t, back), sums(t, tree))
	run("rclone moveto :swift:kept/big :swift:kept/moved\nrclone purge :swift:kept")
	me.want(t, 404, "HEAD", "/kept", "")
}
