package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"martlet/cmd/internal/bench"
	"martlet/cmd/internal/bench/floor"
	"martlet/cmd/internal/bench/procs"
	"martlet/cmd/internal/bench/result"
	"martlet/cmd/internal/bench/size"
	"martlet/cmd/internal/bench/work"
)

// loadOf is one line of the table.
type loadOf struct {
	kind    work.Kind
	size    string
	clients int
	objects int64  // that a GET reads; few, as a slow store is to have them soon, and all are in memory anyhow
	most    string // servers' processor time for each that is asked of Martlet
}

func (l loadOf) String() string {
	return fmt.Sprintf("%s %s, %d clients", l.size, strings.ToUpper(l.kind.String()), l.clients)
}

// large reports whether it is of those whose bytes are most of what they cost. There are few of them, and the first counts
// for as much as any.
func (l loadOf) large() bool { return l.size == largeSize }

// times is how many times as long as others it is sent.
func (l loadOf) times() float64 {
	if l.large() {
		return 2
	}
	return 1
}

// largeSize is the size of large loads.
const largeSize = "64MiB"

// loads are sent in this order in each round. A DELETE is behind the PUT of the same size, by which it
// is known how many objects make a round of it.
var loads = []loadOf{
	{work.Put, "4KiB", 32, 0, "0.6 ms"},
	{work.Delete, "4KiB", 32, 0, "0.5 ms"},
	{work.Get, "4KiB", 32, 400, "0.18 ms"},
	{work.Put, "64KiB", 32, 0, "1.2 ms"},
	{work.Get, "64KiB", 32, 200, "0.3 ms"},
	{work.Put, "1MiB", 16, 0, "6.5 ms"},
	{work.Get, "1MiB", 16, 64, "1.5 ms"},
	{work.Put, largeSize, 4, 0, "330 ms"},
	{work.Get, largeSize, 4, 8, "85 ms"},
}

// scale is how many clients there are, one after the other.
var scale = []int{1, 2, 4, 8, 16, 32, 64, 128, 256}

// scaleObjects are read while it is scaled.
const scaleObjects = 2_000

// mostDeletes bounds how many objects are put for a round of DELETEs.
const mostDeletes = 20_000

// figures are those of one store and load, or of a floor: one value a round.
type figures struct {
	cpu, rate, p50, p99, anonymous, generator []float64

	written []float64 // bytes on disks for each byte that was stored, of PUTs; none where nobody said
	failed  int64
	example string
	filled  string // the name of the run whose objects are there to be read
}

func (f *figures) add(r *result.Report) {
	for _, s := range r.Summarize() {
		switch s.Figure {
		case "servers' CPU per operation":
			f.cpu = append(f.cpu, s.Median)
		case "generator's CPU per operation":
			f.generator = append(f.generator, s.Median)
		case "servers' peak anonymous memory":
			f.anonymous = append(f.anonymous, s.Median)
		case "rate":
			f.rate = append(f.rate, s.Median)
		case "p50":
			f.p50 = append(f.p50, s.Median)
		case "p99":
			f.p99 = append(f.p99, s.Median)
		}
	}
	for _, round := range r.Rounds {
		if round.Servers == nil || round.Servers.Written == 0 {
			continue
		}
		for _, o := range round.Operations {
			if o.Kind == work.Put.String() && o.Bytes > 0 {
				f.written = append(f.written, float64(round.Servers.Written)/float64(o.Bytes))
			}
		}
	}
	failed, _ := r.Failed()
	f.failed += failed
	if _, examples := r.Answers(true); len(examples) > 0 {
		f.example = examples[0]
	}
}

// measuring is a run under way.
type measuring struct {
	*options
	dir     string
	stores  []*store
	figures map[string][]*figures // of each line, one for each store; of floors and of scaling one
	began   time.Time
	loads   [2]float64 // the machine's, least and most
}

func (m *measuring) say(format string, args ...any) {
	_, _ = fmt.Fprintf(m.progress, "%6s  %s\n", time.Since(m.began).Round(time.Second), fmt.Sprintf(format, args...)) // nobody has to read it
}

// of returns the figures of a line and a store, to be added to.
func (m *measuring) of(line string, store int) *figures {
	all := m.figures[line]
	for len(all) <= store {
		all = append(all, new(figures))
	}
	m.figures[line] = all
	return all[store]
}

// all measures everything.
func (m *measuring) all(ctx context.Context) error {
	for n := range m.rounds {
		if took := time.Since(m.began); n > 0 && took+took/time.Duration(n) > m.limit {
			m.say("it ends with round %d: one more would take it past %v", n, m.limit)
			m.rounds = n
			break
		}
		if slices.Contains(m.parts, partTable) {
			for _, l := range m.chosen() {
				for i := range m.stores {
					if !takes(m.stores[i].name, l) {
						continue
					}
					if err := m.load(ctx, n, l, i); err != nil {
						if ctx.Err() != nil {
							return err
						}
						m.miss(l.String(), i, err)
					}
				}
			}
		}
		if slices.Contains(m.parts, partFloor) {
			if err := m.floors(ctx, n); err != nil {
				return fmt.Errorf("floor: %w", err)
			}
		}
	}
	if slices.Contains(m.parts, partScale) {
		return m.scaling(ctx)
	}
	return nil
}

// chosen are the loads that -only leaves.
func (m *measuring) chosen() (all []loadOf) {
	for _, l := range loads {
		if m.only.MatchString(l.String()) {
			all = append(all, l)
		}
	}
	return all
}

// bench is what all loads have in common.
func (m *measuring) bench(i int, kind work.Kind, size1 string, clients int) (bench.Options, error) {
	b := bench.Defaults()
	sizes, err := size.ParseDist(size1)
	if err != nil {
		return b, err
	}
	b.Operation, b.Mix, b.Sizes, b.Concurrency = kind.String(), work.Only(kind), sizes, clients
	b.Duration, b.Settle, b.Warmup = m.duration, m.settle, m.warmup
	b.Credentials, b.Servers, b.ServersText = m.stores[i].credentials, m.stores[i].finder(), m.stores[i].name
	b.Policy = policyOf(m.stores[i].name)
	b.Objects = 0
	return b, nil
}

// load sends one load to one store. What is small is left until the store goes: deleting it would take longer
// than everything else.
func (m *measuring) load(ctx context.Context, n int, l loadOf, i int) error {
	b, err := m.bench(i, l.kind, l.size, l.clients)
	if err != nil {
		return err
	}
	b.Name = fmt.Sprintf("%s-%s-%d", l.kind, strings.ToLower(l.size), n)
	b.Seed = uint64(n) + 1
	b.Keep = b.Sizes.Largest() < 1<<20
	switch l.kind {
	case work.Get:
		b.Seed, b.Objects, b.Keep = 1, l.objects, true
		if name := m.of(l.String(), i).filled; name != "" {
			b.Name, b.Filled = name, true
		}
	case work.Delete:
		puts := m.of(loadOf{work.Put, l.size, l.clients, 0, ""}.String(), i).rate
		b.Objects, b.Duration, b.Warmup = mostDeletes/10, 0, 0
		if len(puts) > 0 {
			b.Objects = int64(puts[len(puts)-1] * m.duration.Seconds())
		}
		b.Objects = min(max(b.Objects, 2*int64(l.clients)), mostDeletes)
	}
	if l.large() {
		b.Duration, b.Warmup = time.Duration(l.times()*float64(b.Duration)), 0
	}
	r, err := bench.Run(ctx, b)
	if err != nil {
		return err
	}
	if l.kind == work.Get {
		m.of(l.String(), i).filled = b.Name
	}
	return m.note(l.String(), i, r)
}

// miss tells of a round that came to nothing. The others go on: the table says how many there were.
func (m *measuring) miss(line string, i int, err error) {
	f := m.of(line, i)
	f.failed++
	f.example = err.Error()
	m.say("%s: %s: %v", line, m.stores[i].name, err)
}

// note keeps what came of a round.
func (m *measuring) note(line string, i int, r *result.Report) error {
	if r.Interrupted {
		return context.Canceled
	}
	f := m.of(line, i)
	f.add(r)
	last := r.Rounds[len(r.Rounds)-1]
	if s := last.Servers; s != nil && i < len(m.stores) {
		p := &m.stores[i].peak
		p.RSS, p.Anonymous, p.Processes = max(p.RSS, s.RSS), max(p.Anonymous, s.Anonymous), max(p.Processes, s.Processes)
	}
	if m.loads[1] == 0 {
		m.loads[0] = last.Load
	}
	m.loads = [2]float64{min(m.loads[0], last.Load), max(m.loads[1], last.Load)}
	name := "floor"
	if i < len(m.stores) {
		name = m.stores[i].name
	}
	if len(f.cpu) == 0 || len(f.rate) == 0 {
		return fmt.Errorf("nothing was answered: %s", f.example)
	}
	m.say("%s: %s: %s, %s/s, load %.0f", line, name, micros(f.cpu[len(f.cpu)-1]), number(f.rate[len(f.rate)-1]), last.Load)
	return nil
}

// floorLine is a floor of the table of floors.
type floorLine struct {
	kind    work.Kind
	devices int
	rows    bool
}

// floorLines are what is measured: with as few logs as there can be, and with as many as the cluster has devices.
var floorLines = []floorLine{
	{work.Get, floor.Replicas, false},
	{work.Put, floor.Replicas, false}, {work.Put, floor.Replicas, true},
	{work.Put, 8, false}, {work.Put, 8, true},
}

func (l floorLine) String() string {
	if l.kind == work.Get {
		return "floor of a GET: two hops"
	}
	text := fmt.Sprintf("floor of a PUT: %d logs", l.devices)
	if l.rows {
		text += ", and rows"
	}
	return text
}

// floorClients and floorSize are of all floors, and of the loads that they are of.
const (
	floorClients = 32
	floorSize    = "4KiB"
)

// floors measures each, and Martlet's own PUT and GET where the table did not.
func (m *measuring) floors(ctx context.Context, n int) error {
	for _, l := range loads {
		if l.size != floorSize || l.kind == work.Delete || slices.Contains(m.parts, partTable) && slices.Contains(m.chosen(), l) {
			continue
		}
		if err := m.load(ctx, n, l, 0); err != nil {
			return err
		}
	}
	program, err := filepath.Abs(m.martlet)
	if err != nil {
		return err
	}
	for _, l := range floorLines {
		o := floor.Defaults()
		o.Kind, o.Devices, o.Rows, o.Dir = l.kind, l.devices, l.rows, m.dir
		o.Rounds, o.Duration, o.Warmup, o.Concurrency = 1, m.duration, m.warmup, floorClients
		servers, err := floor.Start(ctx, &o, program, "bench", "floor", "serve")
		if err != nil {
			return err
		}
		r, err := floor.Run(ctx, o, servers)
		if err = errors.Join(err, servers.Stop()); err != nil {
			return err
		}
		if err := m.note(l.String(), len(m.stores), r); err != nil {
			return err
		}
	}
	return nil
}

// scaleLine is a line of the curve.
func scaleLine(kind work.Kind, clients int) string {
	return fmt.Sprintf("scaling %v %d", kind, clients)
}

// scaling has more and more clients write to, and read from, Martlet.
func (m *measuring) scaling(ctx context.Context) error {
	for _, kind := range []work.Kind{work.Put, work.Get} {
		for n, clients := range scale {
			b, err := m.bench(0, kind, floorSize, clients)
			if err != nil {
				return err
			}
			b.Name, b.Keep = fmt.Sprintf("scale-%v-%d", kind, clients), true
			if kind == work.Get {
				b.Name, b.Objects, b.Filled = "scale-get", scaleObjects, n > 0
			}
			r, err := bench.Run(ctx, b)
			if err != nil {
				return fmt.Errorf("%v, %d clients: %w", kind, clients, err)
			}
			if err := m.note(scaleLine(kind, clients), 0, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// machine is how busy it was.
func (m *measuring) machine() string {
	return fmt.Sprintf("%s; a load of %.1f to %.1f", procs.Kernel(), m.loads[0], m.loads[1])
}
