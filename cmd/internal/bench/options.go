// Package bench is martlet bench: it makes containers and objects on a Swift endpoint,
// sends requests to it, measures them, and cleans up.
//
// The parts are packages: size how large objects are, body what is in them, work what is
// done next, load sending and measuring, swift the client, procs what the servers'
// processes use, result the figures, report the page. This one puts them together, and
// makes the rounds.
//
// All that it makes is in containers whose names begin with Prefix, and it deletes
// nothing else.
package bench

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"martlet/cmd/internal/bench/procs"
	"martlet/cmd/internal/bench/size"
	"martlet/cmd/internal/bench/swift"
	"martlet/cmd/internal/bench/work"
)

// Prefix is what the names of all containers begin with.
const Prefix = "martlet-bench-"

// Bounds of options.
const (
	maxConcurrency = 100_000
	maxContainers  = 10_000
	maxObjects     = 100_000_000
	maxRounds      = 1_000
	maxName        = 64
	maxBucketName  = 40 // with what stands around it, and S3 has 63
	maxLimit       = 10_000
)

// grace is how long what is under way at the end of a round is waited for.
const grace = 10 * time.Second

// Mixed is the operation that is several.
const Mixed = "mixed"

// Options are what to do. Defaults has what they are without anybody's saying.
type Options struct {
	Operation string // a kind, or Mixed
	Mix       work.Mix
	Sizes     size.Dist

	Concurrency int
	Objects     int64 // that are there before a round; of PUTs alone how many names they go round, each a new one where it is 0
	Containers  int
	Policy      string // of the containers; the default one where it is ""

	// A round ends at the first of these; 0 is no limit. Deletes also end when nothing is left.
	Duration   time.Duration
	Operations int64

	Rate   float64 // operations a second; closed loop where it is 0
	Rounds int
	Warmup time.Duration // before the first round, in no figure
	Settle time.Duration // before each round nothing is sent for so long: what was put before has its work in the background done

	Verify bool
	Limit  int    // names on a page of a listing
	Seed   uint64 // names, sizes, bytes, and what is chosen follow from it
	Name   string // of the run: letters, digits, ".", "_" and "-"

	Keep   bool // leave what was made
	Filled bool // the objects are there, of a run with the same name, seed, sizes, objects and containers

	Timeout     time.Duration // the longest silence
	Credentials swift.Credentials
	Endpoints   []string

	Servers     procs.Finder // whose processes are measured; nil for nobody's
	ServersText string       // what was asked for, for the report

	Version string
	Say     func(line string) // what is worth a line; may be nil
	Doing   func(text string) // what is being done; may be nil
}

// Defaults returns options that need credentials, an operation and a name.
func Defaults() Options {
	sizes, err := size.ParseDist("4KiB")
	if err != nil {
		panic(err) // it is a constant
	}
	return Options{
		Sizes: sizes, Concurrency: 32, Objects: 10_000, Containers: 1, Duration: 30 * time.Second,
		Rounds: 1, Warmup: 2 * time.Second, Limit: 1_000, Timeout: 30 * time.Second,
	}
}

// Check says all that makes no sense, a line each.
func (o *Options) Check() error {
	var all []error
	wrong := func(bad bool, format string, args ...any) {
		if bad {
			all = append(all, fmt.Errorf(format, args...))
		}
	}
	wrong(o.Concurrency < 1 || o.Concurrency > maxConcurrency, "--concurrency %d: want 1 to %d", o.Concurrency, maxConcurrency)
	wrong(o.Containers < 1 || o.Containers > maxContainers, "--containers %d: want 1 to %d", o.Containers, maxContainers)
	wrong(o.Rounds < 1 || o.Rounds > maxRounds, "--rounds %d: want 1 to %d", o.Rounds, maxRounds)
	wrong(o.Limit < 1 || o.Limit > maxLimit, "--limit %d: want 1 to %d", o.Limit, maxLimit)
	wrong(o.Duration < 0 || o.Warmup < 0 || o.Settle < 0 || o.Operations < 0, "--duration, --ops, --warmup and --settle must not be negative")
	wrong(o.Timeout <= 0, "--timeout %v: must be above 0", o.Timeout)
	wrong(!(o.Rate >= 0 && o.Rate <= 1e7), "--rate %v: want 0 to 10,000,000", o.Rate)
	wrong(o.Policy != "" && !ValidName(o.Policy), "--policy %q: is no name of a policy", o.Policy)
	wrong(!ValidName(o.Name), "--name %q: want 1 to %d letters, digits, \".\", \"_\" or \"-\"", o.Name, maxName)
	if o.Credentials.S3 != nil {
		wrong(strings.ContainsAny(o.Name, "_ABCDEFGHIJKLMNOPQRSTUVWXYZ") || len(o.Name) > maxBucketName, "--name %q: the names of S3's buckets have small letters, no \"_\", and here at most %d characters", o.Name, maxBucketName)
		wrong(o.Policy != "", "--policy is none of S3")
	}
	all = append(all, o.checkWork()...)
	if err := o.Credentials.Check(); err != nil {
		all = append(all, err)
	}
	if err := (swift.Options{Endpoints: o.Endpoints}).Check(); err != nil {
		all = append(all, fmt.Errorf("--endpoint %w", err))
	}
	return errors.Join(all...)
}

func (o *Options) checkWork() (all []error) {
	deletes, puts := o.Mix[work.Delete] > 0, o.Mix[work.Put] > 0
	onlyPuts := o.Mix.Share(work.Put) == 1
	switch {
	case o.Objects < 0 || o.Objects > maxObjects:
		all = append(all, fmt.Errorf("--objects %d: want 0 to %d", o.Objects, maxObjects))
	case o.Objects == 0 && !onlyPuts:
		all = append(all, errors.New("--objects 0: there would be nothing to read"))
	case (deletes || onlyPuts && o.Objects > 0) && o.Objects < int64(o.Concurrency):
		all = append(all, fmt.Errorf("--objects %d: want at least one for each of --concurrency %d", o.Objects, o.Concurrency))
	}
	if o.Duration == 0 && o.Operations == 0 && (!deletes || puts) {
		all = append(all, errors.New("either --duration or --ops has to end it"))
	}
	if o.Warmup > 0 && o.Mix.Share(work.Delete) == 1 {
		all = append(all, errors.New("--warmup is not for delete: the objects are put just before, which warms up as well"))
	}
	if o.Filled && (onlyPuts || deletes) {
		all = append(all, errors.New("--filled is for what reads alone"))
	}
	return all
}

// ValidName reports whether a text is fit for the name of a run.
func ValidName(text string) bool {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-'
	}
	return text != "" && len(text) <= maxName && strings.IndexFunc(text, func(r rune) bool { return !plain(r) }) < 0
}

// plan is the work of a round, on objects from a number on.
func (o *Options) plan(first int64) work.Plan {
	p := work.Plan{Mix: o.Mix, Workers: o.Concurrency, Seed: o.Seed, Objects: o.Objects, First: first}
	if o.Mix.Share(work.Put) == 1 {
		p.Names, p.Objects = o.Objects, 0
	}
	return p
}

// fills reports whether objects have to be there before a round.
func (o *Options) fills() bool { return o.Mix.Share(work.Put) < 1 && !o.Filled }

func (o *Options) say(format string, args ...any) {
	if o.Say != nil {
		o.Say(fmt.Sprintf(format, args...))
	}
}

func (o *Options) doing(format string, args ...any) {
	if o.Doing != nil {
		o.Doing(fmt.Sprintf(format, args...))
	}
}

func (o *Options) operation() string { return cmp.Or(o.Operation, Mixed) }
