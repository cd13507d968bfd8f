// Command compare measures Martlet beside what else there is, on one machine, by one
// generator, in one run: it starts each store on loopback addresses and a folder of its
// own, sends every load to one after the other, round by round, and prints tables of
// medians. Beside them stand the floors (cmd/internal/bench/floor), and how Martlet does with 1 to 256 clients.
//
// It downloads nothing: whoever wants a store beside Martlet has its program. It ends what
// it starts, and takes its folder away.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are what to do.
type options struct {
	martlet, python, memcached string
	minio, seaweedfs           string
	stores, parts              []string
	dir                        string
	rounds                     int
	duration, settle, warmup   time.Duration
	limit                      time.Duration // of all rounds
	only                       *regexp.Regexp
	out, progress              io.Writer
}

// The parts of a run.
const (
	partTable = "table"
	partFloor = "floor"
	partScale = "scale"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	o, err := parse(os.Args[1:], os.Stderr)
	if err == nil {
		o.out, o.progress = os.Stdout, os.Stderr
		err = run(ctx, o)
	}
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

// Rounds and how long each takes. What is longest is that a store is asked for nine loads a round.
const (
	rounds, shortRounds = 5, 3
	shortDuration       = 1500 * time.Millisecond
	limit, shortLimit   = 13 * time.Minute, 4*time.Minute + 30*time.Second
	// allDuration is shared by the stores, so that a run takes as long whatever their number.
	allDuration = 6 * time.Second
)

func parse(args []string, errs io.Writer) (*options, error) {
	o := new(options)
	f := flag.NewFlagSet("compare", flag.ContinueOnError)
	f.SetOutput(errs)
	f.StringVar(&o.martlet, "martlet", "bin/martlet", "the `program` of Martlet")
	f.StringVar(&o.python, "python", "/usr/bin/python3", "the `interpreter` that finds Swift (Debian: python3-swift)")
	f.StringVar(&o.memcached, "memcached", "memcached", "the `program` that Swift's proxy keeps tokens in (Debian: memcached)")
	f.StringVar(&o.minio, "minio", "minio", "the `program` of MinIO")
	f.StringVar(&o.seaweedfs, "seaweedfs", "weed", "the `program` of SeaweedFS")
	stores := f.String("stores", "martlet,swift", "what is compared, with the first: `NAMES` of "+strings.Join(storeNames(), ", "))
	parts := f.String("parts", "table,floor,scale", "what is measured: table, of all stores; floor and scale, of the first, which is Martlet")
	f.StringVar(&o.dir, "dir", os.TempDir(), "the `folder` on the disk that is measured; 20 GB of it are used meanwhile")
	f.IntVar(&o.rounds, "rounds", 0, "how often everything is measured (5; 3 with -short)")
	f.DurationVar(&o.duration, "duration", 0, "how long each load is sent in a round (6s shared by the stores; 1.5s with -short)")
	f.DurationVar(&o.limit, "limit", 0, "no round is begun that would take all of them past that (13m; 4m30s with -short)")
	f.DurationVar(&o.settle, "settle", time.Second, "how long nothing is sent before that")
	f.DurationVar(&o.warmup, "warmup", 500*time.Millisecond, "how long requests are sent before that, in no figure")
	only := f.String("only", "", "of the table the loads alone that this `expression` matches, such as '4 KiB'")
	short := f.Bool("short", false, "three short rounds, and no scaling: figures that say less")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	o.stores, o.parts = strings.Split(*stores, ","), strings.Split(*parts, ",")
	if *short {
		o.parts = slices.DeleteFunc(o.parts, func(p string) bool { return p == partScale })
	}
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		return nil, fmt.Errorf("-only: %w", err)
	}
	o.defaults(*short)
	return o, o.check(f.Args())
}

// defaults sets what was not given.
func (o *options) defaults(short bool) {
	if o.rounds == 0 {
		if o.rounds = rounds; short {
			o.rounds = shortRounds
		}
	}
	if o.limit == 0 {
		if o.limit = limit; short {
			o.limit = shortLimit
		}
	}
	if o.duration == 0 {
		if o.duration = share(o.stores); short {
			o.duration = shortDuration
		}
	}
}

// share is allDuration for each store, so that all loads of a round take as long whatever stores there are.
func share(stores []string) time.Duration {
	var all, sent float64
	for _, l := range loads {
		all += l.times()
		for _, s := range stores {
			if takes(s, l) {
				sent += l.times()
			}
		}
	}
	return min(allDuration, time.Duration(allDuration.Seconds()*all/max(sent, 1)*float64(time.Second)).Round(time.Millisecond))
}

func (o *options) check(rest []string) error {
	var all []error
	if len(rest) > 0 {
		all = append(all, fmt.Errorf("%q: it takes flags alone", rest[0]))
	}
	for _, s := range o.stores {
		if !slices.Contains(storeNames(), s) {
			all = append(all, fmt.Errorf("-stores: %q is none of %s", s, strings.Join(storeNames(), ", ")))
		}
	}
	for _, p := range o.parts {
		switch {
		case p != partTable && p != partFloor && p != partScale:
			all = append(all, fmt.Errorf("-parts: %q is none of table, floor, scale", p))
		case p != partTable && (!strings.HasPrefix(o.stores[0], "martlet") || policies[o.stores[0]] != ""):
			all = append(all, fmt.Errorf("-parts: %s is of the first store, and that is martlet or martlet-processes", p))
		}
	}
	if o.rounds < 1 || o.duration <= 0 || o.settle < 0 || o.warmup < 0 {
		all = append(all, errors.New("-rounds and -duration must be above 0, -settle and -warmup not below"))
	}
	return errors.Join(all...)
}

// run measures.
func run(ctx context.Context, o *options) (err error) {
	dir, err := os.MkdirTemp(o.dir, "martlet-compare-")
	if err != nil {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	var stores []*store
	defer func() {
		for _, s := range stores {
			err = errors.Join(err, s.stop())
		}
	}()
	for i, name := range o.stores {
		s, err := start(ctx, o, name, filepath.Join(dir, fmt.Sprint(i)))
		if s != nil {
			stores = append(stores, s)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	m := &measuring{options: o, dir: dir, stores: stores, figures: map[string][]*figures{}, began: time.Now()}
	if err := m.all(ctx); err != nil {
		return err
	}
	_, err = io.WriteString(o.out, m.tables())
	return err
}
