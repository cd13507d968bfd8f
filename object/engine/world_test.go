package engine

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/seglog"
	"martlet/internal/timestamp"
	"martlet/internal/vfs"
	"martlet/object/engine/record"
	"martlet/object/index"
)

// smallConfig has segments so small, and checkpoints so frequent, that a few hundred writes
// meet everything that happens to a device in years.
func smallConfig(fs vfs.FS) Config {
	cfg := Defaults()
	cfg.FS, cfg.Buffers, cfg.SegmentSize, cfg.Depth, cfg.Changes = fs, testBufs, 1<<16, 8, 7
	cfg.pieces = pieces{names: 6, moved: 3, bytes: 5000, room: 8000, together: 150_000}
	return cfg
}

// largeBody is more than smallConfig keeps in the log.
const largeBody = 9000

// bodyOf is what is stored under a name at a time, so that whoever knows the time knows
// the bytes. One in seven has a file of its own.
func bodyOf(l Location, n int64) []byte {
	r := rand.New(rand.NewPCG(uint64(n), uint64(l.Hash[0])<<8|uint64(l.Policy)))
	size := r.IntN(5000)
	if n%7 == 0 {
		size = largeBody + r.IntN(5000)
	}
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// fact is what is so of one name, kept by the rules and nothing else: as the package's
// comment has them, with times as numbers.
type fact struct {
	kind   Kind // Live, Deleted or Absent, of the data
	time   moment
	lost   bool   // data at that time was damaged
	lostAt moment //
	mt, ct int64  // of metadata and content type that came later
	noMeta bool   // they are damaged
}

// moment is the time of data or a tombstone: of an expiry, that of the data, and of the
// metadata that set it, which is not zero.
type moment struct{ n, set int64 }

func (m moment) compare(o moment) int {
	return cmp.Or(cmp.Compare(m.n, o.n), cmp.Compare(m.set, o.set))
}

func (m moment) until() int64 { return max(m.n, m.set) }

func (m moment) stamp() timestamp.T {
	if m.set > 0 {
		return timestamp.Expiry(ts(m.n), ts(m.set), 2_000_000_000)
	}
	return ts(m.n)
}

// since is up to which time metadata means nothing.
func (f *fact) since() int64 { return max(f.time.until(), f.lostAt.until()) }

// newest is the time of anything that is known.
func (f *fact) newest() int64 { return max(f.since(), f.mt, f.ct) }

// put is a push of data or a tombstone, and reports whether it changes anything.
func (f *fact) put(kind Kind, at moment) bool {
	against := func(m moment) int {
		c := at.compare(m)
		if at.n == m.n && (at.set > 0) != (m.set > 0) && f.mt > max(at.until(), m.until()) {
			c = -c // it was to live longer
		}
		return c
	}
	if f.lost && against(f.lostAt) < 0 {
		return false
	}
	c := cmp.Or(against(f.time), cmp.Compare(kind, f.kind))
	if f.kind != Absent && c <= 0 {
		return false
	}
	f.kind, f.time, f.lost, f.lostAt = kind, at, false, moment{}
	if max(f.mt, f.ct) <= at.until() {
		f.mt, f.ct, f.noMeta = 0, 0, false
	}
	return true
}

// post is a push of later metadata; the kind is Other where it is taken.
func (f *fact) post(mt, ct int64) errs.Kind {
	old := *f
	if f.noMeta {
		if f.mt > f.since() && mt < f.mt || f.ct > f.since() && ct < f.ct {
			return errs.Corrupt
		}
		old.mt, old.ct = 0, 0
	}
	changed := false
	if mt > f.since() && mt > old.mt {
		old.mt, changed = mt, true
	}
	if ct > f.since() && ct > old.ct {
		old.ct, changed = ct, true
	}
	if !changed {
		return errs.Stale
	}
	if old.mt <= f.since() {
		old.mt = 0
	}
	if old.ct <= f.since() {
		old.ct = 0
	}
	old.noMeta = false
	*f = old
	return errs.Other
}

// state is what Stat says of it.
func (f *fact) state(l Location) State {
	since := f.time.stamp()
	if f.lost {
		since = f.lostAt.stamp()
	}
	s := State{Time: since, ContentTypeTime: since, MetaTime: since}
	put := fmt.Sprint("p", f.time.n)
	switch {
	case f.lost:
		s.Kind = Lost
	case f.kind == Deleted:
		s.Kind = Deleted
	case f.kind == Live:
		s.Kind = Live
		body := bodyOf(l, f.time.n)
		s.Length, s.MD5, s.ContentType = int64(len(body)), sum(body), "type/"+put
		s.System = backend.Header{{Name: "X-Object-Sysmeta-S", Value: put}}
		s.Meta = fields(put)
		if f.noMeta {
			s.Kind = Lost
		}
	}
	if f.ct > f.since() {
		s.ContentTypeTime, s.ContentType = ts(f.ct), fmt.Sprint("type/m", f.ct)
		if f.noMeta {
			s.ContentType = ""
		}
	}
	if f.mt > f.since() {
		s.MetaTime, s.Meta = ts(f.mt), fields(fmt.Sprint("m", f.mt))
		if f.noMeta {
			s.Meta = nil
		}
	}
	return s
}

// op is something that is done to a name.
type op struct {
	what int
	at   Location
	n, m int64
}

// What ops do.
const (
	opPut = iota
	opDelete
	opExpire // with metadata of n+m
	opPost
	opDrop
	opLoseData
	opLoseMeta
	opKinds
)

func (o op) String() string {
	return fmt.Sprintf("%s of %v/%x at %d,%d", [...]string{"put", "delete", "expiry", "post", "drop", "loss of data", "loss of metadata"}[o.what], o.at.Policy, o.at.Hash[0], o.n, o.m)
}

// model says what an op makes of what is so, and of which kind its error is: Other for none.
func (o *op) model(f fact) (fact, errs.Kind) {
	switch o.what {
	case opPut, opDelete, opExpire:
		kind := Live
		if o.what != opPut {
			kind = Deleted
		}
		if !f.put(kind, o.moment()) {
			return f, errs.Stale
		}
	case opPost:
		return f, f.post(o.n, o.m)
	case opDrop:
		return fact{}, errs.Other
	case opLoseData:
		if f.kind != Absent {
			f.kind, f.time, f.lost, f.lostAt = Absent, moment{}, true, f.time
		}
	case opLoseMeta:
		if max(f.mt, f.ct) > 0 {
			f.noMeta = true
		}
	}
	return f, errs.Other
}

// moment is the time of the data or tombstone that it puts there.
func (o *op) moment() moment {
	if o.what == opExpire {
		return moment{o.n, o.n + o.m}
	}
	return moment{n: o.n}
}

// do does it.
func (o *op) do(e *Engine) error {
	merge := Terms{Merge: true}
	switch o.what {
	case opPut:
		return put(e, o.at, ts(o.n), bodyOf(o.at, o.n), fmt.Sprint("p", o.n), merge)
	case opDelete:
		return del(e, o.at, o.n, merge)
	case opExpire:
		_, err := e.Delete(ctx, o.at, path3(o.at), o.moment().stamp(), merge)
		return err
	case opPost:
		c := Change{Name: path3(o.at), MetaTime: ts(o.n), ContentTypeTime: ts(o.m)}
		if o.n > 0 {
			c.Meta = fields(fmt.Sprint("m", o.n))
		}
		if o.m > 0 {
			c.ContentType = fmt.Sprint("type/m", o.m)
		}
		_, err := e.Update(ctx, o.at, c, merge)
		return err
	case opDrop:
		_, err := e.Drop(ctx, o.at, func(*State) bool { return true })
		return err
	case opLoseData:
		s, err := e.Stat(ctx, o.at)
		if err != nil {
			return err
		}
		return e.Quarantine(ctx, o.at, s, errors.New("said to be damaged"))
	}
	d, err := e.now().openFor(ctx, "engine.quarantine", o.at)
	if err != nil {
		return err
	}
	entry, err := d.get(o.at)
	if err != nil || entry.Meta.IsZero() {
		return d.wrap("engine.quarantine", o.at, err)
	}
	return d.wrap("engine.quarantine", o.at, d.quarantine(o.at, &damaged{part: partMeta, place: entry.Meta, err: errors.New("said to be damaged")}))
}

// world is a store, and what is so of it. Where something has failed it may be one of
// several things.
type world struct {
	fs    *vfs.Mem
	cfg   Config
	e     *Engine
	facts map[Location][]fact // not empty
}

const worldNames = 12

func newWorld() *world {
	w := &world{fs: vfs.NewMem(), facts: map[Location][]fact{}}
	for i := range worldNames {
		w.facts[worldName(i)] = []fact{{}}
	}
	w.open(w.fs)
	return w
}

// worldName is one of the names of a world, in two policies, some of them of one hash.
func worldName(i int) Location {
	return Location{Policy: policy.Index(i % 2), Hash: name.Hash{byte(i / 3 * 40), 0x5a, 1, 15: byte(i)}}
}

// open opens the store as it is on the disk, without closing it: as after the process was
// killed.
func (w *world) open(through vfs.FS) {
	w.cfg = smallConfig(through)
	w.e = New("/", w.cfg)
}

// randomOp is one of those that happen.
func randomOp(r *rand.Rand) op {
	o := op{at: worldName(r.IntN(worldNames)), n: 1 + r.Int64N(60)}
	switch x := r.IntN(100); {
	case x < 45:
		o.what = opPut
	case x < 55:
		o.what = opDelete
	case x < 60:
		o.what, o.m = opExpire, r.Int64N(4)
	case x < 82:
		o.what = opPost
		switch r.IntN(3) {
		case 0:
			o.m = o.n
		case 1:
			o.m = 1 + r.Int64N(60)
		case 2:
			o.n, o.m = 0, o.n
		}
		if r.IntN(4) == 0 {
			o.m = 0
		}
		if o.n == 0 && o.m == 0 {
			o.n = 5
		}
	case x < 92:
		o.what = opDrop
	case x < 96:
		o.what = opLoseData
	default:
		o.what = opLoseMeta
	}
	return o
}

// do does something, and sees to it that the answer is one that a state has which may be.
// An error of the disk leaves it open what is so.
func (w *world) do(o op) error {
	err := o.do(w.e)
	if errs.Is(err, errs.BadDevice) || errs.Is(err, errs.NoSpace) {
		for _, f := range w.facts[o.at] {
			if next, _ := o.model(f); !slices.Contains(w.facts[o.at], next) {
				w.facts[o.at] = append(w.facts[o.at], next)
			}
		}
		return nil
	}
	var next []fact
	var want []errs.Kind
	for _, f := range w.facts[o.at] {
		now, kind := o.model(f)
		want = append(want, kind)
		if kind == errs.KindOf(err) && (err == nil) == (kind == errs.Other) && !slices.Contains(next, now) {
			next = append(next, now)
		}
	}
	if len(next) == 0 {
		return fmt.Errorf("%v: %w, want kind %v, of %+v", o, err, want, w.facts[o.at])
	}
	w.facts[o.at] = next
	return nil
}

// states compares all names with what is so. What is before the horizon may have been
// forgotten, where it is a tombstone or metadata that waits.
func (w *world) states(horizon int64) error {
	for l, facts := range w.facts {
		s, err := w.e.Stat(ctx, l)
		if err != nil {
			return fmt.Errorf("stat of %v: %w", l, err)
		}
		forgotten := s.Kind == Absent && s.Newest().IsZero()
		if forgotten && slices.ContainsFunc(facts, func(f fact) bool { return f.forgettable(horizon) }) {
			w.facts[l] = []fact{{}}
			continue
		}
		i := slices.IndexFunc(facts, func(f fact) bool { return show(f.state(l)) == show(s) })
		if i < 0 {
			return fmt.Errorf("of %v there is %s, want one of %s", l, show(s), w.want(l))
		}
		// Two facts may look the same, such as where old metadata is beside later data.
		w.facts[l] = slices.DeleteFunc(slices.Clone(facts), func(f fact) bool { return show(f.state(l)) != show(s) })
		_, body, err := get(w.e, l)
		switch f := facts[i]; {
		case s.Kind == Live:
			if err != nil || !bytes.Equal(body, bodyOf(l, f.time.n)) {
				return fmt.Errorf("%v reads as %d bytes, %w", l, len(body), err)
			}
		case s.Kind == Lost && !errs.Is(err, errs.Corrupt), s.Kind != Lost && !errs.Is(err, errs.NotFound):
			return fmt.Errorf("%v, of which there is %s, reads with %w", l, show(s), err)
		}
	}
	return w.expired()
}

// expired compares what has come to its end by the middle of all times with the states.
func (w *world) expired() error {
	const second = 30
	var got []Location
	for e, err := range w.e.Expired(ctx, time.Unix(second, 0), nil) {
		if err != nil {
			return err
		}
		got = append(got, e.Location)
	}
	for l := range w.facts {
		s, err := w.e.Stat(ctx, l)
		if err != nil {
			return err
		}
		at, ok := s.DeleteAt()
		if want := s.Kind == Live && ok && at <= second; want != slices.Contains(got, l) {
			return fmt.Errorf("of %v there is %s, and among the expired it is %v", l, show(s), !want)
		}
	}
	return nil
}

// forgettable reports whether compaction may forget it.
func (f *fact) forgettable(horizon int64) bool {
	return !f.lost && !f.noMeta && f.kind != Live && f.newest() < horizon && f.time.set == 0 // an expiry is of years later
}

// mayForget says that compaction may have forgotten what it may.
func (w *world) mayForget(horizon int64) {
	for l, facts := range w.facts {
		if slices.ContainsFunc(facts, func(f fact) bool { return f.forgettable(horizon) }) && !slices.Contains(facts, fact{}) {
			w.facts[l] = append(slices.Clone(facts), fact{})
		}
	}
}

func (w *world) want(l Location) string {
	var all []string
	for _, f := range w.facts[l] {
		all = append(all, show(f.state(l)))
	}
	return strings.Join(all, " | ")
}

// view is all that an index says, and what is counted beside it.
type view struct {
	entries map[index.Key]index.Entry
	live    map[uint64]int64
	digests map[index.Set]index.Digest
}

// look returns what the index says, after seeing to it that it agrees with itself, with the
// log and with the states.
func look(e *Engine) (v view, err error) {
	d, err := e.now().open(ctx)
	if err != nil {
		return v, err
	}
	if err := d.index.Check(ctx); err != nil {
		return v, err
	}
	v = view{map[index.Key]index.Entry{}, map[uint64]int64{}, map[index.Set]index.Digest{}}
	for _, p := range []policy.Index{0, 1} {
		for item, err := range d.index.Range(p, name.Hash{}, lastHash()) {
			if err != nil {
				return v, err
			}
			v.entries[item.Key] = item.Entry
		}
		set := index.Set{Policy: p}
		if v.digests[set], err = d.index.Digest(set, 0, 0); err != nil {
			return v, err
		}
	}
	records := map[index.Key]uint32{} // that the log has
	inForce := map[index.Key]uint32{}
	for entry, err := range d.log.Scan(seglog.Position{}) {
		if err != nil {
			return v, err
		}
		h, err := record.Parse(entry.Kind, entry.Head)
		if err != nil {
			return v, err
		}
		if h.Kind == record.Compacted {
			continue
		}
		key := index.Key{Policy: h.Policy, Hash: name.Hash(entry.Key)}
		is := v.entries[key]
		compacted := entry.At.Offset < d.usage.get(entry.At.Segment).done
		for _, p := range [...]index.Place{is.Data, is.Meta, is.Mark} {
			if !p.IsZero() && p.Position() == entry.At {
				inForce[key]++
				v.live[entry.At.Segment] += entry.Size()
				if compacted || p.Size != entry.Size() {
					return v, fmt.Errorf("%v is %v, compacted %v, of %d bytes: %+v", h.Kind, key, compacted, entry.Size(), is)
				}
			}
		}
		if !compacted {
			records[key]++
		}
	}
	for key, is := range v.entries {
		if inForce[key] != places(&is) || records[key] != places(&is)+is.Dead {
			return v, fmt.Errorf("of %v the log has %d records, %d of them in force, and the index says %+v", key, records[key], inForce[key], is)
		}
		s, err := e.Stat(ctx, Location{key.Policy, key.Hash})
		if err != nil {
			return v, err
		}
		if is.Kind != index.Gone && (s.Packed() != is.Times || tieOf(&s) != is.Tie) {
			return v, fmt.Errorf("the state of %v is %s, tie %x, and the index says %+v", key, show(s), tieOf(&s), is)
		}
	}
	for key, n := range records {
		if _, ok := v.entries[key]; !ok {
			return v, fmt.Errorf("of %v the log has %d records, and the index nothing", key, n)
		}
	}
	for _, s := range d.log.Stat() {
		if got := d.usage.get(s.Number).live; got != v.live[s.Number] {
			return v, fmt.Errorf("of segment %d %d bytes are said to be in force, and %d are", s.Number, got, v.live[s.Number])
		}
	}
	return v, nil
}

// quiet reports whether no segment is half compacted, so that a rebuilt index says the same
// of how much is dead.
func quiet(e *Engine) bool {
	d, err := e.now().open(ctx)
	if err != nil {
		return false
	}
	for _, s := range d.log.Stat() {
		if d.usage.get(s.Number).done > 0 {
			return false
		}
	}
	return true
}

// rebuilt sees to it that the index made anew from a copy of the disk says what it does.
func (w *world) rebuilt(seed uint64) error {
	live, err := look(w.e)
	if err != nil {
		return err
	}
	other := &world{fs: w.fs.AfterCrash(seed), facts: maps.Clone(w.facts)}
	if err := withoutIndex(smallConfig(other.fs)); err != nil {
		return err
	}
	other.open(other.fs)
	again, err := look(other.e)
	if err != nil {
		return fmt.Errorf("rebuilt: %w", err)
	}
	if !quiet(w.e) {
		return other.states(0)
	}
	for key, want := range live.entries {
		if got := again.entries[key]; got != want {
			return fmt.Errorf("rebuilt: %v is\n%+v, want\n%+v", key, got, want)
		}
	}
	if len(again.entries) != len(live.entries) || !maps.Equal(again.digests, live.digests) {
		return fmt.Errorf("rebuilt: %d entries, digests %v, want %d, %v", len(again.entries), again.digests, len(live.entries), live.digests)
	}
	return other.states(0)
}

// check is all of it.
func (w *world) check(horizon int64, seed uint64) error {
	if err := w.states(horizon); err != nil {
		return err
	}
	return w.rebuilt(seed)
}

// compactSome compacts the sealed segments that are chosen, whatever they hold, after one
// that was begun.
func compactSome(ctx context.Context, e *Engine, horizon timestamp.T, chosen func() bool) error {
	d, err := e.now().openFor(ctx, "engine.compact", Location{})
	if err != nil {
		return err
	}
	d.compacting.Lock()
	defer d.compacting.Unlock()
	c := newCompaction(d, horizon, nil)
	defer c.close()
	for {
		n, ok := d.choose(c.done)
		if !ok || d.usage.get(n).done == 0 {
			break
		}
		if err := c.do(ctx, n); err != nil {
			return d.wrap("engine.compact", Location{}, err)
		}
	}
	for _, s := range d.log.Stat() {
		if s.Sealed && !slices.Contains(c.done, s.Number) && chosen() {
			if err := c.do(ctx, s.Number); err != nil {
				return d.wrap("engine.compact", Location{}, err)
			}
		}
	}
	return d.wrap("engine.compact", Location{}, c.retire(ctx))
}

func always() bool { return true }

// compactSegment compacts one segment, whatever it holds.
func (d *disk) compactSegment(ctx context.Context, segment uint64, horizon timestamp.T, pace Pace) error {
	c := newCompaction(d, horizon, pace)
	defer c.close()
	if err := c.do(ctx, segment); err != nil {
		return err
	}
	return c.retire(ctx)
}

func logBytes(t testing.TB, e *Engine) (n int64) {
	t.Helper()
	d, err := e.now().open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range d.log.Stat() {
		n += s.Size
	}
	return n
}

// blobs sees to it that there are exactly the files that records in force name.
func (w *world) blobs() error {
	d, err := w.e.now().open(ctx)
	if err != nil {
		return err
	}
	want := map[string]bool{}
	for l := range w.facts {
		e, err := d.get(l)
		if err != nil {
			return err
		}
		if path, err := d.blobOf(l, &e); err != nil {
			return err
		} else if path != "" {
			want[path] = true
		}
	}
	folders, err := d.list("/" + blobFolder)
	if err != nil {
		return err
	}
	for _, folder := range folders {
		files, err := d.list("/" + blobFolder + "/" + folder.Name)
		if err != nil {
			return err
		}
		for _, f := range files {
			path := "/" + blobFolder + "/" + folder.Name + "/" + f.Name
			if !want[path] {
				return fmt.Errorf("%s is an orphan, and was not swept", path)
			}
			delete(want, path)
		}
	}
	if len(want) > 0 {
		return fmt.Errorf("%v are gone", slices.Collect(maps.Keys(want)))
	}
	return nil
}

// filesBelow returns the files of a folder and those below it, with their sizes.
func filesBelow(t testing.TB, fs vfs.FS, dir string, into map[string]int64) map[string]int64 {
	t.Helper()
	list, err := fs.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		name := path.Join(dir, e.Name)
		if e.Dir {
			filesBelow(t, fs, name, into)
			continue
		}
		info, err := fs.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		into[name] = info.Size
	}
	return into
}

// copyOf returns a world as it is on a disk.
func (w *world) copyOf(disk *vfs.Mem) *world {
	c := &world{fs: disk, facts: maps.Clone(w.facts)}
	c.open(disk)
	return c
}

// settled waits until what a failure has put in doubt has been looked at.
func settled(e *Engine) {
	if d := e.now().ready.Load(); d != nil {
		d.work.Wait()
	}
}

// goOn sees to it that a store that was interrupted goes on: all is there, and a whole pass
// of everything changes nothing.
func (w *world) goOn(seed uint64, horizon int64) error {
	if err := w.states(horizon); err != nil {
		return fmt.Errorf("opened again: %w", err)
	}
	if _, err := look(w.e); err != nil {
		return fmt.Errorf("opened again: %w", err)
	}
	if err := w.e.Sweep(ctx); err != nil {
		return err
	}
	if err := w.blobs(); err != nil {
		return err
	}
	if err := compactSome(ctx, w.e, ts(horizon), always); err != nil {
		return err
	}
	if err := w.check(horizon, seed); err != nil {
		return fmt.Errorf("compacted: %w", err)
	}
	return nil
}

// whole is a seed of AfterCrash with which everything survives: a copy.
const whole = 7

// aHistory is a store in which all has happened, as it is on the disk: some segments, some
// of it in the index and some not, one segment compacted half.
func aHistory(t testing.TB, seed uint64, ops int) *world {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 2))
	w := newWorld()
	w.cfg.Changes = 1000
	for i := range ops {
		if err := w.do(randomOp(r)); err != nil {
			t.Fatal(err)
		}
		if i%(ops/4) == ops/8 {
			w.seal(t)
		}
	}
	return w
}

// withoutIndex throws the index of a device away: it is made again from the log when the
// device is opened next.
func withoutIndex(cfg Config) error { return index.Remove(cfg.FS, indexFolder) }

// seal ends the segment that is appended to, as a restart does.
func (w *world) seal(t testing.TB) {
	t.Helper()
	if err := w.e.Close(); err != nil {
		t.Fatal(err)
	}
	w.open(w.fs)
}
