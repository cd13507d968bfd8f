// Package floor is what a benchmark of Martlet can be held against: the least that
// moving, hashing and syncing the same bytes takes on the same machine, with the same
// generator, in the same run.
//
// A read is two hops: a client's connection is read by a proxy, which asks a storage
// server over a connection of its own, and hands back what comes. A write goes from the
// proxy to three of them, its MD5 computed once; each appends it to the log of its
// device, where writers who come at the same time share one write and one fdatasync,
// and the client is answered when all three have. With Rows each has told a server of
// listings before it answers, which appends the row to its own device's log in the same
// way: an acknowledged PUT of Martlet's has done that.
//
// There is no HTTP, no name, no index, no checksum but the MD5, no check of anything
// and no second try: nothing here is fit for anything but being measured. Servers and
// connections are goroutines of one process, as in martlet dev, which is another one than
// the generator's, so that each has its own processor time.
package floor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"martlet/cmd/internal/bench/load"
	"martlet/cmd/internal/bench/procs"
	"martlet/cmd/internal/bench/result"
	"martlet/cmd/internal/bench/work"
)

// Replicas is how many devices a write goes to.
const Replicas = 3

// Bounds of options.
const (
	MaxSize    = 1 << 20
	MaxDevices = 64
	maxClients = 10_000
	maxRounds  = 1_000
)

// grace is how long what is under way at the end of a round is waited for.
const grace = 10 * time.Second

// readyWithin is how long servers may take to listen, or to end.
const readyWithin = 10 * time.Second

// Options are what to measure.
type Options struct {
	Kind        work.Kind // Put or Get
	Size        int64     // of what is written or read, in bytes, 1 to MaxSize
	Concurrency int
	Devices     int  // logs, each with a storage server, Replicas to MaxDevices
	Rows        bool // each device tells a listing of a Put before it answers

	Duration time.Duration // of a round
	Rounds   int
	Warmup   time.Duration

	Dir     string // an existing folder, whose file system has the logs; their files have no names
	Version string
	Doing   func(text string) // what is being done; may be nil
}

// Defaults returns options that need a kind: a log for each device of a cluster of martlet dev would be 8 Devices.
func Defaults() Options {
	return Options{
		Size: 4 << 10, Concurrency: 32, Devices: Replicas, Duration: 10 * time.Second, Rounds: 5, Warmup: time.Second, Dir: ".",
	}
}

// Check says all that makes no sense, a line each.
func (o *Options) Check() error {
	var all []error
	wrong := func(bad bool, format string, args ...any) {
		if bad {
			all = append(all, fmt.Errorf(format, args...))
		}
	}
	wrong(o.Kind != work.Put && o.Kind != work.Get, "there is no floor of %v", o.Kind)
	wrong(o.Size < 1 || o.Size > MaxSize, "--size %d: want 1 to %d bytes", o.Size, MaxSize)
	wrong(o.Concurrency < 1 || o.Concurrency > maxClients, "--concurrency %d: want 1 to %d", o.Concurrency, maxClients)
	wrong(o.Devices < Replicas || o.Devices > MaxDevices, "--devices %d: want %d to %d", o.Devices, Replicas, MaxDevices)
	wrong(o.Rounds < 1 || o.Rounds > maxRounds, "--rounds %d: want 1 to %d", o.Rounds, maxRounds)
	wrong(o.Duration <= 0, "--duration %v: must be above 0", o.Duration)
	wrong(o.Warmup < 0, "--warmup %v: must not be negative", o.Warmup)
	return errors.Join(all...)
}

// Servers are a process that serves.
type Servers struct {
	PID     int
	Address string // of its proxy

	cmd  *exec.Cmd
	stop io.Closer
	done chan error
}

// Start starts servers for o: program, with arguments that make it call Serve, print what
// Ready says of its proxy, and end when its standard input does. So it never outlives
// who started it.
func Start(ctx context.Context, o *Options, program string, args ...string) (*Servers, error) {
	args = append(args, "--dir", o.Dir, "--devices", strconv.Itoa(o.Devices), "--size", strconv.FormatInt(o.Size, 10))
	if o.Rows {
		args = append(args, "--rows")
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), program, args...) //nolint:gosec // it is this program; Stop ends it, in order
	s := &Servers{cmd: cmd, done: make(chan error, 1)}
	s.cmd.Stderr = os.Stderr
	in, err := s.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	s.stop = in
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	s.PID = s.cmd.Process.Pid
	ready := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(out).ReadString('\n') // what is no address tells itself
		ready <- strings.TrimSpace(line)
		s.done <- s.cmd.Wait()
	}()
	select {
	case line := <-ready:
		address, ok := strings.CutPrefix(line, readyWord)
		if !ok {
			return nil, errors.Join(fmt.Errorf("%s did not serve: it said %q", program, line), s.Stop())
		}
		s.Address = address
		return s, nil
	case <-time.After(readyWithin):
		return nil, errors.Join(errors.New("the servers of the floor are not ready"), s.Stop())
	}
}

// readyWord stands before the address.
const readyWord = "ready "

// Ready is what servers print when their proxy listens at an address.
func Ready(address string) string { return readyWord + address + "\n" }

// Stop ends the process, and waits for it.
func (s *Servers) Stop() error {
	err := s.stop.Close()
	select {
	case ended := <-s.done:
		return errors.Join(err, ended)
	case <-time.After(readyWithin):
		return errors.Join(err, s.cmd.Process.Kill(), <-s.done)
	}
}

// Run measures servers that were started for the same options.
func Run(ctx context.Context, o Options, s *Servers) (*result.Report, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	hands := make([]*hand, o.Concurrency)
	defer func() {
		for _, h := range hands {
			if h != nil {
				_ = h.conn.Close() // nothing is on its way
			}
		}
	}()
	for i := range hands {
		h, err := newHand(ctx, &o, s.Address)
		if err != nil {
			return nil, err
		}
		hands[i] = h
	}
	r := newReport(&o, s)
	objects := work.New(work.Plan{Mix: work.Only(o.Kind), Workers: o.Concurrency, Objects: 1 << 20, Seed: 1})
	l := load.Load{
		Mix: work.Only(o.Kind), Workers: o.Concurrency, Grace: grace, Next: objects.Next,
		Do: func(ctx context.Context, i int, op work.Op) load.Outcome { return hands[i].do(ctx, op) },
	}
	if o.Warmup > 0 {
		l.Duration = o.Warmup
		if l.Run(ctx); ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	l.Duration = o.Duration
	for n := range o.Rounds {
		if o.Doing != nil {
			o.Doing(fmt.Sprintf("round %d of %d: floor of %v", n+1, o.Rounds, o.Kind))
		}
		watch, err := procs.Start(procs.Listed([]int{s.PID}))
		if err != nil {
			return nil, err
		}
		before := procs.Own()
		m := l.Run(ctx)
		generator := procs.Own().Since(before)
		servers := watch.Stop()
		r.Rounds = append(r.Rounds, result.RoundOf(m, generator, &servers, procs.MachineLoad()))
		if r.Interrupted = m.Interrupted; r.Interrupted {
			break
		}
	}
	r.Summary = r.Summarize()
	return r, nil
}

func newReport(o *Options, s *Servers) *result.Report {
	operation := "floor " + o.Kind.String()
	if o.Rows && o.Kind == work.Put {
		operation += ", with rows"
	}
	return &result.Report{
		Version: result.Version, Martlet: o.Version, Began: time.Now().UTC(),
		Machine: result.Machine{CPUs: runtime.NumCPU(), Go: runtime.Version(), Kernel: procs.Kernel()},
		Settings: result.Settings{
			Operation: operation, Mix: work.Only(o.Kind).String(), Size: strconv.FormatInt(o.Size, 10), Concurrency: o.Concurrency, Containers: o.Devices,
			Seconds: o.Duration.Seconds(), Warmup: o.Warmup.Seconds(), Name: "floor", Endpoints: []string{s.Address}, Servers: strconv.Itoa(s.PID),
		},
	}
}

// hand is a client's connection. It is for one goroutine.
type hand struct {
	conn net.Conn
	size int64
	buf  []byte
}

func newHand(ctx context.Context, o *Options, address string) (*hand, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	h := &hand{conn: c, size: o.Size, buf: make([]byte, headSize+o.Size)}
	_, _ = rand.NewChaCha8([32]byte{}).Read(h.buf) // a disk may be quicker with zeros
	return h, nil
}

// do sends a request, and reads its answer.
func (h *hand) do(ctx context.Context, op work.Op) load.Outcome {
	if ctx.Err() != nil {
		return load.Outcome{Failure: "cut off at the end"}
	}
	rq := head{op: opGet, size: h.size, object: uint64(op.Object)}
	out := h.buf[:headSize]
	if op.Kind == work.Put {
		rq.op = opPut
		out = h.buf
	}
	rq.write(out)
	if _, err := h.conn.Write(out); err != nil {
		return load.Outcome{Failure: "not sent", Detail: err.Error()}
	}
	n, err := readMessage(h.conn, h.buf)
	if err != nil {
		return load.Outcome{Failure: "not answered", Detail: err.Error()}
	}
	if want := headSize + h.size; op.Kind == work.Get && int64(n) != want {
		return load.Outcome{Status: 200, Wrong: fmt.Sprintf("%d bytes of %d", n, want)}
	}
	return load.Outcome{Status: 200, Bytes: h.size, OK: true}
}
