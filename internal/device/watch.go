package device

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"martlet/internal/errs"
	"martlet/internal/vfs"
)

// Config says which devices a node has, and how they are watched.
type Config struct {
	Root  string   // the folder that the devices' folders are in
	Names []string // plain file names
	Owner Owner    // whose they have to be

	Interval time.Duration // between two checks of a device; 0 is 5 s
	Patience time.Duration // how long a check may take; 0 is 10 s

	// Remedy is said in the log with a device that has no identity: the command
	// that gives it one. The device's name is put behind it.
	Remedy string
	Log    *slog.Logger // nil for none

	FS    vfs.FS                             // how folders look from outside; nil is vfs.OS
	Mount func(folder string) (Mount, error) // opens one; nil is vfs.OpenRoot
}

func (c Config) withDefaults() Config {
	if c.Interval <= 0 {
		c.Interval = 5 * time.Second
	}
	if c.Patience <= 0 {
		c.Patience = 10 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.FS == nil {
		c.FS = vfs.OS
	}
	if c.Mount == nil {
		c.Mount = func(folder string) (Mount, error) { return vfs.OpenRoot(folder) }
	}
	return c
}

// Open opens a node's devices, each locked against every other process. One that
// can't be used is in the set as failed, also where that is true of all of them:
// Watch takes it in use as soon as it can be. One that another process has is an
// error: two processes on a device would each undo what the other wrote.
func Open(cfg Config) (*Set, error) {
	s, err := newSet(cfg.Root, cfg.Names)
	if err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	var all sync.WaitGroup
	for _, d := range s.list {
		d.watching = &cfg
		d.fs.Store(&vfs.Absent)
		d.Fail(errSilent)
		all.Go(func() { d.pass() })
	}
	all.Wait()
	var taken []error
	for _, d := range s.list {
		if err := d.Check(); errors.Is(err, errLocked) {
			taken = append(taken, errs.E(errs.Op("device.open"), errs.Subject(d.path), errs.BadDevice, err))
		}
	}
	if len(taken) > 0 {
		return nil, errors.Join(append(taken, s.Close())...)
	}
	return s, nil
}

// Watch checks every device now and then, and when it is suspected, until ctx
// ends. A disk that hangs holds up nothing but its own checks.
func (s *Set) Watch(ctx context.Context) error {
	var all sync.WaitGroup
	for _, d := range s.list {
		if d.watching != nil {
			all.Go(func() { d.watch(ctx) })
		}
	}
	all.Wait()
	<-ctx.Done()
	return context.Cause(ctx)
}

// Close gives the folders of a set back. Nothing may watch it any more.
func (s *Set) Close() error {
	var all []error
	for _, d := range s.list {
		all = append(all, d.close())
	}
	return errors.Join(all...)
}

// pauses is into how many parts an interval is cut: checks that are asked for are
// one part apart at least.
const pauses = 20

func (d *Device) watch(ctx context.Context) {
	interval := d.watching.Interval
	next := time.NewTimer(interval)
	defer next.Stop()
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		case <-d.suspected:
			select {
			case <-pause.C:
			case <-ctx.Done():
				return
			}
		}
		d.pass()
		next.Reset(interval)
		pause.Reset(interval / pauses)
	}
}

// pass looks at the device once, and takes it in or out of use.
func (d *Device) pass() {
	d.mu.Lock()
	m, disk := d.mount, d.disk
	d.mu.Unlock()
	if m != nil {
		why := d.within(func() attempt { return attempt{err: d.examine(m, disk)} }).err
		if p := d.fault.Load(); why == nil && p != nil {
			why = *p // somebody else has failed it: it has to prove itself
		}
		if why == nil {
			return
		}
		d.detach(why)
		if !errors.Is(why, errMoved) && !errors.Is(why, errEmptying) {
			d.lost(why)
			return
		}
		// What is there now may well be the device, mounted again, or is once it is emptied; else
		// it is that which says what is wrong.
	}
	a := d.within(func() attempt {
		m, disk, err := d.open()
		return attempt{m, disk, err}
	})
	if a.err == nil {
		a.err = d.attach(a.mount, a.disk)
	}
	if a.err != nil {
		d.Fail(a.err)
		d.lost(a.err)
		return
	}
	d.found()
}

// attempt is what came of a look at the disk.
type attempt struct {
	mount Mount  // not nil where it is open
	disk  string // which it is
	err   error
}

// within waits for a look at the disk no longer than is sensible. One that hangs
// in the kernel can't be ended: as long as it does, there is no other.
func (d *Device) within(look func() attempt) attempt {
	if d.stuck != nil {
		select {
		case late := <-d.stuck:
			d.stuck = nil
			if late.mount != nil {
				_ = late.mount.Close() // too late to be believed
			}
		default:
			return attempt{err: errSilent}
		}
	}
	done := make(chan attempt, 1)
	go func() { done <- look() }()
	patience := time.NewTimer(d.watching.Patience)
	defer patience.Stop()
	select {
	case a := <-done:
		return a
	case <-patience.C:
		d.stuck = done
		return attempt{err: errSilent}
	}
}

// lost logs why the device can't be used, once.
func (d *Device) lost(why error) {
	if errors.Is(why, errClosed) || d.said == why.Error() {
		return
	}
	if d.said == "" {
		d.since = time.Now()
		d.outage.Store(&Outage{d.since, d.Outage().Times + 1})
	}
	d.said = why.Error()
	log := d.watching.Log
	if errors.Is(why, ErrNoIdentity) && d.watching.Remedy != "" {
		log = log.With("run", d.watching.Remedy+" "+d.name)
	}
	log.Error("a device can't be used: its requests are answered with 507", "device", d.name, "folder", d.path, "err", why)
}

// found logs that the device is in use again.
func (d *Device) found() {
	if d.said == "" {
		return
	}
	d.said = ""
	d.watching.Log.Info("a device is in use again", "device", d.name, "after", time.Since(d.since).Round(time.Millisecond))
}
