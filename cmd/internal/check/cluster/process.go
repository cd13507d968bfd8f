package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// upWithin is how long a process may take to answer, and downWithin to end after SIGTERM, on a
	// machine that is busy.
	upWithin   = 60 * time.Second
	downWithin = 60 * time.Second
)

// A DownError is of a process that does not come up, or does not end, when it should: the cluster's fault, and not the
// machine's.
type DownError struct{ error }

// Unwrap returns what there is to say of it.
func (e DownError) Unwrap() error { return e.error }

// Down tells it from other errors.
func (DownError) Down() bool { return true }

// process is one of a cluster's. It is for one caller at a time, but for what says otherwise.
type process struct {
	name, binary string
	other        string // the program of another version, that exchange puts in its place; "" for none
	args, env    []string
	health       string // URL
	out          string // the file of what it prints

	mu     sync.Mutex
	cmd    *exec.Cmd     // nil while it does not run; guarded by mu
	done   chan struct{} // closed when it has ended
	ending bool          // it was told to; guarded by mu
	paused bool          // guarded by mu
	deaths []string      // how it has ended by itself; guarded by mu
}

// start starts it, and does not wait until it answers. One that runs already is left alone.
func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		return nil
	}
	out, err := os.OpenFile(p.out, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	cmd := exec.Command(p.binary, p.args...) //nolint:gosec,noctx // it is ours, and lives until it is told to end
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = append(os.Environ(), p.env...)
	// A group of its own, so that what is typed at the terminal is for the check alone; and none outlives it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return errors.Join(err, out.Close())
	}
	p.cmd, p.done, p.ending, p.paused = cmd, make(chan struct{}), false, false
	go func(done chan struct{}) {
		_ = cmd.Wait()  // the state says how it ended
		_ = out.Close() // it was written by another
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.ending {
			p.deaths = append(p.deaths, fmt.Sprintf("%s ended by itself: %v\n%s", p.name, cmd.ProcessState, tail(p.out, 2000)))
		}
		p.cmd = nil
		close(done)
	}(p.done)
	return nil
}

// tail is the end of a file.
func tail(path string, n int64) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = f.Close() }() // it was only read from
	if info, err := f.Stat(); err == nil && info.Size() > n {
		_, _ = f.Seek(-n, io.SeekEnd) // from the beginning is more than was asked for
	}
	b, _ := io.ReadAll(f) // what can be read of it
	return string(b)
}

// running reports whether it runs, also while it stands still. It is safe for concurrent use.
func (p *process) running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd != nil
}

// signal sends one to a process that runs; ends says that it is to end by it.
func (p *process) signal(s syscall.Signal, ends bool) (done chan struct{}, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return nil, nil
	}
	p.ending = p.ending || ends
	err = p.cmd.Process.Signal(s)
	if errors.Is(err, os.ErrProcessDone) { // just now: done is about to be closed
		err = nil
	}
	return p.done, err
}

// kill kills it, and waits for that.
func (p *process) kill() {
	if done, err := p.signal(syscall.SIGKILL, true); done != nil && err == nil {
		<-done
	}
}

// end ends it in good order, and kills it where that takes too long, which is an error.
func (p *process) end(ctx context.Context) error {
	if err := p.resume(); err != nil {
		return err
	}
	done, err := p.signal(syscall.SIGTERM, true)
	if done == nil || err != nil {
		return err
	}
	timer := time.NewTimer(downWithin)
	defer timer.Stop()
	select {
	case <-done:
		return nil
	case <-timer.C:
		err = DownError{fmt.Errorf("%s did not end within %v of SIGTERM", p.name, downWithin)}
	case <-ctx.Done():
		err = ctx.Err()
	}
	p.kill()
	return err
}

// exchange ends it, by kill -9 if hard, and has the other version of the program be what start starts. It is ended in any case, and
// exchanged unless there is an error.
func (p *process) exchange(ctx context.Context, hard bool) error {
	if hard {
		p.kill()
	} else if err := p.end(ctx); err != nil {
		return err
	}
	p.binary, p.other = p.other, p.binary
	return nil
}

// pause has it stand still until resume.
func (p *process) pause() error {
	p.mu.Lock()
	p.paused = true
	p.mu.Unlock()
	_, err := p.signal(syscall.SIGSTOP, false)
	return err
}

func (p *process) resume() error {
	p.mu.Lock()
	paused := p.paused
	p.paused = false
	p.mu.Unlock()
	if !paused {
		return nil
	}
	_, err := p.signal(syscall.SIGCONT, false)
	return err
}

// took returns how it has ended by itself since the last call. It is safe for concurrent use.
func (p *process) took() (deaths []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	deaths, p.deaths = p.deaths, nil
	return deaths
}

// up waits until it answers.
func (p *process) up(ctx context.Context) error {
	ctx, stop := context.WithTimeoutCause(ctx, upWithin, DownError{fmt.Errorf("%s does not answer within %v", p.name, upWithin)})
	defer stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := healthy(ctx, p.health)
		if err == nil {
			return nil
		}
		if !p.running() {
			return DownError{fmt.Errorf("%s ended: %s", p.name, strings.TrimSpace(tail(p.out, 500)))}
		}
		select {
		case <-ctx.Done():
			if cause := context.Cause(ctx); errors.As(cause, new(DownError)) {
				return DownError{fmt.Errorf("%w: %w", cause, err)}
			}
			return ctx.Err()
		case <-tick.C:
		}
	}
}

var asker = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}

func healthy(ctx context.Context, url string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := asker.Do(r)
	if err != nil {
		return err
	}
	if err := resp.Body.Close(); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

// outFile is what a process prints, beside its log.
func outFile(dir, name string) string { return filepath.Join(dir, "log", name+".out") }
