package replicator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"path/filepath"
	"sync"
	"time"

	"martlet/internal/device"
)

// How fast a device takes what others bring is a moving average over the time in which something
// comes. It is kept on the device, in <device>/replication/rate, so that a process which was
// started again knows it: two lines as of a pause (pauseFile). It is written now and then, without
// syncs: what is lost with it is an estimate, and one that is damaged is none.
const (
	rateFile   = "rate"
	rateFormat = 1

	// lately is over about which time the average is: it evens out that passes come and go.
	lately = 2 * time.Minute
	// idle is after how long with nothing brought the device is taken to have no part in a
	// rebalance any more: what it did then says nothing of the next one.
	idle = 10 * time.Minute
	// enough is how much time an average has to be over to be told; or soon, where it is of as many objects as many.
	enough, soon = 3 * time.Second, 500 * time.Millisecond
	many         = 1000
	// keepEvery is how often it is written at most.
	keepEvery = 15 * time.Second
)

// Rate is how fast a device takes what others bring.
type Rate struct {
	Device  string  `json:"device"`
	Known   bool    `json:"known"` // something has come lately; else the others are 0
	Bytes   float64 `json:"bytes_per_second"`
	Objects float64 `json:"objects_per_second"`
}

// perObject is how many bytes an object counts for beside its own. How long objects and bytes take is two
// unknowns, and what a device has taken lately mostly one equation: large objects go first, or
// last, and by objects alone, or bytes alone, the rest looks many times too long, or too short. 4 KiB is
// about what a small object is, so that neither is without weight.
const perObject = 4 << 10

// weigh returns what objects of so many bytes together count for.
func weigh(objects, bytes int64) float64 { return float64(bytes) + perObject*float64(objects) }

// Lasts returns how many seconds so many objects of so many bytes together take at the rate, and whether that is
// known: nothing takes none, and at a rate of nothing nobody knows.
func (r Rate) Lasts(objects, bytes int64) (seconds float64, known bool) {
	left, rate := weigh(objects, bytes), r.Bytes+perObject*r.Objects
	if left == 0 {
		return 0, true
	}
	if rate == 0 {
		return 0, false
	}
	return left / rate, true
}

// average is sums that fade with time, and the time that they are over, which fades with them.
// The zero average has seen nothing.
type average struct {
	Format  int       `json:"format"`
	Seen    time.Time `json:"seen"`  // when something came last
	At      time.Time `json:"at"`    // as of when the others are
	Bytes   float64   `json:"bytes"` // what came
	Objects float64   `json:"objects"`
	Seconds float64   `json:"seconds"` // over which
}

// fade brings the average to a time.
func (a *average) fade(now time.Time) {
	if a.Seen.IsZero() || now.Sub(a.Seen) > idle || now.Before(a.At.Add(-idle)) {
		*a = average{At: now}
		return
	}
	passed := now.Sub(a.At).Seconds()
	if passed <= 0 {
		return
	}
	left := math.Exp(-passed / lately.Seconds())
	a.Bytes, a.Objects = a.Bytes*left, a.Objects*left
	a.Seconds = a.Seconds*left + lately.Seconds()*(1-left)
	a.At = now
}

// add takes in what came. The first of it begins the time, and is not itself over any.
func (a *average) add(now time.Time, objects, bytes int64) {
	a.fade(now)
	if a.Seen.IsZero() {
		*a = average{Seen: now, At: now}
		return
	}
	a.Seen = now
	a.Bytes += float64(bytes)
	a.Objects += float64(objects)
}

// rate is the average as of a time.
func (a average) rate(now time.Time) (bytes, objects float64, known bool) {
	a.fade(now)
	if a.Seconds < enough.Seconds() && (a.Seconds < soon.Seconds() || a.Objects < many) {
		return 0, 0, false
	}
	return a.Bytes / a.Seconds, a.Objects / a.Seconds, true
}

// encode writes the average down; parseAverage reads it.
func (a average) encode() ([]byte, error) {
	a.Format = rateFormat
	line, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	line = append(line, '\n')
	return fmt.Appendf(line, "crc32c %08x\n", crc32.Checksum(line, castagnoli)), nil
}

var errRateDamaged = errors.New("it is damaged")

// parseAverage reads what encode has written. The time that has passed until now is none that the
// average is over: nobody was there.
func parseAverage(b []byte, now time.Time) (a average, err error) {
	end := bytes.IndexByte(b, '\n') + 1
	if string(b[end:]) != fmt.Sprintf("crc32c %08x\n", crc32.Checksum(b[:end], castagnoli)) || json.Unmarshal(b[:end], &a) != nil ||
		a.Format != rateFormat || a.Bytes < 0 || a.Objects < 0 || a.Seconds < 0 || a.Seconds > lately.Seconds() {
		return average{}, errRateDamaged
	}
	if a.Seen.After(now) || now.Sub(a.Seen) > idle {
		return average{}, nil
	}
	return average{Seen: a.Seen, At: now, Bytes: a.Bytes, Objects: a.Objects, Seconds: a.Seconds}, nil
}

// ToSend is what peers lack of what a device holds of a kind of data, as far as its last pass knows: what it found
// when it asked them, less what it has pushed since. Devices that hold the same of a partition
// each count what a third lacks. Bytes are estimated by the mean size of the partition's objects.
type ToSend struct {
	Partitions int64 `json:"partitions"` // of which a peer lacks something, each once
	Objects    int64 `json:"objects"`
	Bytes      int64 `json:"bytes"`
	Unknown    int64 `json:"unknown_partitions"` // of which a peer has not said what it has
}

// add adds what is to be sent of another kind.
func (s *ToSend) add(t ToSend) {
	s.Partitions += t.Partitions
	s.Objects += t.Objects
	s.Bytes += t.Bytes
	s.Unknown += t.Unknown
}

// ToGet is what a device lacks of the fragments that belong on it, as far as its last pass knows: what is got by now
// is none of it. Until the pass has gone into a partition it is what others have more of there, of the mean size of those
// that it has gone into.
type ToGet struct {
	Objects    int64    `json:"objects"`
	Bytes      int64    `json:"bytes"`
	ETASeconds *float64 `json:"eta_seconds"` // at the rate of late; null where nobody knows
}

// Progress is what a device has taken, and has to send and to get. It is safe for concurrent use; nil
// counts nothing.
type Progress struct {
	mu             sync.Mutex
	average        average // guarded by mu, as are all
	trail          trail
	kept           time.Time
	objects, bytes int64             // taken since the process began
	arrived        int64             // bytes of bodies that peers have sent to be taken
	needless       int64             // bytes of data that peers have sent which was there
	send           map[string]ToSend // by kind of data; nil before anything was found
	lacks          ToGet             // but for the time
}

// Took counts an object that a peer has brought, and that is on stable storage.
func (p *Progress) Took(bytes int64) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.average.add(now, 1, bytes)
	p.trail.add(now, weigh(1, bytes))
	p.objects++
	p.bytes += bytes
}

// Arrived counts the body of a push, whether or not all of it was taken.
func (p *Progress) Arrived(bytes int64) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.arrived += bytes
}

// Needless counts the data of a push that brought nothing, since it was there already.
func (p *Progress) Needless(bytes int64) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.needless += bytes
}

// Found says what a pass over a kind of data has found to be sent: it takes the place of what was found before.
func (p *Progress) Found(kind string, s ToSend) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.send == nil {
		p.send = map[string]ToSend{}
	}
	p.send[kind] = s
}

// Sent counts an object of a kind that a peer has taken.
func (p *Progress) Sent(kind string, bytes int64) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if s, ok := p.send[kind]; ok {
		s.Objects, s.Bytes = max(0, s.Objects-1), max(0, s.Bytes-bytes)
		p.send[kind] = s
	}
}

// Whole says that a pass over a kind of data has ended in which everything was confirmed: nothing is to be sent.
func (p *Progress) Whole(kind string) { p.Found(kind, ToSend{}) }

// Lacks says how many fragments a pass has still to get, and of how many bytes. It takes the place of what was said before.
func (p *Progress) Lacks(objects, bytes int64) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lacks = ToGet{Objects: objects, Bytes: bytes}
}

// ToGet returns what is still to be got, and how long that takes.
func (p *Progress) ToGet() ToGet {
	if p == nil {
		return ToGet{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	get := p.lacks
	rate, now := Rate{}, time.Now()
	rate.Bytes, rate.Objects, _ = p.average.rate(now)
	if seconds, known := rate.Lasts(get.Objects, get.Bytes); known {
		seconds = p.trail.lasts(now, weigh(get.Objects, get.Bytes), seconds)
		get.ETASeconds = &seconds
	}
	return get
}

// now returns the numbers of what is to be sent, of all kinds together, and of what was taken.
func (p *Progress) now() (send ToSend, objects, bytes, arrived, needless int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.send {
		send.add(s)
	}
	return send, p.objects, p.bytes, p.arrived, p.needless
}

// rate returns how fast the device takes what others bring.
func (p *Progress) rate(device string) Rate {
	p.mu.Lock()
	defer p.mu.Unlock()
	bytes, objects, known := p.average.rate(time.Now())
	return Rate{device, known, bytes, objects}
}

// Progress returns what counts the device's part; nil for nil.
func (d *DevicePace) Progress() *Progress {
	if d == nil {
		return nil
	}
	return &d.progress
}

// recall reads the average that an earlier process has kept on the device.
func (d *DevicePace) recall(dev *device.Device) {
	f, err := dev.FS().Open(filepath.Join(dev.Path(), pauseFolder, rateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var a average
	if err == nil {
		b := make([]byte, maxPause)
		var n int
		if n, err = f.ReadAt(b, 0); errors.Is(err, io.EOF) {
			err = nil
		}
		if err = errors.Join(err, f.Close()); err == nil {
			a, err = parseAverage(b[:n], time.Now())
		}
	}
	if err != nil {
		d.log.Warn("how fast the device has taken what others brought is not known", slog.String("device", dev.Name()), slog.Any("err", err))
		return
	}
	d.progress.mu.Lock()
	defer d.progress.mu.Unlock()
	d.progress.average = a
}

// keep writes the average to the device, if there is one, it has changed, and that was not done
// just now.
func (d *DevicePace) keep(dev *device.Device) {
	d.progress.mu.Lock()
	a, now := d.progress.average, time.Now()
	due := a.Seconds > 0 && a.Seen.After(d.progress.kept) && now.Sub(d.progress.kept) > keepEvery
	if due {
		d.progress.kept = now
	}
	d.progress.mu.Unlock()
	if !due {
		return
	}
	if err := d.write(dev, a); err != nil {
		d.log.Warn("how fast the device takes what others bring was not kept", slog.String("device", dev.Name()), slog.Any("err", err))
	}
}

// write puts an average in the place of the one that is there. Nothing is durable when it
// returns: after a crash there is one of the two, or none.
func (d *DevicePace) write(dev *device.Device, a average) error {
	text, err := a.encode()
	if err != nil {
		return err
	}
	d.file.Lock()
	defer d.file.Unlock()
	disk, dir := dev.FS(), filepath.Join(dev.Path(), pauseFolder)
	if err := disk.Mkdir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := disk.CreateUnnamed(dir)
	if err != nil {
		return err
	}
	next := filepath.Join(dir, rateFile+".new")
	if err := disk.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, f.Close())
	}
	if _, err = f.WriteAt(text, 0); err == nil {
		err = disk.Link(f, next)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return disk.Rename(next, filepath.Join(dir, rateFile))
}

// Rates returns how fast each device takes what others bring, by name.
func (r *Replicator) Rates() []Rate {
	all := []Rate{}
	for _, d := range r.Paces.all() {
		all = append(all, d.progress.rate(d.device))
	}
	return all
}
