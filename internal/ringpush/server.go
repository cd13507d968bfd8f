package ringpush

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"iter"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/ring"
	"martlet/ring/whole"
)

const op errs.Op = "ringpush"

// A Source is a ring that is in use, of a file that may change: *ring.Source is one.
type Source interface {
	// Ring is the one in use, the same pointer for as long as it is.
	Ring() *ring.Ring
	// Check takes what the file has in use. The error says why that is not in use.
	Check() (reloaded bool, err error)
}

// Config is what a Server works with.
type Config struct {
	Kind    string   // Storage or Proxy
	Version string   // of the program
	Folder  string   // of the ring files
	FS      whole.FS // that the folder is on; nil for the machine's

	// Rings are all rings that the process has in use, by the names of their files without the ending.
	Rings iter.Seq2[string, Source]

	// Check returns why the process can't use a ring that is right in all else; nil for none.
	Check func(name string, next *ring.Ring) error

	// Taken is told of each ring that has come in use since somebody asked or sent one; nil for nobody.
	// It may be called by several at one time, and twice for one ring.
	Taken func(ctx context.Context, name string, version int64)
}

// A Server tells of a process's rings and takes new ones. It is safe for concurrent use, and asks
// nobody who he is: a clusterkey.Guard stands before it.
type Server struct {
	cfg     Config
	process string

	taking sync.Mutex // one ring at a time

	mu       sync.Mutex
	known    map[string]known // mu; what is said of the rings in use
	doubtful map[string]bool  // mu; of those whose folder could not be synced
}

type known struct {
	of *ring.Ring
	is Running
}

var _ backend.Handler = (*Server)(nil)

// New returns a server of a process that begins now.
func New(cfg Config) *Server {
	if cfg.FS == nil {
		cfg.FS = whole.OS
	}
	return &Server{cfg: cfg, process: rand.Text(), doubtful: map[string]bool{}, known: map[string]known{}}
}

func (s *Server) file(name string) string {
	return filepath.Join(s.cfg.Folder, name+".ring.gz")
}

// running is what is said of a ring in use.
func (s *Server) running(name string, r *ring.Ring) Running {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k, ok := s.known[name]; ok && k.of == r {
		return k.is
	}
	k := known{r, Of(r)}
	s.known[name] = k
	return k.is
}

// doubt notes whether a power cut may undo what was done to a file.
func (s *Server) doubt(name string, is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if delete(s.doubtful, name); is {
		s.doubtful[name] = true
	}
}

// Serve implements backend.Handler.
func (s *Server) Serve(ctx context.Context, r *backend.Request) (*backend.Response, error) {
	if r.Path == Path {
		if r.Method != "GET" || r.Length > 0 {
			return nil, errs.Refuse(errs.Method, "%s takes GET without a body", Path)
		}
		return answer(s.report(ctx))
	}
	name, ok := strings.CutPrefix(r.Path, Path+"/")
	if !ok {
		return nil, errs.E(op, errs.NotFound)
	}
	if r.Method != "PUT" {
		return nil, errs.Refuse(errs.Method, "%s takes PUT", r.Path)
	}
	return s.put(ctx, name, r)
}

func (s *Server) put(ctx context.Context, name string, r *backend.Request) (*backend.Response, error) {
	source := s.source(name)
	sum := r.Header.Get(ChecksumHeader)
	switch {
	case source == nil:
		return nil, errs.Refuse(errs.NotFound, "this process has no ring of the name %q: a policy has to be in its configuration (cluster.policies) first", name)
	case r.Header.Get(ProcessHeader) != s.process:
		return nil, errs.Refuse(errs.Conflict, "the ring was meant for another process than the one that answers here: it was started again meanwhile, or a load balancer is in between")
	case sum == "":
		return nil, errs.Refuse(errs.Invalid, "%s is missing", ChecksumHeader)
	case r.Length < 0:
		return nil, errs.Refuse(errs.Length, "a ring has a length")
	case r.Length > ring.MaxFile:
		return nil, errs.Refuse(errs.TooLarge, "a ring has at most %d bytes", int64(ring.MaxFile))
	case r.Length == 0 || r.Body == nil:
		return nil, errs.Refuse(errs.Invalid, "there is no ring in the request")
	case !s.taking.TryLock():
		return nil, errs.Refuse(errs.Unavailable, "this process is taking another ring: try again")
	}
	defer s.taking.Unlock()
	before := source.Ring()
	err := s.install(ctx, name, source, r.Body, sum)
	now := s.took(ctx, name, source, before) // perhaps what somebody else has put there, though this one is refused
	if err != nil {
		return nil, err
	}
	return answer(Taken{Process: s.process, Running: s.running(name, now), Changed: now != before})
}

// took returns the ring in use, and tells of it where it is another one than before.
func (s *Server) took(ctx context.Context, name string, source Source, before *ring.Ring) *ring.Ring {
	now := source.Ring()
	if now != before && s.cfg.Taken != nil {
		s.cfg.Taken(ctx, name, now.Version())
	}
	return now
}

// source returns a ring in use; nil where there is none of the name.
func (s *Server) source(name string) Source {
	for n, source := range s.cfg.Rings {
		if n == name {
			return source
		}
	}
	return nil
}

// report says what is in use once it was looked whether the files have something newer, and what is wrong with those
// that don't have what is in use: as long as nobody looks, the process runs what its next start would not.
func (s *Server) report(ctx context.Context) Report {
	r := Report{Process: s.process, Kind: s.cfg.Kind, Version: s.cfg.Version, Rings: map[string]Running{}}
	nodes := map[string]bool{}
	for name, source := range s.cfg.Rings {
		before := source.Ring()
		if _, err := source.Check(); err != nil {
			if r.Files == nil {
				r.Files = map[string]string{}
			}
			r.Files[name] = err.Error()
		}
		now := s.took(ctx, name, source, before)
		r.Rings[name] = s.running(name, now)
		for d := range now.Devices() {
			nodes[d.Addr()] = true
		}
	}
	r.Nodes, r.Folder = slices.Sorted(maps.Keys(nodes)), folderID(s.cfg.Folder)
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Unsynced = slices.Sorted(maps.Keys(s.doubtful))
	return r
}

func answer(what any) (*backend.Response, error) {
	body, err := json.Marshal(what)
	if err != nil {
		return nil, errs.E(op, err)
	}
	return &backend.Response{
		Status: 200, Length: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body)),
		Header: backend.Header{{Name: backend.ContentType, Value: "application/json"}},
	}, nil
}
