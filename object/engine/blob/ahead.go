package blob

import (
	"errors"
	"io"
	"syscall"

	"martlet/internal/vfs"
)

// source is the file that a Reader reads, in direct mode or through the page cache.
type source struct {
	file   io.ReaderAt
	direct vfs.File // the same in direct mode, nil in the other
}

// pageUp rounds n up to whole pages.
func pageUp(n int64) int64 { return (n + PageSize - 1) / PageSize * PageSize }

// ReadAt reads whatever the alignment is: in direct mode through memory of its own, so it
// is for the little that is read beside the data.
func (s *source) ReadAt(p []byte, off int64) (int, error) {
	if s.direct == nil {
		return s.file.ReadAt(p, off)
	}
	skip := off % PageSize
	mem := vfs.AlignedBuffer(int(pageUp(skip+int64(len(p)))), PageSize)
	n, err := s.readPages(mem, off-skip)
	n = copy(p, mem[min(int(skip), n):n])
	if n == len(p) {
		err = nil
	}
	return n, err
}

// readPages reads whole pages into memory that is aligned to them, through the page cache
// where the file system turns out not to want it directly.
func (s *source) readPages(p []byte, off int64) (int, error) {
	n, err := s.file.ReadAt(p, off)
	if s.refused(err) {
		if err = s.throughCache(); err == nil {
			n, err = s.file.ReadAt(p, off)
		}
	}
	return n, err
}

// refused reports whether an error is that of a file system without direct reads.
func (s *source) refused(err error) bool {
	return s.direct != nil && errors.Is(err, syscall.EINVAL)
}

func (s *source) throughCache() error {
	f := s.direct
	s.direct = nil
	return f.SetDirect(false)
}

// goDirect switches a file to direct mode, where buffers and offsets of whole pages suit
// it, and reports whether it did.
func goDirect(f vfs.File) bool {
	if mem, off := f.Align(); mem > PageSize || off > PageSize {
		return false
	}
	return f.SetDirect(true) == nil
}

// pieces is how many pieces of largeBuffer a Reader has at most: one that is handed out,
// and two that the disk is busy with meanwhile. The kernel reads nothing ahead in direct
// mode, and with one alone the disk would rest from when it is there until it is
// asked for.
const pieces = 3

// piece is a part of the data that is read before it is asked for.
type piece struct {
	mem  *[]byte
	at   int64 // offset among the object's bytes
	size int64 // in bytes; read is more, to whole pages

	done chan struct{} // closed once what follows is set
	n    int64
	err  error
}

func (p *piece) end() int64 { return p.at + p.size }

func (p *piece) read(file io.ReaderAt) {
	defer close(p.done)
	n, err := file.ReadAt((*p.mem)[:pageUp(p.size)], PageSize+p.at)
	p.n, p.err = int64(n), err
}

// ahead is what is read ahead: pieces that follow one another, the first of which may be
// the one that is handed out. It takes memory only where there is plenty.
type ahead struct {
	pool   *class
	pieces []*piece
}

// fill begins to read what comes behind the pieces there are, or from the offset on where
// there are none, but nothing from until on. What is no more than the reader's own
// buffer holds is not worth a piece.
func (a *ahead) fill(file io.ReaderAt, from, until int64) {
	if len(a.pieces) == 0 && until-from <= SmallMax {
		return
	}
	for len(a.pieces) < pieces {
		if n := len(a.pieces); n > 0 {
			from = a.pieces[n-1].end()
		}
		if from >= until {
			return
		}
		mem := a.pool.spare()
		if mem == nil {
			return
		}
		p := &piece{mem: mem, at: from, size: min(until-from, largeBuffer), done: make(chan struct{})}
		a.pieces = append(a.pieces, p)
		go p.read(file)
	}
}

// get returns the piece with an offset, once it was read; nil if there is none. What is
// before it is dropped; and so is everything where the caller has gone elsewhere.
func (a *ahead) get(off int64) *piece {
	for len(a.pieces) > 0 {
		p := a.pieces[0]
		if p.at <= off && off < p.end() {
			<-p.done
			return p
		}
		a.dropFirst()
	}
	return nil
}

func (a *ahead) dropFirst() {
	p := a.pieces[0]
	<-p.done // until then its memory is the kernel's
	a.pool.give(p.mem)
	n := copy(a.pieces, a.pieces[1:])
	a.pieces[n] = nil
	a.pieces = a.pieces[:n]
}

// drop gives all memory back.
func (a *ahead) drop() {
	for len(a.pieces) > 0 {
		a.dropFirst()
	}
}
