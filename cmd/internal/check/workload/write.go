package workload

import (
	"bytes"
	"context"
	"crypto/md5" // the ETag of the API
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"martlet/cmd/internal/check/history"
)

// How a write leaves its number.
const (
	markField = "X-Object-Meta-Mark"
	typeStem  = "check/"
)

// versionField is the ID of a version, in answers to those who made it.
const versionField = "X-Object-Version-Id"

// versions are the latest that were made, so that they are read.
type versions struct {
	mu  sync.Mutex // guards all that follows
	all []history.Name
	n   int
}

// keepVersions is how many of them are read.
const keepVersions = 64

func (v *versions) add(op *history.Op) {
	n, ok := op.Kept()
	if !ok {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.all) < keepVersions {
		v.all = append(v.all, n)
	} else {
		v.all[v.n%keepVersions] = n
	}
	v.n++
}

// some returns the version that a number chooses; it reports whether there is one.
func (v *versions) some(n int64) (history.Name, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.all) == 0 {
		return history.Name{}, false
	}
	return v.all[uint64(n)%uint64(len(v.all))], true
}

func mark(h http.Header, id int64, data bool) {
	text := strconv.FormatInt(id, 10)
	h.Set(markField, text)
	if data {
		h.Set("Content-Type", typeStem+text)
	}
}

// A manner is what is special about an upload.
type manner struct {
	chunked bool // its length is not announced
	etag    bool // its ETag is
	wrong   bool // another one is
	wait    bool // it waits for a 100 Continue
	absent  bool // only where there is nothing
	cut     int64
	ends    int64 // X-Delete-At; 0 is none
}

// manner chooses how to upload a body.
func (c *client) manner(size int64) manner {
	m := manner{cut: size}
	m.chunked = c.chance.IntN(4) == 0
	m.etag = c.chance.IntN(3) == 0
	m.wait = c.chance.IntN(8) == 0
	switch at := c.chance.Int64N(max(1, size)); c.chance.IntN(24) {
	case 0, 1:
		m.cut = at
	case 2:
		m.wrong = size > 0
	case 3:
		m.absent = true
	}
	return m
}

// put uploads a body of its own, or makes a large object.
func (c *client) put(ctx context.Context, n history.Name) {
	if c.chance.IntN(1000) < c.w.mix.large {
		c.large(ctx, n)
		return
	}
	size := c.w.mix.sizes(c.chance, c.w.cfg.Largest)
	m := c.manner(size)
	ends, after := c.chance.IntN(100), c.chance.Int64N(4)
	op := c.start(history.Put, n)
	if ends < c.w.mix.expires {
		m.ends = time.Now().Unix() + 2 + after
		op.Expires = c.w.log.At(m.ends)
	}
	op.Body, op.Size = op.ID, size
	c.upload(ctx, &op, content{id: op.ID, base: op.ID, size: size}, m)
	c.end(&op)
}

// aDay is in how many seconds an object ends of which that is said.
const aDay = "86400"

// upload sends a body, and says in op what came of it.
func (c *client) upload(ctx context.Context, op *history.Op, b content, m manner) {
	sum := c.w.bodies.sum(b)
	if b.size > 0 {
		c.w.bodies.learn(sum, b)
	}
	ctx, cancel := c.w.patience(ctx, b.size)
	defer cancel()
	r := c.w.request(ctx, c.proxy, http.MethodPut, op.Container, op.Object, nil)
	mark(r.Header, op.ID, true)
	body := &sending{size: b.size, cut: m.cut, from: c.w.bodies.reader(b)}
	r.Body, r.ContentLength = body, b.size
	switch {
	case m.chunked:
		r.ContentLength = -1
	case b.size == 0:
		r.Body = http.NoBody
	}
	etag := hex.EncodeToString(sum[:])
	switch {
	case m.wrong:
		r.Header.Set("Etag", strings.Repeat("0", len(etag)))
	case m.etag:
		r.Header.Set("Etag", etag)
	}
	if m.ends > 0 {
		r.Header.Set("X-Delete-At", strconv.FormatInt(m.ends, 10))
	}
	if m.wait {
		r.Header.Set("Expect", "100-continue")
	}
	if m.absent {
		r.Header.Set("If-None-Match", "*")
	}
	if b.size%3 == 1 { // some are to end, long after this: until then it is as if they were not
		r.Header.Set("X-Delete-After", aDay)
	}
	status, header := c.send(op, r)
	whole := r.Body == http.NoBody || body.whole(m.chunked)
	settle(op, status, whole && !m.wrong)
	if op.Outcome == history.Acked && c.w.mix.versions > 0 {
		op.Version = header.Get(versionField)
		defer func() { c.w.versions.add(op) }()
	}
	switch {
	case !whole:
		op.Note = strings.TrimSpace(fmt.Sprintf("broken off at %d of %d bytes %s", body.sent, b.size, op.Note))
	case m.wrong:
		op.Note = "with an ETag that it does not have"
	case status == http.StatusCreated && c.w.mix.versions > 0 && op.Container != c.w.segments && header.Get(versionField) == "":
		op.Seen = &history.Seen{Wrong: "was not told which version it has made"}
	case status == http.StatusCreated && header.Get("Etag") != etag:
		op.Seen = &history.Seen{Wrong: fmt.Sprintf("was answered with the ETag %q, and its body has %s", header.Get("Etag"), etag)}
	}
}

// send sends a write, reads the answer, and returns its status, 0 where there is none, and its header.
func (c *client) send(op *history.Op, r *http.Request) (int, http.Header) {
	resp, err := c.w.http.Do(r)
	if err != nil {
		op.Note = brief(err)
		return 0, nil
	}
	defer drain(resp)
	if resp.StatusCode >= 400 {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 200)) // words only
		op.Note = strings.Join(strings.Fields(strings.ToValidUTF8(string(b), "?")), " ")
	}
	return resp.StatusCode, resp.Header
}

// brief is an error without the URL.
func brief(err error) string {
	if u := (*url.Error)(nil); asURL(err, &u) {
		err = u.Err
	}
	return err.Error()
}

// small sends a POST or a DELETE.
func (c *client) small(ctx context.Context, n history.Name, kind history.Kind) {
	op := c.start(kind, n)
	ctx, cancel := c.w.patience(ctx, 0)
	defer cancel()
	r := c.w.request(ctx, c.proxy, strings.ToUpper(kind.String()), n.Container, n.Object, nil)
	if kind == history.Post {
		mark(r.Header, op.ID, false)
	}
	status, _ := c.send(&op, r)
	settle(&op, status, true)
	c.end(&op)
}

// copy copies another name here, by either of its two requests.
func (c *client) copy(ctx context.Context, n history.Name) {
	from, pull := c.name(), c.chance.IntN(2) == 0
	if from == n {
		c.small(ctx, n, history.Delete) // there is no other name, or chance would have it so
		return
	}
	op := c.start(history.Copy, n)
	op.From = &from
	ctx, cancel := c.w.patience(ctx, c.w.cfg.Largest)
	defer cancel()
	var r *http.Request
	if pull {
		r = c.w.request(ctx, c.proxy, http.MethodPut, n.Container, n.Object, nil)
		r.Header.Set("X-Copy-From", escape(from.String()))
		r.Header.Set("Content-Length", "0")
	} else {
		r = c.w.request(ctx, c.proxy, "COPY", from.Container, from.Object, nil)
		r.Header.Set("Destination", escape(n.String()))
	}
	mark(r.Header, op.ID, true)
	status, header := c.send(&op, r)
	settle(&op, status, true)
	if op.Outcome == history.Acked {
		b, ok := c.w.bodies.of(header.Get("Etag"))
		if op.Body, op.Size = b.id, b.size; !ok {
			op.Seen = &history.Seen{Wrong: fmt.Sprintf("was answered with the ETag %q, which is of no body that was written", header.Get("Etag"))}
		}
	}
	c.end(&op)
}

// A large is a static large object: the parts are stored once, and manifests of them put often.
type large struct {
	content
	etag     string // of a large object
	manifest []byte
}

// keepLarge is how many large objects each client stores the parts of.
const keepLarge = 4

// large puts a manifest, after the parts that it names where it has none yet.
func (c *client) large(ctx context.Context, n history.Name) {
	sizes := make([]int64, 2+c.chance.IntN(3))
	for i := range sizes {
		sizes[i] = 1 + near(c.chance, min(c.w.cfg.Largest, 2<<20))
	}
	again := c.chance.IntN(keepLarge)
	op := c.start(history.Put, n)
	op.Note = "a manifest"
	op.Outcome = history.Refused
	if len(c.whole) == keepLarge {
		c.manifest(ctx, &op, &c.whole[again])
	} else if l, ok := c.parts(ctx, op.ID, sizes); ok {
		c.whole = append(c.whole, l)
		c.manifest(ctx, &op, &l)
	}
	c.end(&op)
}

// parts stores the parts of a large object.
func (c *client) parts(ctx context.Context, id int64, sizes []int64) (large, bool) {
	type part struct {
		Path string `json:"path"`
		ETag string `json:"etag"`
		Size int64  `json:"size_bytes"`
	}
	var list []part
	etags := md5.New()
	l := large{content: content{id: id, base: id}}
	for i, size := range sizes {
		n := history.Name{Container: c.w.segments, Object: fmt.Sprintf("%d/%d", id, i)}
		op := c.start(history.Put, n)
		op.Body, op.Size = op.ID, size
		b := content{id: op.ID, base: id, from: l.size, size: size}
		c.upload(ctx, &op, b, manner{cut: size})
		c.end(&op)
		if op.Outcome != history.Acked {
			return l, false
		}
		sum := c.w.bodies.sum(b)
		etag := hex.EncodeToString(sum[:])
		list = append(list, part{Path: "/" + n.String(), ETag: etag, Size: size})
		_, _ = io.WriteString(etags, etag) // never fails
		l.size += size
	}
	var sum [md5.Size]byte
	etags.Sum(sum[:0])
	l.etag = hex.EncodeToString(sum[:])
	c.w.bodies.learn(sum, l.content)
	c.w.bodies.learn(c.w.bodies.sum(l.content), l.content) // of a copy
	var err error
	l.manifest, err = json.Marshal(list)
	return l, err == nil
}

// manifest makes a large object of parts that are stored.
func (c *client) manifest(ctx context.Context, op *history.Op, l *large) {
	op.Body, op.Size = l.id, l.size
	ctx, cancel := c.w.patience(ctx, 0)
	defer cancel()
	r := c.w.request(ctx, c.proxy, http.MethodPut, op.Container, op.Object, url.Values{"multipart-manifest": {"put"}})
	mark(r.Header, op.ID, true)
	body := &sending{size: int64(len(l.manifest)), cut: int64(len(l.manifest)), from: bytes.NewReader(l.manifest)}
	r.Body, r.ContentLength = body, body.size
	status, header := c.send(op, r)
	settle(op, status, body.whole(false))
	op.Note = strings.TrimSpace("a manifest " + op.Note)
	if status == http.StatusCreated {
		if etag := strings.Trim(header.Get("Etag"), `"`); etag != l.etag {
			op.Seen = &history.Seen{Wrong: fmt.Sprintf("was answered with the ETag %q, and the large object has %s", etag, l.etag)}
		}
	}
}
