package quorum

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/direct"
	"martlet/internal/errs"
	"martlet/internal/httpapi"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/quorum/nodetest"
	"martlet/internal/timestamp"
	"martlet/ring"
)

// fleet is scripted storage nodes and the cluster that they are to the code under
// test: the replicas of a/c are on d0, d1 and d2.
type fleet struct {
	*Cluster
	*nodetest.Fleet
}

func newFleet(t *testing.T, cfg Config) *fleet {
	t.Helper()
	f := nodetest.New(t, name.Path{Account: "a", Container: "c"})
	client := direct.New(direct.Config{NodeTimeout: 5 * time.Second})
	t.Cleanup(client.Close)
	c := New(cfg, Rings{Account: f.Ring, Container: f.Ring, Objects: map[policy.Index]*ring.Source{0: f.Ring, 1: f.Ring}}, f.Hasher, client)
	t.Cleanup(c.Wait)
	return &fleet{c, f}
}

func request(method string) Build {
	return func(int, *ring.Device) *backend.Request { return &backend.Request{Method: method} }
}

// three is a place of three replicas.
var three = Place{Primaries: make([]*ring.Device, 3)}

func TestMajority(t *testing.T) {
	for n, want := range map[int]int{1: 1, 2: 2, 3: 2, 4: 3, 5: 3} {
		if got := Majority(n); got != want {
			t.Errorf("Majority(%d) = %d, want %d", n, got, want)
		}
	}
}

func TestBest(t *testing.T) {
	deletion := map[int]int{404: 204}
	for name, tt := range map[string]struct {
		statuses []int
		treat    map[int]int
		want     int // 0 is no quorum
	}{
		"all agree":                   {[]int{201, 201, 201}, nil, 201},
		"two of three":                {[]int{201, 503, 201}, nil, 201},
		"new for most":                {[]int{202, 201, 202}, nil, 202},
		"one is no quorum":            {[]int{201, 503, 503}, nil, 0},
		"one of two answers":          {[]int{201}, nil, 0},
		"no answers count":            {[]int{0, 0, 201}, nil, 0},
		"refused":                     {[]int{404, 404, 204}, nil, 404},
		"conflict":                    {[]int{409, 409, 201}, nil, 409},
		"mixed refusals":              {[]int{404, 409, 201}, nil, 409},
		"split":                       {[]int{201, 409, 503}, nil, 0},
		"deletion of what some lack":  {[]int{204, 404, 503}, deletion, 204},
		"deletion of what all lack":   {[]int{404, 404, 404}, deletion, 404},
		"deletion seen by most":       {[]int{204, 204, 404}, deletion, 204},
		"deletion seen by one":        {[]int{404, 404, 204}, deletion, 404},
		"all failed":                  {[]int{503, 507, 0}, nil, 0},
		"server errors have no class": {[]int{500, 500, 500}, nil, 0},
	} {
		var answers []Answer
		for _, s := range tt.statuses {
			answers = append(answers, Answer{Status: s, Err: errors.New("down")})
		}
		a, err := three.Best(answers, tt.treat)
		if a.Status != tt.want || (err != nil) != (tt.want == 0) {
			t.Errorf("%s: Best(%v) = %d, %v, want %d", name, tt.statuses, a.Status, err, tt.want)
		}
		if err != nil && !errs.Is(err, errs.Unavailable) {
			t.Errorf("%s: error %v, want unavailable", name, err)
		}
	}
}

// A policy may need more than a majority of what a write leaves, or less; what refuses it
// is settled by a majority as ever.
func TestBestOfWhatAPolicyNeeds(t *testing.T) {
	for name, tt := range map[string]struct {
		n, need  int
		statuses []int
		treat    map[int]int
		want     int  // 0 is no quorum
		open     bool // another answer could change it
	}{
		"a majority is too few":     {5, 4, []int{201, 201, 201, 503, 503}, nil, 0, true},
		"as many as it needs":       {5, 4, []int{201, 201, 201, 201, 503}, nil, 201, false},
		"refused by a majority":     {5, 4, []int{409, 409, 409, 201, 201}, nil, 409, true},
		"fewer than a majority do":  {9, 3, []int{201, 201, 201, 503, 503, 503, 503, 503, 503}, nil, 201, false},
		"few, but not enough":       {9, 3, []int{201, 201, 503, 503, 503, 503, 503, 503, 503}, nil, 0, true},
		"a majority where it's nil": {5, 0, []int{201, 201, 201, 503, 503}, nil, 201, false},

		// What counts as done has to be on as many as what is done.
		"gone from too few":            {5, 4, []int{404, 404, 404, 503, 503}, map[int]int{404: 204}, 0, true},
		"gone from as many":            {5, 4, []int{404, 404, 404, 404, 503}, map[int]int{404: 204}, 404, false},
		"gone, with who had it":        {5, 4, []int{404, 404, 404, 204, 503}, map[int]int{404: 204}, 204, true},
		"gone from a majority, by nil": {3, 0, []int{404, 404, 503}, map[int]int{404: 204}, 404, false},
		"kept already by too few":      {5, 4, []int{409, 409, 409, 503, 503}, map[int]int{409: 201}, 0, true},
		"refused for another reason":   {5, 4, []int{404, 404, 412, 503, 503}, map[int]int{404: 204}, 412, true},
	} {
		p := Place{Primaries: make([]*ring.Device, tt.n), need: tt.need}
		var answers []Answer
		for _, s := range tt.statuses {
			answers = append(answers, Answer{Status: s})
		}
		a, err := p.Best(answers, tt.treat)
		if a.Status != tt.want || (err != nil) != (tt.want == 0) {
			t.Errorf("%s: Best(%v) = %d, %v, want %d", name, tt.statuses, a.Status, err, tt.want)
		}
		if settled := p.settled(answers); settled == tt.open {
			t.Errorf("%s: settled(%v) = %v", name, tt.statuses, settled)
		}
	}
}

func TestWriteGoesToAllPrimaries(t *testing.T) {
	f := newFleet(t, Config{})
	p := f.Container("a", "c")
	answers := f.Write(httpapi.WithTransID(t.Context(), "tx9"), p, request("PUT"))
	if len(answers) != 3 {
		t.Fatalf("%d answers, want 3", len(answers))
	}
	if got := f.Asked(); len(got) != 3 || !sameSet(got, "d0", "d1", "d2") {
		t.Errorf("asked %v, want the three primaries", got)
	}
}

func sameSet(got []string, want ...string) bool {
	got = slices.Clone(got)
	slices.Sort(got)
	return slices.Equal(got, want)
}

func TestWriteTakesHandoffs(t *testing.T) {
	for name, down := range map[string]backend.HandlerFunc{
		"full":    nodetest.Always(507, ""),
		"failing": nodetest.Always(500, ""),
	} {
		f := newFleet(t, Config{})
		f.Script("d1", down)
		answers := f.Write(t.Context(), f.Container("a", "c"), request("PUT"))
		best, err := three.Best(answers, nil)
		if err != nil || best.Status != 201 || len(answers) != 3 {
			t.Errorf("%s: %d, %v", name, best.Status, err)
		}
		good := 0
		for _, a := range answers {
			if a.Status == 201 {
				good++
			}
		}
		if good != 3 || len(f.Asked()) != 4 {
			t.Errorf("%s: %d copies, asked %v", name, good, f.Asked())
		}
	}
}

// A handoff that has never heard of a name says nothing about it: the write may
// belong to something that its primaries have.
func TestWriteToWhatAHandoffLacks(t *testing.T) {
	const stamp = "1000000000.00001"
	for name, tt := range map[string]struct {
		say  map[string]backend.HandlerFunc
		want int // 0 is no quorum
	}{
		"one primary is left":      {map[string]backend.HandlerFunc{"d0": nodetest.Always(204, "")}, 0},
		"two primaries are left":   {map[string]backend.HandlerFunc{"d0": nodetest.Always(204, ""), "d1": nodetest.Always(204, "")}, 204},
		"two primaries lack it":    {map[string]backend.HandlerFunc{"d0": nodetest.Always(404, ""), "d1": nodetest.Always(404, "")}, 404},
		"handoffs know a deletion": {map[string]backend.HandlerFunc{"d3": nodetest.Always(404, stamp), "d4": nodetest.Always(404, stamp)}, 404},
	} {
		f := newFleet(t, Config{})
		for i := range nodetest.Nodes {
			code := 503
			if i > 2 {
				code = 404
			}
			f.Script("d"+strconv.Itoa(i), nodetest.Always(code, ""))
		}
		for d, say := range tt.say {
			f.Script(d, say)
		}
		best, err := three.Best(f.Write(t.Context(), f.Container("a", "c"), request("POST")), nil)
		if best.Status != tt.want || (err != nil) != (tt.want == 0) {
			t.Errorf("%s: %d, %v, want %d", name, best.Status, err, tt.want)
		}
	}
	t.Run("a primary that was put last is asked", func(t *testing.T) {
		f := newFleet(t, Config{ErrorLimit: 1})
		p := f.Container("a", "c")
		for i, d := range p.Primaries {
			f.errors.failed(d, 1)
			f.Script("d"+strconv.Itoa(i), nodetest.Always(204, ""))
			f.Script("d"+strconv.Itoa(i+3), nodetest.Always(404, ""))
		}
		best, err := p.Best(f.Write(t.Context(), p, request("POST")), nil)
		if err != nil || best.Status != 204 {
			t.Errorf("%d, %v, want 204", best.Status, err)
		}
	})
}

func TestWriteWithoutQuorum(t *testing.T) {
	f := newFleet(t, Config{})
	for i := range nodetest.Nodes - 1 {
		f.Script("d"+strconv.Itoa(i), nodetest.Always(507, ""))
	}
	answers := f.Write(t.Context(), f.Container("a", "c"), request("PUT"))
	_, err := three.Best(answers, nil)
	if !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "507") {
		t.Errorf("got %v, want unavailable and what each said", err)
	}
}

func TestWriteDoesNotWaitForTheLast(t *testing.T) {
	f := newFleet(t, Config{PostQuorum: time.Millisecond})
	leave := make(chan struct{})
	landed := make(chan struct{})
	f.Script("d2", func(context.Context, *backend.Request) (*backend.Response, error) {
		<-leave
		close(landed)
		return nodetest.Status(201, ""), nil
	})
	answers := f.Write(t.Context(), f.Container("a", "c"), request("PUT"))
	if best, err := three.Best(answers, nil); err != nil || best.Status != 201 || len(answers) != 2 {
		t.Errorf("%d answers, %d, %v", len(answers), best.Status, err)
	}
	close(leave)
	<-landed // the write itself goes on
}

func TestWriteGoesOnWithoutItsClient(t *testing.T) {
	f := newFleet(t, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	begun, leave := make(chan struct{}, 3), make(chan struct{})
	var mu sync.Mutex
	n := 0
	for _, d := range []string{"d0", "d1", "d2"} {
		f.Script(d, func(ctx context.Context, _ *backend.Request) (*backend.Response, error) {
			begun <- struct{}{}
			<-leave
			if ctx.Err() == nil {
				mu.Lock()
				n++
				mu.Unlock()
			}
			return nodetest.Status(201, ""), nil
		})
	}
	done := make(chan []Answer, 1)
	go func() { done <- f.Write(ctx, f.Container("a", "c"), request("PUT")) }()
	for range 3 {
		<-begun
	}
	cancel()
	if got := <-done; len(got) != 0 {
		t.Errorf("%d answers after the client left", len(got))
	}
	close(leave)
	f.Wait()
	mu.Lock()
	defer mu.Unlock()
	if n != 3 {
		t.Errorf("%d writes were carried out, want 3", n)
	}
}

func read(t *testing.T, f *fleet) (string, error) {
	t.Helper()
	reply, err := f.Read(t.Context(), f.Container("a", "c"), request("GET"))
	if err != nil {
		return "", err
	}
	text := strconv.Itoa(reply.Status)
	if reply.Body != nil {
		b, err := io.ReadAll(reply.Body)
		if err != nil {
			t.Fatal(err)
		}
		_ = reply.Body.Close()
		text += " " + string(b)
	}
	return text, nil
}

// handoffsLack makes the handoffs answer 404.
func handoffsLack(f *fleet) {
	for i := 3; i < nodetest.Nodes; i++ {
		f.Script("d"+strconv.Itoa(i), nodetest.Always(404, ""))
	}
}

// hollow answers as a replica does that has the link to a version, and not this.
func hollow(context.Context, *backend.Request) (*backend.Response, error) {
	return &backend.Response{Status: 503, Header: backend.Header{{Name: backend.RetryAfter, Value: "1"}, {Name: backend.NoVersion, Value: "true"}}}, nil
}

func statusOf(r Reply) int {
	if r.Response == nil {
		return 0
	}
	return r.Status
}

func TestRead(t *testing.T) {
	const older, newer = "1000000000.00001", "1000000000.00002"
	for name, tt := range map[string]struct {
		say  map[string]backend.HandlerFunc
		want string // "" is unavailable
	}{
		"all have it":                    {map[string]backend.HandlerFunc{"d0": nodetest.Body(200, "", "x"), "d1": nodetest.Body(200, "", "x"), "d2": nodetest.Body(200, "", "x")}, "200 x"},
		"one has it":                     {map[string]backend.HandlerFunc{"d0": nodetest.Always(503, ""), "d1": nodetest.Body(200, "", "x"), "d2": nodetest.Always(404, "")}, "200 x"},
		"none has it":                    {map[string]backend.HandlerFunc{"d0": nodetest.Always(404, ""), "d1": nodetest.Always(404, ""), "d2": nodetest.Always(404, "")}, "404"},
		"most say no":                    {map[string]backend.HandlerFunc{"d0": nodetest.Always(404, ""), "d1": nodetest.Always(404, ""), "d2": nodetest.Always(503, ""), "d3": nodetest.Always(404, ""), "d4": nodetest.Always(404, ""), "d5": nodetest.Always(404, "")}, "404"},
		"one says no":                    {map[string]backend.HandlerFunc{"d0": nodetest.Always(404, ""), "d1": nodetest.Always(503, ""), "d2": nodetest.Always(503, ""), "d3": nodetest.Always(404, ""), "d4": nodetest.Always(404, ""), "d5": nodetest.Always(404, "")}, ""},
		"a handoff has it":               {map[string]backend.HandlerFunc{"d0": nodetest.Always(503, ""), "d1": nodetest.Always(503, ""), "d2": nodetest.Always(404, ""), "d3": nodetest.Always(404, ""), "d4": nodetest.Body(200, "", "h"), "d5": nodetest.Always(404, "")}, "200 h"},
		"a handoff's tombstone counts":   {map[string]backend.HandlerFunc{"d0": nodetest.Always(503, ""), "d1": nodetest.Always(404, ""), "d2": nodetest.Always(503, ""), "d3": nodetest.Always(404, newer), "d4": nodetest.Always(404, ""), "d5": nodetest.Always(404, "")}, "404"},
		"all are down":                   {map[string]backend.HandlerFunc{"d0": nodetest.Always(503, ""), "d1": nodetest.Always(503, ""), "d2": nodetest.Always(503, ""), "d3": nodetest.Always(404, ""), "d4": nodetest.Always(404, ""), "d5": nodetest.Always(404, "")}, ""},
		"only handoffs have it":          {map[string]backend.HandlerFunc{"d0": nodetest.Always(404, ""), "d1": nodetest.Always(404, ""), "d2": nodetest.Always(404, ""), "d3": nodetest.Always(503, ""), "d4": nodetest.Body(200, "", "h"), "d5": nodetest.Always(404, "")}, "200 h"},
		"deleted, handoffs are behind":   {map[string]backend.HandlerFunc{"d0": nodetest.Always(404, newer), "d1": nodetest.Always(404, newer), "d2": nodetest.Always(404, newer), "d3": nodetest.Body(200, older, "h"), "d4": nodetest.Body(200, older, "h"), "d5": nodetest.Always(404, "")}, "404"},
		"not modified":                   {map[string]backend.HandlerFunc{"d0": nodetest.Always(304, ""), "d1": nodetest.Always(304, ""), "d2": nodetest.Always(304, "")}, "304"},
		"links to what none has":         {map[string]backend.HandlerFunc{"d0": hollow, "d1": hollow, "d2": hollow}, "404"},
		"links, and one has it":          {map[string]backend.HandlerFunc{"d0": hollow, "d1": nodetest.Body(200, "", "x"), "d2": hollow}, "200 x"},
		"links, and one has nothing":     {map[string]backend.HandlerFunc{"d0": hollow, "d1": nodetest.Always(404, ""), "d2": hollow}, "404"},
		"links, and one can't say":       {map[string]backend.HandlerFunc{"d0": hollow, "d1": nodetest.Always(503, ""), "d2": hollow}, ""},
		"links, and a handoff can't say": {map[string]backend.HandlerFunc{"d0": hollow, "d1": hollow, "d2": hollow, "d4": nodetest.Always(503, "")}, ""},
		"a handoff's link":               {map[string]backend.HandlerFunc{"d0": hollow, "d1": hollow, "d2": nodetest.Always(503, ""), "d3": hollow}, ""},
		"links, and a handoff has it":    {map[string]backend.HandlerFunc{"d0": hollow, "d1": hollow, "d2": hollow, "d5": nodetest.Body(200, "", "h")}, "200 h"},
		"only stale copies and deletion": {map[string]backend.HandlerFunc{"d0": nodetest.Always(404, newer), "d1": nodetest.Always(404, newer), "d2": nodetest.Always(404, newer)}, "404"},
	} {
		for range 5 { // the order is by chance
			f := newFleet(t, Config{})
			handoffsLack(f)
			for d, say := range tt.say {
				f.Script(d, say)
			}
			got, err := read(t, f)
			if got != tt.want || (err != nil) != (tt.want == "") {
				t.Errorf("%s: got %q, %v, want %q", name, got, err, tt.want)
			}
		}
	}
	t.Run("who is left can't have missed a write", func(t *testing.T) {
		for need, want := range map[int]int{0: 0, 2: 0, 3: 404} { // of three replicas
			f := newFleet(t, Config{})
			handoffsLack(f)
			p := f.Container("a", "c")
			p.need = need
			f.Script("d0", nodetest.Always(404, newer))
			f.Script("d1", nodetest.Always(503, ""))
			f.Script("d2", nodetest.Always(503, ""))
			reply, err := f.Read(t.Context(), p, request("GET"))
			if status := statusOf(reply); status != want || (err != nil) != (want == 0) {
				t.Errorf("writes need %d of 3: %d, %v, want %d", need, status, err, want)
			}
		}
	})
	t.Run("a tombstone that was seen hides an older copy", func(t *testing.T) {
		f := newFleet(t, Config{})
		handoffsLack(f)
		p := f.Container("a", "c")
		f.Script("d0", nodetest.Always(404, newer))
		f.Script("d1", nodetest.Body(200, older, "x"))
		f.Script("d2", nodetest.Always(404, newer))
		reply, err := f.ReadFrom(t.Context(), p, p.Primaries, request("GET"))
		if err != nil || reply.Status != 404 {
			t.Errorf("got %+v, %v, want a 404", reply.Response, err)
		}
		f.Script("d1", nodetest.Body(200, "1000000000.00003", "x"))
		if reply, err = f.ReadFrom(t.Context(), p, p.Primaries, request("GET")); err != nil || reply.Status != 200 {
			t.Errorf("a newer copy: got %+v, %v, want it", reply.Response, err)
		} else {
			_ = reply.Body.Close()
		}
	})
}

// What replicas say of one name: by the data first, then by metadata, where the end of an
// object counts only if nobody knows of a longer life.
func TestNewerOf(t *testing.T) {
	at := timestamp.FromTicks
	live := func(data, newest int64) timestamp.Packed {
		return timestamp.Packed{Data: at(data), Meta: at(newest)}
	}
	end := timestamp.Expiry(at(10), at(12), 100)
	ended := timestamp.Packed{Data: end, Meta: end.Until()}
	for what, tt := range map[string]struct {
		a, b timestamp.Packed
		want int
	}{
		"later data":                         {live(11, 11), live(10, 20), 1},
		"later metadata":                     {live(10, 12), live(10, 11), 1},
		"the same":                           {live(10, 12), live(10, 12), 0},
		"its end":                            {ended, live(10, 12), 1},
		"its end, before metadata was heard": {ended, live(10, 11), 1},
		"its longer life":                    {live(10, 13), ended, 1},
		"its longer life, heard of":          {live(10, 13), timestamp.Packed{Data: end, Meta: at(13)}, 1},
		"later data than that which ended":   {live(11, 11), ended, 1},
		"earlier data, with later metadata":  {ended, live(9, 13), 1},
	} {
		if got := newer(tt.a, tt.b); got != tt.want {
			t.Errorf("%s: %d, want %d", what, got, tt.want)
		}
		if got := newer(tt.b, tt.a); got != -tt.want {
			t.Errorf("%s, the other way round: %d, want %d", what, got, -tt.want)
		}
	}
}

func TestReadDoesNotWaitForADeviceThatHangs(t *testing.T) {
	f := newFleet(t, Config{Patience: 20 * time.Millisecond})
	leave := make(chan struct{})
	hang := func(context.Context, *backend.Request) (*backend.Response, error) {
		<-leave
		return nodetest.Status(200, ""), nil
	}
	p := f.Container("a", "c")
	f.Script("d0", hang)
	f.Script("d1", nodetest.Body(200, "", "x"))
	reply, err := f.ReadFrom(t.Context(), p, p.Primaries, request("GET"))
	if err != nil || reply.Device.Name != "d1" {
		t.Fatalf("got %+v, %v, want the second", reply, err)
	}
	_ = reply.Body.Close()
	close(leave)

	// Where nobody else has it, a slow one gets its time.
	slow := func(ctx context.Context, _ *backend.Request) (*backend.Response, error) {
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
		return nodetest.Status(204, ""), nil
	}
	for _, d := range []string{"d0", "d1", "d2", "d3", "d4", "d5"} {
		f.Script(d, nodetest.Always(503, ""))
	}
	f.Script("d2", slow)
	if reply, err := f.ReadFrom(t.Context(), p, p.Primaries, request("GET")); err != nil || reply.Device.Name != "d2" {
		t.Errorf("got %+v, %v, want the slow one", reply, err)
	}
}

func TestWriteSoonPassesOverADeviceThatHangs(t *testing.T) {
	f := newFleet(t, Config{PostQuorum: 200 * time.Millisecond, ErrorLimit: 3})
	leave := make(chan struct{})
	f.Script("d1", func(context.Context, *backend.Request) (*backend.Response, error) {
		<-leave
		return nodetest.Status(201, ""), nil
	})
	p := f.Container("a", "c")
	for range 3 {
		f.Write(t.Context(), p, request("PUT"))
	}
	before := len(f.Asked())
	if answers := f.Write(t.Context(), p, request("PUT")); len(answers) != 3 || slices.Contains(f.Asked()[before:], "d1") {
		t.Errorf("%d answers, asked %v, want three without the one that hangs", len(answers), f.Asked()[before:])
	}
	close(leave)
}

func TestNewestOrder(t *testing.T) {
	f := newFleet(t, Config{})
	handoffsLack(f)
	f.Script("d0", nodetest.Always(200, "1000000000.00001"))
	f.Script("d1", nodetest.Always(503, ""))
	f.Script("d2", nodetest.Always(404, "1000000000.00003"))
	var got []string
	order, _ := f.Newest(t.Context(), f.Container("a", "c"), request("HEAD"))
	for _, d := range order {
		got = append(got, d.Name)
	}
	if want := []string{"d2", "d0", "d1"}; !slices.Equal(got, want) {
		t.Errorf("order %v, want %v", got, want)
	}
}

// For each primary that gives no answer a handoff is asked: what was written while
// that could not take it may be there, and nowhere else that answers.
func TestNewestAsksHandoffs(t *testing.T) {
	const older, newer = "1000000000.00001", "1000000000.00002"
	failing, lacks := nodetest.Always(503, ""), nodetest.Always(404, "")
	has := func(stamp, body string) backend.HandlerFunc { return nodetest.Body(200, stamp, body) }
	type nodes []backend.HandlerFunc
	for what, tt := range map[string]struct {
		primaries nodes
		handoffs  nodes // the first ones; the others fail
		asked     int   // by Newest
		want      string
	}{
		"all primaries answer":        {nodes{has(older, "old"), lacks, lacks}, nodes{has(newer, "new")}, 3, "200 old"},
		"a handoff has what is newer": {nodes{has(older, "old"), failing, lacks}, nodes{has(newer, "new")}, 4, "200 new"},
		"it has what is older":        {nodes{has(newer, "new"), failing, lacks}, nodes{has(older, "old")}, 4, "200 new"},
		"it knows of the delete":      {nodes{has(older, "old"), failing, lacks}, nodes{nodetest.Always(404, newer)}, 4, "404"},
		"it has nothing":              {nodes{has(older, "old"), failing, lacks}, nodes{lacks}, 4, "200 old"},
		"the next one has it":         {nodes{has(older, "old"), failing, lacks}, nodes{failing, has(newer, "new")}, 5, "200 new"},
		"one for each":                {nodes{has(older, "old"), failing, failing}, nodes{lacks, has(newer, "new")}, 5, "200 new"},
		"nobody else answers":         {nodes{has(older, "old"), failing, lacks}, nil, nodetest.Nodes, "200 old"},
		"plain 404s are no majority":  {nodes{lacks, failing, failing}, nodes{lacks, lacks}, 5, ""},
	} {
		f := newFleet(t, Config{ErrorLimit: 1000})
		p := f.Container("a", "c")
		for i, say := range tt.primaries {
			f.Script("d"+strconv.Itoa(i), say)
		}
		spare := f.Spare(p)
		for i, d := 0, spare.Next(); d != nil; i, d = i+1, spare.Next() {
			if f.Script(d.Name, failing); i < len(tt.handoffs) {
				f.Script(d.Name, tt.handoffs[i])
			}
		}
		order, _ := f.Newest(t.Context(), p, request("HEAD"))
		if got := len(f.Asked()); got != tt.asked {
			t.Errorf("%s: asked %v, want %d", what, f.Asked(), tt.asked)
		}
		reply, err := f.ReadFrom(t.Context(), p, order, request("GET"))
		got := ""
		if err == nil {
			got = strconv.Itoa(reply.Status)
			if reply.Body != nil && reply.Status == 200 {
				b, _ := io.ReadAll(reply.Body)
				got += " " + string(b)
				_ = reply.Body.Close()
			}
		}
		if got != tt.want {
			t.Errorf("%s: read %q, %v, want %q", what, got, err, tt.want)
		}
	}
}

// Later metadata on a replica that missed the latest data, or a delete, does not
// make it the one to read.
func TestNewestIsOfTheData(t *testing.T) {
	f := newFleet(t, Config{})
	handoffsLack(f)
	say := func(status int, data, newest string) backend.HandlerFunc {
		return func(context.Context, *backend.Request) (*backend.Response, error) {
			resp := nodetest.Status(status, newest)
			if data != "" {
				resp.Header.Add(backend.DataStamp, data)
			}
			return resp, nil
		}
	}
	const t1, t2, t3 = "1000000000.00001", "1000000000.00002", "1000000000.00003"
	p := f.Container("a", "c")
	f.Script("d0", say(200, t1, t3))
	f.Script("d1", say(200, t2, t2))
	f.Script("d2", say(200, t2, t3))
	var got []string
	order, _ := f.Newest(t.Context(), p, request("HEAD"))
	for _, d := range order {
		got = append(got, d.Name)
	}
	if want := []string{"d2", "d1", "d0"}; !slices.Equal(got, want) {
		t.Errorf("order %v, want %v", got, want)
	}
	f.Script("d1", say(404, "", t2))
	f.Script("d2", say(404, "", t2))
	order, _ = f.Newest(t.Context(), p, request("HEAD"))
	if reply, err := f.ReadFrom(t.Context(), p, order, request("GET")); err != nil || reply.Status != 404 {
		t.Errorf("deleted after its data: got %+v, %v, want a 404", reply.Response, err)
	}
}

func TestWriteDoesNotWaitForADeviceThatHasBeenFailing(t *testing.T) {
	f := newFleet(t, Config{ErrorLimit: 1})
	f.Script("d1", nodetest.Always(503, ""))
	p := f.Container("a", "c")
	f.Write(t.Context(), p, request("PUT"))
	before := len(f.Asked())
	answers := f.Write(t.Context(), p, request("PUT"))
	if got := f.Asked()[before:]; len(answers) != 3 || len(got) != 3 || slices.Contains(got, "d1") {
		t.Errorf("asked %v, want two primaries and a handoff", got)
	}
	for _, d := range []string{"d3", "d4", "d5"} {
		f.Script(d, nodetest.Always(503, ""))
	}
	f.Script("d1", nodetest.Always(201, ""))
	f.Write(t.Context(), p, request("PUT"))
	if best, err := p.Best(f.Write(t.Context(), p, request("PUT")), nil); err != nil || best.Status != 201 || f.errors.limited(p.Primaries[1]) {
		t.Errorf("it is well again: %d, %v, limited %v", best.Status, err, f.errors.limited(p.Primaries[1]))
	}
}

func TestAMajorityOfPrimariesIsNeverPassedOver(t *testing.T) {
	f := newFleet(t, Config{ErrorLimit: 1})
	p := f.Container("a", "c")
	for _, d := range p.Primaries {
		f.errors.failed(d, 1)
	}
	f.Write(t.Context(), p, request("PUT"))
	primaries := 0
	for _, d := range f.Asked() {
		if d < "d3" {
			primaries++
		}
	}
	if got := f.Asked(); len(got) != 3 || primaries != 2 {
		t.Errorf("asked %v, want two primaries and one handoff", got)
	}
}

func TestFailingDevicesComeLastAndComeBack(t *testing.T) {
	f := newFleet(t, Config{ErrorLimit: 3, ErrorSpan: time.Minute})
	now := time.Now()
	f.errors.now = func() time.Time { return now }
	f.Script("d0", nodetest.Always(507, ""))
	f.Script("d1", nodetest.Body(200, "", "x"))
	f.Script("d2", nodetest.Body(200, "", "x"))
	p := f.Container("a", "c")
	for range 20 {
		if _, err := read(t, f); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	for _, d := range f.Asked() {
		if d == "d0" {
			n++
		}
	}
	if n != 1 {
		t.Errorf("the full device was asked %d times, want once", n)
	}
	f.Script("d1", nodetest.Always(507, ""))
	f.Script("d2", nodetest.Always(507, ""))
	f.Script("d0", nodetest.Body(200, "", "back"))
	for i := 3; i < nodetest.Nodes; i++ {
		f.Script("d"+strconv.Itoa(i), nodetest.Always(507, ""))
	}
	if got, err := read(t, f); got != "200 back" {
		t.Errorf("the last one left: %q, %v", got, err)
	}
	if f.errors.limited(p.Primaries[0]) {
		t.Error("it answered and is still held back")
	}
	if now = now.Add(2 * time.Minute); f.errors.limited(p.Primaries[1]) {
		t.Error("an old error still holds a device back")
	}
}

func TestOutrun(t *testing.T) {
	const before, now, after = "1000000000.00000", "1000000001.00000", "1000000002.00000"
	p := Place{Primaries: make([]*ring.Device, 4), need: 3}
	for name, tt := range map[string]struct {
		says []string
		want bool
	}{
		"two and two":            {[]string{"201 " + now, "201 " + now, "409 " + after, "409 " + after}, true},
		"of the same time":       {[]string{"201 " + now, "201 " + now, "409 " + now}, true},
		"one has not been heard": {[]string{"404 " + now, "201 " + now, "409 " + after}, true},
		"two have not":           {[]string{"201 " + now, "409 " + after}, false},
		"nothing newer":          {[]string{"201 " + now, "201 " + now, "409 " + before, "409 " + before}, false},
		"another refusal":        {[]string{"201 " + now, "201 " + now, "412 " + after, "412 " + after}, false},
		"nobody refuses":         {[]string{"201 " + now, "201 " + now, "201 " + now}, false},
	} {
		var answers []Answer
		for _, says := range tt.says {
			a := Answer{}
			var at string
			if _, err := fmt.Sscan(says, &a.Status, &at); err != nil {
				t.Fatal(err)
			}
			a.Header.Add(backend.BackendStamp, at)
			answers = append(answers, a)
		}
		stamp, err := timestamp.Parse(now)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Outrun(answers, stamp, map[int]int{404: 204}); got != tt.want {
			t.Errorf("%s: Outrun(%v) = %v", name, tt.says, got)
		}
	}
}
