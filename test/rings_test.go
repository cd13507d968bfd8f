package test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"martlet/ring"
)

// quickRings has every process look for newer rings all the time.
func (c *cluster) quickRings(t *testing.T) {
	t.Helper()
	paths, err := filepath.Glob(c.file("*.toml"))
	if err != nil {
		t.Fatal(err)
	}
	folder := regexp.MustCompile(`(?m)^folder = .*$`)
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, folder.ReplaceAll(text, []byte("$0\ncheck_every = \"200ms\"")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// ringed runs `martlet ring` on the builder of each kind of ring: a %s in the words is
// the builder, and %d the port of the kind's servers. It returns what was printed of
// objects.
func (c *cluster) ringed(t *testing.T, words string) (objects string) {
	t.Helper()
	for kind, port := range map[string]string{"account": "6202", "container": "6201", "object": "6200"} {
		path := c.file("rings/" + kind + ".builder")
		line := strings.NewReplacer("%s", path, "%d", port, "%n", c.network).Replace(words)
		code, stdout, stderr := martlet(t, append([]string{"ring"}, strings.Fields(line)...)...)
		if code != 0 {
			t.Fatalf("ring %s: exit status %d\n%s%s", line, code, stdout, stderr)
		}
		if kind == "object" {
			objects = stdout
		}
	}
	return objects
}

// settled waits until every process has the rings that are there, has each node make
// passes over its devices but those that are given, as "2/d2", and wants everything where
// the rings say and all of it readable.
func (c *cluster) settled(t *testing.T, what, tok string, want map[string]string, but ...string) {
	t.Helper()
	places := map[string]string{"objects": "object.ring.gz", "containers": "container.ring.gz", "accounts": "account.ring.gz"}
	poll(t, time.Minute, what, func() error {
		for n := 1; n <= c.nodes; n++ {
			// It may fail while some have the rings already that others have not.
			for _, device := range []string{"d1", "d2"} {
				if slices.Contains(but, fmt.Sprintf("%d/%s", n, device)) {
					continue
				}
				p := start(t, "replicate", "--once", "--json", "--device", device, "--config", c.file(fmt.Sprintf("storage%d.toml", n)))
				if code := p.wait(t, time.Minute); code != 0 {
					return fmt.Errorf("node %d, %s: exit status %d", n, device, code)
				}
			}
		}
		for kind, file := range places {
			if err := c.displaced(t, kind, file); err != nil {
				return err
			}
		}
		return nil
	})
	c.readable(t, tok, want)
}

func (c *cluster) readable(t *testing.T, tok string, want map[string]string) {
	t.Helper()
	for object, text := range want {
		if a := as(t, tok, http.MethodGet, c.url()+"/v1/AUTH_test/papers/"+object, nil, http.StatusOK); string(a.body) != text {
			t.Fatalf("%s is %.40q, want %.40q", object, a.body, text)
		}
	}
}

// An operator changes the rings of a running cluster: a node is taken out and comes back
// in steps, the part power is raised, a node is lost. Data follows, and can be read all the time; and
// what `martlet locate` prints finds it.
func TestRingsOfARunningCluster(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "--part-power", "6")
	c.onlyPassesOnDemand(t)
	c.quickRings(t)
	c.start(t)
	tok := token(t, c.url())
	as(t, tok, http.MethodPut, c.url()+"/v1/AUTH_test/papers", nil, http.StatusCreated)
	want := map[string]string{}
	for i := range 80 {
		object, text := fmt.Sprintf("o%d", i), strings.Repeat(fmt.Sprint(i, " "), 500)
		want[object] = text
		as(t, tok, http.MethodPut, c.url()+"/v1/AUTH_test/papers/"+object, strings.NewReader(text), http.StatusCreated)
	}
	c.located(t)

	// Node 4 is emptied, and taken out when it holds nothing.
	c.ringed(t, "set-weight %s %n.1.4 0 --yes")
	c.ringed(t, "rebalance %s")
	c.readable(t, tok, want)
	c.settled(t, "node 4 is emptied", tok, want)
	c.ringed(t, "remove %s %n.1.4 --yes")
	c.ringed(t, "rebalance %s")

	// It comes back, in two steps.
	c.ringed(t, "add %s r1z4-%n.1.4:%dR%n.2.4:6203/d1 100 r1z4-%n.1.4:%dR%n.2.4:6203/d2 100")
	if plan := c.ringed(t, "rebalance %s --dry-run --steps 2"); !strings.Contains(plan, "d6 50 d7 50") {
		t.Errorf("the plan says\n%s", plan)
	}
	if dry := c.ringed(t, "rebalance %s --dry-run --measure --rate 10MB"); !strings.Contains(dry, "of its capacity") || !strings.Contains(dry, "at 10.0 MB/s") {
		t.Errorf("measured, the forecast says\n%s", dry)
	}
	for _, weight := range []string{"50", "100"} {
		c.ringed(t, "set-weight %s d6 "+weight+" d7 "+weight)
		c.ringed(t, "pretend-min-part-hours-passed %s")
		c.ringed(t, "rebalance %s --cluster "+c.file("proxy.toml"))
		c.ringed(t, "pretend-min-part-hours-passed %s")
		c.unfinished(t)
		// Whether or not the nodes have the ring yet: what it moves is on handoffs.
		code, stdout, stderr := martlet(t, "ring", "increase-part-power", c.file("rings/object.builder"), "--cluster", c.file("proxy.toml"))
		if code != 2 || !strings.Contains(stderr, "the part power was not changed") {
			t.Errorf("the part power while data moves: exit status %d\n%s%s", code, stdout, stderr)
		}
		c.readable(t, tok, want)
		c.settled(t, "node 4 of weight "+weight, tok, want)
	}

	c.refusesPartPower(t, tok, want)
	c.settled(t, "handoffs have gone home", tok, want)
	c.ringed(t, "increase-part-power %s --cluster "+c.file("proxy.toml"))
	r, err := ring.Load(c.file("rings/object.ring.gz"))
	if err != nil || r.PartPower() != 7 {
		t.Fatalf("part power %d, %v", r.PartPower(), err)
	}
	c.readable(t, tok, want)
	c.settled(t, "twice the partitions", tok, want)
	c.located(t)

	// Node 4 dies, and what was on it is copied from the others.
	c.storage[3].signal(t, os.Kill)
	c.storage[3].wait(t, 10*time.Second)
	if d := c.durability(t, 1); d.UnderReplicated == 0 || d.Objects != len(want) {
		t.Errorf("with a node dead %+v, want some of %d objects to have too few copies", d, len(want))
	}
	c.nodes = 3
	c.ringed(t, "remove %s %n.1.4 --yes")
	c.ringed(t, "rebalance %s")
	c.readable(t, tok, want)
	c.settled(t, "three nodes", tok, want)
	if d := c.durability(t, 0); d.UnderReplicated != 0 || d.Objects != len(want) {
		t.Errorf("at the end %+v, want %d objects, and none with too few copies", d, len(want))
	}
}

// unfinished expects that the ring of objects is not rebalanced again while the last time is
// not carried out.
func (c *cluster) unfinished(t *testing.T) {
	t.Helper()
	code, stdout, stderr := martlet(t, "status", "--rebalance", "--window", "0s", "--config", c.file("proxy.toml"))
	if code != 1 || !strings.Contains(stdout, "left: ") {
		t.Errorf("after a rebalance status says, with exit status %d\n%s%s", code, stdout, stderr)
	}
	code, stdout, stderr = martlet(t, "ring", "rebalance", c.file("rings/object.builder"), "--cluster", c.file("proxy.toml"))
	if code != 2 || !strings.Contains(stderr, "the last rebalance is not known to have been carried out") {
		t.Errorf("another rebalance at once: exit status %d\n%s%s", code, stdout, stderr)
	}
}

// durable is what status says of durability.
type durable struct {
	Objects         int `json:"objects"`
	UnderReplicated int `json:"under_replicated"`
}

func (c *cluster) durability(t *testing.T, status int) (d durable) {
	t.Helper()
	code, stdout, stderr := martlet(t, "status", "--durability", "--json", "--config", c.file("proxy.toml"))
	if code != status {
		t.Errorf("status --durability: exit status %d, want %d\n%s%s", code, status, stdout, stderr)
	}
	if err := json.Unmarshal([]byte(stdout), &d); err != nil {
		t.Errorf("status --durability: %v\n%s", err, stdout)
	}
	return d
}

// A disk dies, as docs/operations.md has it under "Replacing a disk": what was on it is
// copied from the others, while there is no new one and when there is. Nothing is lost,
// and all of it can be read all the time.
func TestADiskIsReplaced(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "--part-power", "6")
	c.onlyPassesOnDemand(t)
	c.quickRings(t)
	c.quickly(t)
	c.start(t)
	tok := token(t, c.url())
	as(t, tok, http.MethodPut, c.url()+"/v1/AUTH_test/papers", nil, http.StatusCreated)
	want := map[string]string{}
	write := func(when string, n int) {
		t.Helper()
		for i := range n {
			object, text := fmt.Sprint(when, i), strings.Repeat(fmt.Sprint(when, i, " "), 500)
			want[object] = text
			as(t, tok, http.MethodPut, c.url()+"/v1/AUTH_test/papers/"+object, strings.NewReader(text), http.StatusCreated)
		}
	}
	write("before", 80)
	c.settled(t, "at first", tok, want)

	// One of its size, under its name, is at hand: no ring has to change.
	c.broken(t, 3, "d1")
	write("without", 10)
	c.readable(t, tok, want)
	c.renewed(t, 3, "d1")
	c.settled(t, "another disk in its place", tok, want)

	// There is none: the disk is taken out of the rings.
	c.broken(t, 2, "d2")
	write("broken", 10)
	c.readable(t, tok, want)
	c.ringed(t, "remove %s %n.1.2/d2")
	c.ringed(t, "rebalance %s")
	c.readable(t, tok, want)
	c.settled(t, "without the disk", tok, want, "2/d2")
	write("fewer", 10)

	// It comes.
	c.renewed(t, 2, "d2")
	c.ringed(t, "add %s r1z2-%n.1.2:%dR%n.2.2:6203/d2 100")
	c.ringed(t, "pretend-min-part-hours-passed %s")
	c.ringed(t, "rebalance %s")
	c.readable(t, tok, want)
	c.settled(t, "with the new disk", tok, want)
	for _, file := range []string{"object.ring.gz", "container.ring.gz", "account.ring.gz"} {
		r, err := ring.Load(c.file("rings/" + file))
		if err != nil {
			t.Fatal(err)
		}
		held := 0
		for _, row := range r.Rows() {
			for _, id := range row {
				for d := range r.Devices() {
					if d.ID == int(id) && d.IP == c.network+".1.2" && d.Name == "d2" {
						held++
					}
				}
			}
		}
		if held != 3*64/8 {
			t.Errorf("%s: the new disk has %d replicas of partitions, want %d", file, held, 3*64/8)
		}
	}
	for _, p := range c.storage {
		if p.ended() {
			t.Errorf("%s ended", p.name)
		}
	}
}

// Rings may have host names: with nothing else in them a cluster serves and replicates.
// Every node is on the one name that all machines have, at ports of its own.
func TestRingsOfHostNames(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "--part-power", "6")
	c.onlyPassesOnDemand(t)
	free := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return port
	}
	for n := 1; n <= c.nodes; n++ {
		path := c.file(fmt.Sprintf("storage%d.toml", n))
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		replace := []string{
			fmt.Sprintf("address = %q", fmt.Sprintf("%s.1.%d", c.network, n)), `address = "127.0.0.1"`,
			fmt.Sprintf("address = %q", fmt.Sprintf("%s.2.%d", c.network, n)), `address = "127.0.0.1"`,
		}
		ports := map[string]string{}
		for _, old := range []string{"6200", "6201", "6202", "6203"} {
			ports[old] = free()
			replace = append(replace, "port = "+old, "port = "+ports[old])
		}
		if err := os.WriteFile(path, []byte(strings.NewReplacer(replace...).Replace(string(text))), 0o600); err != nil {
			t.Fatal(err)
		}
		for kind, port := range map[string]string{"account": "6202", "container": "6201", "object": "6200"} {
			b := c.file("rings/" + kind + ".builder")
			for _, words := range []string{
				fmt.Sprintf("set-info --yes -- %s %s.1.%d -localhost:%sRlocalhost:%s", b, c.network, n, ports[port], ports["6203"]),
				"write-ring " + b,
			} {
				if code, stdout, stderr := martlet(t, append([]string{"ring"}, strings.Fields(words)...)...); code != 0 {
					t.Fatalf("ring %s: exit status %d\n%s%s", words, code, stdout, stderr)
				}
			}
		}
	}
	c.start(t)
	tok := token(t, c.url())
	as(t, tok, http.MethodPut, c.url()+"/v1/AUTH_test/papers", nil, http.StatusCreated)
	want := map[string]string{}
	write := func(when string) {
		t.Helper()
		for i := range 40 {
			object, text := fmt.Sprint(when, i), strings.Repeat(fmt.Sprint(when, i, " "), 100)
			want[object] = text
			as(t, tok, http.MethodPut, c.url()+"/v1/AUTH_test/papers/"+object, strings.NewReader(text), http.StatusCreated)
		}
	}
	write("all")
	c.storage[1].signal(t, os.Kill)
	c.storage[1].wait(t, 10*time.Second)
	write("without")
	c.startStorage(t, 1)
	c.awaitAll(t)
	c.replicate(t)
	for hash, at := range c.held(t, "objects") {
		if len(at) != 3 {
			t.Errorf("%s is on %v, want three devices", hash, at)
		}
	}
	c.readable(t, tok, want)
}

// broken takes a disk away from a running node, with all that is on it.
func (c *cluster) broken(t *testing.T, node int, device string) {
	t.Helper()
	folder := filepath.Join(c.dir, fmt.Sprint("storage", node), device)
	poll(t, 20*time.Second, "the disk is empty", func() error { return os.RemoveAll(folder) }) // the node may be writing
	c.isUp(t, node, device, false)
}

// renewed puts an empty disk in its place.
func (c *cluster) renewed(t *testing.T, node int, device string) {
	t.Helper()
	if err := os.Mkdir(filepath.Join(c.dir, fmt.Sprint("storage", node), device), 0o750); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := martlet(t, "device", "init", "--config", c.file(fmt.Sprintf("storage%d.toml", node)), "--device", device)
	if code != 0 {
		t.Fatalf("device init: exit status %d\n%s%s", code, stdout, stderr)
	}
	c.isUp(t, node, device, true)
}

// refusesPartPower has something written while a node is away, and the part power not
// raised: neither while the node can't be asked, nor while handoffs hold what is its.
func (c *cluster) refusesPartPower(t *testing.T, tok string, want map[string]string) {
	t.Helper()
	path := c.file("rings/object.builder")
	refused := func(says string) {
		t.Helper()
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		code, stdout, stderr := martlet(t, "ring", "increase-part-power", path, "--cluster", c.file("proxy.toml"))
		after, err := os.ReadFile(path)
		if code != 2 || !strings.Contains(stderr, says) || err != nil || string(before) != string(after) {
			t.Fatalf("exit status %d, %v\n%s%s\nwant 2, %q, and the builder as it was", code, err, stdout, stderr, says)
		}
	}
	c.storage[1].signal(t, os.Kill)
	c.storage[1].wait(t, 10*time.Second)
	for i := range 20 {
		object, text := fmt.Sprintf("away%d", i), fmt.Sprint("written while a node is away: ", i)
		want[object] = text
		as(t, tok, http.MethodPut, c.url()+"/v1/AUTH_test/papers/"+object, strings.NewReader(text), http.StatusCreated)
	}
	refused("a storage node does not answer")
	c.startStorage(t, 1)
	c.awaitAll(t)
	refused("of objects")
}

// located pastes what `martlet locate` prints: primaries have it, handoffs have not.
func (c *cluster) located(t *testing.T) {
	t.Helper()
	for _, names := range []string{"AUTH_test", "AUTH_test papers", "AUTH_test papers o7"} {
		code, stdout, stderr := martlet(t, append(append([]string{"locate"}, strings.Fields(names)...), "--config", c.file("proxy.toml"))...)
		if code != 0 || !strings.Contains(stdout, "partition ") {
			t.Fatalf("locate %s: exit status %d\n%s%s", names, code, stdout, stderr)
		}
		tried := 0
		for line := range strings.Lines(stdout) {
			command, isCurl := strings.CutPrefix(strings.TrimSpace(line), "curl ")
			if !isCurl {
				continue
			}
			tried++
			got := shell(t, "", "curl -s -o /dev/null -w '%{http_code}' "+command, 20*time.Second)
			if away := strings.HasSuffix(command, "# handoff"); away != (got == "404") {
				t.Errorf("%s answers %s", line, got)
			}
		}
		if tried < 4 {
			t.Errorf("locate %s: %d lines to paste\n%s", names, tried, stdout)
		}
	}
}
