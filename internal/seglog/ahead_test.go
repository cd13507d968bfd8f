package seglog

import (
	"errors"
	"testing"

	"martlet/internal/vfs"
)

// unreserved is a file system that can't reserve room.
type unreserved struct{ vfs.FS }

type unreservedFile struct{ vfs.File }

func (u unreserved) OpenFile(name string, flag int) (vfs.File, error) {
	f, err := u.FS.OpenFile(name, flag)
	if err != nil {
		return nil, err
	}
	return unreservedFile{f}, nil
}

func (unreservedFile) Preallocate(_, _ int64) error { return errors.ErrUnsupported }

// TestAhead: while batches are small few of them let the file grow; where they are not, or room can't be reserved, none
// is written that nobody has asked for; and in the end there is nothing behind the seal.
func TestAhead(t *testing.T) {
	for name, tt := range map[string]struct {
		fs     vfs.FS
		ahead  int64
		zero   bool
		body   int
		grows  int // at most so many of 100 appends let the file grow
		beyond bool
	}{
		"small":                 {vfs.NewMem(), 64 << 10, false, 4000, 8, true},
		"very small":            {vfs.NewMem(), 64 << 10, false, 200, 1, true},
		"large":                 {vfs.NewMem(), 64 << 10, false, usuallySmall * 2, 100, false},
		"none":                  {vfs.NewMem(), 0, false, 200, 100, false},
		"no room is reserved":   {unreserved{vfs.NewMem()}, 64 << 10, false, 200, 100, false},
		"all was filled before": {vfs.NewMem(), 64 << 10, true, 4000, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			c := config(tt.fs)
			c.SegmentSize, c.Ahead, c.Zero = 4<<20, tt.ahead, tt.zero
			l := open(t, c)
			add := func() (size int64) {
				if _, err := l.Append(&Record{Kind: 1, Body: make([]byte, tt.body)}, nil); err != nil {
					t.Fatal(err)
				}
				size, err := l.current.file.Size()
				if err != nil {
					t.Fatal(err)
				}
				return size
			}
			last := int64(0)
			for range 3 * usualOf { // until it is known what is usual
				last = add()
			}
			grown := 0
			for range 100 {
				if size := add(); size != last {
					grown, last = grown+1, size
				}
			}
			if grown > tt.grows || !tt.beyond && grown != tt.grows {
				t.Errorf("%d of 100 appends let the file grow, want %d", grown, tt.grows)
			}
			s := l.current
			if beyond := last > s.end; beyond != tt.beyond {
				t.Errorf("the file has %d bytes, the log ends at %d", last, s.end)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			info, err := tt.fs.Stat(l.dir.file(segmentName(s.number)))
			if err != nil || info.Size != s.end {
				t.Errorf("it was closed with %d bytes, the log ends at %d, %v", info.Size, s.end, err)
			}
		})
	}
}

// TestAheadEndsWithTheSegment: no zeros are written behind the room of a segment.
func TestAheadEndsWithTheSegment(t *testing.T) {
	mem := vfs.NewMem()
	c := config(mem)
	c.Ahead = maxAhead
	l := open(t, c)
	for at := (Position{}); at.Segment < 3; {
		var err error
		if at, err = l.Append(record(uint64(at.Offset)), nil); err != nil {
			t.Fatal(err)
		}
		if size, err := l.current.file.Size(); err != nil || size > c.SegmentSize {
			t.Fatalf("segment %d has %d bytes, of %d at most, %v", at.Segment, size, c.SegmentSize, err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
