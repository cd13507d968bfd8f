// Package test is Martlet from the outside: the built binary as separate
// processes, and the clients that people have: curl, python-swiftclient's swift,
// and rclone.
//
// Each cluster has a folder and a loopback network of its own, so that tests and
// whatever else runs on the machine don't meet. Nothing waits for time to pass:
// what is waited for is polled, within a bound.
package test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binary is the program under test, built by TestMain.
var binary string

func TestMain(m *testing.M) {
	code, err := startApart()
	if code < 0 && err == nil {
		code, err = buildAndRun(m)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func buildAndRun(m *testing.M) (code int, err error) {
	for _, client := range []string{"bash", "curl", "swift", "rclone"} {
		if _, err := exec.LookPath(client); err != nil {
			return 0, fmt.Errorf("%w: test/clients.sh installs what these tests want", err)
		}
	}
	dir, err := os.MkdirTemp("", "martlet-test-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	binary = filepath.Join(dir, "martlet")
	if err := build(binary); err != nil {
		return 0, err
	}
	return m.Run(), nil
}

// build compiles the program to a path, with build tags, and else as `make build` does, from whose cache most of it is.
func build(path string, tags ...string) error { return buildOf("martlet/cmd/martlet", path, tags...) }

// buildOf is build of any program.
func buildOf(program, path string, tags ...string) error {
	cmd := exec.CommandContext(context.Background(), "go", "build", "-trimpath", "-tags", strings.Join(tags, ","),
		"-ldflags", "-X main.version=v0.0.0-test", "-o", path, program)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	return nil
}

// poll calls check until it returns nil, every few milliseconds.
func poll(t *testing.T, within time.Duration, what string, check func() error) {
	t.Helper()
	err := pollErr(t.Context(), within, check)
	if err != nil {
		t.Fatalf("%s: not within %v: %v", what, within, err)
	}
}

func pollErr(ctx context.Context, within time.Duration, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// process is one martlet that runs. It is reaped at the test's end at the latest.
type process struct {
	name string
	cmd  *exec.Cmd
	out  lines
	err  lines
	done chan struct{} // closed when it has ended; then state may be read
}

// lines is output that is read while it is being written.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// program is a form of martlet that can be run: its path, and what its
// environment has besides that of the tests.
type program struct {
	path string
	env  []string
}

// start runs martlet with the arguments.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	return program{path: binary}.start(t, args...)
}

func (m program) start(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{name: strings.Join(args, " "), cmd: exec.Command(m.path, args...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.err
	p.cmd.Env = append(os.Environ(), m.env...)
	p.cmd.Dir = t.TempDir()
	p.cmd.WaitDelay = 10 * time.Second // a child that it has left may hold its output
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // the state says how it ended
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it may have ended already
		<-p.done
		if text := p.err.String(); strings.Contains(text, "DATA RACE") || strings.Contains(text, "panic:") {
			t.Errorf("%s broke", p.name)
		}
		if t.Failed() {
			t.Logf("%s: %v\nstdout:\n%s\nstderr:\n%s", p.name, p.cmd.ProcessState, p.out.String(), p.err.String())
		}
	})
	return p
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// signal sends one and does not wait.
func (p *process) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
}

// wait returns the exit status, -1 where a signal ended it.
func (p *process) wait(t *testing.T, within time.Duration) int {
	t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(within):
		p.signal(t, syscall.SIGQUIT) // its goroutines, on its standard error
		<-p.done
		t.Fatalf("%s: did not end within %v", p.name, within)
	}
	return 0
}

// martlet runs to its end, and returns exit status and output.
func martlet(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	p := start(t, args...)
	code = p.wait(t, 20*time.Second)
	return code, p.out.String(), p.err.String()
}

// networks are those that were given out: tests run beside each other, and one that has
// a network may not listen on it yet. Each has a listener of this process's, as long as that runs, which others that run these tests see: the check is beside them.
var networks sync.Map

// network returns the first two numbers of loopback addresses on which nothing
// listens, and which no other test here has.
func network(t *testing.T) string {
	t.Helper()
	first := rand.IntN(200)
	for i := range 200 {
		n := fmt.Sprintf("127.%d", 20+(first+i*7)%200)
		if _, taken := networks.Load(n); taken || !free(n+".0.1:8080") || !free(n+".0.1:6209") || !free(n+".1.1:6200") {
			continue
		}
		claim, err := net.Listen("tcp", n+".255.254:6199")
		if err != nil {
			continue // another's
		}
		networks.Store(n, claim)
		return n
	}
	t.Fatal("no loopback network is free")
	return ""
}

func free(address string) bool {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return false
	}
	return l.Close() == nil
}

// cluster is one of a process each, made by `martlet dev init`.
type cluster struct {
	dir, network string
	nodes        int
	daemon       program // what its processes are
	proxy        *process
	storage      []*process
}

func newCluster(t *testing.T, flags ...string) *cluster {
	t.Helper()
	c := &cluster{dir: filepath.Join(t.TempDir(), "cluster"), network: network(t), daemon: program{path: binary}}
	c.init(t, flags...)
	return c
}

// init makes the cluster's files.
func (c *cluster) init(t *testing.T, flags ...string) {
	t.Helper()
	args := append([]string{"dev", "init", "--dir", c.dir, "--network", c.network, "--listen", c.address()}, flags...)
	code, stdout, stderr := martlet(t, args...)
	if code != 0 {
		t.Fatalf("dev init: exit status %d\n%s%s", code, stdout, stderr)
	}
	nodes, err := filepath.Glob(c.file("storage*.toml"))
	if err != nil {
		t.Fatal(err)
	}
	c.nodes = len(nodes)
	t.Cleanup(func() {
		names, _ := filepath.Glob(filepath.Join(c.dir, "log", "*.log")) // the pattern is right
		for _, name := range names {
			if text, err := os.ReadFile(name); err != nil || bytes.Contains(text, []byte("panic in a ")) {
				t.Errorf("%s tells of a panic, or %v", name, err)
			}
		}
		if t.Failed() {
			c.logs(t, names)
		}
	})
}

// logs shows the ends of the processes' logs.
func (c *cluster) logs(t *testing.T, names []string) {
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Log(err)
			continue
		}
		t.Logf("%s:\n%s", filepath.Base(name), text[max(0, len(text)-4000):])
	}
}

func (c *cluster) address() string { return c.network + ".0.1:8080" }
func (c *cluster) url() string     { return "http://" + c.address() }

func (c *cluster) file(name string) string { return filepath.Join(c.dir, "etc", name) }

// start runs every process and waits until all of them answer.
func (c *cluster) start(t *testing.T) {
	t.Helper()
	c.storage = make([]*process, c.nodes)
	for n := range c.nodes {
		c.startStorage(t, n)
	}
	c.startProxy(t)
	c.awaitAll(t)
}

// startStorage starts storage node n, counted from 0, and does not wait for it.
func (c *cluster) startStorage(t *testing.T, n int) {
	t.Helper()
	c.storage[n] = c.daemon.start(t, "storage", "--config", c.file(fmt.Sprintf("storage%d.toml", n+1)))
}

func (c *cluster) startProxy(t *testing.T) {
	t.Helper()
	c.proxy = c.daemon.start(t, "proxy", "--config", c.file("proxy.toml"))
}

// awaitAll waits until every process answers.
func (c *cluster) awaitAll(t *testing.T) {
	t.Helper()
	for n := range c.nodes {
		c.await(t, c.storage[n], fmt.Sprintf("http://%s.1.%d:6209/healthcheck", c.network, n+1))
	}
	c.await(t, c.proxy, c.url()+"/healthcheck")
}

func (c *cluster) await(t *testing.T, p *process, url string) {
	t.Helper()
	poll(t, 15*time.Second, p.name, func() error {
		if p.ended() {
			t.Fatalf("%s ended: %v\n%s", p.name, p.cmd.ProcessState, p.err.String())
		}
		resp, err := http.Get(url)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	})
}

func (c *cluster) processes() []*process { return append([]*process{c.proxy}, c.storage...) }

// stop ends every process with a signal, the proxy first.
func (c *cluster) stop(t *testing.T, s os.Signal) {
	t.Helper()
	for _, p := range c.processes() {
		p.signal(t, s)
		code := p.wait(t, 20*time.Second)
		if want := map[bool]int{true: -1, false: 0}[s == os.Kill]; code != want {
			t.Errorf("%s: exit status %d after %v, want %d\n%s", p.name, code, s, want, p.err.String())
		}
	}
}

// token signs in as test:tester.
func token(t *testing.T, url string) string {
	t.Helper()
	r := request(t, "GET", url+"/auth/v1.0", nil)
	r.Header.Set("X-Auth-User", "test:tester")
	r.Header.Set("X-Auth-Key", "testing")
	resp := do(t, r)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("X-Auth-Token") == "" {
		t.Fatalf("sign in: %s, %v", resp.Status, resp.Header)
	}
	if got, want := resp.Header.Get("X-Storage-Url"), url+"/v1/AUTH_test"; got != want {
		t.Fatalf("storage URL %q, want %q", got, want)
	}
	return resp.Header.Get("X-Auth-Token")
}

func request(t *testing.T, method, url string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// answer is a response whose body was read.
type answer struct {
	*http.Response
	body []byte
}

// staying is a client to which a redirection is an answer like others.
var staying = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

func do(t *testing.T, r *http.Request) answer {
	t.Helper()
	resp, err := staying.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		t.Fatalf("%s %s: %v", r.Method, r.URL, err)
	}
	return answer{resp, body}
}

// as sends a request with a token, and wants a status.
func as(t *testing.T, token, method, url string, body io.Reader, want int) answer {
	t.Helper()
	r := request(t, method, url, body)
	r.Header.Set("X-Auth-Token", token)
	a := do(t, r)
	if a.StatusCode != want {
		t.Fatalf("%s %s: %s, want %d\n%s", method, url, a.Status, want, a.body)
	}
	return a
}

// shell runs a script as a person would who pasted it, and returns what it printed
// on the standard output.
func shell(t *testing.T, dir, script string, within time.Duration) string {
	t.Helper()
	out, err := run(t, dir, script, within)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// run is shell for a script that may fail.
func run(t *testing.T, dir, script string, within time.Duration) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = dir
	cmd.WaitDelay = time.Second
	// No settings of whoever runs the tests.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "LC_ALL=C.UTF-8"}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s\n%w\n%s%s", script, err, tail(stdout.Bytes()), tail(stderr.Bytes()))
	}
	return stdout.String(), nil
}

func tail(out []byte) []byte { return out[max(0, len(out)-4000):] }

// anonymous is the memory of a process that is its own, in bytes.
func anonymous(pid int) (int64, error) {
	f, err := os.Open(filepath.Join("/proc", strconv.Itoa(pid), "smaps_rollup"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) == 3 && fields[0] == "Anonymous:" {
			n, err := strconv.ParseInt(fields[1], 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("no Anonymous line for process %d", pid)
}
