package cluster

import (

	// the ETag of the API

	"maps"
	"path/filepath"
	"slices"

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

// decode returns the bytes that archives are of, without the first few.
func decode(code *ec.Code, of backend.Coded, archives map[int][]byte, without int) ([]byte, error) {
	left := maps.Clone(archives)
	for _, index := range slices.Sorted(maps.Keys(archives))[:min(len(archives), without)] {
		delete(left, index)
	}
	return ectest.Decode(code, of, left)
}
