package cluster

import (
	"bytes"
	"crypto/md5" // the ETag of the API
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/ec"
	"martlet/internal/ec/ectest"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/timestamp"
	"martlet/internal/vfs"
	"martlet/object"
	"martlet/object/engine"
)

// opened opens the store of a device that its node has in use.
func opened(root string) *engine.Engine {
	cfg := engine.Defaults()
	cfg.FS = vfs.ReadOnly(vfs.OS)
	return engine.New(root, cfg)
}

// devices calls do with each device of a cluster, stopped or not.
func (p *probe) devices(do func(place string, e *engine.Engine)) {
	for i, c := range p.configs {
		for _, d := range c.Server.Devices {
			do(nodeName(i+1)+"/"+d, opened(filepath.Join(c.Server.Root, d)))
		}
	}
}

// stored returns what devices have of an object under a policy that erasure-codes: its replicas, and the
// archives of the write that these name, by index.
func (p *probe) stored(of policy.Index, path name.Path, shape ec.Shape) (replicas map[string]engine.State, archives map[int][]byte) {
	p.t.Helper()
	replicas, archives = map[string]engine.State{}, map[int][]byte{}
	hash := p.hasher.Hash(path)
	var at timestamp.T
	p.devices(func(place string, e *engine.Engine) {
		s, err := e.Stat(p.t.Context(), engine.Location{Policy: of, Hash: hash})
		if err != nil {
			p.t.Fatal(err)
		}
		if s.Kind == engine.Live {
			replicas[place], at = s, s.Time
		}
	})
	p.devices(func(_ string, e *engine.Engine) {
		for i := range shape.Fragments() {
			location := object.FragmentAt(of.Fragments(), hash, at, i)
			s, err := e.Stat(p.t.Context(), location)
			if err != nil {
				p.t.Fatal(err)
			}
			if s.Kind == engine.Live {
				archives[i] = p.bytesOf(e, location)
			}
		}
	})
	return replicas, archives
}

func (p *probe) bytesOf(e *engine.Engine, at engine.Location) []byte {
	p.t.Helper()
	r, err := e.Open(p.t.Context(), at)
	if err != nil {
		p.t.Fatal(err)
	}
	defer r.Close()
	var all []byte
	for n := r.State().Length; int64(len(all)) < n; {
		b, err := r.View(int64(len(all)), n-int64(len(all)))
		if err != nil || len(b) == 0 {
			p.t.Fatal(len(b), err)
		}
		all = append(all, b...)
	}
	return all
}

// What a PUT under erasure coding leaves on devices: up to whole_up_to bytes whole on the replicas of
// the object, and of others commits there, and fragments that are the bytes.
func TestCodedPutOnDisk(t *testing.T) {
	shapes := []ec.Shape{{Data: 1, Parity: 1}, {Data: 4, Parity: 2}, {Data: 8, Parity: 4}}
	p := startPatientProbe(t, 20*time.Second, func(o *Options) { // the machine may be busy
		o.Nodes, o.Devices = 12, 1
		for _, s := range shapes {
			o.Policies = append(o.Policies, Policy{Name: fmt.Sprintf("ec%d-%d", s.Data, s.Parity), Shape: s})
		}
	})
	const wholeUpTo = 8 << 10
	chance := rand.NewChaCha8([32]byte{1})
	for i, shape := range shapes {
		index := policy.Index(i + 1)
		container := fmt.Sprint("coded", i)
		p.want("PUT", p.url+"/"+container, map[string]string{"X-Storage-Policy": fmt.Sprintf("ec%d-%d", shape.Data, shape.Parity)}, "", 201)
		replicas := min(shape.Fragments(), shape.Parity+2)
		code, err := ec.New(ec.Of(shape))
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{0, 1, wholeUpTo, wholeUpTo + 1, 64 << 10, 1<<20 - 1, 1 << 20, 1<<20 + 1, 5<<20 + 7} {
			for _, chunked := range []bool{false, true} {
				what := fmt.Sprintf("%v, %d bytes, chunked %v", shape, size, chunked)
				data := make([]byte, size)
				_, _ = chance.Read(data)
				o := fmt.Sprint("o", size, chunked)
				var body io.Reader = bytes.NewReader(data)
				if chunked {
					body = struct{ io.Reader }{body}
				}
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, p.url+"/"+container+"/"+o, body)
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("X-Auth-Token", p.token)
				resp, err := p.client.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				sum := md5.Sum(data)
				if etag := fmt.Sprintf("%x", sum); resp.StatusCode != 201 || resp.Header.Get("Etag") != etag {
					t.Errorf("%s: got %s, ETag %s, want %s", what, resp.Status, resp.Header.Get("Etag"), etag)
				}
				have, archives := p.stored(index, name.Path{Account: "AUTH_test", Container: container, Object: o}, shape)
				if len(have) != replicas {
					t.Errorf("%s: %d replicas have it, want %d", what, len(have), replicas)
				}
				for place, s := range have {
					text := s.System.Get(backend.CodedWrite)
					if size <= wholeUpTo {
						if s.Length != int64(size) || s.MD5 != sum || text != "" || len(archives) > 0 {
							t.Errorf("%s: %s has %d bytes, %q, and there are %d fragments", what, place, s.Length, text, len(archives))
						}
						continue
					}
					of, err := backend.ParseCoded(text)
					if err != nil || s.Length != 0 || of.Size != int64(size) || of.ETag != fmt.Sprintf("%x", sum) || of.Sized == (chunked && size >= 256<<10) {
						t.Errorf("%s: %s has %d bytes and says %q, %v", what, place, s.Length, text, err)
					}
					if len(archives) != shape.Fragments() {
						t.Errorf("%s: there are %d fragments, want %d", what, len(archives), shape.Fragments())
					}
					if got, err := decode(code, of, archives, shape.Parity); err != nil || !bytes.Equal(got, data) {
						t.Errorf("%s: the fragments are %d bytes, %v", what, len(got), err)
					}
				}
			}
		}
	}
}

// decode returns the bytes that archives are of, without the first few.
func decode(code *ec.Code, of backend.Coded, archives map[int][]byte, without int) ([]byte, error) {
	left := maps.Clone(archives)
	for _, index := range slices.Sorted(maps.Keys(archives))[:min(len(archives), without)] {
		delete(left, index)
	}
	return ectest.Decode(code, of, left)
}
