package reconciler

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/timestamp"
)

// rules are what becomes of one object.
var rules = map[string]struct {
	wrong, right object // what is there
	row          *Row   // what the listing says of the wrong policy, where it is not what is there
	fails        string // what the error says; "" is none
	waits        bool   // nothing is done, and it is no error
	then, where  object // what is there then: in the wrong place, and in the right one
	skip         bool   // the row asks for nothing
}{
	"nothing is there":        {wrong: written(10), then: gone(left(at(10))), where: written(10).as(moved(at(10)))},
	"something older is":      {wrong: written(10), right: written(9), then: gone(left(at(10))), where: written(10).as(moved(at(10)))},
	"an older delete is":      {wrong: written(10), right: gone(at(9)), then: gone(left(at(10))), where: written(10).as(moved(at(10)))},
	"something later is":      {wrong: written(10), right: written(11), then: gone(left(at(10))), where: written(11)},
	"something as late is":    {wrong: written(10), right: object{live: true, data: at(10), body: "x"}, then: gone(left(at(10))), where: object{live: true, data: at(10), body: "x"}},
	"a later delete is":       {wrong: written(10), right: gone(at(11)), then: gone(left(at(10))), where: gone(at(11))},
	"it is there already":     {wrong: written(10), right: written(10).as(moved(at(10))), then: gone(left(at(10))), where: written(10).as(moved(at(10)))},
	"its end is there":        {wrong: written(10), right: gone(timestamp.Expiry(at(10), at(10), 1)), then: gone(left(at(10))), where: gone(timestamp.Expiry(at(10), at(10), 1))},
	"it was moved before":     {wrong: written(10).as(moved(moved(at(10)))), right: gone(left(moved(at(10)))), then: gone(left(moved(moved(at(10))))), where: written(10).as(moved(moved(moved(at(10)))))},
	"it comes back":           {wrong: written(10).as(moved(at(10))), right: gone(left(at(10))), then: gone(left(moved(at(10)))), where: written(10).as(moved(moved(at(10))))},
	"metadata came later":     {wrong: written(10).posted(20, "g", ""), then: gone(left(at(10))), where: written(10).as(moved(at(10))).posted(20, "g", "")},
	"a type came later":       {wrong: written(10).posted(20, "g", "c/d"), then: gone(left(at(10))), where: written(10).as(moved(at(10))).posted(20, "g", "c/d")},
	"a type, then metadata":   {wrong: written(10).posted(20, "g", "c/d").posted(30, "h", ""), then: gone(left(at(10))), where: written(10).as(moved(at(10))).posted(20, "h", "c/d").posted(30, "h", "")},
	"metadata for later data": {wrong: written(10).posted(30, "g", ""), right: written(20), then: gone(left(at(10))), where: written(20).posted(30, "g", "")},
	"later data and metadata": {wrong: written(10).posted(30, "g", ""), right: written(20).posted(40, "h", ""), then: gone(left(at(10))), where: written(20).posted(40, "h", "")},
	"a link":                  {wrong: object{live: true, data: at(10), fields: backend.VersionLink + "=x", typed: "t", meta: at(20)}, then: gone(left(at(10))), where: object{live: true, data: moved(at(10)), fields: backend.VersionLink + "=x", typed: "t"}},
	"it ends later":           {wrong: object{live: true, data: at(10), fields: "X-Delete-At=1700000001"}, then: gone(left(at(10))), where: object{live: true, data: moved(at(10)), fields: "X-Delete-At=1700000001"}},
	"it has come to its end":  {wrong: object{live: true, data: at(10), fields: "X-Delete-At=1700000000"}, waits: true, then: object{live: true, data: at(10), fields: "X-Delete-At=1700000000"}},

	"a delete of nothing":          {wrong: gone(at(10)), then: gone(left(at(10))), where: gone(at(10))},
	"a delete of something older":  {wrong: gone(at(10)), right: written(9), then: gone(left(at(10))), where: gone(at(10))},
	"a delete of something later":  {wrong: gone(at(10)), right: written(11), then: gone(left(at(10))), where: written(11)},
	"an end of something older":    {wrong: gone(timestamp.Expiry(at(10), at(12), 1)), right: written(9), then: gone(timestamp.Expiry(at(10), at(12), 1)), where: gone(timestamp.Expiry(at(10), at(12), 1))},
	"an end of something moved":    {wrong: gone(timestamp.Expiry(at(10), at(12), 1)), right: written(10).as(moved(at(10))), then: gone(timestamp.Expiry(at(10), at(12), 1)), where: gone(timestamp.Expiry(at(10), at(12), 1))},
	"an end of something later":    {wrong: gone(timestamp.Expiry(at(10), at(12), 1)), right: written(11), then: gone(timestamp.Expiry(at(10), at(12), 1)), where: written(11)},
	"what was left when it moved":  {wrong: gone(left(at(10))), right: written(9), then: gone(left(at(10))), where: written(9), skip: true},
	"an end that was not the last": {wrong: gone(timestamp.Expiry(at(10), at(12), 1)), row: &Row{Deleted: true, Times: timestamp.Packed{Data: timestamp.Expiry(at(10), at(12), 1), Meta: at(13)}}, right: written(9), then: gone(timestamp.Expiry(at(10), at(12), 1)), where: written(9), skip: true},
	"a container that was deleted": {wrong: written(10), row: &Row{Hidden: true, Times: written(10).times()}, then: written(10), skip: true},

	"later than the row says":      {wrong: written(12), row: &Row{Times: written(10).times()}, then: gone(left(at(12))), where: written(12).as(moved(at(12)))},
	"deleted since":                {wrong: gone(at(12)), row: &Row{Times: written(10).times()}, right: written(11), then: gone(left(at(12))), where: gone(at(12))},
	"at its end since":             {wrong: gone(timestamp.Expiry(at(10), at(10), 1)), row: &Row{Times: written(10).times()}, right: written(9), then: gone(timestamp.Expiry(at(10), at(10), 1)), where: gone(timestamp.Expiry(at(10), at(10), 1))},
	"moved since":                  {wrong: gone(left(at(10))), row: &Row{Times: written(10).times()}, right: written(10).as(moved(at(10))), then: gone(left(at(10))), where: written(10).as(moved(at(10)))},
	"older than the row says":      {wrong: written(9), row: &Row{Times: written(10).times()}, fails: "nothing of", then: written(9)},
	"not to be found":              {row: &Row{Times: written(10).times()}, right: written(9), fails: "nothing of", where: written(9)},
	"not to be found, nor wanted":  {row: &Row{Times: written(10).times()}, right: written(11), then: gone(left(at(10))), where: written(11)},
	"metadata not to be found":     {wrong: written(10), row: &Row{Times: written(10).posted(20, "g", "").times()}, fails: "metadata that came later", then: written(10)},
	"an end that is not known yet": {wrong: object{data: timestamp.Expiry(at(10), at(12), 1), meta: at(13)}, row: &Row{Times: written(10).times()}, waits: true, then: object{data: timestamp.Expiry(at(10), at(12), 1), meta: at(13)}},
}

// prepare makes the world of a rule.
func prepare(t testing.TB, rule string) *world {
	tt := rules[rule]
	w := newWorld(t)
	w.put(wrong, "o", tt.wrong)
	w.put(right, "o", tt.right)
	if tt.row != nil {
		delete(w.rows, key{wrong, "o"})
		w.row(key{wrong, "o"}, *tt.row)
	}
	return w
}

func (w *world) check(what string, then, where object) {
	w.t.Helper()
	if got := w.objects[key{wrong, "o"}]; got.String() != then.String() {
		w.t.Errorf("%s: where it was is %v, want %v", what, got, then)
	}
	if got := w.objects[key{right, "o"}]; got.String() != where.String() {
		w.t.Errorf("%s: where it belongs is %v, want %v", what, got, where)
	}
}

func TestRules(t *testing.T) {
	for rule, tt := range rules {
		t.Run(rule, func(t *testing.T) {
			w := prepare(t, rule)
			err := w.reconciler().Pass(t.Context())
			if (err != nil) != (tt.fails != "") || err != nil && !strings.Contains(err.Error(), tt.fails) {
				t.Errorf("the error is %v, want one of %q", err, tt.fails)
			}
			w.check("one pass", tt.then, tt.where)
			if done := tt.fails == "" && !tt.waits; (w.settled > 0) != done {
				t.Errorf("settled is %v", w.settled > 0)
			}
			if tt.skip && len(w.calls) > 0 {
				t.Errorf("it was asked for %q", w.calls)
			}
			if row := w.rows[key{wrong, "o"}]; tt.fails == "" && !tt.waits && !tt.skip && !row.Deleted {
				t.Errorf("it is still listed: %+v", row)
			}
			n := len(w.calls)
			_ = w.reconciler().Pass(t.Context()) // by a node that knows nothing of the first
			w.check("another pass", tt.then, tt.where)
			if again := w.calls[n:]; tt.fails == "" && !tt.waits && !tt.then.data.IsExpiry() && len(again) > 0 {
				t.Errorf("another pass did %q", again)
			}
		})
	}
}

// Whatever step fails, before it was done or when it was: the next pass, of whichever node, brings the same about.
func TestEachStepFails(t *testing.T) {
	failures := 0
	for rule, tt := range rules {
		for _, done := range []bool{false, true} {
			for n, fired := 1, true; fired; n++ {
				w := prepare(t, rule)
				w.failAt, w.done = n, done
				err := w.reconciler().Pass(t.Context())
				if fired = w.failed; fired && err == nil {
					t.Errorf("%s: step %d, %s, fails, and the pass does not", rule, n, w.calls[n-1])
				}
				if fired {
					failures++
				}
				if w.settled > 0 && fired {
					t.Errorf("%s: step %d fails, and it is settled", rule, n)
				}
				w.failAt = 0
				if err := w.reconciler().Pass(t.Context()); (err != nil) != (tt.fails != "") {
					t.Errorf("%s: the pass after step %d has failed: %v", rule, n, err)
				}
				what := fmt.Sprintf("%s, after step %d failed (done %t)", rule, n, done)
				w.check(what, tt.then, tt.where)
			}
		}
	}
	if failures < 2*len(rules) {
		t.Errorf("only %d steps have failed", failures)
	}
}

// event is what happens before a call of a pass.
type event struct {
	call    int
	policy  policy.Index // of a write
	with    object
	another bool // instead of a write another node makes a pass
	flip    bool // instead of it the container turns out to have that policy
}

func drawEvents(r *rapid.T) (list []event) {
	for _, n := range rapid.SliceOfNDistinct(rapid.Int64Range(1, 900), 1, 7, rapid.ID).Draw(r, "times") {
		e := event{call: rapid.IntRange(0, 25).Draw(r, "call"), policy: rapid.SampledFrom([]policy.Index{right, wrong}).Draw(r, "policy"), with: written(n)}
		switch rapid.IntRange(0, 6).Draw(r, "what") {
		case 0, 1:
			e.with = gone(at(n))
		case 2:
			e.another = true
		case 3:
			e.flip = true
		}
		list = append(list, e)
	}
	return list
}

// What clients write while an object is moved is joined with it as if it had been written where it belongs to begin with; two
// who move at one time, a policy that changes again, and steps that fail, change nothing about that.
func TestMovesJoin(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		w := newWorld(t)
		events := drawEvents(r)
		failAt, done := rapid.IntRange(0, 20).Draw(r, "fails"), rapid.Bool().Draw(r, "done")
		var best object // what a client should find
		happen := func(e event) {
			switch {
			case e.another:
				_ = w.reconciler().Pass(context.Background())
			case e.flip:
				w.own, w.says[container] = e.policy, e.policy
			default:
				if e.with.data.After(best.data) {
					best = e.with
				}
				w.mu.Lock()
				defer w.mu.Unlock()
				w.put(e.policy, "o", e.with)
			}
		}
		n := 0
		w.before = func(string) { // by one goroutine at a time: there is one row for each policy
			at := n
			n++
			for _, e := range events {
				if e.call == at+1 {
					happen(e)
				}
			}
		}
		for _, e := range events {
			if e.call == 0 {
				happen(e)
			}
		}
		w.failAt, w.done = failAt, done
		for range 4 {
			_ = w.reconciler().Pass(context.Background())
		}
		w.before, w.failAt = nil, 0
		for _, e := range events {
			if e.call > n {
				happen(e) // it comes last
			}
		}
		for range 3 {
			if err := w.reconciler().Pass(context.Background()); err != nil {
				r.Fatal(err)
			}
		}
		other := right
		if w.own == right {
			other = wrong
		}
		got, there := w.objects[key{w.own, "o"}], w.objects[key{other, "o"}]
		if got.live != best.live || got.body != best.body || got.live && got.data.Ticks() != best.data.Ticks() || there.live {
			r.Fatalf("a client finds %v, want %v; elsewhere is %v; %q", got, best, there, w.calls)
		}
	})
}

// Nothing is done until all that is to agree does, and has for a while.
func TestAgreement(t *testing.T) {
	hidden := container.Versions()
	away := errs.E(errs.Unavailable, errors.New("away"))
	for what, tt := range map[string]struct {
		path       name.Path
		place      int
		says, main any
		moves      bool
	}{
		"all agree":                    {container, 0, right, nil, true},
		"on another than is known":     {container, 0, wrong, nil, false},
		"one is away":                  {container, 0, away, nil, false},
		"nobody knows of it":           {container, 0, nil, nil, false},
		"another node has the first":   {container, 1, right, nil, false},
		"versions":                     {hidden, 0, right, right, true},
		"versions of nothing":          {hidden, 0, right, nil, true},
		"versions of another policy's": {hidden, 0, right, wrong, false},
		"versions of who is away":      {hidden, 0, right, away, false},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			w.put(wrong, "o", written(10))
			w.place, w.says = tt.place, map[name.Path]any{container: tt.main, tt.path: tt.says}
			r := w.reconciler()
			r.Source = of{w, tt.path}
			if err := r.Pass(t.Context()); err != nil {
				t.Error(err)
			}
			if is := w.objects[key{right, "o"}].live; is != tt.moves || (w.settled > 0) != tt.moves {
				t.Errorf("moved is %v, settled %v", is, w.settled > 0)
			}
			if got, want := r.Counts().Waiting, int64(0); !tt.moves && tt.place == 0 {
				if want = 1; got != want {
					t.Errorf("%d wait, want %d", got, want)
				}
			} else if got != want {
				t.Errorf("%d wait, want %d", got, want)
			}
		})
	}
}

// of is the source of a container by another name.
type of struct {
	*world
	path name.Path
}

func (s of) Containers(context.Context) []Container {
	return []Container{{Path: s.path, Device: "d", Place: s.place}}
}

func TestDelay(t *testing.T) {
	w := newWorld(t)
	w.put(wrong, "o", written(10))
	clock := now
	r := w.reconciler(func(c *Config) { c.Delay = time.Minute })
	r.Now = func() time.Time { return clock }
	for _, step := range []struct {
		after time.Duration
		says  any
		moved bool
	}{
		{0, right, false}, {59 * time.Second, right, false}, {time.Second / 2, wrong, false}, {time.Second, right, false},
		{59 * time.Second, right, false}, {time.Second, right, true},
	} {
		clock = clock.Add(step.after)
		w.says[container] = step.says
		if err := r.Pass(t.Context()); err != nil {
			t.Error(err)
		}
		if got := w.objects[key{right, "o"}].live; got != step.moved {
			t.Fatalf("%v later: moved is %v", step.after, got)
		}
	}
}

// What was agreed on before the first replica was back does not count once another says something else, and that one is away again.
func TestAgreedBefore(t *testing.T) {
	w := newWorld(t)
	w.put(wrong, "o", written(10))
	w.place = 1
	clock := now
	r := w.reconciler(func(c *Config) { c.Delay, c.Absent = time.Minute, time.Hour })
	r.Now = func() time.Time { return clock }
	for i, step := range []struct {
		after time.Duration
		away  bool // the first replica
		says  any
		moved bool
	}{
		{0, true, right, false}, {time.Hour, true, right, false}, {time.Second, false, right, false}, // it was to be done, in a minute
		{time.Second, true, wrong, false}, {time.Hour - time.Second, true, wrong, false}, {time.Second, true, right, false},
		{time.Minute - time.Second, true, right, false}, {time.Second, true, right, true},
	} {
		clock = clock.Add(step.after)
		w.says[container], w.silent = step.says, nil
		if step.away {
			w.silent = []int{0}
		}
		if err := r.Pass(t.Context()); err != nil {
			t.Error(err)
		}
		if got := w.objects[key{right, "o"}].live; got != step.moved {
			t.Fatalf("step %d: moved is %v", i, got)
		}
	}
}

// A replica that can't be asked is waited for, and not for ever; where it is that of who moves objects the next one does.
func TestAbsent(t *testing.T) {
	type step struct {
		after  time.Duration
		silent []int
		moved  bool
	}
	for what, tt := range map[string]struct {
		place int
		path  name.Path
		steps []step
	}{
		"another one is":            {0, container, []step{{0, []int{2}, false}, {time.Hour - 1, []int{2}, false}, {1, []int{2}, true}}},
		"another one was":           {0, container, []step{{0, []int{2}, false}, {time.Minute, nil, true}}},
		"now one, now another":      {0, container, []step{{0, []int{2}, false}, {time.Hour, []int{1}, false}, {time.Hour, []int{2}, false}, {time.Hour, []int{2}, true}}},
		"the first is":              {1, container, []step{{0, []int{0}, false}, {time.Hour - 1, []int{0}, false}, {1, []int{0}, true}}},
		"the first was":             {1, container, []step{{0, []int{0}, false}, {time.Hour, nil, false}, {time.Hour, nil, false}}},
		"nobody is, for the second": {1, container, []step{{0, nil, false}, {2 * time.Hour, nil, false}}},
		"the first, for the third":  {2, container, []step{{0, []int{0}, false}, {2 * time.Hour, []int{0}, false}}},
		"two, for the third":        {2, container, []step{{0, []int{0, 1}, false}, {2 * time.Hour, []int{0, 1}, true}}},
		"of the versions, too":      {0, container.Versions(), []step{{0, []int{1}, false}, {time.Hour - 1, []int{1}, false}, {1, []int{1}, true}}},
	} {
		w := newWorld(t)
		w.put(wrong, "o", written(10))
		w.place, w.says = tt.place, map[name.Path]any{container: right, container.Versions(): right}
		clock := now
		r := w.reconciler(func(c *Config) { c.Absent = time.Hour })
		r.Now, r.Source = func() time.Time { return clock }, of{w, tt.path}
		for i, s := range tt.steps {
			clock, w.silent = clock.Add(s.after), s.silent
			if err := r.Pass(t.Context()); err != nil {
				t.Error(err)
			}
			if got := w.objects[key{right, "o"}].live; got != s.moved {
				t.Errorf("%s, step %d: moved is %v", what, i, got)
			}
		}
	}
}

// All pages are gone through, rows that ask for nothing among them; a container of which too much fails is left for the next pass.
func TestPages(t *testing.T) {
	w := newWorld(t)
	for i := range 100 {
		o := fmt.Sprintf("o%03d", i)
		switch rand.N(3) {
		case 0:
			w.put(wrong, o, gone(left(at(5))))
		case 1:
			w.put(7, o, written(10))
		default:
			w.put(wrong, o, written(10))
		}
	}
	r := w.reconciler()
	r.page = 7
	if err := r.Pass(t.Context()); err != nil {
		t.Error(err)
	}
	for k, row := range w.rows {
		if k.policy != right && row.wants() {
			t.Errorf("left is %+v", row)
		}
	}
	for i := range 2 * mostFailed {
		w.row(key{wrong, fmt.Sprintf("lost%03d", i)}, Row{Times: written(10).times()})
	}
	w.calls = nil
	err := r.Pass(t.Context())
	if looks := len(w.calls) / 2; err == nil || looks < mostFailed || looks > mostFailed+r.side() {
		t.Errorf("%d were looked for, %v", looks, err)
	}
	if c := r.Counts(); c.Failed < mostFailed || c.Waiting != 1 {
		t.Errorf("counted are %+v", c)
	}
}

// Rows that can't be moved don't keep those behind them where they are, and what only waits is no failure, however much there is of it.
func TestWhatFailsIsGoneAround(t *testing.T) {
	w := newWorld(t)
	for i := range 3 * mostFailed {
		w.row(key{wrong, fmt.Sprintf("lost%03d", i)}, Row{Times: written(10).times()})
	}
	for i := range 2 * mostFailed {
		w.put(wrong, fmt.Sprintf("over%03d", i), object{live: true, data: at(10), fields: "X-Delete-At=1"})
	}
	w.put(wrong, "z", written(10))
	w.put(7, "a", written(10))
	r := w.reconciler()
	r.page = 11
	for range 4 {
		if err := r.Pass(t.Context()); err == nil || strings.Contains(err.Error(), "nil") {
			t.Errorf("the pass says %v", err)
		}
	}
	if !w.objects[key{right, "z"}].live || !w.objects[key{right, "a"}].live {
		t.Errorf("what is behind what failed is still not moved")
	}
	asked := map[string]int{}
	for _, c := range w.paths {
		asked[c]++
	}
	if asked["lost000"] == 0 || asked["lost299"] == 0 {
		t.Errorf("of what failed the first was looked for %d times, and the last %d", asked["lost000"], asked["lost299"])
	}
	r = w.reconciler()
	for k := range w.rows {
		if strings.HasPrefix(k.name, "lost") {
			delete(w.rows, k)
		}
	}
	if err := r.Pass(t.Context()); err != nil || r.Counts().Failed > 0 || r.Counts().Waiting != 1 {
		t.Errorf("with what waits alone: %v, %+v", err, r.Counts())
	}
}

// What is left behind counts as no older than what was there, when the clock is behind.
func TestLeftByAClockThatIsBehind(t *testing.T) {
	w := newWorld(t)
	w.put(wrong, "o", written(10))
	r := w.reconciler()
	r.Now = func() time.Time { return time.Unix(1_600_000_000, 0) }
	if err := r.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := w.objects[key{wrong, "o"}]; got.live || got.data.Happened().Before(at(10)) {
		t.Errorf("left is %v, which happened at %s, before %s", got, got.data.Happened(), at(10))
	}
}

// What a pass has stored that was broken off is stored again where its data is not all there.
func TestScattered(t *testing.T) {
	for _, scattered := range []bool{false, true} {
		w := newWorld(t)
		w.put(wrong, "o", written(10))
		w.put(right, "o", written(10).as(moved(at(10))))
		w.scattered = scattered
		if err := w.reconciler().Pass(t.Context()); err != nil || slices.Contains(w.calls, "put") != scattered {
			t.Errorf("scattered %v: %v, %q", scattered, err, w.calls)
		}
		w.check("after it", gone(left(at(10))), written(10).as(moved(at(10))))
	}
}

// A link waits for its version, if that is still to be moved.
func TestLinkWaitsForItsVersion(t *testing.T) {
	w := newWorld(t)
	link := backend.Link{ID: at(10), ETag: "e"}
	w.put(wrong, "o", object{live: true, data: at(10), fields: backend.VersionLink + "=" + link.String(), typed: "t"})
	version := key{wrong, name.Path{Account: "a", Container: "c", Object: "o"}.Version(at(10)).Object}
	for _, step := range []struct {
		version object
		moved   bool
	}{{written(10), false}, {gone(left(at(10))), true}} {
		w.objects[version] = step.version
		r := w.reconciler()
		if err := r.Pass(t.Context()); err != nil || w.objects[key{right, "o"}].live != step.moved || r.Counts().Failed > 0 {
			t.Errorf("with the version %v: %v, %v is there, counted are %+v", step.version, err, w.objects[key{right, "o"}], r.Counts())
		}
	}
}

func TestVersionsComeFirst(t *testing.T) {
	list := []Container{{Path: container}, {Path: container.Versions()}, {Path: name.Path{Account: "a", Container: "b"}}}
	slices.SortStableFunc(list, func(a, b Container) int { return rank(a) - rank(b) })
	if list[0].Path != container.Versions() || list[1].Path != container {
		t.Errorf("the order is %v", list)
	}
}

func TestNew(t *testing.T) {
	w := newWorld(t)
	whole := Deps{Source: w, Containers: w, Objects: w}
	for what, tt := range map[string]struct {
		cfg  Config
		deps Deps
		ok   bool
	}{
		"what is usual":    {Defaults(), whole, true},
		"no concurrency":   {Config{}, whole, false},
		"a negative delay": {Config{Concurrency: 1, Delay: -1}, whole, false},
		"a negative rate":  {Config{Concurrency: 1, PerSecond: -1}, whole, false},
		"nowhere to look":  {Defaults(), Deps{Containers: w, Objects: w}, false},
		"nobody to ask":    {Defaults(), Deps{Source: w, Objects: w}, false},
		"nothing to move":  {Defaults(), Deps{Source: w, Containers: w}, false},
		"negative bytes":   {Config{Concurrency: 1, BytesPerSecond: -1}, whole, false},
		"no delay":         {Config{Concurrency: 1}, whole, true},
	} {
		if _, err := New(tt.cfg, tt.deps); (err == nil) != tt.ok || err != nil && !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A pass that is broken off says so, and settles nothing.
func TestBrokenOff(t *testing.T) {
	w := newWorld(t)
	w.put(wrong, "o", written(10))
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	w.before = func(string) { cancel(why) }
	if err := w.reconciler().Pass(ctx); !errors.Is(err, why) || w.settled > 0 {
		t.Errorf("%v, settled %d", err, w.settled)
	}
}
