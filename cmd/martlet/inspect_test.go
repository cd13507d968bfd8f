package main

import (
	"bytes"
	"crypto/md5"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"martlet/cmd/internal/node"
	"martlet/internal/backend"
	"martlet/internal/device"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/seglog"
	"martlet/internal/timestamp"
	"martlet/internal/vfs"
	"martlet/object/engine"
)

// shelf is a device with some objects on it, and a configuration of its node.
type shelf struct {
	t      *testing.T
	folder string
	config string
	hasher name.Hasher
	ticks  int64
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	h, err := name.NewHasher("", "salt")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := &shelf{t: t, folder: filepath.Join(dir, "d1"), hasher: h, ticks: 1_700_000_000_00000}
	if err := os.Mkdir(s.folder, 0o750); err != nil {
		t.Fatal(err)
	}
	if _, _, err := device.Init(s.folder, device.Owner{Cluster: "test", Fingerprint: h.Fingerprint()}, "d1", false); err != nil {
		t.Fatal(err)
	}
	s.config = storageFile(t, "salt", "127.0.1.1:6200")
	return s
}

// storageFile writes the configuration of a node.
func storageFile(t *testing.T, salt, address string) string {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "storage.toml")
	text := fmt.Sprintf(`[cluster]
hash_path_suffix = %q
[[cluster.policies]]
index = 0
name = "gold"
default = true
[[cluster.policies]]
index = 3
name = "silver"
[rings]
folder = "rings"
[storage]
address = %q
root = "/srv"
devices = ["d1"]
[object]
port = %s
[replication]
address = "127.0.2.1"
`, salt, host, port)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func (s *shelf) path(object string) name.Path {
	return name.Path{Account: "AUTH_a", Container: "c", Object: object}
}

func (s *shelf) at(object string) engine.Location {
	return engine.Location{Hash: s.hasher.Hash(s.path(object))}
}

// with has the device in use while f runs, and closes it.
func (s *shelf) with(f func(e *engine.Engine)) {
	s.t.Helper()
	e := s.open()
	f(e)
	if err := e.Close(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *shelf) open() *engine.Engine {
	cfg := engine.Defaults()
	cfg.SegmentSize = 4 << 20
	return engine.New(s.folder, cfg)
}

func (s *shelf) next() timestamp.T {
	s.ticks++
	return timestamp.FromTicks(s.ticks)
}

// put writes an object.
func (s *shelf) put(e *engine.Engine, object, data, meta string) {
	s.t.Helper()
	w, err := e.Create(s.t.Context(), s.at(object), int64(len(data)))
	if err != nil {
		s.t.Fatal(err)
	}
	defer w.Close()
	_, err = io.WriteString(w, data)
	if err == nil {
		_, err = w.Commit(engine.Version{
			Time: s.next(), Name: s.path(object), MD5: md5.Sum([]byte(data)), ContentType: "text/plain",
			Meta: backend.Header{{Name: "X-Object-Meta-M", Value: meta}},
		}, engine.Terms{})
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// harm changes a byte of a file.
func (s *shelf) harm(file string, at int64) {
	s.t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	b := make([]byte, 1)
	_, err = f.ReadAt(b, at)
	b[0] ^= 0x55
	if err == nil {
		_, err = f.WriteAt(b, at)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		s.t.Fatal(err)
	}
}

// one is the file that a pattern is of, below the device.
func (s *shelf) one(pattern string) string {
	s.t.Helper()
	list, err := filepath.Glob(filepath.Join(s.folder, pattern))
	if err != nil || len(list) != 1 {
		s.t.Fatalf("%s: %v, %v", pattern, list, err)
	}
	return list[0]
}

// ask runs `martlet inspect` and wants an exit status.
func (s *shelf) ask(status int, args ...string) (stdout, stderr string) {
	s.t.Helper()
	var out, err bytes.Buffer
	args = append([]string{"inspect"}, args...)
	if code := run(args, &out, &err); code != status {
		s.t.Fatalf("%s: exit status %d, want %d\n%s%s", strings.Join(args, " "), code, status, out.String(), err.String())
	}
	return out.String(), err.String()
}

const large = 300_000

// What is on a device is told by all that is there, in words and as JSON, whether somebody
// has it in use or not.
func TestInspectDevice(t *testing.T) {
	s := newShelf(t)
	e := s.open()
	defer e.Close()
	s.put(e, "one", "1234567890", "m")
	s.put(e, "one", "12345", "m")
	s.put(e, "large", strings.Repeat("x", large), "m")
	for _, busy := range []bool{false, true} {
		if busy {
			root, err := vfs.OpenRoot(s.folder)
			if err == nil {
				err = root.Lock()
			}
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
		}
		text, _ := s.ask(0, "device", s.folder)
		for _, part := range []string{`d1 of cluster "test"`, "1 segment", "2 names changed since the index was written", "300 kB", "0000000000000001"} {
			if !strings.Contains(text, part) {
				t.Errorf("%q is not in\n%s", part, text)
			}
		}
		if strings.Contains(text, "what a crash now would leave") != busy {
			t.Errorf("in use: %v\n%s", busy, text)
		}
		out, _ := s.ask(0, "device", s.folder, "--json")
		var got struct {
			Device string
			InUse  bool `json:"in_use"`
			engine.Summary
		}
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if got.Device != "d1" || got.InUse != busy || len(got.Policies) != 1 || got.Policies[0].Objects != 2 || got.Policies[0].Bytes != large+5 ||
			got.Log.Dead < 100 || got.Log.Live+got.Log.Dead != got.Log.Bytes {
			t.Errorf("in use: %v\n%s", busy, out)
		}
	}
}

// What of an object is there, and what is wrong with it, is told; the exit status says
// whether anything is.
func TestInspectObject(t *testing.T) {
	for what, tt := range map[string]struct {
		do     func(s *shelf)
		args   string // behind the names
		status int
		want   []string
		not    string
	}{
		"nothing": {func(s *shelf) { s.with(func(e *engine.Engine) { s.put(e, "other", "1", "m") }) }, "", 0, []string{"state       nothing"}, "RECORD"},
		"small": {
			func(s *shelf) { s.with(func(e *engine.Engine) { s.put(e, "o", "1234567890", "calm") }) }, "", 0,
			[]string{"AUTH_a/c/o\n", "object of 10 bytes, in the log", "MD5                 e807f1fcf82d132f9bb018ca6738a19f", "X-Object-Meta-M     calm", "1700000000.00001  2023-11-14 22:13:20.00001 UTC"}, "dead",
		},
		"another policy": {
			func(s *shelf) { s.with(func(e *engine.Engine) { s.put(e, "o", "1234567890", "calm") }) }, "--policy silver", 0,
			[]string{"policy      3", "state       nothing"}, "RECORD",
		},
		"large": {
			func(s *shelf) { s.with(func(e *engine.Engine) { s.put(e, "o", strings.Repeat("x", large), "m") }) }, "", 0,
			[]string{"object of 300,000 bytes, in a file of its own", "/blobs/", "of which the beginning was read"}, "",
		},
		"large, all of it": {
			func(s *shelf) { s.with(func(e *engine.Engine) { s.put(e, "o", strings.Repeat("x", large), "m") }) }, "--all", 0,
			[]string{"read as a whole"}, "",
		},
		"large, and its file is gone": {
			func(s *shelf) {
				s.with(func(e *engine.Engine) { s.put(e, "o", strings.Repeat("x", large), "m") })
				if err := os.Remove(s.one("blobs/*/*")); err != nil {
					s.t.Fatal(err)
				}
			}, "", exitFailure, []string{"it is missing", "data      no"}, "",
		},
		"large, damaged far in": {
			func(s *shelf) {
				s.with(func(e *engine.Engine) { s.put(e, "o", strings.Repeat("x", large), "m") })
				s.harm(s.one("blobs/*/*"), 250_000)
			}, "--all", exitFailure, []string{"not whole: damaged"}, "",
		},
		"damaged": {
			func(s *shelf) {
				s.with(func(e *engine.Engine) { s.put(e, "o", "1234567890", "calm") })
				s.harm(s.one("log/*.seg"), 4096+56+100)
			}, "", exitFailure, []string{"data      no", "not whole", "checksum"}, "",
		},
		"overwritten": {
			func(s *shelf) {
				s.with(func(e *engine.Engine) { s.put(e, "o", strings.Repeat("x", large), "m"); s.put(e, "o", "1", "m") })
			}, "", 0, []string{"object of 1 byte,", "1 record of it in the log that is in force no more"}, "blob",
		},
		"overwritten, all": {
			func(s *shelf) {
				s.with(func(e *engine.Engine) { s.put(e, "o", strings.Repeat("x", large), "m"); s.put(e, "o", "1", "m") })
			}, "--all", 0, []string{"blob  1700000000.00001  no        yes", "removed, as it is in force no more", "data  1700000000.00002  data      yes"}, "",
		},
		"a dead record is damaged": {
			func(s *shelf) {
				s.with(func(e *engine.Engine) { s.put(e, "o", "12", "m"); s.put(e, "o", "1", "m") })
				s.harm(s.one("log/*.seg"), 4096)
			}, "--all", exitFailure, []string{"the log can't be read, and may have had records of it: 0000000000000001:4096 to 0000000000000001:"}, "",
		},
		"deleted": {
			func(s *shelf) {
				s.with(func(e *engine.Engine) {
					s.put(e, "o", "1", "m")
					if _, err := e.Delete(s.t.Context(), s.at("o"), s.path("o"), s.next(), engine.Terms{}); err != nil {
						s.t.Fatal(err)
					}
				})
			}, "", 0, []string{"state       deleted", "tombstone"}, "",
		},
		"expires": {
			func(s *shelf) {
				s.with(func(e *engine.Engine) {
					s.put(e, "o", "1", "m")
					c := engine.Change{Name: s.path("o"), MetaTime: s.next(), Meta: backend.Header{{Name: engine.DeleteAtField, Value: "1800000000"}}}
					if _, err := e.Update(s.t.Context(), s.at("o"), c, engine.Terms{}); err != nil {
						s.t.Fatal(err)
					}
				})
			}, "", 0, []string{"expires     1800000000  2027-01-15 08:00:00 UTC"}, "",
		},
		"lost": {
			func(s *shelf) {
				s.with(func(e *engine.Engine) {
					s.put(e, "o", "1", "m")
					state, err := e.Stat(s.t.Context(), s.at("o"))
					if err := errors.Join(err, e.Quarantine(s.t.Context(), s.at("o"), state, errors.New("a bad sector"))); err != nil {
						s.t.Fatal(err)
					}
				})
			}, "", exitFailure, []string{"state       lost", "data: a bad sector", "/quarantined/objects/"}, "",
		},
		"what a terminal would obey": {
			func(s *shelf) { s.with(func(e *engine.Engine) { s.put(e, "o", "1", "\x1b[2Jm") }) }, "", 0,
			[]string{`"\x1b[2Jm"`}, "\x1b[2J",
		},
		"while it is written": {
			func(s *shelf) {
				e := s.open()
				s.t.Cleanup(func() { _ = e.Close() })
				s.put(e, "o", "1", "m")
				root, err := vfs.OpenRoot(s.folder)
				if err != nil {
					s.t.Fatal(err)
				}
				s.t.Cleanup(func() { _ = root.Close() })
				if err := root.Lock(); err != nil {
					s.t.Fatal(err)
				}
			}, "", 0, []string{"in use      yes", "object of 1 byte"}, "",
		},
	} {
		t.Run(what, func(t *testing.T) {
			s := newShelf(t)
			tt.do(s)
			named := append([]string{"object", s.folder, "AUTH_a", "c", "o", "--config", s.config}, strings.Fields(tt.args)...)
			text, stderr := s.ask(tt.status, named...)
			for _, part := range tt.want {
				if !strings.Contains(text, part) {
					t.Errorf("%q is not in\n%s", part, text)
				}
			}
			if tt.not != "" && strings.Contains(text, tt.not) {
				t.Errorf("%q is in\n%s", tt.not, text)
			}
			if said := strings.Contains(stderr, "martlet: not everything is whole"); said != (tt.status != 0) {
				t.Errorf("on the standard error: %s", stderr)
			}
			out, _ := s.ask(tt.status, append(named, "--json")...)
			var got objectJSON
			if err := json.Unmarshal([]byte(out), &got); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if got.Whole != (tt.status == 0) || got.Hash != s.at("o").Hash.String() || got.Object != "o" || len(got.Records) != strings.Count(text, "\n0000")/2 {
				t.Errorf("JSON is\n%s", out)
			}
			// By its hash it is the same.
			if !strings.Contains(tt.args, "policy") {
				byHash, _ := s.ask(tt.status, append([]string{"object", s.folder, "--hash", got.Hash}, strings.Fields(tt.args)...)...)
				if _, records, _ := strings.Cut(byHash, "hash"); !strings.HasSuffix(text, records) {
					t.Errorf("by its hash:\n%s\nby its name:\n%s", byHash, text)
				}
			}
		})
	}
}

// What can't be looked at is said precisely, and what makes no sense is another exit
// status. Nothing is printed then but the error.
func TestInspectRefuses(t *testing.T) {
	hash := strings.Repeat("0a", 16)
	for what, tt := range map[string]struct {
		do     func(s *shelf)
		args   string // FOLDER, CONFIG and HASH stand for themselves
		status int
		want   string
	}{
		"no folder":    {nil, "device /none/at/all", exitFailure, "/none/at/all: there is no such folder"},
		"a file":       {nil, "device CONFIG", exitFailure, "it is not a folder"},
		"below a file": {nil, "device CONFIG/x", exitFailure, "it is not a folder"},
		"no device": {
			func(s *shelf) { s.remove(device.IdentityFile) }, "device FOLDER", exitFailure,
			"FOLDER: not a device: there is no .martlet-device in it: the disk is not mounted, or was never initialized",
		},
		"no device, of an object": {func(s *shelf) { s.remove(device.IdentityFile) }, "object FOLDER --hash HASH", exitFailure, "FOLDER: not a device"},
		"no device to rebuild":    {func(s *shelf) { s.remove(device.IdentityFile) }, "device FOLDER --rebuild-index", exitFailure, "FOLDER: not a device"},
		"damaged identity":        {func(s *shelf) { s.harm(filepath.Join(s.folder, device.IdentityFile), 20) }, "device FOLDER", exitFailure, ".martlet-device is damaged"},
		"newer identity": {
			func(s *shelf) {
				line := `{"format":2,"something":"else"}` + "\n"
				s.write(device.IdentityFile, line+fmt.Sprintf("crc32c %08x\n", crc32.Checksum([]byte(line), crc32.MakeTable(crc32.Castagnoli))))
			}, "device FOLDER", exitFailure, ".martlet-device is of format 2, this version knows only 1",
		},
		"older device": {func(s *shelf) {
			if err := os.Mkdir(filepath.Join(s.folder, "objects"), 0o750); err != nil {
				s.t.Fatal(err)
			}
		}, "device FOLDER", exitFailure, "objects was written by an earlier version"},
		"newer records": {
			func(s *shelf) {
				cfg := seglog.Defaults()
				cfg.Folder, cfg.SegmentSize = filepath.Join(s.folder, "log"), 4<<20
				l, err := seglog.Open(cfg)
				if err == nil {
					_, err = l.Append(&seglog.Record{Kind: 77, Head: append([]byte{1}, make([]byte, 40)...)}, nil)
				}
				if err := errors.Join(err, l.Close()); err != nil {
					s.t.Fatal(err)
				}
			}, "device FOLDER", exitFailure, "kind 77 is not known",
		},
		"damaged index": {
			func(s *shelf) {
				s.with(func(e *engine.Engine) { s.put(e, "o", "1", "m") })
				s.harm(s.one("index/manifest"), 30)
			}, "device FOLDER", exitFailure, "the index has to be made again: ",
		},
		"no run": {
			func(s *shelf) {
				s.with(func(e *engine.Engine) { s.put(e, "o", "1", "m") })
				s.remove("index/*.run")
			}, "object FOLDER --hash HASH", exitFailure, "`martlet inspect device FOLDER --rebuild-index`",
		},
		"another secret":     {nil, "object FOLDER a c o --config OTHER", exitFailure, "FOLDER: it was made with another hash prefix or suffix than OTHER has"},
		"no folder named":    {nil, "device", exitUsage, "inspect device --help"},
		"no object":          {nil, "object FOLDER", exitUsage, "ACCOUNT CONTAINER OBJECT or --hash is needed"},
		"no object in it":    {nil, "object FOLDER a/c --config CONFIG", exitUsage, "the object has no name"},
		"no folder for it":   {nil, "object", exitUsage, "of a device is missing"},
		"half a name":        {nil, "object FOLDER a c --config CONFIG", exitUsage, "ACCOUNT CONTAINER OBJECT or --hash is needed"},
		"both":               {nil, "object FOLDER a c o --hash HASH", exitUsage, "either --hash or names"},
		"no secret":          {nil, "object FOLDER a c o", exitUsage, "--config is needed"},
		"no hash":            {nil, "object FOLDER --hash 123", exitUsage, `"123" is not a hash`},
		"no policy":          {nil, "object FOLDER --hash HASH --policy bronze --config CONFIG", exitUsage, `there is no policy "bronze"`},
		"no configuration":   {nil, "object FOLDER a c o --config /none.toml", exitUsage, "/none.toml"},
		"no node":            {nil, "--config /none.toml", exitUsage, "/none.toml"},
		"rebuild of nothing": {nil, "object FOLDER --hash HASH --rebuild-index", exitUsage, "unknown flag"},
	} {
		t.Run(what, func(t *testing.T) {
			s := newShelf(t)
			if tt.do != nil {
				tt.do(s)
			}
			fill := strings.NewReplacer("FOLDER:", s.folder+":", "FOLDER ", s.folder+" ", "CONFIG", s.config, "HASH", hash, "OTHER", storageFile(t, "pepper", "127.0.1.1:6200"))
			stdout, stderr := s.ask(tt.status, strings.Fields(fill.Replace(tt.args+" "))...)
			if want := fill.Replace(tt.want); stdout != "" || !strings.Contains(stderr, want) || strings.Count(stderr, "\n") != 1 {
				t.Errorf("want %q, got %q, and %q on the standard output", want, stderr, stdout)
			}
		})
	}
}

// remove removes the one file that a pattern is of.
func (s *shelf) remove(pattern string) {
	s.t.Helper()
	if err := os.RemoveAll(s.one(pattern)); err != nil {
		s.t.Fatal(err)
	}
}

// write writes a file anew.
func (s *shelf) write(file, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.folder, file), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// An index that is gone or damaged is made again from the log, and has all there was. A
// device that is in use is left alone.
func TestInspectRebuildIndex(t *testing.T) {
	objects := map[string]string{"a": "1", "b": strings.Repeat("x", large), "c": "", "d": strings.Repeat("y", 70_000)}
	for what, harm := range map[string]func(s *shelf){
		"whole":          func(*shelf) {},
		"gone":           func(s *shelf) { s.remove("index") },
		"no manifest":    func(s *shelf) { s.remove("index/manifest") },
		"a bad manifest": func(s *shelf) { s.harm(s.one("index/manifest"), 30) },
		"a bad run":      func(s *shelf) { s.harm(s.one("index/*.run"), 10) },
	} {
		t.Run(what, func(t *testing.T) {
			s := newShelf(t)
			s.with(func(e *engine.Engine) {
				for _, version := range []string{"old", ""} {
					for object, data := range objects {
						s.put(e, object, data+version, "m")
					}
				}
				s.put(e, "gone", "1", "m")
				if _, err := e.Delete(t.Context(), s.at("gone"), s.path("gone"), s.next(), engine.Terms{}); err != nil {
					t.Fatal(err)
				}
			})
			harm(s)
			root, err := vfs.OpenRoot(s.folder)
			if err == nil {
				err = root.Lock()
			}
			if err != nil {
				t.Fatal(err)
			}
			before := indexOf(t, s.folder)
			if _, stderr := s.ask(exitFailure, "device", s.folder, "--rebuild-index"); !strings.Contains(stderr, "it is in use") {
				t.Errorf("of a device in use: %s", stderr)
			}
			if now := indexOf(t, s.folder); now != before {
				t.Errorf("the index of a device in use was changed")
			}
			if err := root.Close(); err != nil {
				t.Fatal(err)
			}
			text, _ := s.ask(0, "device", s.folder, "--rebuild-index")
			for _, part := range []string{"the index was made again from the log", "5 names in 1 run", "0 names changed since"} {
				if !strings.Contains(text, part) {
					t.Errorf("%q is not in\n%s", part, text)
				}
			}
			if now := indexOf(t, s.folder); now == before {
				t.Errorf("the index is the one of before")
			}
			s.with(func(e *engine.Engine) {
				for object, data := range objects {
					r, err := e.Open(t.Context(), s.at(object))
					if err != nil {
						t.Errorf("%s: %v", object, err)
						continue
					}
					var all []byte
					for err == nil {
						var b []byte
						b, err = r.View(int64(len(all)), 1<<20)
						all = append(all, b...)
					}
					if err := errors.Join(r.Close()); string(all) != data || err != nil {
						t.Errorf("%s has %d bytes, not those of before; %v", object, len(all), err)
					}
				}
				if _, err := e.Open(t.Context(), s.at("gone")); !errs.Is(err, errs.NotFound) {
					t.Errorf("what was deleted: %v", err)
				}
			})
			s.ask(0, "device", s.folder)
		})
	}
}

// indexOf is all that is in the folder of the index.
func indexOf(t *testing.T, folder string) string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(folder, "index", "*"))
	all := ""
	for _, file := range list {
		text, readErr := os.ReadFile(file)
		err = errors.Join(err, readErr)
		all += file + string(text)
	}
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A part of the log that is lost is told of when the index is made without it.
func TestInspectRebuildTellsOfDamage(t *testing.T) {
	s := newShelf(t)
	s.with(func(e *engine.Engine) { s.put(e, "a", "1", "m"); s.put(e, "b", "2", "m") })
	s.harm(s.one("log/*.seg"), 4096)
	text, stderr := s.ask(exitFailure, "device", s.folder, "--rebuild-index")
	if !strings.Contains(text, "problem     a part of the log is damaged") || !strings.Contains(text, "from 0000000000000001:4096") || !strings.Contains(text, "1 name in 1 run") ||
		!strings.Contains(stderr, "not everything is whole") {
		t.Errorf("%s%s", text, stderr)
	}
}

// A node that runs is asked; one of its devices that is away is told of, and is a failure.
func TestInspectNode(t *testing.T) {
	good := node.DeviceStore{Device: "d1", Store: &engine.Summary{
		Policies: []engine.PolicySummary{{Objects: 1200, Bytes: 5_000_000}, {Policy: 1, Objects: 34, Bytes: 1}, {Policy: policy.Index(1).Fragments(), Objects: 56, Bytes: 2}},
		Log:      engine.LogSummary{Bytes: 3_000_000, Live: 2_000_000, Dead: 1_000_000, Segments: make([]engine.SegmentSummary, 7)},
		Disk:     engine.DiskSummary{Total: 1e12, Available: 5e11},
	}}
	for what, tt := range map[string]struct {
		answer any // of text with 404, nil of one that does not run
		status int
		out    string
		err    string
	}{
		"all is well":    {[]node.DeviceStore{good}, 0, "d1        1,234         56  5.0 MB  3.0 MB  1.0 MB         7          0            0  1.0 TB  500 GB  ##########..........", ""},
		"a device away":  {[]node.DeviceStore{good, {Device: "d2", Error: "it is not mounted"}}, exitFailure, "d2: it is not mounted", "not everything is whole"},
		"an old version": {"no such thing", exitFailure, "", "answered 404: no such thing"},
		"not running":    {nil, exitFailure, "", "does not answer"},
	} {
		t.Run(what, func(t *testing.T) {
			address := freeAddress(t)
			if tt.answer != nil {
				server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if text, ok := tt.answer.(string); ok || r.URL.Path != node.StorePath || r.Method != "GET" {
						w.WriteHeader(404)
						_, _ = io.WriteString(w, text)
						return
					}
					if err := json.NewEncoder(w).Encode(tt.answer); err != nil {
						t.Error(err)
					}
				}))
				defer server.Close()
				address = strings.TrimPrefix(server.URL, "http://")
			}
			s := &shelf{t: t}
			file := storageFile(t, "salt", address)
			stdout, stderr := s.ask(tt.status, "--config", file)
			if !strings.Contains(stdout, tt.out) || !strings.Contains(stderr, tt.err) || tt.err == "" && stderr != "" {
				t.Errorf("%s%s", stdout, stderr)
			}
			stdout, _ = s.ask(tt.status, "--config", file, "--json")
			var got nodeAnswer
			if err := json.Unmarshal([]byte(stdout), &got); tt.out != "" && (err != nil || got.Address != address || len(got.Devices) != len(tt.answer.([]node.DeviceStore))) {
				t.Errorf("JSON %v\n%s", err, stdout)
			}
		})
	}
}
