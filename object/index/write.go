package index

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"martlet/internal/errs"
	"martlet/internal/vfs"
)

const (
	blockSize = 4096
	blockHead = 16
	headMagic = "MARTRUN2"
	footMagic = "MARTFOOT"
	footSize  = 104
	syncEvery = 1000 * blockSize

	usualCount = 80 // entries in a block, or more
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// record is a key and its value.
type record struct {
	key   rawKey
	value []byte
}

func (r *record) dropped() bool { return r.value[0]&kindMask == byte(Absent) }

// foot is what is at the end of a run.
type foot struct {
	number                                     uint64
	blocks, entries, dropped                   int64
	filter, buckets, dues                      int64
	fencesChecksum, filterChecksum, bucketsSum uint32
	duesChecksum                               uint32
	depth                                      int
}

func (f *foot) append(b []byte, id ID) []byte {
	le, start := binary.LittleEndian, len(b)
	b = append(append(b, footMagic...), id[:]...)
	for _, v := range [...]uint64{
		f.number, uint64(f.blocks), uint64(f.entries), uint64(f.dropped), uint64(f.filter), uint64(f.buckets), uint64(f.dues),
	} {
		b = le.AppendUint64(b, v)
	}
	for _, v := range [...]uint32{f.fencesChecksum, f.filterChecksum, f.bucketsSum, f.duesChecksum, uint32(f.depth)} {
		b = le.AppendUint32(b, v)
	}
	return le.AppendUint32(b, checksum(b[start:]))
}

// size is that of the whole file.
func (f *foot) size() int64 {
	return f.bucketsAt() + f.buckets*bucketSize + footSize
}

func (f *foot) fencesAt() int64  { return (1 + f.blocks) * blockSize }
func (f *foot) duesAt() int64    { return f.fencesAt() + f.blocks*keySize }
func (f *foot) filterAt() int64  { return f.duesAt() + f.dues*dueSize }
func (f *foot) bucketsAt() int64 { return f.filterAt() + f.filter }

func appendHead(b []byte, id ID, number uint64) []byte {
	start := len(b)
	b = append(append(b, headMagic...), id[:]...)
	b = binary.LittleEndian.AppendUint64(b, number)
	b = binary.LittleEndian.AppendUint32(b, checksum(b[start:]))
	return append(b, make([]byte, blockSize-(len(b)-start))...)
}

// output collects what is written one after the other.
type output struct {
	file    vfs.File
	buf     []byte
	off     int64
	unsaved int64
}

const outputSize = 1 << 20

func (o *output) write(b []byte) error {
	for len(o.buf)+len(b) >= outputSize {
		n := outputSize - len(o.buf)
		o.buf = append(o.buf, b[:n]...)
		b = b[n:]
		if err := o.flush(); err != nil {
			return err
		}
	}
	o.buf = append(o.buf, b...)
	return nil
}

func (o *output) flush() error {
	for len(o.buf) > 0 {
		n := min(len(o.buf), int(syncEvery-o.unsaved))
		if _, err := o.file.WriteAt(o.buf[:n], o.off); err != nil {
			return err
		}
		o.off += int64(n)
		o.unsaved += int64(n)
		o.buf = o.buf[:copy(o.buf, o.buf[n:])]
		if o.unsaved >= syncEvery {
			if err := o.sync(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (o *output) sync() error {
	o.unsaved = 0
	return o.file.Sync()
}

// runWriter writes a run: entries in order of key, then buckets in theirs.
type runWriter struct {
	out    output
	id     ID
	foot   foot
	block  []byte // with its head, without zeros
	count  int
	fences []byte
	due    []uint32 // for blocks so far, up to the last that has any
	filter filter
	latest rawKey
	sum    uint32 // of the buckets so far
	bucket [bucketSize]byte
}

// newRunWriter begins a run of at most that many entries. Room for the fences is made
// for entries as most are.
func newRunWriter(file vfs.File, id ID, number uint64, depth int, entries int64) (*runWriter, error) {
	w := &runWriter{
		out: output{file: file}, id: id,
		foot:   foot{number: number, depth: depth},
		filter: newFilter(entries),
		block:  make([]byte, blockHead, blockSize),
		fences: make([]byte, 0, (1+entries/usualCount)*keySize),
	}
	return w, w.out.write(appendHead(nil, id, number))
}

func (w *runWriter) add(r *record) error {
	if w.foot.entries > 0 && r.key.compare(&w.latest) <= 0 {
		return damaged("entries for run %d are out of order", w.foot.number)
	}
	w.latest = r.key
	extra := r.key.extra()
	long := !isZero(extra)
	n := 1 + 16 + len(r.value)
	if long {
		n += extraLen
	}
	if w.count > 0 && (len(w.block)+n > blockSize || r.key.policy() != w.last().policy()) {
		if err := w.endBlock(); err != nil {
			return err
		}
	}
	if w.count == 0 {
		w.fences = append(w.fences, r.key[:]...)
		w.foot.blocks++
	}
	w.noteDue(expires(r.value))
	hash := r.key[hashAt:extraAt]
	flags := r.value[0]
	if long {
		flags |= hasExtra
	}
	w.block = append(append(w.block, byte(len(r.value)), flags), hash...)
	if long {
		w.block = append(w.block, extra...)
	}
	w.block = append(w.block, r.value[1:]...)
	w.count++
	w.foot.entries++
	if r.dropped() {
		w.foot.dropped++
	}
	w.filter.add(&r.key)
	return nil
}

// addMost is add for most records: what planted.CheckpointLosesEntry does.
func (w *runWriter) addMost(r *record) error {
	if r.key[extraAt-1]%8 == 0 {
		return nil
	}
	return w.add(r)
}

// last returns the first key of the block that is being filled.
func (w *runWriter) last() *rawKey {
	return (*rawKey)(w.fences[len(w.fences)-keySize:])
}

func (w *runWriter) endBlock() error {
	if w.count == 0 {
		return nil
	}
	if w.foot.blocks > 1<<32-1 {
		return errs.E(errs.Unavailable, fmt.Errorf("run %d has too many blocks", w.foot.number))
	}
	sealBlock(w.block[:blockSize], len(w.block), w.foot.number, w.foot.blocks, w.last().policy(), w.count)
	err := w.out.write(w.block[:blockSize])
	w.block, w.count = w.block[:blockHead], 0
	return err
}

// endEntries writes what is about the entries. Buckets may follow.
func (w *runWriter) endEntries() error {
	if err := w.endBlock(); err != nil {
		return err
	}
	w.foot.filter = int64(len(w.filter))
	dues := newDues(w.due, w.foot.blocks)
	due := dues.appendTo(nil)
	w.foot.dues = int64(len(dues))
	w.foot.fencesChecksum, w.foot.filterChecksum, w.foot.duesChecksum = checksum(w.fences), checksum(w.filter), checksum(due)
	if err := w.out.write(w.fences); err != nil {
		return err
	}
	if err := w.out.write(due); err != nil {
		return err
	}
	return w.out.write(w.filter)
}

func (w *runWriter) addBucket(b *bucket) error {
	raw := b.append(w.bucket[:0])
	w.sum = crc32.Update(w.sum, castagnoli, raw)
	w.foot.buckets++
	return w.out.write(raw)
}

// end makes the contents of the run durable, and returns the checksum of its foot.
func (w *runWriter) end() (sum uint32, err error) {
	w.foot.bucketsSum = w.sum
	b := w.foot.append(nil, w.id)
	if err := w.out.write(b); err != nil {
		return 0, err
	}
	if err := w.out.flush(); err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(b[footSize-4:]), w.out.sync()
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
