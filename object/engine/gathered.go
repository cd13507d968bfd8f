package engine

import "hash/crc32"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// gathered is what is known of data that is being gathered in memory.
type gathered struct {
	length int64
	crc    uint32 // CRC32C
}

func (g *gathered) add(p []byte) {
	g.crc = crc32.Update(g.crc, castagnoli, p)
	g.length += int64(len(p))
}
