package test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"martlet/ring"
)

// lab is a lab that a test has put up.
type lab struct {
	program, dir string
	clients      *http.Client // in the namespace of the client
	token        string
}

// labStatus is what `lab status --json` says, as far as tests look.
type labStatus struct {
	Up    bool
	Nodes []struct {
		Name, State string
		Pid         int
		Legs        []struct{ Network, Address, State string }
		Devices     []struct {
			Name, Path, State string
			Free              int64
		}
	}
}

const labEndpoint = "http://10.77.0.250:8080"

// newLab makes one that is not yet up. Names of namespaces are in a folder that only these tests see.
func newLab(t *testing.T) *lab {
	t.Helper()
	if !isApart() {
		t.Fatal("a lab has networks and file systems of its own: run this test as root, with the right to make namespaces and to mount (CAP_SYS_ADMIN)")
	}
	const names = "/run/netns"
	if err := errors.Join(os.MkdirAll(names, 0o755), unix.Mount("tmpfs", names, "tmpfs", 0, "")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(names, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	l := &lab{program: filepath.Join(filepath.Dir(binary), "lab"), dir: filepath.Join(t.TempDir(), "lab")}
	if err := buildOf("martlet/deploy/lab", l.program); err != nil {
		t.Fatal(err)
	}
	l.clients = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DialContext: dialIn("lab-client")}}
	t.Cleanup(func() { // also of a test that failed
		l.clients.CloseIdleConnections()
		if out, err := l.try(context.Background(), "down"); err != nil {
			t.Errorf("lab down: %v\n%s", err, out)
		}
	})
	return l
}

// try runs a lab command.
func (l *lab) try(ctx context.Context, args ...string) (out string, err error) {
	cmd := exec.CommandContext(ctx, l.program, append([]string{"--dir", l.dir}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("lab %s: %w\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String(), nil
}

// do runs one that must succeed.
func (l *lab) do(t *testing.T, args ...string) string {
	t.Helper()
	out, err := l.try(t.Context(), args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return out
}

func (l *lab) status(t *testing.T) (s labStatus) {
	t.Helper()
	if err := json.Unmarshal([]byte(l.do(t, "status", "--quick", "--json")), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// inNamespace runs f on a thread in a network namespace, which ends with it.
func inNamespace(name string, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if unix.Gettid() == unix.Getpid() {
			// The first thread does not end, and where it is the process is taken to be.
			err := inNamespace(name, f)
			runtime.UnlockOSThread()
			done <- err
			return
		}
		at, err := os.Open("/run/netns/" + name)
		if err == nil {
			err = errors.Join(unix.Setns(int(at.Fd()), unix.CLONE_NEWNET), at.Close())
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// dialIn connects from a network namespace.
func dialIn(namespace string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (c net.Conn, err error) {
		err = inNamespace(namespace, func() (err error) {
			c, err = new(net.Dialer).DialContext(ctx, network, address)
			return err
		})
		return c, err
	}
}

// reaches says whether a node of the lab can connect to an address.
func reaches(t *testing.T, node, address string) error {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	c, err := dialIn("lab-"+node)(ctx, "tcp", address)
	if err == nil {
		err = c.Close()
	}
	return err
}

// call sends a request as a client, through the balancer.
func (l *lab) call(ctx context.Context, method, path string, body []byte) (code int, got []byte, err error) {
	r, err := http.NewRequestWithContext(ctx, method, labEndpoint+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if l.token == "" {
		r.Header.Set("X-Auth-User", "test:tester")
		r.Header.Set("X-Auth-Key", "testing")
	}
	r.Header.Set("X-Auth-Token", l.token)
	resp, err := l.clients.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	if l.token == "" {
		l.token = resp.Header.Get("X-Auth-Token")
	}
	got, err = io.ReadAll(resp.Body)
	return resp.StatusCode, got, err
}

func (l *lab) want(t *testing.T, code int, method, path string, body []byte) []byte {
	t.Helper()
	got, answer, err := l.call(t.Context(), method, path, body)
	if err != nil || got != code {
		t.Fatalf("%s %s: %d, %v, want %d\n%s", method, path, got, err, code, answer)
	}
	return answer
}

// put stores an object of its own content, and get reads it.
func (l *lab) put(t *testing.T, object string, size int) {
	t.Helper()
	l.want(t, http.StatusCreated, http.MethodPut, "/v1/AUTH_test/c/"+object, bytes.Repeat([]byte(object+"\n"), size/(len(object)+1)))
}

func (l *lab) get(t *testing.T, object string, size int) {
	t.Helper()
	if got := l.want(t, http.StatusOK, http.MethodGet, "/v1/AUTH_test/c/"+object, nil); !bytes.Equal(got, bytes.Repeat([]byte(object+"\n"), size/(len(object)+1))) {
		t.Fatalf("GET of %s: %d bytes that are not those of the PUT", object, len(got))
	}
}

// replicate has nodes make one pass each.
func (l *lab) replicate(t *testing.T, nodes ...string) {
	t.Helper()
	for _, n := range nodes {
		l.do(t, "exec", n, "--", binary, "replicate", "--once", "--config", filepath.Join(l.dir, "cluster/etc", n+".toml"))
	}
}

// left is what a lab might leave behind: namespaces, mounts, loop devices, files and processes.
func (l *lab) left(t *testing.T) (all []string) {
	t.Helper()
	names, err := os.ReadDir("/run/netns")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		all = append(all, "namespace "+n.Name())
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		all = append(all, "mount "+strings.Fields(line)[4])
	}
	loops, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	for _, loop := range loops {
		// Others on this machine have loop devices as well.
		if text, err := os.ReadFile(loop); err == nil && strings.HasPrefix(string(text), filepath.Dir(l.dir)+"/") {
			all = append(all, "loop device of "+string(text))
		}
	}
	if _, err := os.Stat(l.dir); err == nil {
		all = append(all, "folder "+l.dir)
	}
	for _, pid := range pids(t) {
		command, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) // nothing where it has ended
		if text := string(bytes.ReplaceAll(command, []byte{0}, []byte(" "))); strings.Contains(text, l.dir) {
			all = append(all, "process "+text)
		}
	}
	slices.Sort(all)
	return all
}

func pids(t *testing.T) (all []int) {
	t.Helper()
	names, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		var pid int
		if _, err := fmt.Sscanf(n.Name(), "%d", &pid); err == nil && pid != os.Getpid() {
			all = append(all, pid)
		}
	}
	return all
}

// packets counts what the switch of a lab sees, until it is closed.
type packets struct {
	fd   int
	done chan struct{}

	mu    sync.Mutex
	bytes map[string]map[uint16]int // of TCP by network and by the server's port; guarded by mu
	odd   map[string]bool           // what there should not be; guarded by mu
}

// servers are the ports on which something of a lab listens.
var servers = []uint16{6200, 6201, 6202, 6203, 6209, 8080, 8404, 9090}

func watchSwitch(t *testing.T) *packets {
	t.Helper()
	p := &packets{done: make(chan struct{}), bytes: map[string]map[uint16]int{}, odd: map[string]bool{}}
	networks := map[int]string{}
	err := inNamespace("lab-switch", func() (err error) {
		all, err := net.Interfaces()
		if err != nil {
			return err
		}
		for _, i := range all {
			for end, network := range map[string]string{"-m": "mgmt", "-s": "storage", "-r": "repl"} {
				if strings.HasSuffix(i.Name, end) {
					networks[i.Index] = network
				}
			}
		}
		const everything = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL&0xff<<8
		if p.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, everything); err != nil {
			return err
		}
		// It looks every tenth of a second whether it is to end.
		return errors.Join(
			unix.SetsockoptTimeval(p.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}),
			unix.SetsockoptInt(p.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20))
	})
	if err != nil {
		t.Fatal(err)
	}
	var ended sync.WaitGroup
	ended.Go(func() {
		buf := make([]byte, 64<<10)
		for {
			n, from, err := unix.Recvfrom(p.fd, buf, 0)
			select {
			case <-p.done:
				return
			default:
			}
			if at, ok := from.(*unix.SockaddrLinklayer); err == nil && ok && networks[at.Ifindex] != "" {
				p.take(networks[at.Ifindex], buf[:n])
			}
		}
	})
	t.Cleanup(func() {
		close(p.done)
		ended.Wait()
		_ = unix.Close(p.fd)
	})
	return p
}

// take counts a frame, if it is of TCP.
func (p *packets) take(network string, frame []byte) {
	const ethernet = 14
	if len(frame) < ethernet+20 || frame[12] != 8 || frame[13] != 0 || frame[ethernet+9] != unix.IPPROTO_TCP {
		return
	}
	ip := frame[ethernet:]
	header := int(ip[0]&15) * 4
	if len(ip) < header+4 {
		return
	}
	third := map[string]byte{"mgmt": 0, "storage": 1, "repl": 2}[network]
	from, to := uint16(ip[header])<<8|uint16(ip[header+1]), uint16(ip[header+2])<<8|uint16(ip[header+3])
	p.mu.Lock()
	defer p.mu.Unlock()
	if ip[14] != third || ip[18] != third {
		p.odd[fmt.Sprintf("%v to %v on %s", net.IP(ip[12:16]), net.IP(ip[16:20]), network)] = true
	}
	port := to
	if slices.Contains(servers, from) {
		port = from
	}
	if p.bytes[network] == nil {
		p.bytes[network] = map[uint16]int{}
	}
	p.bytes[network][port] += len(frame)
}

// of is how many bytes there were so far.
func (p *packets) of(network string, ports ...uint16) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, port := range ports {
		n += p.bytes[network][port]
	}
	return n
}

// The lab is up soon; each network carries what belongs there and nothing else; nodes reach only what they are on;
// what is broken is broken, what is mended is whole, and no object is lost; and nothing is left behind.
func TestLab(t *testing.T) {
	l := newLab(t)
	before := l.left(t)

	// An up that fails on its way can be taken down.
	if out, err := l.try(t.Context(), "up", "--martlet", "/bin/false"); err == nil || !strings.Contains(err.Error(), "dev init") {
		t.Fatalf("up with a program that fails: %v\n%s", err, out)
	}
	l.do(t, "down")
	if after := l.left(t); !slices.Equal(before, after) {
		t.Fatalf("an up that failed has left\n%v\nof\n%v", after, before)
	}
	l.do(t, "down") // once more is fine

	began := time.Now()
	l.do(t, "up")
	l.want(t, http.StatusOK, http.MethodGet, "/auth/v1.0", nil)
	l.want(t, http.StatusCreated, http.MethodPut, "/v1/AUTH_test/c", nil)
	l.put(t, "first", 10)
	t.Logf("up to the first PUT: %v", time.Since(began).Round(10*time.Millisecond))
	if s := l.status(t); !s.Up {
		t.Fatalf("not whole: %+v", s)
	}
	l.do(t, "up") // once more changes nothing

	l.networks(t)
	l.addNode(t)
	l.networkFaults(t)
	l.nodeFaults(t)
	l.deviceFaults(t)

	if s := l.status(t); !s.Up {
		t.Errorf("not whole after everything was mended: %+v", s)
	}
	for object, size := range map[string]int{"first": 10, "large": 3 << 20, "behind": 2 << 20, "powerless": 1 << 20, "full": 1 << 20} {
		l.get(t, object, size)
	}
	// Of a lab that has lost its processes nothing is left either.
	for _, n := range l.status(t).Nodes {
		if n.Pid != 0 && n.Name != "storage1" {
			if err := syscall.Kill(n.Pid, syscall.SIGKILL); err != nil {
				t.Error(err)
			}
		}
	}
	l.clients.CloseIdleConnections()
	l.do(t, "down")
	if after := l.left(t); !slices.Equal(before, after) {
		t.Errorf("down has left\n%v\nof\n%v", after, before)
	}
}

// networks reads the packets of clients at work and of replication.
func (l *lab) networks(t *testing.T) {
	wire := watchSwitch(t)
	l.put(t, "large", 3<<20)
	l.get(t, "large", 3<<20)

	// A node that misses a write gets it by replication.
	l.do(t, "cut", "storage1", "storage")
	if err := reaches(t, "monitor", "10.77.1.1:6209"); err == nil {
		t.Error("a node that is cut from the storage network is reached on it")
	}
	if err := reaches(t, "storage2", "10.77.2.1:6203"); err != nil {
		t.Errorf("a node that is cut from the storage network is not reached on the other: %v", err)
	}
	l.put(t, "behind", 2<<20)
	l.get(t, "behind", 2<<20)
	l.do(t, "heal", "storage1", "storage")
	poll(t, 10*time.Second, "the healed node is reached", func() error { return reaches(t, "monitor", "10.77.1.1:6209") })
	l.replicate(t, "storage2", "storage3", "storage4", "storage1")
	poll(t, 10*time.Second, "each network has carried what is its own", func() error {
		for _, of := range []struct {
			network string
			port    uint16
			least   int
		}{
			{"mgmt", 8080, 8 << 20}, {"storage", 6200, 12 << 20}, {"storage", 6201, 100}, {"storage", 6202, 100}, {"storage", 6209, 100},
			{"repl", 6203, 1000},
		} {
			if n := wire.of(of.network, of.port); n < of.least {
				return fmt.Errorf("only %d bytes of port %d on %s", n, of.port, of.network)
			}
		}
		return nil
	})
	wire.mu.Lock()
	defer wire.mu.Unlock()
	t.Logf("bytes by network and port: %v", wire.bytes)
	for network, may := range map[string][]uint16{"mgmt": {8080, 8404, 9090, 6209}, "storage": {6200, 6201, 6202, 6209}, "repl": {6203}} {
		for port, n := range wire.bytes[network] {
			if !slices.Contains(may, port) {
				t.Errorf("%d bytes of port %d on %s", n, port, network)
			}
		}
	}
	for what := range wire.odd {
		t.Errorf("an address of another network: %s", what)
	}

	// Nodes reach what they have a leg on. A client does not get further with a route of its own making either.
	if err := reaches(t, "client", "10.77.0.1:8080"); err != nil {
		t.Errorf("the client does not reach a proxy: %v", err)
	}
	l.do(t, "exec", "client", "--", "ip", "route", "add", "10.77.1.0/24", "dev", "mgmt")
	l.do(t, "exec", "client", "--", "ip", "route", "add", "10.77.2.0/24", "via", "10.77.0.1")
	for from, not := range map[string][]string{
		"client":   {"10.77.1.1:6200", "10.77.1.101:8080", "10.77.2.1:6203"},
		"balancer": {"10.77.1.1:6200"},
		"proxy1":   {"10.77.2.1:6203"},
		"storage1": {"10.77.0.1:8080"},
	} {
		for _, to := range not {
			if err := reaches(t, from, to); err == nil {
				t.Errorf("%s reaches %s", from, to)
			}
		}
	}
}

// addNode adds a node, which comes into all rings once nothing is where it does not belong.
func (l *lab) addNode(t *testing.T) {
	l.replicate(t, "storage1", "storage2", "storage3", "storage4")
	l.do(t, "add-node", "--wait", "2m")
	if err := reaches(t, "storage1", "10.77.2.5:6203"); err != nil {
		t.Errorf("the node that was added is not reached by others: %v", err)
	}
	for name, port := range map[string]int{"account": 6202, "container": 6201, "object": 6200} {
		r, err := ring.Load(filepath.Join(l.dir, "cluster/etc/rings", name+".ring.gz"))
		if err != nil {
			t.Fatal(err)
		}
		partitions := 0 // that it has a replica of
		for p := range ring.Partition(r.Partitions()) {
			for _, d := range r.AppendPrimaries(nil, p) {
				if d.IP == "10.77.1.5" && d.Port == port && d.ReplicationIP == "10.77.2.5" {
					partitions++
				}
			}
		}
		if partitions == 0 {
			t.Errorf("the ring %s has nothing for the node that was added", name)
		}
	}
}

// networkFaults makes a leg slow, and pulls a cable.
func (l *lab) networkFaults(t *testing.T) {
	roundTrip := func() time.Duration {
		began := time.Now()
		if err := reaches(t, "monitor", "10.77.1.2:6209"); err != nil {
			t.Fatal(err)
		}
		return time.Since(began)
	}
	l.do(t, "slow", "storage2", "storage", "20mbit", "--delay", "60ms")
	if took := roundTrip(); took < 120*time.Millisecond {
		t.Errorf("an answer over a leg with 60 ms each way takes %v", took)
	}
	l.do(t, "cut", "storage2", "storage", "--cable")
	if err := reaches(t, "monitor", "10.77.1.2:6209"); err == nil {
		t.Error("a node whose cable is pulled is reached")
	}
	l.wantLeg(t, "storage2", "storage", "cable") // what delays has not ended of it
	l.do(t, "heal", "storage2", "storage")
	l.do(t, "cut", "storage2", "repl", "--cable")
	l.do(t, "slow", "storage2", "repl", "none", "--delay", "60ms")
	l.wantLeg(t, "storage2", "repl", "cable")
	l.do(t, "heal", "storage2", "repl")
	poll(t, 10*time.Second, "the healed leg is fast", func() error {
		if took := roundTrip(); took > 100*time.Millisecond {
			return fmt.Errorf("an answer takes %v", took)
		}
		return nil
	})
}

// wantLeg wants the leg of a node to be in a state.
func (l *lab) wantLeg(t *testing.T, node, network, state string) {
	t.Helper()
	for _, n := range l.status(t).Nodes {
		for _, leg := range n.Legs {
			if n.Name == node && leg.Network == network && leg.State != state {
				t.Errorf("the leg of %s on %s is %s, want %s", node, network, leg.State, state)
			}
		}
	}
}

// nodeFaults has nodes hang, die and lose power.
func (l *lab) nodeFaults(t *testing.T) {
	l.do(t, "pause", "proxy1")
	l.do(t, "kill", "storage4")
	for _, n := range l.status(t).Nodes {
		if want := map[string]string{"proxy1": "paused", "storage4": "gone"}[n.Name]; want != "" && n.State != want {
			t.Errorf("%s is %s, want %s", n.Name, n.State, want)
		}
	}
	l.do(t, "resume", "proxy1")
	l.do(t, "start", "storage4")
	poll(t, 30*time.Second, "a PUT after the proxy was resumed", func() error {
		code, answer, err := l.call(t.Context(), http.MethodPut, "/v1/AUTH_test/c/powerless", bytes.Repeat([]byte("powerless\n"), 1<<20/10))
		if err != nil || code != http.StatusCreated {
			return fmt.Errorf("%d, %w\n%s", code, err, answer)
		}
		return nil
	})
	l.do(t, "power", "--off", "storage1", "storage2", "storage3", "storage4")
	for _, n := range l.status(t).Nodes {
		if strings.HasPrefix(n.Name, "storage") && n.Name != "storage5" && n.State != "dark" {
			t.Errorf("%s is %s, without power", n.Name, n.State)
		}
	}
	if err := reaches(t, "monitor", "10.77.1.3:6209"); err == nil {
		t.Error("a node without power is reached")
	}
	l.do(t, "start", "storage1", "storage2", "storage3", "storage4")
	poll(t, 30*time.Second, "the object after the power cut", func() error {
		code, got, err := l.call(t.Context(), http.MethodGet, "/v1/AUTH_test/c/powerless", nil)
		if err != nil || code != http.StatusOK || len(got) != 1<<20/10*10 {
			return fmt.Errorf("%d and %d bytes, %w", code, len(got), err)
		}
		return nil
	})
}

// deviceFaults fills, fails and damages devices.
func (l *lab) deviceFaults(t *testing.T) {
	l.do(t, "fill", "storage3", "d1")
	for _, n := range l.status(t).Nodes {
		for _, d := range n.Devices {
			if full := d.Free < 1<<20; full != (n.Name == "storage3" && d.Name == "d1") {
				t.Errorf("%s of %s has %d bytes free", d.Name, n.Name, d.Free)
			}
		}
	}
	l.put(t, "full", 1<<20)
	l.do(t, "free", "storage3", "d1")

	l.do(t, "fail", "storage2", "d1")
	if err := os.WriteFile(filepath.Join(l.dir, "cluster/storage2/d1/x"), nil, 0o600); !errors.Is(err, syscall.EIO) {
		t.Errorf("writing to a device that fails: %v", err)
	}
	l.do(t, "fail", "storage2", "d2", "--unmount")
	if there, err := os.ReadDir(filepath.Join(l.dir, "cluster/storage2/d2")); err != nil || len(there) > 0 {
		t.Errorf("in the folder of a device that has vanished there is %v, %v", there, err)
	}
	l.do(t, "mend", "storage2", "d1")
	l.do(t, "mend", "storage2", "d2")

	var said struct {
		Flips []struct {
			File   string
			Offset int64
		}
	}
	text := l.do(t, "flip", "storage4", "d1", "--bits", "2", "--in", "log", "--json")
	if err := json.Unmarshal([]byte(text), &said); err != nil || len(said.Flips) != 2 {
		t.Fatalf("flip of two bits: %v\n%s", err, text)
	}
	for _, f := range said.Flips {
		if _, err := os.Stat(filepath.Join(l.dir, "cluster/storage4/d1", f.File)); err != nil || !strings.HasPrefix(f.File, "log/") {
			t.Errorf("flipped a bit of %s: %v", f.File, err)
		}
	}
}
