package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"martlet/cmd/internal/bench/procs"
	"martlet/cmd/internal/bench/swift"
)

// A store is what is measured: processes of a folder's.
type store struct {
	name        string
	credentials swift.Credentials
	processes   []*process
	folders     []string    // outside of its own, taken away with it
	peak        procs.Usage // its memory
}

// readyWithin is how long a store may take until it answers, and endWithin to end.
const (
	readyWithin = time.Minute
	endWithin   = 20 * time.Second
)

// starters start the stores that there are, below a folder and on a loopback network of their own.
var starters = map[string]func(ctx context.Context, o *options, dir, network string) (*store, error){
	"martlet":           startMartlet,
	"martlet-processes": startMartletProcesses,
	martletTwo:          startMartletTwo,
	martletEC42:         startMartletEC42,
	"swift":             startSwift,
	"minio":             startMinIO,
	"seaweedfs":         startSeaweedFS,
}

func storeNames() (all []string) {
	for name := range starters {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// start starts a store, and returns when it lets somebody sign in. What it has started is
// returned also with an error.
func start(ctx context.Context, o *options, name, dir string) (*store, error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	network, err := freeNetwork()
	if err != nil {
		return nil, err
	}
	_, _ = fmt.Fprintf(o.progress, "%s is started on %s.0.1, below %s\n", name, network, dir) // nobody has to read it
	s, err := starters[name](ctx, o, dir, network)
	if s != nil {
		s.name = name
	}
	if err != nil {
		return s, err
	}
	return s, s.ready(ctx)
}

// ready waits until a client is let in.
func (s *store) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for {
		c, err := swift.Open(ctx, s.credentials, swift.Options{Connections: 1, Timeout: readyWithin})
		if err == nil {
			// A container that can be made says that the storage nodes are there as well.
			a, e := c.Sender(0).Do(ctx, swift.Request{Method: "PUT", Container: "ready"}, nil)
			c.Close()
			if err = e; err == nil && a.Status/100 == 2 {
				return nil
			}
			err = errors.Join(err, fmt.Errorf("the first container was answered with %d", a.Status))
		}
		for _, p := range s.processes {
			if p.ended() {
				return fmt.Errorf("%s has ended: %s", p.name, p.said())
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("it is not ready after %v: %w", readyWithin, err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// finder finds its processes, those that they start included.
func (s *store) finder() procs.Finder {
	var pids []int
	for _, p := range s.processes {
		pids = append(pids, p.cmd.Process.Pid)
	}
	return procs.Below(pids)
}

// stop ends all of it, those that were started last first.
func (s *store) stop() error {
	var all []error
	for _, p := range slices.Backward(s.processes) {
		all = append(all, p.stop())
	}
	for _, f := range s.folders {
		all = append(all, os.RemoveAll(f))
	}
	return errors.Join(all...)
}

// process is a program that runs, with all that it starts in a session of its own: some end
// their whole process group when they are told to end.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

// find returns where a program is that a flag names: it is started in another folder.
func find(flag, name string) (string, error) {
	program, err := exec.LookPath(name)
	if err == nil {
		program, err = filepath.Abs(program)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", flag, err)
	}
	return program, nil
}

// begin starts a program, whose output goes to a file of dir.
func (s *store) begin(dir, name string, env []string, program string, args ...string) error {
	log := filepath.Join(dir, name+".out")
	out, err := os.Create(log)
	if err != nil {
		return err
	}
	cmd := exec.Command(program, args...) //nolint:noctx // stop ends it, in order
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, out
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGTERM}
	err = cmd.Start()
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	p := &process{name: name, cmd: cmd, log: log, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended is of no interest: it was told to, or it is missed
		close(p.done)
	}()
	s.processes = append(s.processes, p)
	return nil
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// said is the end of what it has said.
func (p *process) said() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-2000):])
}

func (p *process) stop() error {
	select {
	case <-p.done: // by itself, it may be long ago: its number can be somebody else's by now
		return nil
	default:
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	var late error
	select {
	case <-p.done:
	case <-time.After(endWithin):
		late = fmt.Errorf("%s did not end within %v, and was killed", p.name, endWithin)
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // what it has left in its session, if anything
	<-p.done
	return late
}

// freeNetwork finds a loopback network that nothing listens on.
func freeNetwork() (string, error) {
	first := rand.IntN(200)
	for i := range 200 {
		n := fmt.Sprintf("127.%d", 20+(first+i*7)%200)
		if free(n+".0.1:8080") && free(n+".0.1:11211") && free(n+".0.1:9333") && free(n+".1.1:6200") && free(n+".2.1:6203") {
			return n, nil
		}
	}
	return "", errors.New("no loopback network is free")
}

func free(address string) bool {
	l, err := net.Listen("tcp", address) //nolint:noctx // it takes no time
	return err == nil && l.Close() == nil
}

// testUser is who every store knows here.
func testUser(address string) swift.Credentials {
	return swift.Credentials{URL: "http://" + address + "/auth/v1.0", User: "test:tester", Key: "testing"}
}
