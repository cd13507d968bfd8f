package procs

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// written is how many bytes a process in a test has written for each tick of its own.
const written = 4096

// place makes what /proc has of a process.
func place(t *testing.T, root string, pid int, name string, user, system, rss, anonymous int64) {
	t.Helper()
	dir := filepath.Join(root, strconv.Itoa(pid))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	stat := strconv.Itoa(pid) + " (" + name + ") S 1 2 3 4 5 6 7 8 9 10 " + strconv.FormatInt(user, 10) + " " + strconv.FormatInt(system, 10) + " 0 0 20 0 1 0 100 1000 10\n"
	status := "Name:\t" + name + "\nVmRSS:\t" + strconv.FormatInt(rss, 10) + " kB\nRssAnon:\t " + strconv.FormatInt(anonymous, 10) + " kB\nThreads:\t3\n"
	moved := "rchar: 9\nwchar: 9\nread_bytes: 9\nwrite_bytes: " + strconv.FormatInt(written*user, 10) + "\ncancelled_write_bytes: 9\n"
	for file, text := range map[string]string{"stat": stat, "status": status, "io": moved} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// What counts is what was used in between: of those that were there, those that came, and those that have ended.
func TestWatch(t *testing.T) {
	root := t.TempDir()
	place(t, root, 10, "a b) S 1", 100, 50, 1000, 800)
	place(t, root, 11, "b", 7, 0, 500, 100)
	pids := []int{10, 11}
	w := &Watch{root: root, find: func() ([]int, error) { return pids, nil }, first: map[int]used{}, last: map[int]used{}, stop: make(chan struct{})}
	for _, pid := range pids {
		u, err := readUsed(root, pid)
		if err != nil {
			t.Fatal(err)
		}
		w.first[pid], w.last[pid] = u, u
	}
	place(t, root, 10, "a b) S 1", 150, 60, 3000, 2000)
	place(t, root, 11, "b", 17, 1, 500, 100)
	w.look()
	if err := os.RemoveAll(filepath.Join(root, "11")); err != nil {
		t.Fatal(err)
	}
	place(t, root, 10, "a b) S 1", 200, 70, 1000, 900)
	place(t, root, 12, "c", 5, 5, 100, 50)
	pids = []int{10, 12}
	u := w.Stop()
	want := Usage{Processes: 3, User: 1150 * time.Millisecond, System: 260 * time.Millisecond, RSS: 3500 << 10, Anonymous: 2100 << 10, Written: 115 * written}
	if u != want {
		t.Errorf("got %+v, want %+v", u, want)
	}
}

// Those that a process has started are found, also by those, and nobody else's.
func TestBelow(t *testing.T) {
	root := t.TempDir()
	for pid, parent := range map[int]int{1: 0, 10: 1, 11: 10, 12: 11, 13: 10, 20: 1, 21: 20, 30: 1} {
		place(t, root, pid, "x", 1, 1, 1, 1)
		file := filepath.Join(root, strconv.Itoa(pid), "status")
		if err := os.WriteFile(file, []byte("Name:\tx\nPid:\t"+strconv.Itoa(pid)+"\nPPid:\t"+strconv.Itoa(parent)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := below(root, []int{10, 30})()
	if slices.Sort(got); err != nil || !slices.Equal(got, []int{10, 11, 12, 13, 30}) {
		t.Errorf("below 10 and 30: %v, %v", got, err)
	}
	if got, err := below(root, []int{10, 99})(); err == nil {
		t.Errorf("one that is not there: %v", got)
	}
}

func TestParseStat(t *testing.T) {
	for _, text := range []string{"", "1", "1 (x", "1 (x) S 1 2", "1 (x) S 1 2 3 4 5 6 7 8 9 10 a b 1", "1 (x) S 1 2 3 4 5 6 7 8 9 10 -1 1 1"} {
		if u, err := parseStat([]byte(text)); err == nil {
			t.Errorf("%q: %+v, want an error", text, u)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("1 (x) S 1 2 3 4 5 6 7 8 9 10 11 12 13"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if u, err := parseStat(text); err == nil && (u.user < 0 || u.system < 0) {
			t.Errorf("%q: %+v", text, u)
		}
		field(text, "VmRSS:")
	})
}

func TestRuns(t *testing.T) {
	for _, tt := range []struct {
		cmdline, command string
		want             bool
	}{
		{"/usr/bin/martlet\x00storage\x00", "martlet", true},
		{"martlet\x00storage\x00", "martlet", true},
		{"/usr/bin/python3\x00/usr/bin/swift-object-server\x00/etc/x\x00", "swift-object-server", true},
		{"vi\x00a\x00martlet\x00", "martlet", false},
		{"/usr/bin/martlet-more\x00", "martlet", false},
		{"", "martlet", false},
		{"sh\x00-c\x00martlet\x00", "martlet", false},
	} {
		if got := runs([]byte(tt.cmdline), tt.command); got != tt.want {
			t.Errorf("%q is %s: %v", tt.cmdline, tt.command, got)
		}
	}
}

// Processes are found by their names, and this one, which measures, is none of them.
func TestFinders(t *testing.T) {
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	deadline := time.Now().Add(10 * time.Second)
	for found := false; !found; { // until it has become sleep
		pids, err := Named("sleep")()
		for _, pid := range pids {
			found = found || pid == cmd.Process.Pid
		}
		if !found && time.Now().After(deadline) {
			t.Fatalf("found %v (%v), want %d among them", pids, err, cmd.Process.Pid)
		}
	}
	if pids, err := Named(filepath.Base(os.Args[0]))(); err == nil {
		for _, pid := range pids {
			if pid == os.Getpid() {
				t.Error("it finds itself")
			}
		}
	}
	if pids, err := Named("no-such-program-anywhere")(); err == nil {
		t.Errorf("found %v", pids)
	}
	w, err := Start(Listed([]int{cmd.Process.Pid}))
	if err != nil {
		t.Fatal(err)
	}
	if u := w.Stop(); u.Processes != 1 || u.RSS == 0 || u.Anonymous == 0 || u.RSS < u.Anonymous {
		t.Errorf("%+v", u)
	}
	if _, err := Start(Listed([]int{1 << 30})); err == nil || !strings.Contains(err.Error(), "process 1073741824") {
		t.Errorf("of a process that is not there: %v", err)
	}
}

func TestParseList(t *testing.T) {
	if pids, err := ParseList("12,7,12"); err != nil || len(pids) != 2 || pids[0] != 12 || pids[1] != 7 {
		t.Errorf("%v, %v", pids, err)
	}
	for _, text := range []string{"", "0", "-1", "1,", "x", "1 2"} {
		if pids, err := ParseList(text); err == nil {
			t.Errorf("%q: %v", text, pids)
		}
	}
}
