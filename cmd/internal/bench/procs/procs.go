// Package procs measures what processes use while a benchmark runs: processor time and
// memory, as Linux tells them in /proc.
//
// Processor time is user and system time of all threads, those that have ended
// included, in the ticks in which the kernel counts it (10 ms): a measurement should take
// so long that this doesn't matter. What runs in the background counts as well.
// Memory is looked at now and then: its peak is that of what was seen. Bytes written are those that the processes
// caused to be written, as far as they did while it was measured.
package procs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// ticks is how many of them a second has: USER_HZ, which is 100 on all that Go runs on.
const ticks = 100

// often is how often memory is looked at.
const often = 250 * time.Millisecond

// Usage is what processes have used.
type Usage struct {
	Processes int           // how many there were in the end, or were seen
	User      time.Duration // of all of them, while it was measured
	System    time.Duration
	RSS       int64 // bytes: the largest sum that was seen
	Anonymous int64 // bytes of it that are no files: heap and stacks; likewise

	// Written is how many bytes they had written to disks, directly or to the page cache, from where that comes
	// later; of processes of other users 0, as only they may know.
	Written int64
}

// CPU is user and system time together.
func (u Usage) CPU() time.Duration { return u.User + u.System }

// A Finder says which processes are to be measured.
type Finder func() ([]int, error)

// Listed finds the processes that were named. All of them have to be there.
func Listed(pids []int) Finder {
	return func() ([]int, error) {
		for _, pid := range pids {
			if _, err := readUsed("/proc", pid); err != nil {
				return nil, err
			}
		}
		return pids, nil
	}
}

// Named finds the processes of a command, this one excepted: those whose first or second
// argument (of a script the second) is a path that ends in it. At least one has to be
// there.
func Named(command string) Finder {
	return func() ([]int, error) {
		entries, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			return nil, err
		}
		var found []int
		for _, name := range entries {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			if err != nil || pid == os.Getpid() {
				continue
			}
			if text, err := os.ReadFile(name); err == nil && runs(text, command) { // else it has ended
				found = append(found, pid)
			}
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("no process runs %s", command)
		}
		return found, nil
	}
}

// Below finds processes and all that they have started, as far as that has not been handed to another parent. All that
// were named have to be there.
func Below(pids []int) Finder { return below("/proc", pids) }

func below(root string, pids []int) Finder {
	return func() ([]int, error) {
		for _, pid := range pids {
			if _, err := readUsed(root, pid); err != nil {
				return nil, err
			}
		}
		entries, err := filepath.Glob(filepath.Join(root, "[0-9]*"))
		if err != nil {
			return nil, err
		}
		children := map[int][]int{}
		for _, dir := range entries {
			pid, err := strconv.Atoi(filepath.Base(dir))
			if err != nil {
				continue
			}
			if status, err := os.ReadFile(filepath.Join(dir, "status")); err == nil { // else it has ended
				parent := line(status, "PPid:")
				if n, err := strconv.Atoi(parent); err == nil {
					children[n] = append(children[n], pid)
				}
			}
		}
		found := slices.Clone(pids)
		for i := 0; i < len(found); i++ {
			for _, child := range children[found[i]] {
				if !slices.Contains(found, child) {
					found = append(found, child)
				}
			}
		}
		return found, nil
	}
}

// runs reports whether a command line is one of the command.
func runs(cmdline []byte, command string) bool {
	args := bytes.SplitN(cmdline, []byte{0}, 3)
	for _, arg := range args[:min(len(args), 2)] {
		if len(arg) > 0 && filepath.Base(string(arg)) == command {
			return true
		}
	}
	return false
}

// A Watch measures processes from Start to Stop. It is used once.
type Watch struct {
	root string
	find Finder

	mu          sync.Mutex
	first, last map[int]used // mu
	peak        Usage        // mu; its memory
	stop        chan struct{}
	done        sync.WaitGroup
}

// used is what one process has used, since it began.
type used struct {
	user, system   int64 // ticks
	rss, anonymous int64
	written        int64
}

// Start begins to measure.
func Start(find Finder) (*Watch, error) {
	w := &Watch{root: "/proc", find: find, first: map[int]used{}, last: map[int]used{}, stop: make(chan struct{})}
	pids, err := find()
	if err != nil {
		return nil, err
	}
	for _, pid := range pids {
		if u, err := readUsed(w.root, pid); err == nil { // else it has ended just now
			w.first[pid], w.last[pid] = u, u
		}
	}
	if len(w.first) == 0 {
		return nil, errors.New("the processes that were to be measured have ended")
	}
	w.look()
	w.done.Go(func() {
		tick := time.NewTicker(often)
		defer tick.Stop()
		for {
			select {
			case <-w.stop:
				return
			case <-tick.C:
				w.look()
			}
		}
	})
	return w, nil
}

// look looks at all that were known to be there. One that has ended keeps what it had.
func (w *Watch) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	var sum Usage
	for pid := range w.last {
		u, err := readUsed(w.root, pid)
		if err != nil || u.user+u.system < w.last[pid].user+w.last[pid].system {
			continue // it has ended, or its number is another's now
		}
		w.last[pid] = u
		sum.RSS += u.rss
		sum.Anonymous += u.anonymous
	}
	w.peak.RSS, w.peak.Anonymous = max(w.peak.RSS, sum.RSS), max(w.peak.Anonymous, sum.Anonymous)
}

// Stop ends it. Processes that came meanwhile count from their beginning.
func (w *Watch) Stop() Usage {
	close(w.stop)
	w.done.Wait()
	if pids, err := w.find(); err == nil { // else none came
		w.mu.Lock()
		for _, pid := range pids {
			if _, known := w.last[pid]; !known {
				w.last[pid] = used{}
			}
		}
		w.mu.Unlock()
	}
	w.look()
	w.mu.Lock()
	defer w.mu.Unlock()
	sum := w.peak
	sum.Processes = len(w.last)
	for pid, u := range w.last {
		sum.User += time.Duration(u.user-w.first[pid].user) * time.Second / ticks
		sum.System += time.Duration(u.system-w.first[pid].system) * time.Second / ticks
		sum.Written += u.written - w.first[pid].written
	}
	return sum
}

// readUsed reads what a process has used.
func readUsed(root string, pid int) (used, error) {
	dir := filepath.Join(root, strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return used{}, fmt.Errorf("process %d: %w", pid, err)
	}
	u, err := parseStat(stat)
	if err != nil {
		return used{}, fmt.Errorf("process %d: %w", pid, err)
	}
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return used{}, fmt.Errorf("process %d: %w", pid, err)
	}
	u.rss, u.anonymous = field(status, "VmRSS:"), field(status, "RssAnon:")
	if moved, err := os.ReadFile(filepath.Join(dir, "io")); err == nil { // else it is somebody else's
		u.written = number(line(moved, "write_bytes:"))
	}
	return u, nil
}

// parseStat finds the 14th and 15th field. The second is the name in brackets, in which
// there may be anything.
func parseStat(text []byte) (u used, err error) {
	end := bytes.LastIndexByte(text, ')')
	fields := strings.Fields(string(text[end+1:]))
	if end < 0 || len(fields) < 13 {
		return used{}, errors.New("its stat is in no known form")
	}
	if u.user, err = strconv.ParseInt(fields[11], 10, 64); err == nil {
		u.system, err = strconv.ParseInt(fields[12], 10, 64)
	}
	if err != nil || u.user < 0 || u.system < 0 {
		return used{}, errors.New("its stat is in no known form")
	}
	return u, nil
}

// field is a line of a status that is in kB, in bytes; 0 if there is none.
func field(status []byte, name string) int64 {
	return number(strings.TrimSuffix(line(status, name), " kB")) << 10
}

// number is a number that is not below 0; 0 of anything else.
func number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// line is what a line of a status says, "" if there is none.
func line(status []byte, name string) string {
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

// ParseList reads process numbers with commas between.
func ParseList(text string) (pids []int, err error) {
	for field := range strings.SplitSeq(text, ",") {
		pid, err := strconv.Atoi(field)
		if err != nil || pid < 1 {
			return nil, fmt.Errorf("%q is no process number", field)
		}
		if !slices.Contains(pids, pid) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
