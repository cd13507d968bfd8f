package test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// setting reads a number from the environment: how long the crash tests go on,
// and from which seed.
func setting(t *testing.T, name string, normal uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return normal
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// newCrashBench starts a cluster on devices that may lose power, if disks is set,
// and makes the clients. With zero a sync of the log writes no metadata: then nothing but the
// sync of a directory makes a name in it durable, while else one of the log does as well.
func newCrashBench(t *testing.T, daemon program, seed uint64, withDisks, zero bool) (b *crashBench, disks []*disk) {
	t.Helper()
	return newCrashBenchOf(t, daemon, seed, withDisks, zero, unlike{})
}

// unlike is which of the containers are not plain ones; "" for none.
type unlike struct {
	versioned string // it has versions
	coded     string // its objects are in 2+1 fragments
}

// newCrashBenchOf is newCrashBench where some of the containers are not plain ones.
func newCrashBenchOf(t *testing.T, daemon program, seed uint64, withDisks, zero bool, not unlike) (b *crashBench, disks []*disk) {
	t.Helper()
	c := &cluster{dir: filepath.Join(t.TempDir(), "cluster"), network: network(t), nodes: 4, daemon: daemon}
	if withDisks {
		for n := range c.nodes {
			disks = append(disks, newDisk(t, filepath.Join(c.dir, fmt.Sprintf("storage%d", n+1), "d1")))
		}
	}
	flags := []string{"--devices", "1", "--part-power", "6"}
	if not.coded != "" {
		flags = append(flags, "--nodes", "4", "--policy", "ec21=2+1")
	}
	c.init(t, flags...)
	for n := range c.nodes { // queued rows are delivered soon, so that they need not be waited for
		name := c.file(fmt.Sprintf("storage%d.toml", n+1))
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		fast := strings.Replace(string(text), "[updater]\ninterval = \"5s\"", "[updater]\ninterval = \"500ms\"", 1)
		if fast == string(text) {
			t.Fatalf("%s has no interval of the updater to change", name)
		}
		if zero {
			text := fast
			if fast = strings.Replace(text, "[store]\n", "[store]\nzero_segments = true\n", 1); fast == text {
				t.Fatalf("%s says nothing of the store", name)
			}
		}
		if err := os.WriteFile(name, []byte(fast), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.start(t)
	tok := token(t, c.url())
	b = &crashBench{newWorkload(c.url(), tok, seed), c}
	a := &api{url: b.url, token: tok}
	for _, container := range crashContainers {
		policy := "Policy-0"
		if container == not.coded {
			policy = "ec21"
		}
		a.want(t, http.StatusCreated, "PUT", "/"+container, "", "X-Storage-Policy", policy)
	}
	b.coded = not.coded
	if b.versioned = not.versioned; b.versioned != "" {
		a.want(t, http.StatusNoContent, "POST", "/"+b.versioned, "", "X-Versions-Enabled", "true")
	}
	return b, disks
}

// tally says what a bench has seen.
func (b *crashBench) tally(began time.Time) string {
	return fmt.Sprintf("%d requests, %d writes acknowledged and %d unknown, %.0f s",
		b.requests.Load(), b.acks.Load(), b.unknown.Load(), time.Since(began).Seconds())
}

// checkEvery is how many faults there are between two checks of everything.
const checkEvery = 4

// kills kills processes under load, starts them again, and checks what is left
// of what they said.
func (b *crashBench) kills(t *testing.T, n int, seed uint64) (did string, err error) {
	ctx, c := t.Context(), b.cluster
	chance := rand.New(rand.NewPCG(seed, 1<<32))
	var one, all, proxies int
	stop := b.run(ctx, crashClients)
	defer func() {
		stop()
		did = fmt.Sprintf("killed one node %d times, all nodes %d times, the proxy %d times", one, all, proxies)
	}()
	for i := range n {
		var victims []**process
		switch kind := chance.IntN(10); {
		case kind < 6:
			victims = append(victims, &c.storage[chance.IntN(c.nodes)])
			one++
		case kind < 8:
			for n := range c.storage {
				victims = append(victims, &c.storage[n])
			}
			all++
		default:
			victims = append(victims, &c.proxy)
			proxies++
		}
		err := b.after(ctx, 1+chance.IntN(40), func() {
			for _, v := range victims {
				_ = (*v).cmd.Process.Kill() // waited for below
			}
		})
		if err != nil {
			return "", fmt.Errorf("before kill %d: %w", i+1, err)
		}
		for _, v := range victims {
			(*v).wait(t, 5*time.Second)
		}
		if len(victims) == 1 && victims[0] != &c.proxy {
			// The others carry on.
			if err := b.after(ctx, 1+chance.IntN(30), func() {}); err != nil {
				return "", fmt.Errorf("after kill %d, with one node away: %w", i+1, err)
			}
		}
		look := (i+1)%checkEvery == 0 || i+1 == n
		if look {
			stop() // before those that were killed are back: nothing after them counts
		}
		b.restart(t)
		if look {
			if err := b.check(ctx); err != nil {
				return "", fmt.Errorf("after kill %d: %w", i+1, err)
			}
			stop = b.run(ctx, crashClients)
		}
	}
	stop()
	if err := b.checkListings(ctx); err != nil {
		return "", err
	}
	return "", b.finish(ctx)
}

// restart starts every process that has ended, and waits until they answer.
func (b *crashBench) restart(t *testing.T) {
	t.Helper()
	c := b.cluster
	for n, p := range c.storage {
		if p.ended() {
			c.startStorage(t, n)
		}
	}
	if c.proxy.ended() {
		c.startProxy(t)
	}
	c.awaitAll(t)
}

// cuts cuts the power of nodes under load, of one or of all at one instant,
// starts them again, and checks after each what is left of what they said.
func (b *crashBench) cuts(t *testing.T, disks []*disk, n int, seed uint64) (did string, err error) {
	ctx, c := t.Context(), b.cluster
	chance := rand.New(rand.NewPCG(seed, 2<<32))
	var one, all int
	defer func() { did = fmt.Sprintf("cut the power of one node %d times, of all nodes %d times", one, all) }()
	for i := range n {
		// The last cut of an even number is of all, and so is every other before it.
		victims := make([]int, 0, c.nodes)
		if i%2 == 0 {
			victims = append(victims, chance.IntN(c.nodes))
			one++
		} else {
			for n := range c.nodes {
				victims = append(victims, n)
			}
			all++
		}
		// Of many writers one helps the other: what each syncs takes along what the
		// other has forgotten to. So half of the time there is only one.
		writers := crashClients
		if i/2%2 == 0 {
			writers = 1
		}
		if err := b.cut(ctx, disks, victims, writers, 1+chance.IntN(30)); err != nil {
			return "", fmt.Errorf("cut %d: %w", i+1, err)
		}
		gone := make([]*process, 0, c.nodes+1)
		for _, n := range victims {
			gone = append(gone, c.storage[n])
		}
		if len(victims) > 1 && chance.IntN(2) == 0 {
			gone = append(gone, c.proxy)
		}
		for _, p := range gone {
			_ = p.cmd.Process.Kill() // waited for in the next line
			p.wait(t, 5*time.Second)
		}
		for _, n := range victims {
			disks[n].again(t)
		}
		b.restart(t)
		if err := b.check(ctx); err != nil {
			return "", fmt.Errorf("after cut %d, of %d nodes, under %d writers: %w", i+1, len(victims), writers, err)
		}
		if (i+1)%checkEvery == 0 || i+1 == n {
			if err := b.checkListings(ctx); err != nil {
				return "", fmt.Errorf("after cut %d, of %d nodes, under %d writers: %w", i+1, len(victims), writers, err)
			}
		}
	}
	return "", b.finish(ctx)
}

// cut lets clients write until some writes were acknowledged, cuts the power with
// the last of these, and lets them go on writing to what is left for a moment.
func (b *crashBench) cut(ctx context.Context, disks []*disk, victims []int, writers, acks int) error {
	dark := make([]*disk, len(victims))
	for i, n := range victims {
		dark[i] = disks[n]
	}
	stop := b.run(ctx, writers)
	defer stop()
	var failed error
	if err := b.after(ctx, acks, func() { failed = cut(dark) }); err != nil {
		return err
	}
	if failed != nil {
		return failed
	}
	before := b.requests.Load()
	return pollErr(ctx, crashPatience, func() error {
		if n := b.requests.Load() - before; n < 10 && b.failure() == nil {
			return fmt.Errorf("only %d requests since the cut", n)
		}
		return nil
	})
}

// What was acknowledged is there, whole, whichever process is killed under load;
// what was deleted stays deleted; listings and counts agree with it.
func TestCrashKill(t *testing.T) {
	seed, n := setting(t, "MARTLET_SEED", rand.Uint64()), int(setting(t, "MARTLET_KILLS", 40))
	began := time.Now()
	b, _ := newCrashBench(t, program{path: binary}, seed, false, seed%2 == 0)
	did, err := b.kills(t, n, seed)
	t.Logf("seed %d: %s; %s", seed, did, b.tally(began))
	if err != nil {
		t.Fatalf("MARTLET_SEED=%d: %v", seed, err)
	}
}

// The same when disks lose power: what was acknowledged was on a majority of them.
func TestCrashPowerCut(t *testing.T) {
	seed, n := setting(t, "MARTLET_SEED", rand.Uint64()), int(setting(t, "MARTLET_CUTS", 20))
	began := time.Now()
	b, disks := newCrashBench(t, program{path: binary}, seed, true, seed%2 == 0)
	did, err := b.cuts(t, disks, n, seed)
	t.Logf("seed %d: %s; %s", seed, did, b.tally(began))
	if err != nil {
		t.Fatalf("MARTLET_SEED=%d: %v", seed, err)
	}
}

// The same of versions: those that were acknowledged are there, and the object is the last
// of them.
func TestCrashKillWithVersions(t *testing.T) {
	seed, n := setting(t, "MARTLET_SEED", rand.Uint64()), int(setting(t, "MARTLET_KILLS", 20))
	began := time.Now()
	b, _ := newCrashBenchOf(t, program{path: binary}, seed, false, seed%2 == 0, unlike{versioned: crashContainers[1]})
	did, err := b.kills(t, n, seed)
	t.Logf("seed %d: %s; %s", seed, did, b.tally(began))
	if err != nil {
		t.Fatalf("MARTLET_SEED=%d: %v", seed, err)
	}
}

// The same of objects in fragments: a reader sees the version before or the new one, whole,
// whoever was killed at which step of the PUT.
func TestCrashKillWithFragments(t *testing.T) {
	seed, n := setting(t, "MARTLET_SEED", rand.Uint64()), int(setting(t, "MARTLET_KILLS", 12))
	began := time.Now()
	b, _ := newCrashBenchOf(t, program{path: binary}, seed, false, seed%2 == 0, unlike{coded: crashContainers[1]})
	did, err := b.kills(t, n, seed)
	t.Logf("seed %d: %s; %s", seed, did, b.tally(began))
	if err != nil {
		t.Fatalf("MARTLET_SEED=%d: %v", seed, err)
	}
}

// And when disks lose power.
func TestCrashPowerCutWithFragments(t *testing.T) {
	seed, n := setting(t, "MARTLET_SEED", rand.Uint64()), int(setting(t, "MARTLET_CUTS", 6))
	began := time.Now()
	b, disks := newCrashBenchOf(t, program{path: binary}, seed, true, seed%2 == 0, unlike{coded: crashContainers[1]})
	did, err := b.cuts(t, disks, n, seed)
	t.Logf("seed %d: %s; %s", seed, did, b.tally(began))
	if err != nil {
		t.Fatalf("MARTLET_SEED=%d: %v", seed, err)
	}
}

// The tests above notice when a promise is broken: a build that leaves out the
// syncs of files, of directories or of databases does not get through few power
// cuts, nor one that answers before it has renamed through few kills.
func TestCrashIsNoticed(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "martlet-nosync")
	if err := build(broken, "nosync"); err != nil {
		t.Fatal(err)
	}
	for drop, run := range map[string]func(*testing.T, program, uint64, bool) (string, error){
		"file": noticeCut, "dir": noticeCut, "db": noticeCut, "order": noticeKill,
	} {
		t.Run(drop, func(t *testing.T) {
			seed, began := setting(t, "MARTLET_SEED", rand.Uint64()), time.Now()
			did, err := run(t, program{broken, []string{"MARTLET_DROP=" + drop}}, seed, drop == "dir")
			if err == nil {
				t.Fatalf("MARTLET_SEED=%d: broken on purpose, and not noticed: %s", seed, did)
			}
			t.Logf("%s, in %.0f s: %v", did, time.Since(began).Seconds(), err)
		})
	}
}

// noticeCut and noticeKill go on until something is noticed. That takes a few faults, but of the right sort, and
// once in a while chance has few of those among many.
func noticeCut(t *testing.T, daemon program, seed uint64, zero bool) (string, error) {
	b, disks := newCrashBench(t, daemon, seed, true, zero)
	return b.cuts(t, disks, 60, seed)
}

func noticeKill(t *testing.T, daemon program, seed uint64, zero bool) (string, error) {
	b, _ := newCrashBench(t, daemon, seed, false, zero)
	return b.kills(t, 240, seed)
}
