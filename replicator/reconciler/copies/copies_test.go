package copies

import (
	"context"
	"crypto/md5" // the ETag of the API
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"martlet/internal/backend"
	"martlet/internal/direct"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/quorum"
	"martlet/internal/quorum/nodetest"
	"martlet/internal/timestamp"
	"martlet/replicator/reconciler"
	"martlet/ring"
)

const (
	of    policy.Index = 3
	codes policy.Index = 5 // of erasure coding
	parts policy.Index = 7 // likewise, with a ring for its fragments
)

var (
	object = name.Path{Account: "a", Container: "c", Object: "o"}
	early  = timestamp.FromTicks(150_000_000_000_000)
	late   = early.Next()
	later  = late.Next()
)

// took is a request that a device has taken to its end.
type took struct {
	method, body string
	header       backend.Header
}

// world is an object on d0, d1 and d2, and its container, and all else, on the others.
type world struct {
	*Copies
	t     *testing.T
	fleet *nodetest.Fleet

	mu  sync.Mutex
	got map[string][]took // by device; guarded by mu
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, fleet: nodetest.New(t, object), got: map[string][]took{}}
	client := direct.New(direct.Config{})
	cluster := quorum.New(quorum.Config{}, quorum.Rings{
		Account: w.fleet.Ring, Container: w.fleet.Ring, Objects: map[policy.Index]*ring.Source{of: w.fleet.Ring, codes: w.fleet.Ring, parts: w.fleet.Ring, parts.Fragments(): w.fleet.Ring},
		Needs: map[policy.Index]int{codes: 3, parts: 2, parts.Fragments(): 3},
	}, w.fleet.Hasher, client)
	policies, err := policy.NewSet([]policy.Policy{{Index: of, Name: "of", Default: true}, {Index: codes, Name: "codes", Data: 4, Parity: 2, WholeUpTo: 10}, {Index: parts, Name: "parts", Data: 2, Parity: 1}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cluster.Wait(); client.Close() })
	w.Copies = New(cluster, policies)
	for i := range nodetest.Nodes {
		w.say(fmt.Sprint("d", i), 404)
	}
	return w
}

// say has a device answer with a status and fields, in turn names and values, once it has all of the request.
func (w *world) say(device string, status int, fields ...string) {
	w.fleet.Script(device, func(_ context.Context, r *backend.Request) (*backend.Response, error) {
		x := took{method: r.Method, header: slices.Clone(r.Header)}
		if r.Body != nil {
			b, err := io.ReadAll(r.Body)
			if err != nil {
				return nil, err
			}
			x.body, x.header = string(b), append(x.header, r.Trailer...)
		}
		w.mu.Lock()
		w.got[device] = append(w.got[device], x)
		w.mu.Unlock()
		resp := &backend.Response{Status: status}
		for i := 0; i < len(fields); i += 2 {
			resp.Header.Add(fields[i], fields[i+1])
		}
		return resp, nil
	})
}

// took returns how many devices have taken a request to its end.
func (w *world) took() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, list := range w.got {
		n += len(list)
	}
	return n
}

func TestPolicy(t *testing.T) {
	has := func(p string) []string { return []string{backend.PolicyIndex, p} }
	type says struct {
		status int
		fields []string
	}
	for what, tt := range map[string]struct {
		says   [3]says
		kind   errs.Kind
		silent []int
	}{
		"all agree":                {[3]says{{204, has("3")}, {204, has("3")}, {204, has("3")}}, errs.Other, nil},
		"it was deleted":           {[3]says{{204, has("3")}, {404, has("3")}, {404, has("3")}}, errs.Other, nil},
		"one says another":         {[3]says{{204, has("3")}, {204, has("3")}, {204, has("4")}}, errs.Unavailable, nil},
		"one has it not":           {[3]says{{204, has("3")}, {204, has("3")}, {404, nil}}, errs.Unavailable, nil},
		"one fails":                {[3]says{{204, has("3")}, {204, has("3")}, {507, nil}}, errs.Other, []int{2}},
		"one says nothing":         {[3]says{{204, has("3")}, {204, nil}, {204, has("3")}}, errs.Unavailable, nil},
		"all have it not":          {[3]says{{404, nil}, {404, nil}, {404, nil}}, errs.NotFound, nil},
		"one fails, no more":       {[3]says{{404, nil}, {404, nil}, {503, nil}}, errs.Unavailable, []int{2}},
		"two fail":                 {[3]says{{503, nil}, {507, nil}, {204, has("3")}}, errs.Unavailable, []int{0, 1}},
		"one fails, others differ": {[3]says{{500, nil}, {204, has("4")}, {204, has("3")}}, errs.Unavailable, []int{0}},
	} {
		w := newWorld(t)
		for i, s := range tt.says {
			w.say(fmt.Sprint("d", 3+i), s.status, s.fields...)
		}
		p, silent, err := w.Policy(t.Context(), object.Parent())
		if !slices.Equal(silent, tt.silent) {
			t.Errorf("%s: %v can't be asked, want %v", what, silent, tt.silent)
		}
		if tt.kind == errs.Other && (err != nil || p != 3) || tt.kind != errs.Other && !errs.Is(err, tt.kind) {
			t.Errorf("%s: %d, %v", what, p, err)
		}
	}
}

func TestLook(t *testing.T) {
	type says []string // the status, and fields
	live := func(data, kind, newest timestamp.T) says {
		s := says{"200", backend.DataStamp, data.String(), backend.BackendStamp, newest.String()}
		if kind != data {
			s = append(s, backend.TypeStamp, kind.String())
		}
		return s
	}
	dead := func(data timestamp.T) says {
		return says{"404", backend.DataStamp, data.String(), backend.BackendStamp, data.String()}
	}
	none, fails := says{"404"}, says{"503"}
	times := func(data, kind, meta timestamp.T) timestamp.Packed {
		return timestamp.Packed{Data: data, ContentType: kind, Meta: meta}
	}
	for what, tt := range map[string]struct {
		says [3]says
		want reconciler.State
		bad  bool
	}{
		"all have it":            {[3]says{live(late, late, late), live(late, late, late), live(late, late, late)}, reconciler.State{Live: true, Times: times(late, late, late), Kept: late}, false},
		"nobody has":             {[3]says{none, none, none}, reconciler.State{}, false},
		"one has it":             {[3]says{none, live(late, late, late), none}, reconciler.State{Live: true, Times: times(late, late, late)}, false},
		"one was deleted":        {[3]says{live(early, early, early), dead(late), live(early, early, early)}, reconciler.State{Times: times(late, late, late), Kept: early}, false},
		"one fails":              {[3]says{fails, live(early, late, later), live(early, late, later)}, reconciler.State{Live: true, Times: times(early, late, later), Kept: early}, false},
		"two fail":               {[3]says{fails, live(late, late, late), fails}, reconciler.State{}, true},
		"metadata of other data": {[3]says{live(early, later, later), live(late, late, late), none}, reconciler.State{Live: true, Times: times(late, late, late), Kept: early, Behind: true}, false},
		"no time":                {[3]says{{"200"}, none, none}, reconciler.State{}, true},
		"a bad time":             {[3]says{{"404", backend.DataStamp, "x"}, none, none}, reconciler.State{}, true},
	} {
		w := newWorld(t)
		for i, s := range tt.says {
			var status int
			_, _ = fmt.Sscan(s[0], &status)
			w.say(fmt.Sprint("d", i), status, s[1:]...)
		}
		got, err := w.Look(t.Context(), of, object)
		got.Header = nil
		if tt.bad != errs.Is(err, errs.Unavailable) || !tt.bad && (err != nil || fmt.Sprint(got) != fmt.Sprint(tt.want)) {
			t.Errorf("%s: %+v, %v, want %+v", what, got, err, tt.want)
		}
		for _, list := range w.got {
			for _, r := range list {
				if r.header.Get("X-Backend-Replication") != "true" || r.header.Get(backend.PolicyIndex) != "3" {
					t.Errorf("%s: asked with %v", what, r.header)
				}
			}
		}
	}
	w := newWorld(t)
	if _, err := w.Look(t.Context(), 9, object); !errs.Is(err, errs.Unavailable) {
		t.Errorf("a policy without a ring: %v", err)
	}
}

// answers are what the primaries say to a write, and whether it is done.
func TestWrites(t *testing.T) {
	refused := func(at timestamp.T) []string {
		return []string{"409", backend.DataStamp, at.String(), backend.BackendStamp, at.String()}
	}
	gone := []string{"404", backend.DataStamp, later.String(), backend.BackendStamp, later.String()}
	stamped := []string{"404", backend.BackendStamp, late.String()}
	ok, fails, none := []string{"201"}, []string{"503"}, []string{"404"}
	put := func(w *world) error {
		return w.Put(w.t.Context(), of, object, reconciler.Object{State: reconciler.State{Header: fieldsOf("x")}, Length: 1, Body: io.NopCloser(strings.NewReader("x"))}, late)
	}
	del := func(w *world) error { return w.Delete(w.t.Context(), of, object, late) }
	end := func(w *world) error {
		return w.Delete(w.t.Context(), of, object, timestamp.Expiry(early, early, 9))
	}
	longer := []string{"409", backend.DataStamp, early.String(), backend.BackendStamp, later.String()}
	post := func(w *world) error {
		return w.Post(w.t.Context(), of, object, reconciler.Change{Stamp: late, Header: fieldsOf("x")})
	}
	for what, tt := range map[string]struct {
		write func(*world) error
		says  [3][]string
		done  bool
	}{
		"put":                           {put, [3][]string{ok, ok, ok}, true},
		"put, one is away":              {put, [3][]string{ok, ok, fails}, true},
		"put, two are":                  {put, [3][]string{ok, fails, fails}, false},
		"put, something later is there": {put, [3][]string{refused(late), refused(later), fails}, true},
		"put, something later on one":   {put, [3][]string{ok, refused(later), fails}, true},
		"put, refused for less":         {put, [3][]string{refused(early), refused(early), ok}, false},
		"put, refused":                  {put, [3][]string{{"400"}, {"400"}, ok}, false},
		"delete":                        {del, [3][]string{{"204"}, stamped, fails}, true},
		"delete, later":                 {del, [3][]string{refused(later), refused(late), fails}, true},
		"delete, not noted":             {del, [3][]string{none, none, none}, false},
		"delete, refused for less":      {del, [3][]string{refused(early), refused(early), refused(early)}, false},
		"an end that is void":           {end, [3][]string{longer, longer, fails}, true},
		"an end, refused for less":      {end, [3][]string{refused(early), refused(early), refused(early)}, false},
		"post":                          {post, [3][]string{{"202"}, {"202"}, fails}, true},
		"post, later":                   {post, [3][]string{refused(late), {"202"}, fails}, true},
		"post, deleted":                 {post, [3][]string{gone, gone, fails}, true},
		"post, of nothing":              {post, [3][]string{none, none, {"202"}}, false},
	} {
		w := newWorld(t)
		for i := range nodetest.Nodes {
			w.say(fmt.Sprint("d", i), 503) // no handoff helps
		}
		for i, s := range tt.says {
			var status int
			_, _ = fmt.Sscan(s[0], &status)
			w.say(fmt.Sprint("d", i), status, s[1:]...)
		}
		if err := tt.write(w); (err == nil) != tt.done || err != nil && !errs.Is(err, errs.Unavailable) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// fieldsOf is what a replica says of an object with a body.
func fieldsOf(body string) backend.Header {
	sum := md5.Sum([]byte(body))
	return backend.Header{
		{Name: backend.ContentType, Value: "a/b"}, {Name: backend.ETag, Value: hex.EncodeToString(sum[:])}, {Name: "Last-Modified", Value: "x"},
		{Name: "X-Object-Meta-A", Value: "1"}, {Name: "X-Delete-At", Value: "9"}, {Name: "X-Object-Sysmeta-B", Value: "2"}, {Name: "X-Static-Large-Object", Value: "True"},
		{Name: backend.Timestamp, Value: early.String()}, {Name: backend.DataStamp, Value: early.String()}, {Name: "X-Object-Transient-Sysmeta-C", Value: "3"},
	}
}

// What is stored has all that it is kept with, and nothing else; of a POST only what that replaces. Listings are told.
func TestFields(t *testing.T) {
	for _, size := range []int{0, 1, chunkSize - 1, chunkSize, chunkSize + 1, 3*chunkSize + 7} {
		w := newWorld(t)
		for i := range 3 {
			w.say(fmt.Sprint("d", i), 201)
		}
		body := strings.Repeat("x", size)
		o := reconciler.Object{State: reconciler.State{Header: fieldsOf(body)}, Length: int64(size), Body: io.NopCloser(strings.NewReader(body))}
		if err := w.Put(t.Context(), of, object, o, late); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		told := map[string]bool{}
		for i := range 3 {
			list := w.got[fmt.Sprint("d", i)]
			if len(list) != 1 || list[0].method != "PUT" || list[0].body != body {
				t.Fatalf("%d bytes: d%d has taken %d requests", size, i, len(list))
			}
			h := list[0].header
			for _, want := range []backend.Field{
				{Name: backend.Timestamp, Value: late.String()}, {Name: backend.PolicyIndex, Value: "3"}, {Name: backend.ContentType, Value: "a/b"},
				{Name: "X-Object-Meta-A", Value: "1"}, {Name: "X-Delete-At", Value: "9"}, {Name: "X-Object-Sysmeta-B", Value: "2"}, {Name: "X-Static-Large-Object", Value: "True"},
				{Name: "X-Object-Transient-Sysmeta-C", Value: "3"}, {Name: backend.CommitETag, Value: o.Header.Get(backend.ETag)},
				{Name: backend.CommitCRC, Value: fmt.Sprintf("%08x", crc32.Checksum([]byte(body), crc32.MakeTable(crc32.Castagnoli)))},
			} {
				if got := h.Get(want.Name); got != want.Value {
					t.Errorf("%d bytes: %s is %q, want %q", size, want.Name, got, want.Value)
				}
			}
			if h.Has("Last-Modified") || h.Has(backend.DataStamp) || h.Has("X-Backend-Replication") {
				t.Errorf("%d bytes: sent are %v", size, h)
			}
			if said := h.Get(backend.Announced); said != "" && said != strconv.Itoa(size) || said == "" && size > chunkSize {
				t.Errorf("%d bytes: told of %q", size, said)
			}
			told[h.Get(backend.ContainerDevice)] = true
		}
		if !told["d3"] || !told["d4"] || !told["d5"] {
			t.Errorf("%d bytes: told are %v", size, told)
		}
	}
	w := newWorld(t)
	for i := range 3 {
		w.say(fmt.Sprint("d", i), 202)
	}
	if err := w.Post(t.Context(), of, object, reconciler.Change{Stamp: late, ContentType: "c/d", Header: fieldsOf("")}); err != nil {
		t.Fatal(err)
	}
	h := w.got["d0"][0].header
	if h.Get("X-Object-Meta-A") != "1" || h.Get("X-Delete-At") != "9" || h.Get("X-Object-Transient-Sysmeta-C") != "3" || h.Has("X-Object-Sysmeta-B") || h.Get(backend.ContentType) != "c/d" || !h.Has(backend.ContainerHost) {
		t.Errorf("posted are %v", h)
	}
}

// broken is a body that breaks off.
type broken struct{ io.Reader }

var errBroken = errors.New("broken off")

func (b broken) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		err = errBroken
	}
	return n, err
}

// A body that is not the object's is kept by nobody.
func TestWrongBody(t *testing.T) {
	for what, tt := range map[string]struct {
		announced int
		body      io.Reader
	}{
		"small, cut":         {10, strings.NewReader("xxxxx")},
		"small, longer":      {10, strings.NewReader(strings.Repeat("x", 11))},
		"small, other":       {10, strings.NewReader(strings.Repeat("y", 10))},
		"small, broken off":  {10, broken{strings.NewReader("xxxxx")}},
		"nothing":            {10, strings.NewReader("")},
		"large, cut":         {2 * chunkSize, strings.NewReader(strings.Repeat("x", 2*chunkSize-1))},
		"large, longer":      {2 * chunkSize, strings.NewReader(strings.Repeat("x", 2*chunkSize+1))},
		"large, other":       {2 * chunkSize, strings.NewReader(strings.Repeat("y", 2*chunkSize))},
		"large, broken off":  {2 * chunkSize, broken{strings.NewReader(strings.Repeat("x", chunkSize+9))}},
		"large, broken late": {2 * chunkSize, broken{strings.NewReader(strings.Repeat("x", 2*chunkSize-9))}},
	} {
		w := newWorld(t)
		for i := range nodetest.Nodes {
			w.say(fmt.Sprint("d", i), 201)
		}
		o := reconciler.Object{State: reconciler.State{Header: fieldsOf(strings.Repeat("x", tt.announced))}, Length: int64(tt.announced), Body: io.NopCloser(tt.body)}
		if err := w.Put(t.Context(), of, object, o, late); !errs.Is(err, errs.Unavailable) || w.took() > 0 {
			t.Errorf("%s: %v, %d have taken it", what, err, w.took())
		}
	}
}

// What is large goes on to those that are left where a device refuses it, and to handoffs for those that are known to fail. If
// too few are left it is for the next pass, which knows.
func TestLargeWhereSomeFail(t *testing.T) {
	body := strings.Repeat("x", 4*chunkSize)
	early := func(status int, fields ...string) backend.HandlerFunc {
		return func(context.Context, *backend.Request) (*backend.Response, error) {
			r := &backend.Response{Status: status}
			for i := 0; i < len(fields); i += 2 {
				r.Header.Add(fields[i], fields[i+1])
			}
			return r, nil
		}
	}
	for what, tt := range map[string]struct {
		says  backend.HandlerFunc
		times int // of the primaries
		tries int // after which it is done; 0 is never
		least int // so many have taken it then
	}{
		"one is full":     {early(507), 1, 1, 2},
		"two are full":    {early(507), 2, 2, 2},
		"one has it":      {early(409, backend.DataStamp, late.String()), 1, 1, 2},
		"all have it":     {early(409, backend.DataStamp, late.String()), 3, 1, 0},
		"two have less":   {early(409, backend.DataStamp, timestamp.FromTicks(1).String()), 2, 0, 0},
		"one refuses it":  {early(400), 1, 1, 2},
		"two refuse it":   {early(400), 2, 0, 0},
		"all are full":    {early(507), nodetest.Nodes, 0, 0},
		"nobody can take": {early(503, backend.RetryAfter, "1"), nodetest.Nodes, 0, 0},
	} {
		w := newWorld(t)
		for i := range nodetest.Nodes {
			w.say(fmt.Sprint("d", i), 201)
		}
		for i := range tt.times {
			w.fleet.Script(fmt.Sprint("d", i), tt.says)
		}
		var err error
		for try := range 3 {
			o := reconciler.Object{State: reconciler.State{Header: fieldsOf(body)}, Length: int64(len(body)), Body: io.NopCloser(strings.NewReader(body))}
			if err = w.Put(t.Context(), of, object, o, late); err == nil {
				if tt.tries == 0 || try >= tt.tries {
					t.Errorf("%s: it is done at try %d", what, try+1)
				}
				break
			}
		}
		if (err == nil) != (tt.tries > 0) || w.took() < tt.least {
			t.Errorf("%s: %v, %d have taken it, want %d", what, err, w.took(), tt.least)
		}
	}
}

func TestOpen(t *testing.T) {
	w := newWorld(t)
	fields := append(fieldsOf("data"), backend.Field{Name: backend.BackendStamp, Value: late.String()}, backend.Field{Name: backend.TypeStamp, Value: late.String()})
	for i := range 3 {
		w.fleet.Script(fmt.Sprint("d", i), func(_ context.Context, r *backend.Request) (*backend.Response, error) {
			if r.Header.Get("X-Backend-Replication") != "true" {
				return &backend.Response{Status: 400}, nil
			}
			resp := &backend.Response{Status: 200, Header: slices.Clone(fields), Length: 4}
			if r.Method == "GET" {
				resp.Body = io.NopCloser(strings.NewReader("data"))
			}
			return resp, nil
		})
	}
	o, err := w.Open(t.Context(), of, object)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(o.Body)
	o.Body.Close()
	if err != nil || string(b) != "data" || o.Length != 4 || o.Times != (timestamp.Packed{Data: early, ContentType: late, Meta: late}) || !o.Live {
		t.Errorf("%q, %+v, %v", b, o, err)
	}
	for i := range 3 {
		w.say(fmt.Sprint("d", i), 404)
	}
	if _, err := w.Open(t.Context(), of, object); !errs.Is(err, errs.NotFound) {
		t.Errorf("of nothing: %v", err)
	}
	for i := range nodetest.Nodes {
		w.say(fmt.Sprint("d", i), 503)
	}
	if _, err := w.Open(t.Context(), of, object); !errs.Is(err, errs.Unavailable) {
		t.Errorf("of who can't say: %v", err)
	}
}

// Of a policy of erasure coding what is kept whole is moved by its own quorum. What is in fragments needs to be understood, and a ring.
func TestCoded(t *testing.T) {
	w := newWorld(t)
	for i := range 3 {
		w.say(fmt.Sprint("d", i), 201)
	}
	put := func(n int) error {
		body := strings.Repeat("x", n)
		return w.Put(t.Context(), codes, object, reconciler.Object{State: reconciler.State{Header: fieldsOf(body)}, Length: int64(n), Body: io.NopCloser(strings.NewReader(body))}, late)
	}
	if err := put(10); err != nil {
		t.Errorf("what is small: %v", err)
	}
	if err := put(11); !errs.Is(err, errs.Unavailable) || w.took() != 3 {
		t.Errorf("what is to be in fragments, without a ring for these: %v, %d have taken it", err, w.took()-3)
	}
	for i := 2; i < nodetest.Nodes; i++ {
		w.say(fmt.Sprint("d", i), 503)
	}
	for what, err := range map[string]error{"put": put(1), "delete": w.Delete(t.Context(), codes, object, late)} {
		if !errs.Is(err, errs.Unavailable) {
			t.Errorf("a %s on two of three that it needs: %v", what, err)
		}
	}
	if err := w.Delete(t.Context(), of, object, late); err != nil {
		t.Errorf("a delete on two of three that are replicas: %v", err)
	}
	for i := range 3 {
		w.say(fmt.Sprint("d", i), 200, backend.DataStamp, late.String(), backend.BackendStamp, late.String(), backend.CodedWrite, "x")
	}
	if _, err := w.Open(t.Context(), codes, object); !errs.Is(err, errs.Corrupt) {
		t.Errorf("what is in fragments that nobody can tell: %v", err)
	}
	if s, err := w.Look(t.Context(), codes, object); err != nil || !s.Live || s.Kept != late {
		t.Errorf("what is known of it: %+v, %v", s, err)
	}
}

// What is put into fragments is done when devices say, the commit being there, that they have them.
func TestFragments(t *testing.T) {
	body := strings.Repeat("x", 1000)
	for what, tt := range map[string]struct {
		keep int // devices that keep their fragment
		lose int // those that do, until there is a commit
		done bool
	}{
		"all keep theirs":    {3, 0, true},
		"one does not":       {2, 0, false},
		"one loses its own":  {3, 1, false},
		"all lose their own": {3, 3, false},
	} {
		w := newWorld(t)
		var mu sync.Mutex
		var commit string // guarded by mu
		has := map[string]string{}
		for i := range nodetest.Nodes {
			d := fmt.Sprint("d", i)
			w.fleet.Script(d, func(_ context.Context, r *backend.Request) (*backend.Response, error) {
				resp := &backend.Response{Status: 201}
				if r.Body != nil {
					_, _ = io.Copy(io.Discard, r.Body)
				}
				mu.Lock()
				defer mu.Unlock()
				fragments := r.Header.Get(backend.PolicyIndex) == parts.Fragments().String()
				switch {
				case fragments && r.Method == "PUT" && i < tt.keep:
					has[d] = r.Header.Get(backend.FragmentIndex)
				case fragments && r.Method == "PUT":
					resp.Status = 507
				case fragments && has[d] != "" && i >= tt.lose:
					of, err := backend.ParseCoded(commit)
					resp.Status = 204
					resp.Header.Set(backend.FragmentsHeld, fmt.Sprintf("%s#%s/%x", late, has[d], of.Write))
					return resp, err
				case r.Method == "PUT":
					commit = r.Header.Get(backend.CodedWrite)
				case !fragments && i < 3:
					resp.Status = 200
					resp.Header = backend.Header{{Name: backend.DataStamp, Value: late.String()}, {Name: backend.BackendStamp, Value: late.String()}, {Name: backend.CodedWrite, Value: commit}}
				default:
					resp.Status = 204
				}
				return resp, nil
			})
		}
		o := reconciler.Object{State: reconciler.State{Header: append(fieldsOf(body), backend.Field{Name: backend.CodedWrite, Value: "of where it was"})}, Length: 1000, Body: io.NopCloser(strings.NewReader(body))}
		err := w.Put(t.Context(), parts, object, o, late)
		if (err == nil) != tt.done || err != nil && !errs.Is(err, errs.Unavailable) || (commit != "") != (tt.keep == 3) {
			t.Errorf("%s: %v, the commit is %q", what, err, commit)
		}
	}
}

func TestUnlist(t *testing.T) {
	w := newWorld(t)
	for i := range 3 {
		w.say(fmt.Sprint("d", 3+i), 204)
	}
	if err := w.Unlist(t.Context(), of, object, late); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		list := w.got[fmt.Sprint("d", 3+i)]
		if len(list) != 1 || list[0].method != "DELETE" || list[0].header.Get(backend.Timestamp) != late.String() || list[0].header.Get(backend.PolicyIndex) != "3" {
			t.Errorf("d%d was told %v", 3+i, list)
		}
	}
	for i := range nodetest.Nodes {
		w.say(fmt.Sprint("d", i), 404)
	}
	if err := w.Unlist(t.Context(), of, object, late); !errs.Is(err, errs.Unavailable) {
		t.Errorf("a container that is gone: %v", err)
	}
}
