package test

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// inPolicies adds a table to the configuration of a process.
func (c *cluster) inPolicies(t *testing.T, file, tables string) {
	t.Helper()
	text, err := os.ReadFile(c.file(file))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.file(file), append(text, tables...), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, stdout, stderr := martlet(t, "config", "check", c.file(file)); code != 0 {
		t.Fatalf("config check: exit status %d\n%s%s", code, stdout, stderr)
	}
}

// renew ends storage node n, counted from 0, or the proxy where it is -1, and starts it.
func (c *cluster) renew(t *testing.T, n int) {
	t.Helper()
	p := c.proxy
	if n >= 0 {
		p = c.storage[n]
	}
	p.signal(t, syscall.SIGTERM)
	if code := p.wait(t, 20*time.Second); code != 0 {
		t.Fatalf("%s: exit status %d\n%s", p.name, code, p.err.String())
	}
	if n >= 0 {
		c.startStorage(t, n)
	} else {
		c.startProxy(t)
	}
	c.awaitAll(t)
}

// TestAPolicyIsAdded is docs/operations.md, "Storage policies", on a cluster that runs
// and is used meanwhile: a policy is added, containers move to it, and it is deprecated.
func TestAPolicyIsAdded(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "--part-power", "6")
	c.start(t)
	me := signIn(t, c.url(), "test:tester", "testing")
	me.want(t, 201, "PUT", "/photos", "", "X-Container-Read", ".r:*", "X-Container-Meta-Year", "2026")
	names := []string{"a", "b c", "täglich/ü&?%20#.jpg", "-x"}
	for _, n := range names {
		me.want(t, 201, "PUT", "/photos/"+quoted(n), strings.Repeat(n, 1000), "X-Object-Meta-Of", "me", "Content-Type", "image/x", "X-Delete-At", "4000000000")
	}
	serves := func(when string) {
		t.Helper()
		for _, n := range names {
			text(t, me.want(t, 200, "GET", "/photos/"+quoted(n), ""), strings.Repeat(n, 1000))
		}
		me.want(t, 201, "PUT", "/photos/"+when, when)
		me.want(t, 204, "DELETE", "/photos/"+when, "")
	}

	// The ring: two replicas, on the second devices of the nodes.
	const gold = "\n[[cluster.policies]]\nindex = 0\nname = \"Policy-0\"\ndefault = true\n[[cluster.policies]]\nindex = 1\nname = \"cold\"\naliases = [\"archive\"]\n"
	builder := c.file("rings/object-1.builder")
	ringed := func(words ...string) {
		t.Helper()
		if code, stdout, stderr := martlet(t, append([]string{"ring"}, words...)...); code != 0 {
			t.Fatalf("ring %v: exit status %d\n%s%s", words, code, stdout, stderr)
		}
	}
	ringed("create", builder, "--part-power", "7", "--replicas", "2", "--min-part-hours", "1")
	for n := 1; n <= c.nodes; n++ {
		ringed("add", builder, fmt.Sprintf("r1z%d-%s.1.%d:6200R%s.2.%d:6203/d2", n, c.network, n, c.network, n), "100")
	}
	ringed("rebalance", builder)

	// A node without the ring does not start, and says what is missing.
	made := c.file("rings/object-1.ring.gz")
	if err := os.Rename(made, made+".away"); err != nil {
		t.Fatal(err)
	}
	for n := range c.nodes {
		c.inPolicies(t, fmt.Sprintf("storage%d.toml", n+1), gold)
	}
	oneLine(t, start(t, "storage", "--config", c.file("storage1.toml")), 1, "object-1.ring.gz")
	if err := os.Rename(made+".away", made); err != nil {
		t.Fatal(err)
	}

	for n := range c.nodes {
		c.renew(t, n)
		serves(fmt.Sprint("node", n))
		me.want(t, 400, "PUT", "/early", "", "X-Storage-Policy", "cold")
	}
	c.inPolicies(t, "proxy.toml", gold+"[proxy.policies.archive]\nsorting_method = \"timing\"\n")
	c.renew(t, -1)
	serves("proxy")
	has(t, me.want(t, 204, "HEAD", "/photos", ""), "X-Storage-Policy", "Policy-0")

	// Moving a container, by the recipe.
	const size = 3<<20 + 17
	dir := t.TempDir()
	randomFile(t, dir+"/big", size)
	env := fmt.Sprintf("export ST_AUTH=%s/auth/v1.0 ST_USER=test:tester ST_KEY=testing\n", c.url())
	shell(t, dir, env+"swift upload --quiet --use-slo -S 1000000 photos big", time.Minute)
	manual := manualOf(t)
	shell(t, dir, env+manual.block(t, "# moving photos to the policy cold"), time.Minute)
	has(t, me.want(t, 204, "HEAD", "/photos-cold", ""), "X-Storage-Policy", "cold", "X-Container-Read", ".r:*", "X-Container-Meta-Year", "2026",
		"X-Container-Object-Count", fmt.Sprint(len(names)+1))
	for _, n := range names {
		a := me.want(t, 200, "GET", "/photos-cold/"+quoted(n), "")
		text(t, a, strings.Repeat(n, 1000))
		has(t, a, "X-Object-Meta-Of", "me", "Content-Type", "image/x", "X-Delete-At", "4000000000", "X-Static-Large-Object", "-")
	}
	shell(t, dir, env+"eval \"$(swift auth)\"\nauth=\"X-Auth-Token: $OS_AUTH_TOKEN\"\n"+manual.block(t, "# the static large object photos/big"), time.Minute)
	has(t, me.want(t, 200, "HEAD", "/photos-cold/big", ""), "X-Static-Large-Object", "True", "Content-Length", fmt.Sprint(size))
	has(t, me.want(t, 204, "HEAD", "/photos-cold_segments", ""), "X-Storage-Policy", "cold")
	shell(t, dir, env+`
swift delete photos >/dev/null
swift delete photos_segments >/dev/null 2>&1 || true
swift download --quiet photos-cold big -o back
cmp big back`, time.Minute)

	// What is where the new ring says is found there, and by the policy's name.
	code, stdout, stderr := martlet(t, "locate", "AUTH_test", "photos-cold", "a", "--policy", "archive", "--config", c.file("proxy.toml"))
	if code != 0 || !strings.Contains(stdout, "cold (index 1)") || !strings.Contains(stdout, "object-1.ring.gz") || !strings.Contains(stdout, "of 2^7") {
		t.Errorf("locate: exit status %d\n%s%s", code, stdout, stderr)
	}
	for _, line := range strings.Split(stdout, "\n") {
		if strings.HasPrefix(line, "curl ") && !strings.Contains(line, "# handoff") {
			if out := shell(t, dir, line, 10*time.Second); !strings.HasPrefix(out, "HTTP/1.1 200") || !strings.Contains(line, "/d2/") {
				t.Errorf("%s: %s", line, out)
			}
		}
	}
	poll(t, time.Minute, "status --durability", func() error {
		if code, stdout, stderr := martlet(t, "status", "--durability", "--config", c.file("proxy.toml")); code != 0 {
			return fmt.Errorf("exit status %d\n%s%s", code, stdout, stderr)
		}
		return nil
	})

	// Deprecated, it serves what it has.
	config, err := os.ReadFile(c.file("proxy.toml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.file("proxy.toml"), []byte(strings.Replace(string(config), "index = 1\n", "index = 1\ndeprecated = true\n", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	c.renew(t, -1)
	me.want(t, 400, "PUT", "/more", "", "X-Storage-Policy", "cold")
	me.want(t, 202, "PUT", "/photos-cold", "")
	me.want(t, 201, "PUT", "/photos-cold/new", "new")
	text(t, me.want(t, 200, "GET", "/photos-cold/new", ""), "new")
}

// manual is docs/operations.md, whose recipes are what is tested.
type manual string

func manualOf(t *testing.T) manual {
	t.Helper()
	b, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	return manual(b)
}

// block returns the lines of the example that begins with a line.
func (m manual) block(t *testing.T, first string) string {
	t.Helper()
	_, rest, ok := strings.Cut(string(m), "\n    "+first)
	if !ok {
		t.Fatalf("the manual has no example that begins with %q", first)
	}
	var b strings.Builder
	b.WriteString(first)
	for line := range strings.SplitSeq(rest, "\n") {
		if b.Len() > len(first) && !strings.HasPrefix(line, "    ") {
			break
		}
		b.WriteString(strings.TrimPrefix(line, "    ") + "\n")
	}
	return b.String()
}

// A whole cluster with policies: as many nodes as an erasure-coded one has fragments, and
// what the banner says clients find.
func TestDevWithPolicies(t *testing.T) {
	t.Parallel()
	n := network(t)
	address, dir := n+".0.1:8080", t.TempDir()+"/dev"
	p, _ := startDev(t, "--dir", dir, "--network", n, "--listen", address, "--part-power", "6", "--policy", "silver", "--policy", "ec32=3+2", "--policy", "two=replicas:2")
	for _, want := range []string{
		"Martlet: 5 storage nodes of 2 devices, 3 replicas, in one process.\n",
		"\n5 nodes, one for each fragment of policy ec32 (3+2).\n",
		"\nPolicy silver (index 1): 3 replicas; readable while any 2 nodes are down. Make a container with X-Storage-Policy: silver.\n",
		"\nPolicy ec32 (index 2): erasure coding 3+2; readable while any 2 nodes are down.",
		"\nPolicy two (index 3): 2 replicas; readable while any node is down.",
	} {
		if !strings.Contains(p.out.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, p.out.String())
		}
	}
	me := signIn(t, "http://"+address, "test:tester", "testing")
	for container, policy := range map[string]string{"one": "silver", "two": "ec32", "three": "two"} {
		me.want(t, 201, "PUT", "/"+container, "", "X-Storage-Policy", policy)
		has(t, me.want(t, 204, "HEAD", "/"+container, ""), "X-Storage-Policy", policy)
	}
	me.want(t, 201, "PUT", "/one/o", "data")
	text(t, me.want(t, 200, "GET", "/one/o", ""), "data")
	p.signal(t, syscall.SIGTERM)
	if code := p.wait(t, 20*time.Second); code != 0 {
		t.Fatalf("exit status %d\n%s", code, p.err.String())
	}
	oneLine(t, start(t, "dev", "--dir", dir, "--policy", "gold"), 2, "--policy gold", "made with silver, ec32=3+2, two=replicas:2")
	oneLine(t, start(t, "dev", "--dir", t.TempDir(), "--policy", "ec=4"), 2, "--policy ec=4")
	startDev(t, "--dir", dir, "--policy", "silver", "--policy", "ec32=3+2", "--policy", "two=replicas:2")
	text(t, signIn(t, "http://"+address, "test:tester", "testing").want(t, 200, "GET", "/one/o", ""), "data")
}
