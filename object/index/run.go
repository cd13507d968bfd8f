package index

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"sort"
	"sync"
	"sync/atomic"
	"syscall"

	"martlet/internal/errs"
	"martlet/internal/vfs"
)

// ID tells indexes and logs apart.
type ID [16]byte

// known is what a manifest says of a run.
type known struct {
	number  uint64
	size    int64
	entries int64
	sum     uint32 // checksum of the foot
}

// run is one that is open. It is closed when nobody uses it any more.
type run struct {
	known
	foot    foot
	dir     *folder
	file    vfs.File
	fences  []byte
	dues    dues // nil where nothing in it expires
	filter  filter
	refs    atomic.Int64
	useless atomic.Bool // the file is to be removed when it is closed
}

// openRun opens a run that a manifest names.
func openRun(dir *folder, id ID, k known, depth int) (r *run, err error) {
	file, err := dir.fs.Open(dir.run(k.number))
	if err != nil {
		if isNotExist(err) {
			err = damaged("run %d is not there", k.number)
		}
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	r = &run{known: k, dir: dir, file: file}
	r.refs.Store(1)
	size, err := file.Size()
	if err != nil {
		return nil, err
	}
	if size != k.size || size < blockSize+footSize {
		return nil, damaged("run %d has %d bytes, not %d", k.number, size, k.size)
	}
	if err := r.readFoot(id, depth); err != nil {
		return nil, err
	}
	head := make([]byte, blockSize)
	if err := readFull(file, head, 0); err != nil {
		return nil, err
	}
	if string(head) != string(appendHead(nil, id, k.number)) {
		return nil, damaged("the head of run %d is not what it should be", k.number)
	}
	r.fences = make([]byte, r.foot.blocks*keySize)
	r.filter = make(filter, r.foot.filter)
	if err := readFull(file, r.fences, r.foot.fencesAt()); err != nil {
		return nil, err
	}
	if err := readFull(file, r.filter, r.foot.filterAt()); err != nil {
		return nil, err
	}
	if checksum(r.fences) != r.foot.fencesChecksum || checksum(r.filter) != r.foot.filterChecksum {
		return nil, damaged("fences or filter of run %d do not fit their checksum", k.number)
	}
	b := make([]byte, r.foot.dues*dueSize)
	if err := readFull(file, b, r.foot.duesAt()); err != nil {
		return nil, err
	}
	if checksum(b) != r.foot.duesChecksum {
		return nil, damaged("what is due of run %d does not fit its checksum", k.number)
	}
	r.dues = readDues(b)
	return r, nil
}

func (r *run) readFoot(id ID, depth int) error {
	b := make([]byte, footSize)
	if err := readFull(r.file, b, r.size-footSize); err != nil {
		return err
	}
	le := binary.LittleEndian
	f := &r.foot
	*f = foot{
		number: le.Uint64(b[24:]), blocks: int64(le.Uint64(b[32:])), entries: int64(le.Uint64(b[40:])),
		dropped: int64(le.Uint64(b[48:])), filter: int64(le.Uint64(b[56:])), buckets: int64(le.Uint64(b[64:])), dues: int64(le.Uint64(b[72:])),
		fencesChecksum: le.Uint32(b[80:]), filterChecksum: le.Uint32(b[84:]), bucketsSum: le.Uint32(b[88:]), duesChecksum: le.Uint32(b[92:]),
		depth: int(le.Uint32(b[96:])),
	}
	most, inBlock := r.size, int64(blockSize-blockHead)/leastEntry
	switch sum := checksum(b[:footSize-4]); {
	case !hasPrefix(b, footMagic) || sum != le.Uint32(b[footSize-4:]) || sum != r.sum:
		return damaged("the foot of run %d does not fit its checksum", r.number)
	case ID(b[8:24]) != id || f.number != r.number || f.entries != r.entries || f.depth != depth:
		return damaged("run %d is another one", r.number)
	case f.blocks < 0 || f.blocks > most/blockSize || f.filter < filterLine || f.filter > most || f.filter%filterLine != 0 ||
		f.buckets < 0 || f.buckets > most/bucketSize || f.dues != 0 && f.dues != f.blocks || f.size() != r.size ||
		f.entries < 0 || f.entries > f.blocks*inBlock || f.dropped < 0 || f.dropped > f.entries:
		return damaged("the foot of run %d contradicts itself", r.number)
	}
	return nil
}

// release gives back one use.
func (r *run) release() {
	if r.refs.Add(-1) > 0 {
		return
	}
	_ = r.file.Close() // it was only read
	if r.useless.Load() {
		r.dir.discard(r.number)
	}
}

// fence returns the key with which a block begins, counted from 0.
func (r *run) fence(i int) *rawKey { return (*rawKey)(r.fences[i*keySize:]) }

// behind reports whether a block begins behind the key, whose number at is.
func (r *run) behind(i int, k *rawKey, at uint64) bool {
	f := r.fence(i)
	if n := f.number(); n != at {
		return n > at
	}
	return f.compare(k) > 0
}

// blockOf returns the block, counted from 0, that has the key if one has; -1 if none.
//
// Keys are hashes, so where one is can be guessed from those at both ends. A guess is off
// by the square root of what is between them or so: most are found within two of them,
// which touches a few lines of memory where halving all of it touches one for each bit.
// Where keys do not lie evenly, halving what is left finds them.
func (r *run) blockOf(k *rawKey) int {
	const guesses, few = 2, 8
	lo, hi := 0, int(r.foot.blocks) // none before lo begins behind the key, all from hi on do
	at := k.number()
	for range guesses {
		if hi-lo < few {
			break
		}
		first, last := r.fence(lo).number(), r.fence(hi-1).number()
		if at <= first || at >= last {
			break
		}
		step := 1 + int(math.Sqrt(float64(hi-lo)))/8
		guess := lo + int(float64(hi-1-lo)*(float64(at-first)/float64(last-first)))
		if r.behind(guess, k, at) {
			for hi = guess; hi-step > lo && r.behind(hi-step, k, at); step *= 4 {
				hi -= step
			}
			lo = max(lo, hi-step)
		} else {
			for lo = guess + 1; lo+step < hi && !r.behind(lo+step, k, at); step *= 4 {
				lo += step + 1
			}
			hi = min(hi, lo+step)
		}
	}
	return lo + sort.Search(hi-lo, func(i int) bool { return r.behind(lo+i, k, at) }) - 1
}

// readBlocks reads blocks, counted from 0, into b.
func (r *run) readBlocks(b []byte, first int) error {
	return readFull(r.file, b, int64(1+first)*blockSize)
}

// block opens one that was read.
func (r *run) block(b []byte, i int) (block, error) {
	open, err := openBlock(b, r.number, int64(1+i))
	if err != nil {
		return open, damaged("run %d: %w", r.number, err)
	}
	return open, nil
}

var blockPool = sync.Pool{New: func() any { return new([blockSize]byte) }}

// get appends the value of a key; nil if the run says nothing of it. The block that it is in is one of those that were read
// before, if there are some and it is among them.
func (r *run) get(k *rawKey, value []byte, by *blocks) ([]byte, error) {
	if !r.filter.has(k) {
		return nil, nil
	}
	i := r.blockOf(k)
	if i < 0 {
		return nil, nil
	}
	if by != nil {
		b, err := by.block(r, i)
		if err != nil {
			return nil, err
		}
		return r.find(b, i, k, value)
	}
	buf := blockPool.Get().(*[blockSize]byte)
	defer blockPool.Put(buf)
	if err := r.readBlocks(buf[:], i); err != nil {
		return nil, err
	}
	b, err := r.block(buf[:], i)
	if err != nil {
		return nil, err
	}
	return r.find(b, i, k, value)
}

// find looks for a key in a block; the value is appended to value.
func (r *run) find(b block, i int, k *rawKey, value []byte) ([]byte, error) {
	value, err := b.find(k, value)
	if err != nil {
		return nil, damaged("run %d: block %d: %w", r.number, 1+i, err)
	}
	return value, nil
}

// entriesOf is a source over a span of a run.
type entriesOf struct {
	run   *run
	keys  span
	at    int // block that is read next
	end   int
	most  int // blocks to read at once
	room  []byte
	ahead []byte // of room
	open  block
	value []byte

	whole bool // check that each entry is where it is looked for
	has   bool // and that the filter has it
	last  rawKey
	count int64
}

// in returns a source over a span of a run.
func (r *run) in(keys span, most int) *entriesOf {
	return &entriesOf{run: r, keys: keys, at: max(0, r.blockOf(&keys.from)), end: 1 + r.blockOf(&keys.to), most: most}
}

// everything returns a source over all of a run, which fails where something in it is
// not to be found by its key.
func (r *run) everything(most int) *entriesOf {
	s := r.in(everything(), most)
	s.whole = true
	return s
}

// misplaced says what is wrong with the place of an entry, in the block before at.
func (s *entriesOf) misplaced(k *rawKey) error {
	switch {
	case s.count > 0 && k.compare(&s.last) <= 0:
		return damaged("run %d: block %d is out of order", s.run.number, s.at)
	case s.run.fence(s.at-1).compare(k) > 0, int64(s.at) < s.run.foot.blocks && s.run.fence(s.at).compare(k) <= 0:
		return damaged("run %d: block %d is not where its fence says", s.run.number, s.at)
	case s.has && !s.run.filter.has(k):
		return damaged("run %d: the filter lacks an entry of block %d", s.run.number, s.at)
	}
	s.last = *k
	s.count++
	return nil
}

func (s *entriesOf) next() (record, bool, error) {
	for {
		e, more, err := s.open.next(s.value[:0])
		if more && err == nil && s.whole {
			if err := s.misplaced(&e.key); err != nil {
				return e, false, err
			}
		}
		switch {
		case err != nil:
			return e, false, damaged("run %d: %w", s.run.number, err)
		case more && e.key.compare(&s.keys.from) < 0:
			continue
		case more:
			s.value = e.value
			return e, e.key.compare(&s.keys.to) <= 0, nil
		case s.at >= s.end:
			if s.whole && s.count != s.run.foot.entries {
				return e, false, damaged("run %d has %d entries, not %d", s.run.number, s.count, s.run.foot.entries)
			}
			return e, false, nil
		}
		if len(s.ahead) == 0 {
			n := min(s.most, s.end-s.at)
			if len(s.room) < n*blockSize {
				s.room = make([]byte, n*blockSize)
			}
			s.ahead = s.room[:n*blockSize] // nobody has kept anything of the blocks before
			if err := s.run.readBlocks(s.ahead, s.at); err != nil {
				return e, false, err
			}
		}
		if s.open, err = s.run.block(s.ahead[:blockSize], s.at); err != nil {
			return e, false, err
		}
		s.ahead = s.ahead[blockSize:]
		s.at++
	}
}

// bucketsOf reads the buckets of a run, which are known to be whole only when
// it has come to the end.
type bucketsOf struct {
	run  *run
	done int64
	room []byte
	buf  []byte
	sum  uint32
}

func (r *run) buckets() *bucketsOf { return &bucketsOf{run: r} }

func (s *bucketsOf) next() (b bucket, more bool, err error) {
	if len(s.buf) == 0 {
		left := s.run.foot.buckets - s.done
		if left == 0 {
			if s.sum != s.run.foot.bucketsSum {
				return b, false, damaged("buckets of run %d do not fit their checksum", s.run.number)
			}
			return b, false, nil
		}
		const most = 4096
		n := int(min(left, most)) * bucketSize
		if s.room == nil {
			s.room = make([]byte, n)
		}
		s.buf = s.room[:n]
		if err := readFull(s.run.file, s.buf, s.run.foot.bucketsAt()+s.done*bucketSize); err != nil {
			return b, false, err
		}
		s.sum = crc32.Update(s.sum, castagnoli, s.buf)
	}
	b.parse(s.buf)
	s.buf = s.buf[bucketSize:]
	s.done++
	if uint64(b.prefix)>>s.run.foot.depth != 0 {
		return b, false, damaged("run %d has a bucket %d", s.run.number, b.prefix)
	}
	return b, true, nil
}

// readFull reads all of b, or says that it is not there.
func readFull(f vfs.File, b []byte, off int64) error {
	if len(b) == 0 {
		return nil
	}
	n, err := f.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == io.EOF {
		return damaged("a file ends at %d", off+int64(n))
	}
	return err
}

// damaged is an error of kind errs.Corrupt.
func damaged(format string, args ...any) error {
	return errs.E(errs.Corrupt, fmt.Errorf(format, args...))
}

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// stopped is the error of what was told to stop; nil if it was not.
func stopped(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return errs.E(errs.Aborted, context.Cause(ctx))
}

// kindOf says of which kind an error of the file system is.
func kindOf(err error) errs.Kind {
	if k := errs.KindOf(err); k != errs.Other {
		return k
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return errs.NoSpace
	}
	return errs.BadDevice
}
