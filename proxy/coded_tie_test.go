package proxy

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/timestamp"
)

// A meeting is where requests wait for each other.
type meeting struct {
	mu sync.Mutex
	at map[string]chan struct{} // guarded by mu
}

func (m *meeting) of(what string) chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.at == nil {
		m.at = map[string]chan struct{}{}
	}
	if m.at[what] == nil {
		m.at[what] = make(chan struct{})
	}
	return m.at[what]
}

// done lets those go on who wait for something.
func (m *meeting) done(what string) {
	over := m.of(what)
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-over:
	default:
		close(over)
	}
}

// Two uploads of one name at one time, by two proxies, of bodies that can't be sent again, each of which is the first on one half of the
// devices. Both clients are told the truth: who gets a 201 is on all replicas in the end, who gets a 503 may be there or not, and of
// whom nothing was committed nothing is left. Who has a commit can read it, whatever became of the proxies; and the name is written to as ever.
func TestCodedUploadsThatTie(t *testing.T) {
	const size = 1<<20 + 5
	began := time.Now().Add(-time.Minute)
	for what, tt := range map[string]struct {
		apart    time.Duration // how much later the second one's time is
		dead     bool          // the proxies die while their commits are on their way
		first    bool          // it is fragments that come first on one half, not commits
		answers  [2]int
		replicas [3]int // that have what was there before, the first one's and the second's
	}{
		"each commit comes first to half of the replicas": {time.Second, false, false, [2]int{503, 201}, [3]int{0, 0, 4}},
		"both proxies die when half have the commit":      {time.Second, true, false, [2]int{503, 503}, [3]int{0, 2, 2}},
		"at the very same time":                           {0, false, true, [2]int{503, 503}, [3]int{4, 0, 0}},
	} {
		t.Run(what, func(t *testing.T) {
			c := newCodedNodes(t, 4, 2)
			server := func(at time.Time) *Server {
				s := c.server()
				s.stamps = timestamp.NewSource(func() time.Time { return at })
				return s
			}
			bodies := [3][]byte{randomBytes(size), randomBytes(size + 100), randomBytes(size + 200)} // fragments are told apart by their length
			if resp := c.put(t.Context(), server(began), nil, bytes.NewReader(bodies[0]), size); resp.Status != 201 {
				t.Fatal(resp.Status, resp.Err)
			}
			var met meeting
			c.script(func(device string, r *backend.Request, keep func() *backend.Response) *backend.Response {
				mine, place, lower := 1, device, slices.Contains([]string{"d0", "d1"}, device)
				switch {
				case isFragment(r) && r.Method == http.MethodDelete: // nobody makes room for the other before that one was refused
					for i := range c.policy.Fragments() {
						<-met.of(fmt.Sprint(i, "/1"))
						<-met.of(fmt.Sprint(i, "/2"))
					}
					return nil
				case isFragment(r) && tt.first && r.Method == http.MethodPut:
					place = r.Header.Get(backend.FragmentIndex)
					lower = place < "3"
					if said := r.Header.Get(backend.Announced); said == fmt.Sprint(c.codings[codedPolicy].code.ArchiveSize(int64(len(bodies[2])))) {
						mine = 2
					}
				case isCommit(r) && !tt.first:
					of, err := backend.ParseCoded(r.Header.Get(backend.CodedWrite))
					if err != nil {
						return nil
					}
					if of.ETag == md5Hex(bodies[2]) {
						mine = 2
					}
				default:
					return nil
				}
				is := func(n int) string { return fmt.Sprint(place, "/", n) }
				switch late := lower == (mine == 1); {
				case tt.dead && (late || !slices.Contains([]string{"d0", "d1", "d2", "d3"}, device)):
					return broke(r, keep)
				case late && !tt.dead:
					<-met.of(is(3 - mine))
				}
				resp := keep()
				met.done(is(mine))
				return resp
			})
			var answers [2]int
			var both sync.WaitGroup
			for i := range answers {
				both.Go(func() {
					s := server(began.Add(time.Second + time.Duration(i)*tt.apart))
					answers[i] = c.put(t.Context(), s, nil, bytes.NewReader(bodies[i+1]), int64(len(bodies[i+1]))).Status
				})
			}
			both.Wait()
			c.cluster.Wait()
			if answers != tt.answers {
				t.Errorf("they were told %v, want %v", answers, tt.answers)
			}
			c.script(nil)
			var have [3]int
			for _, o := range c.replicas("o") {
				of, err := backend.ParseCoded(o.header.Get(backend.CodedWrite))
				if err != nil {
					t.Fatal(err)
				}
				for i, body := range bodies {
					if of.ETag != md5Hex(body) {
						continue
					}
					have[i]++
					archives := c.archives("o", o.time, of.Write)
					if got, err := c.decode(of, archives); err != nil || !bytes.Equal(got, body) || len(archives) != c.policy.Fragments() {
						t.Errorf("upload %d is committed, and its %d fragments are %d bytes, %v", i, len(archives), len(got), err)
					}
				}
			}
			if have != tt.replicas {
				t.Errorf("of what was there, of the one and the other %v replicas have it, want %v", have, tt.replicas)
			}
			if fragments, _ := c.kept(); tt.first && fragments != c.policy.Fragments() {
				t.Errorf("%d fragments are left, want those of what was there", fragments)
			}
			last := randomBytes(size)
			if resp := c.put(t.Context(), c.server(), nil, bytes.NewReader(last), size); resp.Status != 201 {
				t.Errorf("the next one: %d, %v", resp.Status, resp.Err)
			}
			c.whole(what, "o", last, c.policy.Replicas(), c.policy.Fragments())
		})
	}
}
