package test

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// quorumSize is the majority of the replicas that the tests' clusters have.
const quorumSize = 2

// crashBench is a cluster under load to which things happen.
type crashBench struct {
	*workload
	cluster  *cluster
	together bool // whatever happens, happens to all nodes at one instant
}

// check says which promise does not hold of what the clients were told, with
// nobody writing and every process up.
func (b *crashBench) check(ctx context.Context) error {
	if err := b.failure(); err != nil {
		return err
	}
	// Of each object what is read, and what its replicas hold.
	var all sync.WaitGroup
	for _, c := range b.clients {
		all.Go(func() {
			for _, o := range c.objects {
				replicas, err := b.checkReplicas(ctx, o)
				if err = errors.Join(b.checkRead(ctx, o), err, b.checkVersions(ctx, o)); err != nil {
					b.fail("%w\n%s has the replicas %s", err, o.path(), replicas)
					return
				}
			}
			for _, name := range c.made {
				if err := b.checkMade(ctx, name); err != nil {
					b.fail("%w", err)
					return
				}
			}
		})
	}
	all.Wait()
	return b.failure()
}

// checkRead reads an object: it must be one of the states it may be in, whole.
func (b *crashBench) checkRead(ctx context.Context, o *object) error {
	var got state
	err := pollErr(ctx, 5*time.Second, func() error {
		a := b.send(ctx, "GET", b.url+o.path(), nil, "X-Newest", "true")
		switch {
		case a.status == http.StatusNotFound:
			got = state{}
		case a.status != http.StatusOK:
			return fmt.Errorf("GET %s: %v", o.path(), a)
		case !a.whole:
			return fmt.Errorf("GET %s broke off after %d bytes", o.path(), len(a.body))
		default:
			m := md5.Sum(a.body)
			got = shown(a.header, int64(len(a.body)))
			if etag := hex.EncodeToString(m[:]); etag != got.etag {
				got.etag = "of the body " + etag + ", said to be " + got.etag
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if !o.is(got) {
		return fmt.Errorf("%s is %v, want one of %v", o.path(), got, o.may)
	}
	return nil
}

// checkVersions reads the versions of an object that were acknowledged: whatever came
// after them, they are there.
func (b *crashBench) checkVersions(ctx context.Context, o *object) error {
	for _, v := range o.versions {
		err := pollErr(ctx, 5*time.Second, func() error {
			a := b.send(ctx, "GET", b.url+o.path()+"?version-id="+v.id, nil)
			m := md5.Sum(a.body)
			if etag := hex.EncodeToString(m[:]); a.status != http.StatusOK || !a.whole || etag != v.etag {
				return fmt.Errorf("version %s of %s: %v, MD5 %s, want %s", v.id, o.path(), a, etag, v.etag)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func shown(h http.Header, size int64) state {
	return state{h.Get("Etag"), size, h.Get("X-Object-Meta-Seed"), h.Get("Content-Type")}
}

// checkReplicas asks each node for its replica. What was acknowledged, or what
// came after it, must be on a majority of them: one alone is a promise that the
// next lost disk breaks. (Data and what a POST said of it may be on different
// ones.) It returns what they said, too.
func (b *crashBench) checkReplicas(ctx context.Context, o *object) (all string, err error) {
	data, meta := 0, 0
	var said []string
	for n := range b.cluster.nodes {
		url := fmt.Sprintf("http://%s.1.%d:6200/d1/0/AUTH_test%s", b.cluster.network, n+1, o.path())
		var a answered
		err := pollErr(ctx, 5*time.Second, func() error {
			a = b.send(ctx, "HEAD", url, nil, "X-Backend-Storage-Policy-Index", b.policyOf(o))
			if a.status == http.StatusOK || a.status == http.StatusNotFound {
				return nil
			}
			return fmt.Errorf("HEAD %s: %v", url, a)
		})
		if err != nil {
			return strings.Join(said, ", "), err
		}
		var got state
		if a.status == http.StatusOK {
			size, err := strconv.ParseInt(a.header.Get("Content-Length"), 10, 64)
			if err != nil {
				return "", fmt.Errorf("HEAD %s: %w", url, err)
			}
			got = shown(a.header, size)
		} else if a.header.Get("X-Backend-Timestamp") == "" {
			said = append(said, "never heard of it")
			continue
		}
		said = append(said, got.String()+" at "+a.header.Get("X-Backend-Timestamp"))
		if slices.ContainsFunc(o.may, func(s state) bool { return s.meta == got.meta && (o.posted || s.etag == got.etag) }) {
			meta++
		}
		if slices.ContainsFunc(o.may, func(s state) bool { return s.etag == got.etag }) {
			data++
		}
	}
	all = strings.Join(said, ", ")
	if o.acked && min(data, meta) < quorumSize {
		return all, fmt.Errorf("%s may be one of %v, which too few of its replicas are", o.path(), o.may)
	}
	return all, nil
}

// policyOf is the index of the policy that an object is under.
func (b *crashBench) policyOf(o *object) string {
	if o.container == b.coded {
		return "1"
	}
	return "0"
}

// checkMade wants a container to be on a majority of its replicas.
func (b *crashBench) checkMade(ctx context.Context, name string) error {
	there := 0
	for n := range b.cluster.nodes {
		l, err := b.list(ctx, fmt.Sprintf("http://%s.1.%d:6201/d1/0/AUTH_test/%s", b.cluster.network, n+1, name))
		if err != nil {
			return err
		}
		if l != nil {
			there++
		}
	}
	if there < quorumSize {
		return fmt.Errorf("container %s was made, and is on %d nodes", name, there)
	}
	return nil
}

// settle writes the objects again of which not everything is known, so that
// afterwards it is.
func (b *crashBench) settle(ctx context.Context, which func(*object) bool) error {
	var all sync.WaitGroup
	for _, c := range b.clients {
		all.Go(func() {
			for _, o := range c.objects {
				if !which(o) {
					continue
				}
				o.frozen = false // what was on its way has long arrived
				err := pollErr(ctx, crashPatience, func() error {
					c.seeds++
					if c.put(ctx, o, fmt.Sprintf("%d-%d", c.id, c.seeds)); len(o.may) > 1 {
						return fmt.Errorf("%s can't be written", o.path())
					}
					return nil
				})
				if err != nil {
					b.fail("%w", err)
				}
			}
		})
	}
	all.Wait()
	return b.failure()
}

// row is an object in a listing.
type row struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
	Hash  string `json:"hash"`
}

// listing is what one server says of a container.
type containerSays struct {
	rows map[string]row
	err  error // the counts are not those of the rows
}

// list reads a container from a server, the proxy or a storage node; nil where
// it has none.
func (b *crashBench) list(ctx context.Context, url string) (*containerSays, error) {
	a := b.send(ctx, "GET", url+"?format=json", nil)
	if a.status == http.StatusNotFound {
		return nil, nil
	}
	if a.status/100 != 2 || !a.whole {
		return nil, fmt.Errorf("GET %s: %v", url, a)
	}
	var rows []row
	if a.status == http.StatusOK {
		if err := json.Unmarshal(a.body, &rows); err != nil {
			return nil, fmt.Errorf("GET %s: %w", url, err)
		}
	}
	l := &containerSays{rows: map[string]row{}}
	var bytes int64
	for _, r := range rows {
		l.rows[r.Name] = r
		bytes += r.Bytes
	}
	objects, used := a.header.Get("X-Container-Object-Count"), a.header.Get("X-Container-Bytes-Used")
	if b.versioned != "" && strings.HasSuffix(url, "/"+b.versioned) {
		used = strconv.FormatInt(bytes, 10) // versions count as well, and objects only as them
	}
	if objects != strconv.Itoa(len(rows)) || used != strconv.FormatInt(bytes, 10) {
		l.err = fmt.Errorf("%s counts %s objects of %s bytes, and lists %d of %d", url, objects, used, len(rows), bytes)
	}
	return l, nil
}

// agrees reports whether a listing has an object as it is.
func (l *containerSays) agrees(o *object) bool {
	r, ok := l.rows[o.name]
	r.Hash, _, _ = strings.Cut(r.Hash, ";") // servers say there which version it is
	s := o.may[0]
	return ok == (s.etag != "") && (!ok || r == row{o.name, s.size, s.etag})
}

// checkListings wants the listings to say what the objects are, once what was
// queued is delivered. A majority of their replicas has to: one that was away may
// have missed a row of which nobody is left that should tell it, and is told by
// replication.
func (b *crashBench) checkListings(ctx context.Context) error {
	if err := b.settle(ctx, func(o *object) bool { return len(o.may) > 1 || o.frozen }); err != nil {
		return err
	}
	return pollErr(ctx, 20*time.Second, func() error {
		for _, container := range crashContainers {
			var replicas []*containerSays
			for n := range b.cluster.nodes {
				l, err := b.list(ctx, fmt.Sprintf("http://%s.1.%d:6201/d1/0/AUTH_test/%s", b.cluster.network, n+1, container))
				if err != nil {
					return err
				}
				if l == nil {
					continue
				}
				if l.err != nil {
					return l.err
				}
				replicas = append(replicas, l)
			}
			for _, o := range b.objects() {
				agree := 0
				for _, l := range replicas {
					if o.container == container && l.agrees(o) {
						agree++
					}
				}
				if o.container == container && agree < quorumSize {
					return fmt.Errorf("%s is %v; %d of the %d replicas of its container say so", o.path(), o.may[0], agree, len(replicas))
				}
			}
		}
		return nil
	})
}

// finish writes every object once more with everything up, deletes some, and
// wants clients to see each listing as it should be.
func (b *crashBench) finish(ctx context.Context) error {
	if err := b.settle(ctx, func(*object) bool { return true }); err != nil {
		return err
	}
	for _, c := range b.clients {
		for _, o := range c.objects[:2] {
			if c.remove(ctx, o); len(o.may) > 1 {
				return fmt.Errorf("%s can't be deleted", o.path())
			}
		}
	}
	if err := b.check(ctx); err != nil {
		return err
	}
	return pollErr(ctx, 20*time.Second, func() error {
		for _, container := range crashContainers {
			for range 8 { // replicas are read by chance
				l, err := b.list(ctx, b.url+"/"+container)
				if err != nil {
					return err
				}
				if l == nil {
					return fmt.Errorf("there is no container %s", container)
				}
				if l.err != nil {
					return l.err
				}
				want := 0
				for _, o := range b.objects() {
					if o.container != container {
						continue
					}
					if !l.agrees(o) {
						return fmt.Errorf("%s is %v, listed is %v", o.path(), o.may[0], l.rows[o.name])
					}
					if o.may[0].etag != "" {
						want++
					}
				}
				if len(l.rows) != want {
					return fmt.Errorf("%s lists %d objects, want %d", container, len(l.rows), want)
				}
			}
		}
		return nil
	})
}
