package device

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"martlet/internal/vfs"
)

var owner = Owner{Cluster: "c1", Fingerprint: "0123456789abcdef"}

// memMount is a Mount of a file system in memory.
type memMount struct{ vfs.FS }

func (memMount) Lock() error     { return nil }
func (memMount) MountID() uint64 { return 0 }
func (memMount) Close() error    { return nil }

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// encoded is an identity as a file.
func encoded(t testing.TB, i Identity) string {
	t.Helper()
	b, err := i.encode()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestInit(t *testing.T) {
	whose := func(o Owner, device string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, IdentityFile), encoded(t, NewIdentity(o, device)))
		}
	}
	content := func(name string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			if err := os.Mkdir(filepath.Join(dir, name), 0o750); err != nil {
				t.Fatal(err)
			}
		}
	}
	newer := NewIdentity(owner, "d1")
	newer.Format = 2
	for name, tt := range map[string]struct {
		before func(t *testing.T, dir string)
		adopt  bool
		fresh  bool
		err    string
		is     error
	}{
		"empty":                  {nil, false, true, "", nil},
		"new file system":        {content("lost+found"), false, true, "", nil},
		"left by a crash":        {content(vfs.TempPrefix + "1"), false, true, "", nil},
		"already":                {whose(owner, "d1"), false, false, "", nil},
		"with data":              {content("objects"), false, false, `"objects"`, nil},
		"with data, adopted":     {content("objects"), true, true, "", nil},
		"another device":         {whose(owner, "d2"), false, false, `"d2"`, ErrForeign},
		"another cluster":        {whose(Owner{"c2", owner.Fingerprint}, "d1"), false, false, `"c2"`, ErrForeign},
		"another hash suffix":    {whose(Owner{"c1", "fedcba9876543210"}, "d1"), false, false, "fedcba9876543210", ErrForeign},
		"another device, adopt":  {whose(owner, "d2"), true, false, `"d2"`, ErrForeign},
		"damaged":                {func(t *testing.T, dir string) { write(t, filepath.Join(dir, IdentityFile), "{}\n") }, true, false, "checksum", ErrDamaged},
		"of a newer version":     {func(t *testing.T, dir string) { write(t, filepath.Join(dir, IdentityFile), encoded(t, newer)) }, true, false, "format 2", nil},
		"missing":                {func(t *testing.T, dir string) { _ = os.Remove(dir) }, false, false, "does not exist", nil},
		"a file":                 {func(t *testing.T, dir string) { _ = os.Remove(dir); write(t, dir, "") }, false, false, "not a folder", nil},
		"used by a running node": {func(t *testing.T, dir string) { hold(t, dir) }, false, false, "in use by another process", nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "d1")
			if err := os.Mkdir(dir, 0o750); err != nil {
				t.Fatal(err)
			}
			if tt.before != nil {
				tt.before(t, dir)
			}
			i, fresh, err := Init(dir, owner, "d1", tt.adopt)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || tt.is != nil && !errors.Is(err, tt.is) {
					t.Fatalf("error %v, want one with %s that is %v", err, tt.err, tt.is)
				}
				return
			}
			if err != nil || fresh != tt.fresh {
				t.Fatalf("%+v, fresh %v, %v, want fresh %v", i, fresh, err, tt.fresh)
			}
			again, fresh, err := Init(dir, owner, "d1", false)
			if err != nil || fresh || again != i || len(i.ID) != 32 {
				t.Errorf("again: %+v, fresh %v, %v, want it to stay %+v", again, fresh, err, i)
			}
		})
	}
}

// hold locks a folder as a node does.
func hold(t *testing.T, dir string) {
	t.Helper()
	r, err := vfs.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Lock(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
}

// Whatever call fails, and whenever the power goes, there is a whole identity or
// none; and once Init has returned nil there is one.
func TestInitCrash(t *testing.T) {
	for n := 0; ; n++ {
		mem := vfs.NewMem()
		if err := errors.Join(mem.Mkdir("/d1"), mem.SyncDir("/")); err != nil {
			t.Fatal(err)
		}
		disk := vfs.FailAt(mem, n, vfs.FaultForever())
		i, _, err := initialize(memMount{disk}, "/d1", owner, "d1", false)
		if (err == nil) == disk.Fired() {
			t.Fatalf("call %d fails: %v: %v", n, disk.Fired(), err)
		}
		for seed := range uint64(4) {
			got, readErr := ReadIdentity(mem.AfterCrash(seed), "/d1")
			switch {
			case err == nil && (readErr != nil || got != i):
				t.Fatalf("after a crash: %+v, %v, want %+v", got, readErr, i)
			case readErr != nil && !errors.Is(readErr, ErrNoIdentity):
				t.Fatalf("call %d fails, then a crash: %v, want an identity or none", n, readErr)
			}
		}
		if err == nil {
			return
		}
	}
}

// An Init that a crash has stopped before its name was durable is not believed by
// the next one.
func TestInitSyncsWhatItFinds(t *testing.T) {
	mem := vfs.NewMem()
	if err := errors.Join(mem.Mkdir("/d1"), mem.SyncDir("/")); err != nil {
		t.Fatal(err)
	}
	f, err := mem.CreateUnnamed("/d1")
	if err != nil {
		t.Fatal(err)
	}
	want := NewIdentity(owner, "d1")
	_, err = f.WriteAt([]byte(encoded(t, want)), 0)
	if err := errors.Join(err, f.Sync(), mem.Link(f, "/d1/"+IdentityFile), f.Close()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := initialize(memMount{mem}, "/d1", owner, "d1", false); err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(8) {
		if got, err := ReadIdentity(mem.AfterCrash(seed), "/d1"); err != nil || got != want {
			t.Errorf("after a crash: %+v, %v, want %+v", got, err, want)
		}
	}
}

func FuzzIdentity(f *testing.F) {
	whole := encoded(f, NewIdentity(owner, "d1"))
	f.Add([]byte(whole))
	f.Add([]byte(whole[:len(whole)-3]))
	f.Add([]byte("null\ncrc32c 00000000\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		i, err := parseIdentity(b)
		if err != nil {
			if i != (Identity{}) {
				t.Fatalf("%q: %+v beside %v", b, i, err)
			}
			return
		}
		again, err := parseIdentity([]byte(encoded(t, i)))
		if err != nil || !again.Made.Equal(i.Made) {
			t.Fatalf("%q: %+v, written and read: %+v, %v", b, i, again, err)
		}
		again.Made = i.Made
		if again != i {
			t.Fatalf("%q: %+v, written and read: %+v", b, i, again)
		}
	})
}
