package updater

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/rowbatch"
	"martlet/internal/timestamp"
	"martlet/internal/vfs"
	"martlet/object/pending"
)

// cluster is three replicas of every container, each of which answers as told.
type cluster struct {
	mu     sync.Mutex
	status map[string]int // by address; 0 is no answer
	got    []string
	took   time.Duration // for each answer
}

func (c *cluster) Container(name.Path) (uint32, []Replica, error) {
	return 7, []Replica{{"n1", "d"}, {"n2", "d"}, {"n3", "d"}}, nil
}

func (c *cluster) Do(ctx context.Context, addr string, r *backend.Request) (*backend.Response, error) {
	<-time.After(c.took)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got = append(c.got, addr+" "+r.Method+" "+r.Path+" "+r.Header.Get("X-Size"))
	if c.status[addr] == 0 {
		return nil, errors.New("no answer")
	}
	return &backend.Response{Status: c.status[addr]}, nil
}

func queued(t *testing.T, n int) *pending.Queue {
	t.Helper()
	q := pending.New(vfs.NewMem(), "/")
	for i := range n {
		stamp := timestamp.FromTicks(int64(1000 + i))
		u := pending.Update{
			Hash: name.Hash{byte(i)}, Method: "PUT", Path: name.Path{Account: "a", Container: "c", Object: fmt.Sprint(i)},
			Header: backend.Header{{Name: "X-Size", Value: "5"}}, Data: stamp, ContentType: stamp, Meta: stamp,
		}
		if err := q.Put(context.Background(), u); err != nil {
			t.Fatal(err)
		}
	}
	return q
}

func length(t *testing.T, q *pending.Queue) (n int) {
	t.Helper()
	for _, err := range q.All(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

func TestPass(t *testing.T) {
	for what, tt := range map[string]struct {
		status map[string]int
		left   int
	}{
		"all take it":        {map[string]int{"n1": 201, "n2": 201, "n3": 202}, 0},
		"the container gone": {map[string]int{"n1": 404, "n2": 201, "n3": 404}, 0},
		"one is silent":      {map[string]int{"n1": 201, "n2": 0, "n3": 201}, 2},
		"one is full":        {map[string]int{"n1": 201, "n2": 507, "n3": 201}, 2},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &cluster{status: tt.status}
				q := queued(t, 2)
				u, err := New(Defaults(), []*pending.Queue{q}, c, c, nil)
				if err != nil {
					t.Fatal(err)
				}
				if err := u.Pass(t.Context()); err != nil {
					t.Fatal(err)
				}
				if got := length(t, q); got != tt.left {
					t.Fatalf("%d updates left, want %d", got, tt.left)
				}
				if len(c.got) != 6 || !slices.Contains(c.got, "n1 PUT /d/7/a/c/1 5") {
					t.Fatalf("sent %q", c.got)
				}
				if tt.left == 0 {
					return
				}
				c.got, c.status = nil, map[string]int{"n2": 201} // who has confirmed is not asked again
				if err := u.Pass(t.Context()); err != nil {
					t.Fatal(err)
				}
				if got := length(t, q); got != 0 || len(c.got) != 2 {
					t.Errorf("second pass left %d and sent %q", got, c.got)
				}
			})
		})
	}
}

// Where the container is not, it may be on its way: from a handoff, or after a
// rebalance. An update that too few replicas have stays for that, for so long.
// What is in no queue is delivered, or in the queue afterwards; where nobody has the container there is nothing to tell.
// A container server that took what was queued for it is back for those who write, too, unless it took longer than they wait.
func TestBack(t *testing.T) {
	for took, back := range map[time.Duration]bool{10 * time.Millisecond: true, 2 * time.Second: false} {
		synctest.Test(t, func(t *testing.T) {
			c := &cluster{status: map[string]int{"n1": 201, "n2": 0, "n3": 201}, took: took}
			now := time.Now()
			silent := pending.NewSilent(func() time.Time { return now })
			for range 5 {
				silent.Heard("n2", errs.E(errs.Unavailable, errors.New("no answer")))
			}
			cfg := Defaults()
			cfg.Silent, cfg.Quick = silent, time.Second
			q := queued(t, 1)
			u, err := New(cfg, []*pending.Queue{q}, c, c, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := u.Pass(t.Context()); err != nil {
				t.Fatal(err)
			}
			if silent.Ask("n2") {
				t.Error("a server that takes nothing is to be waited for")
			}
			c.status["n2"] = 201
			if err := u.Pass(t.Context()); err != nil {
				t.Fatal(err)
			}
			for range 3 { // also where the answer to the first has not come
				if silent.Ask("n2") != back {
					t.Fatalf("a server that has taken what was queued in %v is waited for: %v, want %v", took, !back, back)
				}
			}
		})
	}
}

func TestTell(t *testing.T) {
	for what, tt := range map[string]struct {
		status map[string]int
		left   int
	}{
		"all take it":                {map[string]int{"n1": 201, "n2": 201, "n3": 202}, 0},
		"nobody has the container":   {map[string]int{"n1": 404, "n2": 404, "n3": 404}, 0},
		"one has it, two do not yet": {map[string]int{"n1": 404, "n2": 201, "n3": 404}, 2},
		"two do not, one is silent":  {map[string]int{"n1": 404, "n2": 0, "n3": 404}, 2},
		"one is silent":              {map[string]int{"n1": 201, "n2": 0, "n3": 201}, 2},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var updates []pending.Update
				for u, err := range queued(t, 2).All(t.Context()) {
					if err != nil {
						t.Fatal(err)
					}
					u.Data = timestamp.FromTime(time.Now())
					u.ContentType, u.Meta = u.Data, u.Data
					updates = append(updates, u)
				}
				c, q := &cluster{status: tt.status}, queued(t, 0)
				u, err := New(Defaults(), []*pending.Queue{q}, c, c, nil)
				if err != nil {
					t.Fatal(err)
				}
				if err := u.Tell(t.Context(), q, slices.Values(updates)); err != nil {
					t.Fatal(err)
				}
				if got := length(t, q); got != tt.left || len(c.got) != 6 {
					t.Errorf("%d are queued, want %d; sent %q", got, tt.left, c.got)
				}
				// Who could not finish says so, and nothing is taken for told.
				ended, end := context.WithCancel(t.Context())
				end()
				if err := u.Tell(ended, q, slices.Values(updates)); err == nil {
					t.Error("Tell has told all, although it was ended before")
				}
			})
		})
	}
}

func TestAbsentContainer(t *testing.T) {
	for what, tt := range map[string]struct {
		status map[string]int
		age    time.Duration
		left   int
	}{
		"nobody has it yet":        {map[string]int{"n1": 404, "n2": 404, "n3": 404}, time.Hour, 1},
		"one has it":               {map[string]int{"n1": 404, "n2": 201, "n3": 404}, time.Hour, 1},
		"most have it":             {map[string]int{"n1": 201, "n2": 404, "n3": 201}, time.Hour, 0},
		"most, and one is silent":  {map[string]int{"n1": 201, "n2": 0, "n3": 201}, time.Hour, 1},
		"nobody has it any more":   {map[string]int{"n1": 404, "n2": 404, "n3": 404}, 8 * 24 * time.Hour, 0},
		"nobody, and one is quiet": {map[string]int{"n1": 404, "n2": 0, "n3": 404}, 8 * 24 * time.Hour, 1},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &cluster{status: tt.status}
				stamp := timestamp.FromTime(time.Now().Add(-tt.age))
				q := pending.New(vfs.NewMem(), "/")
				if err := q.Put(t.Context(), pending.Update{Method: "PUT", Path: name.Path{Account: "a", Container: "c", Object: "o"},
					Data: stamp.Add(-time.Hour), ContentType: stamp, Meta: stamp}); err != nil {
					t.Fatal(err)
				}
				u, err := New(Defaults(), []*pending.Queue{q}, c, c, nil)
				if err != nil {
					t.Fatal(err)
				}
				if err := u.Pass(t.Context()); err != nil {
					t.Fatal(err)
				}
				if got := length(t, q); got != tt.left {
					t.Fatalf("%d updates left, want %d", got, tt.left)
				}
				c.status = map[string]int{"n1": 201, "n2": 201, "n3": 201} // it has come
				if err := u.Pass(t.Context()); err != nil {
					t.Fatal(err)
				}
				if got := length(t, q); got != 0 {
					t.Errorf("%d updates left where all take it", got)
				}
			})
		})
	}
}

func TestPaceAndEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{status: map[string]int{"n1": 201, "n2": 201, "n3": 201}}
		u, err := New(Config{PerSecond: 10, Concurrency: 4, Timeout: time.Second, Wait: time.Hour}, []*pending.Queue{queued(t, 20)}, c, c, nil)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := u.Pass(ctx); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 1900*time.Millisecond || took > 3*time.Second {
			t.Errorf("20 updates at 10 a second took %v", took)
		}
		cancel()
		if err := u.Pass(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("a pass that was ended returned %v", err)
		}
	})
}

func TestBadConfig(t *testing.T) {
	if _, err := New(Config{}, nil, nil, nil, nil); err == nil {
		t.Error("a config of nothing was taken")
	}
}

// slow takes all updates, also many in one request, and takes its time.
type slow struct {
	mu       sync.Mutex
	requests int
	rows     map[string]int
}

func (s *slow) Do(_ context.Context, addr string, r *backend.Request) (*backend.Response, error) {
	<-time.After(10 * time.Millisecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	if r.Method != rowbatch.Method {
		s.rows[addr+r.Path]++
		return &backend.Response{Status: 201}, nil
	}
	body, err := rowbatch.Read(r.Body, r.Length)
	if err != nil {
		return nil, err
	}
	batch, err := rowbatch.Parse(body)
	if err != nil {
		return nil, err
	}
	results := make([]rowbatch.Result, len(batch.Updates))
	for i, u := range batch.Updates {
		s.rows[addr+u.Path]++
		results[i].Status = 201
	}
	answer, err := rowbatch.AppendResults(nil, results)
	return &backend.Response{Status: 200, Length: int64(len(answer)), Body: io.NopCloser(bytes.NewReader(answer))}, err
}

// What is queued for one server goes there together.
func TestQueuedUpdatesShareRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const updates = 100
		s := &slow{rows: map[string]int{}}
		sender := rowbatch.NewSender(rowbatch.Config{}, s)
		q := queued(t, updates)
		u, err := New(Defaults(), []*pending.Queue{q}, &cluster{}, sender, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := u.Pass(t.Context()); err != nil {
			t.Fatal(err)
		}
		sender.Close()
		if len(s.rows) != 3*updates || length(t, q) != 0 {
			t.Errorf("%d rows were told, %d updates are left", len(s.rows), length(t, q))
		}
		if most := 3 * updates / 5; s.requests > most {
			t.Errorf("%d updates for three servers took %d requests, want no more than %d", updates, s.requests, most)
		}
	})
}

// A PUT that has waited for so long that a delete after it may be forgotten is delivered only while its object is there, and
// a DELETE always: it may end something older.
func TestOldUpdates(t *testing.T) {
	for what, tt := range map[string]struct {
		method     string
		age        time.Duration
		is         bool
		err        error
		told, left bool
	}{
		"there":         {"PUT", 8 * 24 * time.Hour, true, nil, true, false},
		"gone":          {"PUT", 8 * 24 * time.Hour, false, nil, false, false},
		"who knows":     {"PUT", 8 * 24 * time.Hour, true, errors.New("fenced"), false, true},
		"not so old":    {"PUT", 5 * 24 * time.Hour, false, nil, true, false},
		"an old DELETE": {"DELETE", 8 * 24 * time.Hour, false, nil, true, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := &cluster{status: map[string]int{"n1": 201, "n2": 201, "n3": 201}}
			stamp := timestamp.FromTime(time.Now().Add(-tt.age))
			q := pending.New(vfs.NewMem(), "/")
			if err := q.Put(t.Context(), pending.Update{
				Method: tt.method, Path: name.Path{Account: "a", Container: "c", Object: "o"}, Data: stamp, ContentType: stamp, Meta: stamp,
			}); err != nil {
				t.Fatal(err)
			}
			cfg := Defaults()
			cfg.Trust = 6 * 24 * time.Hour
			cfg.Still = func(_ context.Context, of *pending.Queue, u *pending.Update) (bool, error) {
				if of != q || u.Data != stamp {
					t.Errorf("%s: asked about another one", what)
				}
				return tt.is, tt.err
			}
			u, err := New(cfg, []*pending.Queue{q}, c, c, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := u.Pass(t.Context()); err != nil {
				t.Fatal(err)
			}
			left := 0
			for _, err := range q.All(t.Context()) {
				if left++; err != nil {
					t.Error(err)
				}
			}
			if told := len(c.got) > 0; told != tt.told || (left > 0) != tt.left {
				t.Errorf("%s: containers are told: %v, it still waits: %v", what, told, left > 0)
			}
		})
	}
}

// What a pass leaves is told with how old it is; before the first nothing is known.
func TestWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{status: map[string]int{"n1": 201, "n2": 201}} // the third does not answer
		q := queued(t, 3)
		u, err := New(Defaults(), []*pending.Queue{q}, c, c, nil)
		if err != nil {
			t.Fatal(err)
		}
		if u.Left() != nil {
			t.Errorf("before a pass: %+v", u.Left())
		}
		if err := u.Pass(t.Context()); err != nil {
			t.Fatal(err)
		}
		if l := u.Left(); l.Kept != 3 || !l.Oldest.Equal(timestamp.FromTicks(1000).Time()) || !l.Ended.Equal(time.Now()) {
			t.Errorf("after one with a replica out: %+v", l)
		}
		c.status["n3"] = 201
		if err := u.Pass(t.Context()); err != nil {
			t.Fatal(err)
		}
		if l := u.Left(); l.Kept != 0 || !l.Oldest.IsZero() {
			t.Errorf("when all were delivered: %+v", l)
		}
	})
}

// sore is a disk that can't read one of its files, as long as it has a name, and can't rename any then.
type sore struct {
	vfs.FS
	file string
}

func (s *sore) Rename(from, to string) error {
	if s.file != "" {
		return syscall.EROFS
	}
	return s.FS.Rename(from, to)
}

func (s *sore) Open(path string) (vfs.File, error) {
	if s.file != "" && strings.HasSuffix(path, s.file) {
		return nil, syscall.EIO
	}
	return s.FS.Open(path)
}

// What is queued and can't be read waits like the rest, since the first pass that met it; so does what is damaged until it is in quarantine.
func TestUnreadIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{status: map[string]int{"n1": 201, "n2": 201, "n3": 201}}
		mem := vfs.NewMem()
		disk := &sore{FS: mem}
		q := pending.New(disk, "/")
		for i := range 3 {
			stamp := timestamp.FromTicks(int64(1000 + i))
			u := pending.Update{Hash: name.Hash{byte(i)}, Method: "PUT", Path: name.Path{Account: "a", Container: "c", Object: fmt.Sprint(i)}, Data: stamp}
			if err := q.Put(t.Context(), u); err != nil {
				t.Fatal(err)
			}
		}
		damaged, err := mem.OpenFile("/async_pending/02/"+name.Hash{2}.String(), syscall.O_RDWR)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := damaged.WriteAt([]byte{'?'}, 30); err != nil {
			t.Fatal(err)
		}
		u, err := New(Defaults(), []*pending.Queue{q}, c, c, nil)
		if err != nil {
			t.Fatal(err)
		}
		disk.file = name.Hash{1}.String()
		first := time.Now()
		for range 2 {
			if err := u.Pass(t.Context()); !errors.Is(err, syscall.EIO) {
				t.Errorf("the pass says %v", err)
			}
			if l := u.Left(); l.Kept != 2 || l.Oldest.Before(first) || l.Oldest.After(first.Add(time.Minute)) {
				t.Errorf("%v after the first pass: %+v", time.Since(first), l)
			}
			<-time.After(time.Hour)
		}
		disk.file = ""
		if err := u.Pass(t.Context()); !errs.Is(err, errs.Corrupt) {
			t.Errorf("the pass that puts one into quarantine says %v", err)
		}
		if l := u.Left(); l.Kept != 0 || !l.Oldest.IsZero() {
			t.Errorf("when it can be read: %+v", l)
		}
	})
}
