package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"martlet/cmd/internal/health"
)

// healthFlags are the flags of status without --durability or --rebalance.
type healthFlags struct {
	limits  health.Limits
	proxies []string
	timeout time.Duration
	atOnce  int
	watch   time.Duration
	all     bool
}

// healthNames are the names of those flags.
var healthNames = []string{
	"proxy", "timeout", "concurrency", "watch", "all", "warn-skew", "crit-skew", "warn-full", "crit-full", "warn-replication", "crit-replication",
	"warn-queue", "warn-queue-age", "crit-queue-age", "warn-quarantined",
}

// watchEvery is how long --watch waits between two looks where it is not said.
const watchEvery = 2 * time.Second

func (f *healthFlags) flags(c *cobra.Command) {
	f.limits = health.DefaultLimits()
	l := &f.limits
	c.Flags().StringArrayVar(&f.proxies, "proxy", nil, "ask a proxy, too, at its admin address: `URL`, such as http://10.0.0.5:6209; may be given again; empty asks none")
	c.Flags().DurationVar(&f.timeout, "timeout", 5*time.Second, "how long each process may take to answer")
	c.Flags().IntVar(&f.atOnce, "concurrency", 64, "how many are asked at one time")
	c.Flags().DurationVar(&f.watch, "watch", 0, "look again and again, so long after each other, until interrupted: `[INTERVAL]`")
	c.Flags().Lookup("watch").NoOptDefVal = watchEvery.String()
	c.Flags().BoolVar(&f.all, "all", false, "leave out nothing for want of room")
	c.Flags().DurationVar(&l.WarnSkew, "warn-skew", l.WarnSkew, "a clock that is so far from the others is a warning")
	c.Flags().DurationVar(&l.CritSkew, "crit-skew", l.CritSkew, "and so far critical")
	c.Flags().Float64Var(&l.WarnFull, "warn-full", l.WarnFull, "a device of which so many percent are used is a warning")
	c.Flags().Float64Var(&l.CritFull, "crit-full", l.CritFull, "and so many critical")
	c.Flags().DurationVar(&l.WarnReplication, "warn-replication", l.WarnReplication, "no pass of replication over a device for so long is a warning")
	c.Flags().DurationVar(&l.CritReplication, "crit-replication", l.CritReplication, "and for so long critical")
	c.Flags().Int64Var(&l.WarnQueue, "warn-queue", l.WarnQueue, "so much in a queue of a node is a warning")
	c.Flags().DurationVar(&l.WarnQueueAge, "warn-queue-age", l.WarnQueueAge, "what has waited in it for so long is a warning")
	c.Flags().DurationVar(&l.CritQueueAge, "crit-queue-age", l.CritQueueAge, "and for so long critical")
	c.Flags().Int64Var(&l.WarnQuarantined, "warn-quarantined", l.WarnQuarantined, "so many damaged things that a device keeps aside are a warning")
}

// complete checks the flags. The interval of --watch may be an argument of its own.
func (f *healthFlags) complete(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		every, err := time.ParseDuration(args[0])
		if !c.Flags().Changed("watch") || f.watch != watchEvery || err != nil {
			return fmt.Errorf("%q: is neither a flag nor an interval for --watch, such as 5s", args[0])
		}
		f.watch = every
	}
	switch {
	case c.Flags().Changed("watch") && f.watch <= 0:
		return fmt.Errorf("--watch %v: must be above 0", f.watch)
	case f.timeout <= 0:
		return fmt.Errorf("--timeout %v: must be above 0", f.timeout)
	case f.atOnce < 1 || f.atOnce > 1024:
		return fmt.Errorf("--concurrency %d: must be from 1 to 1024", f.atOnce)
	}
	for _, p := range f.proxies {
		if p == "" && len(f.proxies) == 1 {
			continue
		}
		if err := health.CheckProxy(p); err != nil {
			return fmt.Errorf("--proxy: %w", err)
		}
	}
	return f.limits.Check()
}

// tellHealth says how the cluster is, once or until ctx ends.
func (f *statusFlags) tellHealth(ctx context.Context, out io.Writer) error {
	h := &f.health
	asker := health.Asker{Client: &http.Client{Transport: &http.Transport{}}, Timeout: h.timeout, AtOnce: h.atOnce}
	defer asker.Client.CloseIdleConnections()
	for first := true; ; first = false {
		own, err := health.Load(f.file) // a ring that is new meanwhile counts
		if err != nil {
			return usage(err)
		}
		proxies := h.proxies
		switch {
		case len(proxies) == 1 && proxies[0] == "":
			proxies = nil
		case len(proxies) == 0 && own.Proxy != "":
			proxies = []string{own.Proxy}
		}
		answers := asker.Ask(ctx, own.Servers, proxies)
		if err := ctx.Err(); err != nil {
			if h.watch > 0 {
				return nil // that is how it ends
			}
			return err
		}
		report := health.Judge(own, answers, h.limits, time.Now())
		if err := f.show(out, report, first); err != nil {
			return err
		}
		if h.watch == 0 {
			return statusOf(report.Level)
		}
		timer := time.NewTimer(h.watch)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return statusOf(report.Level)
		}
	}
}

// statusOf is the exit status of a level, as monitoring has it.
func statusOf(l health.Level) error {
	switch l {
	case health.Warning:
		return statusError(1)
	case health.Critical:
		return statusError(2)
	}
	return nil
}

// Without a terminal lines are no longer than that, unless COLUMNS says so.
const usualWidth = 120

// show prints a report.
func (f *statusFlags) show(out io.Writer, r *health.Report, first bool) error {
	watched := f.health.watch > 0
	if f.json {
		if watched { // one a line
			return json.NewEncoder(out).Encode(r)
		}
		return printJSON(out, r)
	}
	width, height := sizeOf(out)
	s := screen{page: newPage(out), width: width, all: f.health.all}
	if watched && height > 0 {
		s.height = height - 1
	}
	s.print(r)
	text := s.String()
	switch {
	case watched && height > 0:
		text = redrawn(text, first)
	case watched && !first:
		text = "\n" + text
	}
	_, err := io.WriteString(out, text)
	return err
}

// redrawn is text that takes the place of what a terminal showed before, without a moment in which it shows nothing.
func redrawn(text string, first bool) string {
	begin := "\x1b[H"
	if first {
		begin = "\x1b[2J\x1b[H"
	}
	return begin + eachLine(text, "\x1b[K\n") + "\x1b[J"
}

// sizeOf is how many columns and rows there are; no rows where that is no terminal.
func sizeOf(out io.Writer) (width, height int) {
	width = usualWidth
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		width = n
	}
	file, ok := out.(*os.File)
	if !ok {
		return width, 0
	}
	size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col == 0 {
		return width, 0
	}
	return int(size.Col), int(size.Row)
}

// notForHealth refuses what --durability and --rebalance do not take.
func (f *statusFlags) notForHealth(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%q: takes no arguments", args[0])
	}
	for _, name := range healthNames {
		if c.Flags().Changed(name) {
			return fmt.Errorf("--%s is neither for --durability nor for --rebalance", name)
		}
	}
	return nil
}

// errNotForHealth is of flags that are for the other two.
var errNotForHealth = errors.New("--list is for --durability, and --window for --rebalance")
