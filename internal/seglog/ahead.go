package seglog

import "log/slog"

// A sync of bytes that the file had already is a write of those alone. Where the file grows, or where reserved room is
// written to for the first time, the file system has to note that in its journal as well, and a
// sync waits for that, too: with records of a few hundred bytes several blocks for each. So a batch that needs room that was never
// written writes zeros behind itself, in the same call and with the same sync, and the ones after it find them. They mean what
// zeros mean behind the end of any log that was not closed, and what is left of them when the segment is sealed, or
// writing has failed, is cut off.

const (
	// usuallySmall is up to how many bytes in a batch, as they have been lately, this saves more than it
	// writes: with more the zeros are as much as what the journal would have had to be told.
	usuallySmall = 16 << 10

	// usualOf is over about how many batches that is.
	usualOf = 8

	maxAhead = 1 << 20
	fillUnit = 4096 // zeros end where a block of the file system does
)

var aheadZeros [maxAhead]byte

// fillable looks how much of a new segment was written, and whether all of its room is reserved: only then zeros ahead
// can't take room that the device does not have.
func (l *Log) fillable(s *segment) {
	s.filled = s.end
	if size, err := s.file.Size(); err == nil {
		s.filled = max(s.filled, size)
	}
	if s.filled >= l.cfg.SegmentSize || l.cfg.Ahead == 0 {
		return
	}
	if err := s.file.Preallocate(0, l.cfg.SegmentSize); err != nil {
		l.cfg.Log.Debug("nothing is written ahead of records", slog.Uint64("segment", s.number), slog.Any("err", err))
		return
	}
	s.fills = true
}

// zerosBehind returns the zeros to write behind a batch that ends at an offset.
func (l *Log) zerosBehind(s *segment, end int64) []byte {
	if !s.fills || s != l.current || end <= s.filled || l.usual > usuallySmall {
		return nil
	}
	to := min((end+l.cfg.Ahead)&^(fillUnit-1), l.cfg.SegmentSize)
	return aheadZeros[:max(0, to-end)]
}
