package engine

import (
	"errors"
	"sync"

	"martlet/internal/errs"
	"martlet/internal/seglog"
	"martlet/object/engine/blob"
	"martlet/object/engine/record"
)

// Beside is a write that takes place with another one, under another name of the same
// device: of an object without data, or of a tombstone.
type Beside struct {
	At        Location
	Version   Version // MD5 is that of nothing; of a tombstone only Time and Name count
	Tombstone bool
	Check     func(State) error // as in Terms
	Yields    bool              // the data is written alone where what is there is not older
}

// CommitBeside is Commit, and another write with it. Both names are locked from when the
// checks are asked to when both are written: neither is written unless both are newer
// than what they replace, or the one beside the data yields. Outcomes are those of the data
// and of the write beside it; where that has yielded, the time of its After is zero. Each of them may be there already,
// brought by another replica.
//
// When it returns nil both are as durable as Commit says of one. With an error, but one
// of kind errs.BadDevice, neither is there, or the data as it was already. A crash before it returns leaves neither, or
// both, or the data alone: the log has that first, and the two are synced together.
func (w *Writer) CommitBeside(v Version, terms Terms, b Beside) (data, beside Outcome, err error) {
	const op errs.Op = "engine.commit"
	h, err := w.seal(v)
	if err != nil {
		return data, beside, w.disk.wrap(op, w.at, err)
	}
	other := b.Version.header(b.At)
	kind := record.Data
	if b.Tombstone {
		kind, other = record.Tombstone, blob.Header{Kind: blob.Tombstone, Hash: b.At.Hash, Time: b.Version.Time, Name: b.Version.Name}
	}
	d := w.disk
	defer d.lockBoth(w.at, b.At)()
	first, err := d.begin(op, w.at, terms)
	if err != nil {
		return first.o, beside, d.wrap(op, w.at, err)
	}
	second, err := d.begin(op, b.At, Terms{Check: b.Check})
	if err != nil {
		return first.o, second.o, d.wrap(op, w.at, err)
	}
	yields := second.has(&other) || b.Yields && !second.o.Before.Time.Before(other.Time)
	err = first.replace(&h, terms, func() error {
		if yields {
			return w.put(&h, &first.head, func(body []byte) error { return first.put(&first.head, body, b.Tombstone) })
		}
		return second.replace(&other, Terms{}, func() error {
			return w.put(&h, &first.head, func(body []byte) error {
				second.head = record.Head{Kind: kind, Object: other}
				return putBoth(&first, body, &second, b.Tombstone)
			})
		})
	})
	if errors.Is(err, errAlready) { // the data; what goes beside it may still be to be written
		if err = first.unless(err); !yields {
			err = second.replace(&other, Terms{}, func() error {
				second.head = record.Head{Kind: kind, Object: other}
				return second.put(&second.head, nil, b.Tombstone)
			})
		}
	}
	if err == nil && second.has(&other) && second.o.After.Time.IsZero() {
		err = second.unless(errAlready)
	}
	return first.o, second.o, d.wrap(op, w.at, err)
}

// lockBoth locks two names, in the order in which others lock many.
func (d *disk) lockBoth(a, b Location) (unlock func()) {
	x, y := shard(a.Hash), shard(b.Hash)
	if x > y {
		x, y = y, x
	}
	held := [2]*sync.Mutex{&d.locks[x], &d.locks[y]}
	held[0].Lock()
	if x == y {
		return held[0].Unlock
	}
	held[1].Lock()
	return func() {
		held[1].Unlock()
		held[0].Unlock()
	}
}

// putBoth makes the records of two changes durable, as put does one: their heads, and the body of the first.
func putBoth(a *change, body []byte, b *change, urgent bool) error {
	after, afterBeside := a.settle(&a.head), b.settle(&b.head)
	room, roomBeside := newHead(), newHead()
	defer room.done()
	defer roomBeside.done()
	first, err := a.item(a.at, &a.old, &a.head, body, urgent, room)
	if err != nil {
		return err
	}
	second, err := b.item(b.at, &b.old, &b.head, nil, urgent, roomBeside)
	if err != nil {
		return err
	}
	second.Joined = true
	if err := a.log.AppendAll([]seglog.Item{first, second}); err != nil {
		return err
	}
	a.due()
	a.o.After, b.o.After = after, afterBeside
	return nil
}
