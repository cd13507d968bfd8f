package handover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const roleVar = "HANDOVER_TEST_ROLE"

// TestMain is the successor where the environment says so.
func TestMain(m *testing.M) {
	switch os.Getenv(roleVar) {
	case "":
		os.Exit(m.Run())
	case "dies":
		os.Exit(7)
	case "hangs":
		_, _ = io.Copy(io.Discard, os.Stdin) // until it is killed
		<-context.Background().Done()
	case againRole:
		again()
	case "serves":
		if err := succeed(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

const (
	againRole = "again"
	leftVar   = "HANDOVER_TEST_LEFT"
)

// again is replaced by itself as often as the environment says.
func again() {
	left, err := strconv.Atoi(os.Getenv(leftVar))
	if err == nil && left == 0 {
		os.Exit(0)
	}
	p, self := Self()
	p.Env = append(slices.DeleteFunc(p.Env, func(v string) bool { return strings.HasPrefix(v, leftVar+"=") }), leftVar+"="+strconv.Itoa(left-1))
	fmt.Fprintln(os.Stderr, errors.Join(err, self, p.Replace()))
	os.Exit(1)
}

// succeed serves one request on the socket that it has got.
func succeed() error {
	in, err := Take()
	if err != nil {
		return err
	}
	if _, ok := in.Listener("api", "127.0.0.2:0"); ok {
		return fmt.Errorf("a socket of another address was taken")
	}
	l, ok := in.Listener("api", "127.0.0.1:0")
	if !ok {
		return fmt.Errorf("no socket: %v", in.listeners)
	}
	if left := os.Getenv(listenersVar) + os.Getenv(readyVar); left != "" {
		return fmt.Errorf("its own children would see %q", left)
	}
	if err := in.Ready(); err != nil {
		return err
	}
	asked := make(chan struct{})
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strconv.Itoa(os.Getpid()))
		close(asked)
	})}
	go func() { <-asked; _ = s.Shutdown(context.Background()) }()
	_ = s.Serve(l)
	return nil
}

func program(t *testing.T, role string) Program {
	t.Helper()
	p, err := Self()
	if err != nil {
		t.Fatal(err)
	}
	p.Env = append(p.Env, roleVar+"="+role)
	return p
}

func listen(t *testing.T) *net.TCPListener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener)
}

// A successor gets the sockets: what connects while nobody accepts is served by it, and the service manager is told of it.
func TestStart(t *testing.T) {
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	t.Setenv(notifyVar, manager.LocalAddr().String())
	p := program(t, "serves")
	l := listen(t)
	other := listen(t)
	pid, err := p.Start(t.Context(), map[string]net.Listener{"api": l, "admin": other}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	var b [200]byte
	n, err := manager.Read(b[:])
	if want := fmt.Sprintf("MAINPID=%d\nREADY=1", pid); err != nil || string(b[:n]) != want {
		t.Errorf("the service manager was told %q, %v, want %q", b[:n], err, want)
	}
	l.Close() // ours; the socket is the successor's
	resp, err := http.Get("http://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err != nil || string(got) != strconv.Itoa(pid) {
		t.Errorf("process %q answered, %v, want %d", got, err, pid)
	}
}

// Where the service manager can't be told whom to watch nothing is handed over: it would end both.
func TestManagerCantBeTold(t *testing.T) {
	t.Setenv(notifyVar, filepath.Join(t.TempDir(), "nobody"))
	pid, err := program(t, "serves").Start(t.Context(), map[string]net.Listener{"api": listen(t)}, time.Minute)
	if err == nil || !strings.Contains(err.Error(), "ended before it served") {
		t.Errorf("process %d: %v", pid, err)
	}
}

// A successor hands over in its turn: what its own predecessor said in the environment is not said again.
func TestStartOfSuccessor(t *testing.T) {
	t.Setenv(listenersVar, "admin=3,api=4")
	t.Setenv(readyVar, "9")
	p := program(t, "serves")
	l := listen(t)
	if _, err := p.Start(t.Context(), map[string]net.Listener{"api": l}, time.Minute); err != nil {
		t.Fatal(err)
	}
	l.Close()
	resp, err := http.Get("http://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

// A program that is exchanged is not ended by the signal that asked for it, when it comes once more.
func TestReplaceUnderSignals(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), roleVar+"="+againRole, leftVar+"=10")
	var said bytes.Buffer
	cmd.Stderr = &said
	// A program that has just begun has no handler: the first one inherits that, as all others do from Replace.
	signal.Ignore(syscall.SIGUSR2)
	defer signal.Reset(syscall.SIGUSR2)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("%v: %s", err, said.String())
			}
			return
		case <-time.After(100 * time.Microsecond):
			_ = cmd.Process.Signal(syscall.SIGUSR2) // it may have ended
		}
	}
}

// Where no successor comes to serve, the error says so, it is no more, and the sockets are ours and work.
func TestStartFails(t *testing.T) {
	for role, want := range map[string]string{"dies": "ended before it served: exit status 7", "hangs": "did not serve within"} {
		l := listen(t)
		wait := time.Minute
		if role == "hangs" {
			wait = 200 * time.Millisecond
		}
		pid, err := program(t, role).Start(t.Context(), map[string]net.Listener{"api": l}, wait)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", role, err, want)
		}
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil {
			t.Errorf("%s: process %d is there still", role, pid)
		}
		dialled := make(chan error, 1)
		go func() {
			c, err := net.Dial("tcp", l.Addr().String())
			if err == nil {
				err = c.Close()
			}
			dialled <- err
		}()
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		if err := <-dialled; err != nil {
			t.Error(err)
		}
	}
	none := Program{Path: filepath.Join(t.TempDir(), "none"), Args: []string{"none"}}
	if _, err := none.Start(t.Context(), nil, time.Minute); err == nil {
		t.Error("a program that is not there was started")
	}
	if err := none.Replace(); err == nil || !strings.Contains(err.Error(), none.Path) {
		t.Errorf("Replace: %v", err)
	}
}

// Which socket is of which address.
func TestSame(t *testing.T) {
	for _, tt := range []struct {
		at, address string
		want        bool
	}{
		{"127.0.0.1:80", "127.0.0.1:80", true},
		{"127.0.0.1:80", "127.0.0.1:81", false},
		{"127.0.0.1:80", "127.0.0.2:80", false},
		{"127.0.0.1:80", ":80", false},
		{"127.0.0.1:80", "127.0.0.1:0", true},
		{"[::]:80", ":80", true},
		{"[::]:80", "0.0.0.0:80", true},
		{"[::1]:80", "[::1]:80", true},
		{"[::1]:80", "nonsense", false},
	} {
		at, err := net.ResolveTCPAddr("tcp", tt.at)
		if err != nil {
			t.Fatal(err)
		}
		if got := same(at, tt.address); got != tt.want {
			t.Errorf("same(%s, %s) = %v", tt.at, tt.address, got)
		}
	}
}

// What the environment says is not believed where it makes no sense.
func TestTakeNonsense(t *testing.T) {
	for _, tt := range []struct{ listeners, ready string }{{"api=x", ""}, {"api=1", ""}, {"api=999", ""}, {"", "2"}, {"api", ""}} {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), roleVar+"=serves", listenersVar+"="+tt.listeners, readyVar+"="+tt.ready)
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "MARTLET_") {
			t.Errorf("%q, %q: %v: %s", tt.listeners, tt.ready, err, out)
		}
	}
}
