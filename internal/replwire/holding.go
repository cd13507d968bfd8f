package replwire

import "encoding/binary"

// holdings is the kind of the lists by which an operator learns what a device holds.
const holdings byte = 'h'

// Holding is what a device holds of a partition.
type Holding struct {
	Partition uint32
	Sum       Digest
	Objects   int64 // that are there: states of kind Data
	Bytes     int64 // of their bodies
	Lost      int64 // states of kind Lost
}

const holdingSize = 4 + 16 + 8 + 8 + 8

// MaxHoldings is how many holdings a list may have.
const MaxHoldings = (MaxList - headSize - tailSize) / holdingSize

// AppendHoldings appends an encoded list of holdings to b, which must be empty. More is
// whether the device has others behind them.
func AppendHoldings(b []byte, list []Holding, more bool) []byte {
	be := binary.BigEndian
	b = Begin(b, holdings)
	for i := range list {
		h := &list[i]
		b = append(be.AppendUint32(b, h.Partition), h.Sum[:]...)
		b = be.AppendUint64(be.AppendUint64(be.AppendUint64(b, uint64(h.Objects)), uint64(h.Bytes)), uint64(h.Lost))
	}
	return End(b, len(list), more)
}

// ParseHoldings reads a list of holdings of a part power: in order of their partitions, each
// once, from a partition on. The error wraps ErrList.
func ParseHoldings(b []byte, power int, from uint32) (list []Holding, more bool, err error) {
	records, count, more, err := Open(b, holdings)
	if err != nil {
		return nil, false, err
	}
	if count*holdingSize != len(records) {
		return nil, false, bad("%d holdings in %d bytes", count, len(records))
	}
	be := binary.BigEndian
	list = make([]Holding, count)
	for i := range list {
		h, r := &list[i], records[i*holdingSize:]
		h.Partition = be.Uint32(r)
		copy(h.Sum[:], r[4:])
		h.Objects, h.Bytes, h.Lost = int64(be.Uint64(r[20:])), int64(be.Uint64(r[28:])), int64(be.Uint64(r[36:]))
		switch {
		case uint64(h.Partition)>>power != 0 || h.Partition < from || i > 0 && h.Partition <= list[i-1].Partition:
			return nil, false, bad("holding %d is of partition %d", i, h.Partition)
		case h.Objects < 0 || h.Bytes < 0 || h.Lost < 0:
			return nil, false, bad("holding %d is of %d objects of %d bytes, and %d lost", i, h.Objects, h.Bytes, h.Lost)
		}
	}
	return list, more, nil
}
