package vfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"martlet/internal/vfs"
)

// seeds is how many crashes a test tries.
const seeds = 200

// crashes returns what look saw after each of many crashes, and how often.
func crashes(m *vfs.Mem, look func(*vfs.Mem) string) map[string]int {
	saw := map[string]int{}
	for seed := range uint64(seeds) {
		saw[look(m.AfterCrash(seed))]++
	}
	return saw
}

// TestCrashOutcomes says for each operation what a crash may leave while it is
// not synced, all of which must be seen, and that one thing is left once it is.
func TestCrashOutcomes(t *testing.T) {
	old, young := strings.Repeat("o", 512), strings.Repeat("y", 512)
	look := func(names ...string) func(t *testing.T, m *vfs.Mem) string {
		return func(t *testing.T, m *vfs.Mem) string {
			var got []string
			for _, name := range names {
				content := read(t, m, name)
				for short, long := range map[string]string{"o": old, "y": young, "0": string(make([]byte, 512))} {
					content = strings.ReplaceAll(content, long, short)
				}
				got = append(got, content)
			}
			return strings.Join(got, " ")
		}
	}
	isDir := func(t *testing.T, m *vfs.Mem) string {
		_, err := m.ReadDir("/d/sub")
		return fmt.Sprint(err == nil)
	}
	for name, tt := range map[string]struct {
		act   func(m *vfs.Mem, f vfs.File) error // f is /d/f, two sectors of o, all durable
		look  func(t *testing.T, m *vfs.Mem) string
		loose []string // what crashes may leave before the sync
		sync  func(m *vfs.Mem, f vfs.File) error
		fast  string // what they leave after it
	}{
		"overwrite": {
			act:   func(m *vfs.Mem, f vfs.File) error { return write(f, young+young, 0) },
			look:  look("/d/f"),
			loose: []string{"oo", "oy", "yo", "yy"},
			sync:  func(m *vfs.Mem, f vfs.File) error { return f.Sync() },
			fast:  "yy",
		},
		"append": {
			act:   func(m *vfs.Mem, f vfs.File) error { return write(f, young+young, 1024) },
			look:  look("/d/f"),
			loose: []string{"oo", "oo00", "oo0y", "ooy0", "ooyy"},
			sync:  func(m *vfs.Mem, f vfs.File) error { return f.Sync() },
			fast:  "ooyy",
		},
		"two writes of one sector": {
			act: func(m *vfs.Mem, f vfs.File) error {
				return errors.Join(write(f, "A", 0), write(f, "B", 1))
			},
			look: func(t *testing.T, m *vfs.Mem) string { return read(t, m, "/d/f")[:2] },
			// Not "oB": the sector never was that.
			loose: []string{"AB", "Ao", "oo"},
			sync:  func(m *vfs.Mem, f vfs.File) error { return f.Sync() },
			fast:  "AB",
		},
		"truncate": {
			act:   func(m *vfs.Mem, f vfs.File) error { return f.Truncate(512) },
			look:  look("/d/f"),
			loose: []string{"o", "oo"},
			sync:  func(m *vfs.Mem, f vfs.File) error { return f.Sync() },
			fast:  "o",
		},
		"truncate and write": {
			act: func(m *vfs.Mem, f vfs.File) error {
				return errors.Join(f.Truncate(0), write(f, young, 0))
			},
			look:  look("/d/f"),
			loose: []string{"", "0", "oo", "y"},
			sync:  func(m *vfs.Mem, f vfs.File) error { return f.Sync() },
			fast:  "y",
		},
		"grow": {
			act:   func(m *vfs.Mem, f vfs.File) error { return f.Truncate(1536) },
			look:  look("/d/f"),
			loose: []string{"oo", "oo0"},
			sync:  func(m *vfs.Mem, f vfs.File) error { return f.Sync() },
			fast:  "oo0",
		},
		"create": {
			act:   func(m *vfs.Mem, _ vfs.File) error { return touch(m, "/d/new") },
			look:  look("/d/new"),
			loose: []string{"", "(none)"},
			sync:  func(m *vfs.Mem, _ vfs.File) error { return m.SyncDir("/d") },
			fast:  "",
		},
		"create, only the file synced": {
			act: func(m *vfs.Mem, _ vfs.File) error {
				return linked(m, "/d/new", young, true)
			},
			look:  look("/d/new"),
			loose: []string{"(none)", "y"},
			sync:  func(m *vfs.Mem, _ vfs.File) error { return m.SyncDir("/d") },
			fast:  "y",
		},
		"link before sync": {
			act: func(m *vfs.Mem, _ vfs.File) error {
				return errors.Join(linked(m, "/d/new", young, false), m.SyncDir("/d"))
			},
			look:  look("/d/new"),
			loose: []string{"", "0", "y"},
			sync: func(m *vfs.Mem, _ vfs.File) error {
				f, err := m.Open("/d/new")
				return errors.Join(err, f.Sync(), f.Close())
			},
			fast: "y",
		},
		"rename": {
			act:   func(m *vfs.Mem, _ vfs.File) error { return m.Rename("/d/f", "/d/new") },
			look:  look("/d/f", "/d/new"),
			loose: []string{"(none) oo", "oo (none)"},
			sync:  func(m *vfs.Mem, _ vfs.File) error { return m.SyncDir("/d") },
			fast:  "(none) oo",
		},
		"rename across directories, one synced": {
			act: func(m *vfs.Mem, _ vfs.File) error {
				return errors.Join(m.Rename("/d/f", "/e/new"), m.SyncDir("/e"))
			},
			look:  look("/d/f", "/e/new"),
			loose: []string{"(none) oo", "oo (none)"},
			sync:  func(m *vfs.Mem, _ vfs.File) error { return m.SyncDir("/d") },
			fast:  "(none) oo",
		},
		"rename across directories, the old one synced": {
			act: func(m *vfs.Mem, _ vfs.File) error {
				return errors.Join(m.Rename("/d/f", "/e/new"), m.SyncDir("/d"))
			},
			look:  look("/d/f", "/e/new"),
			loose: []string{"(none) oo", "oo (none)"},
			sync:  func(m *vfs.Mem, _ vfs.File) error { return m.SyncDir("/e") },
			fast:  "(none) oo",
		},
		"replace": {
			act: func(m *vfs.Mem, _ vfs.File) error {
				return errors.Join(linked(m, "/d/new", young, true), m.Rename("/d/new", "/d/f"))
			},
			look:  look("/d/f", "/d/new"),
			loose: []string{"oo (none)", "oo y", "y (none)"},
			sync:  func(m *vfs.Mem, _ vfs.File) error { return m.SyncDir("/d") },
			fast:  "y (none)",
		},
		"rename and take the old name again": {
			act: func(m *vfs.Mem, _ vfs.File) error {
				return errors.Join(m.Rename("/d/f", "/d/new"), linked(m, "/d/f", young, true))
			},
			look: look("/d/f", "/d/new"),
			// Never "y (none)": that would lose what was durable.
			loose: []string{"(none) oo", "oo (none)", "y oo"},
			sync:  func(m *vfs.Mem, _ vfs.File) error { return m.SyncDir("/d") },
			fast:  "y oo",
		},
		"remove": {
			act:   func(m *vfs.Mem, _ vfs.File) error { return m.Remove("/d/f") },
			look:  look("/d/f"),
			loose: []string{"(none)", "oo"},
			sync:  func(m *vfs.Mem, _ vfs.File) error { return m.SyncDir("/d") },
			fast:  "(none)",
		},
		"mkdir": {
			act:   func(m *vfs.Mem, _ vfs.File) error { return m.Mkdir("/d/sub") },
			look:  isDir,
			loose: []string{"false", "true"},
			sync:  func(m *vfs.Mem, _ vfs.File) error { return m.SyncDir("/d") },
			fast:  "true",
		},
		"a directory synced, but not its name": {
			act: func(m *vfs.Mem, _ vfs.File) error {
				return errors.Join(m.Mkdir("/d/sub"), linked(m, "/d/sub/x", young, true), m.SyncDir("/d/sub"))
			},
			look:  look("/d/sub/x"),
			loose: []string{"(none)", "y"},
			sync:  func(m *vfs.Mem, _ vfs.File) error { return m.SyncDir("/d") },
			fast:  "y",
		},
		"directory renamed": {
			act: func(m *vfs.Mem, _ vfs.File) error {
				return errors.Join(m.Mkdir("/d/sub"), linked(m, "/d/sub/x", young, true),
					m.SyncDir("/d/sub"), m.SyncDir("/d"), m.Rename("/d/sub", "/e/sub"))
			},
			look:  look("/d/sub/x", "/e/sub/x"),
			loose: []string{"(none) y", "y (none)"},
			sync:  func(m *vfs.Mem, _ vfs.File) error { return errors.Join(m.SyncDir("/d"), m.SyncDir("/e")) },
			fast:  "(none) y",
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMem(t)
			f := create(t, m, "/d/f", old+old)
			if err := errors.Join(m.Mkdir("/e"), m.SyncDir("/"), m.SyncDir("/d"), f.Sync()); err != nil {
				t.Fatal(err)
			}
			see := func(after *vfs.Mem) string { return tt.look(t, after) }
			start := see(m)
			if got := crashes(m, see); got[start] != seeds {
				t.Fatalf("before anything, all synced: got %v, want only %q", got, start)
			}
			if err := tt.act(m, f); err != nil {
				t.Fatal(err)
			}
			if got := slices.Sorted(maps.Keys(crashes(m, see))); !slices.Equal(got, tt.loose) {
				t.Errorf("not synced: got %q, want %q", got, tt.loose)
			}
			if err := tt.sync(m, f); err != nil {
				t.Fatal(err)
			}
			if got := crashes(m, see); got[tt.fast] != seeds {
				t.Errorf("synced: got %v, want only %q", got, tt.fast)
			}
			if got := see(m); got != tt.fast {
				t.Errorf("the original, not crashed: got %q, want %q", got, tt.fast)
			}
		})
	}
}

func write(f vfs.File, content string, off int64) error {
	_, err := f.WriteAt([]byte(content), off)
	return err
}

func touch(fs vfs.FS, name string) error {
	f, err := fs.CreateUnnamed("/d")
	if err != nil {
		return err
	}
	return errors.Join(fs.Link(f, name), f.Close())
}

// linked writes a file and gives it a name, syncing the file only if asked.
func linked(fs vfs.FS, name, content string, sync bool) error {
	f, err := fs.CreateUnnamed("/d")
	if err != nil {
		return err
	}
	err = write(f, content, 0)
	if sync {
		err = errors.Join(err, f.Sync())
	}
	return errors.Join(err, fs.Link(f, name), f.Close())
}

func TestCrashUnnamed(t *testing.T) {
	m := newMem(t)
	f, err := m.CreateUnnamed("/d")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(write(f, "x", 0), f.Sync(), m.SyncDir("/d")); err != nil {
		t.Fatal(err)
	}
	got := crashes(m, func(after *vfs.Mem) string {
		entries, err := after.ReadDir("/d")
		return fmt.Sprint(entries, err)
	})
	if got["[] <nil>"] != seeds {
		t.Errorf("a synced file without a name after a crash: got %v, want an empty directory", got)
	}
}

// Seeds 0 to 7 are the extremes, one bit for each of names, data and sizes.
func TestCrashCorners(t *testing.T) {
	m := newMem(t)
	f := create(t, m, "/d/f", "old")
	if err := errors.Join(f.Sync(), m.SyncDir("/d"), write(f, "newer", 0), touch(m, "/d/g")); err != nil {
		t.Fatal(err)
	}
	for seed, want := range []string{
		"old (none)", "old ", "new (none)", "new ", "old\x00\x00 (none)", "old\x00\x00 ", "newer (none)", "newer ",
	} {
		// The sector that has "new" has what follows as well, but no size covers it.
		after := m.AfterCrash(uint64(seed))
		if got := read(t, after, "/d/f") + " " + read(t, after, "/d/g"); got != want {
			t.Errorf("seed %d: got %q, want %q", seed, got, want)
		}
	}
}

// What lies past the end, lost or cut off, must not come back when a file grows.
func TestNothingPastTheEnd(t *testing.T) {
	grown := func(m *vfs.Mem) string {
		f, err := m.OpenFile("/d/f", os.O_RDWR)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Truncate(10), f.Truncate(20), f.Close()); err != nil {
			t.Fatal(err)
		}
		return read(t, m, "/d/f")[10:]
	}
	for seed := range uint64(seeds) {
		m := newMem(t)
		f := create(t, m, "/d/f", "0123456789")
		if err := errors.Join(f.Sync(), m.SyncDir("/d"), write(f, "abcdefghij", 10)); err != nil {
			t.Fatal(err)
		}
		if got := grown(m.AfterCrash(seed)); got != string(make([]byte, 10)) {
			t.Fatalf("seed %d: a crash left %q past the end", seed, got)
		}

		faulty := vfs.FailAt(m, 3, vfs.FaultSeed(seed))
		g, err := faulty.OpenFile("/d/f", os.O_RDWR)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(write(g, "ABCDEFGHIJ", 10), g.Truncate(10)); err != nil {
			t.Fatal(err)
		}
		if err := g.Sync(); err == nil {
			t.Fatal("Sync number 3 did not fail")
		}
		if err := errors.Join(write(g, "z", 19), g.Close(), f.Close()); err != nil {
			t.Fatal(err)
		}
		if got, want := read(t, m, "/d/f")[10:], string(make([]byte, 9))+"z"; got != want {
			t.Fatalf("seed %d: a failed sync brought back %q past the end, want %q", seed, got, want)
		}
	}
}

func TestCrashIsRepeatable(t *testing.T) {
	build := func() *vfs.Mem {
		m := newMem(t)
		for i := range 20 {
			create(t, m, fmt.Sprintf("/d/%d", i), strings.Repeat(fmt.Sprint(i), 3000))
		}
		return m
	}
	dump := func(m *vfs.Mem) string {
		var all strings.Builder
		for i := range 20 {
			name := fmt.Sprintf("/d/%d", i)
			fmt.Fprintf(&all, "%s %q\n", name, read(t, m, name))
		}
		return all.String()
	}
	a, b := build(), build()
	states := map[string]bool{}
	for seed := range uint64(30) {
		got := dump(a.AfterCrash(seed))
		if again := dump(a.AfterCrash(seed)); again != got {
			t.Fatalf("seed %d: two crashes differ", seed)
		}
		if other := dump(b.AfterCrash(seed)); other != got {
			t.Fatalf("seed %d: the same calls on another Mem crash differently", seed)
		}
		states[got] = true
		// What a crash leaves is durable.
		if again := dump(a.AfterCrash(seed).AfterCrash(0)); again != got {
			t.Fatalf("seed %d: a second crash lost something", seed)
		}
	}
	if len(states) < 15 {
		t.Errorf("30 seeds gave only %d different crashes", len(states))
	}
}

// TestCrashAnyHistory holds crashes of random histories against what each byte
// and the size have been since the last sync.
func TestCrashAnyHistory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const limit = 12_000
		m := vfs.NewMem()
		f, err := m.CreateUnnamed("/")
		if err == nil {
			err = errors.Join(m.Link(f, "/f"), m.SyncDir("/"))
		}
		if err != nil {
			t.Fatal(err)
		}
		var states [][]byte // contents since the last sync, the last one first
		now := []byte{}
		states = append(states, now)
		steps := rapid.IntRange(1, 12).Draw(t, "steps")
		for i := range steps {
			off := rapid.IntRange(0, limit).Draw(t, "off")
			switch rapid.SampledFrom([]string{"write", "write", "truncate", "sync"}).Draw(t, "call") {
			case "write":
				p := bytes.Repeat([]byte{byte(i + 1)}, rapid.IntRange(1, 6000).Draw(t, "len"))
				_, err = f.WriteAt(p, int64(off))
				now = append(slices.Clone(now), make([]byte, max(0, off+len(p)-len(now)))...)
				copy(now[off:], p)
			case "truncate":
				err = f.Truncate(int64(off))
				now = append(slices.Clone(now), make([]byte, max(0, off-len(now)))...)[:off]
			case "sync":
				err = f.Sync()
				states = nil
			}
			if err != nil {
				t.Fatal(err)
			}
			states = append(states, now)
		}
		for seed := range uint64(20) {
			checkCrash(t, m.AfterCrash(seed), states, seed)
		}
	})
}

// checkCrash wants /f to have a size of one of the states and in each sector
// the bytes of one of them, or zeros where some state had nothing.
func checkCrash(t *rapid.T, after *vfs.Mem, states [][]byte, seed uint64) {
	f, err := after.Open("/f")
	if err != nil {
		t.Fatal(err)
	}
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(states, func(s []byte) bool { return int64(len(s)) == size }) {
		t.Fatalf("seed %d: size %d is none the file had", seed, size)
	}
	got := make([]byte, size)
	if n, err := f.ReadAt(got, 0); int64(n) != size {
		t.Fatalf("seed %d: read %d of %d bytes: %v", seed, n, size, err)
	}
	for at := 0; at < len(got); at += 512 {
		if sector := got[at:min(len(got), at+512)]; !wasOnce(states, sector, at) {
			t.Fatalf("seed %d: sector at %d of %d bytes is none it was", seed, at, size)
		}
	}
}

// wasOnce reports whether the sector at an offset is what it was in one of the
// states, as far as the size of some state reaches, and zeros from there on.
func wasOnce(states [][]byte, sector []byte, at int) bool {
	for _, sized := range states {
		keep := min(max(len(sized)-at, 0), len(sector))
		for _, s := range states {
			want := make([]byte, len(sector))
			if at < len(s) {
				copy(want[:keep], s[at:])
			}
			if bytes.Equal(want, sector) {
				return true
			}
		}
	}
	return false
}
