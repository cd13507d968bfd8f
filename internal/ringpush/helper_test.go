package ringpush

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/vfs"
	"martlet/internal/vfs/vfswhole"
	"martlet/ring"
	"martlet/ring/whole"
)

// The ports of servers of each kind.
var ports = map[string]int{"account": 6202, "container": 6201, "object": 6200, "object-1": 6200}

// shape is what rings of tests differ in.
type shape struct {
	of       string // kind
	version  int64
	power    int
	network  string // "10.0.0" where empty
	replicas int    // 2 where 0
	turn     int    // devices that everything is put further
}

// made are rings and files that were made: that costs more than all else here.
var (
	made  = map[shape]*ring.Ring{}
	files = map[shape][]byte{}
)

func (s shape) ring(t testing.TB) *ring.Ring {
	t.Helper()
	if r := made[s]; r != nil {
		return r
	}
	of := s
	if s.network == "" {
		s.network = "10.0.0"
	}
	if s.replicas == 0 {
		s.replicas = 2
	}
	if s.power == 0 {
		s.power = 3
	}
	d := ring.Data{PartPower: s.power, Version: s.version}
	for i := range 4 {
		d.Devices = append(d.Devices, &ring.Device{ID: i, IP: fmt.Sprintf("%s.%d", s.network, i), Port: ports[s.of], Name: "d", Weight: 1})
	}
	for r := range s.replicas {
		row := make([]uint32, 1<<s.power)
		for p := range row {
			row[p] = uint32((p + r + s.turn) % len(d.Devices))
		}
		d.Rows = append(d.Rows, row)
	}
	r, err := ring.New(d)
	if err != nil {
		t.Fatal(err)
	}
	made[of] = r
	return r
}

func (s shape) file(t testing.TB) []byte {
	t.Helper()
	if file := files[s]; file != nil {
		return file
	}
	var b bytes.Buffer
	if _, err := s.ring(t).WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	files[s] = b.Bytes()
	return files[s]
}

// source is what *ring.Source is, on another file system.
type source struct {
	fs   whole.FS
	path string
	now  *ring.Ring
}

func (s *source) Ring() *ring.Ring { return s.now }

func (s *source) Check() (bool, error) {
	file, err := whole.Read(s.fs, s.path)
	if err != nil {
		return false, err
	}
	next, err := ring.Read(bytes.NewReader(file))
	switch {
	case err != nil:
		return false, err
	case next.Version() < s.now.Version():
		return false, ring.ErrOlder
	case Of(next) == Of(s.now):
		return false, nil
	}
	s.now = next
	return true, nil
}

// world is a process with a ring of each kind, of version 5.
type world struct {
	disk   *vfs.Mem
	server *Server
	of     map[string]*source
	taken  []string
}

const folder = "/rings"

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{disk: vfs.NewMem(), of: map[string]*source{}}
	on := vfswhole.New(w.disk)
	if err := errors.Join(w.disk.Mkdir(folder), w.disk.SyncDir("/")); err != nil {
		t.Fatal(err)
	}
	for name := range ports {
		s := shape{of: name, version: 5}
		if name == "object-1" {
			s.turn = 2
		}
		w.of[name] = &source{on, folder + "/" + name + ".ring.gz", s.ring(t)}
		err := whole.Replace(on, w.of[name].path, func(to io.Writer) error { _, err := to.Write(s.file(t)); return err })
		if err != nil {
			t.Fatal(err)
		}
	}
	w.serve(w.disk)
	return w
}

// serve begins a process on a file system.
func (w *world) serve(disk vfs.FS) {
	on := vfswhole.New(disk)
	for _, s := range w.of {
		s.fs = on
	}
	w.server = New(Config{
		Kind: Storage, Version: "v1", Folder: folder, FS: on,
		Rings: func(yield func(string, Source) bool) {
			for name, s := range w.of {
				if !yield(name, s) {
					return
				}
			}
		},
		Check: func(name string, next *ring.Ring) error {
			if name == "object-1" && next.ReplicaCount() != 2 {
				return errs.Refuse(errs.Conflict, "not of its shape")
			}
			return nil
		},
		Taken: func(_ context.Context, name string, version int64) {
			w.taken = append(w.taken, fmt.Sprint(name, " ", version))
		},
	})
}

// put hands the process a ring.
func (w *world) put(t testing.TB, name string, file []byte, change ...func(*backend.Request)) (Taken, error) {
	t.Helper()
	r := &backend.Request{Method: "PUT", Path: Path + "/" + name, Length: int64(len(file)), Body: bytes.NewReader(file)}
	r.Header.Add(ProcessHeader, w.server.process)
	r.Header.Add(ChecksumHeader, Checksum(file))
	for _, f := range change {
		f(r)
	}
	resp, err := w.server.Serve(t.Context(), r)
	if err != nil {
		return Taken{}, err
	}
	var taken Taken
	return taken, json.NewDecoder(resp.Body).Decode(&taken)
}

// there is what is in the file of a ring; empty where there is none.
func there(t testing.TB, disk vfs.FS, name string) string {
	t.Helper()
	file, err := whole.Read(vfswhole.New(disk), folder+"/"+name+".ring.gz")
	if err != nil {
		t.Fatal(err)
	}
	return string(file)
}

// left are the names in the folder.
func left(t testing.TB, disk vfs.FS) []string {
	t.Helper()
	names, err := vfswhole.New(disk).Names(folder)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

// cut is a body that breaks off.
func cut(b []byte, err error) io.Reader { return io.MultiReader(bytes.NewReader(b), failing{err}) }

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
