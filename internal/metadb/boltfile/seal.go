package boltfile

import (
	"encoding/binary"
	"hash/crc32"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// SealLen is how much longer a value is that is sealed.
const SealLen = 4

// Seal appends the checksum of a key and the value b.
func Seal(key, b []byte) []byte {
	return binary.LittleEndian.AppendUint32(b, checksum(key, b))
}

func checksum(key, value []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
}

// Unseal returns the value that was sealed under key.
func Unseal(key, b []byte) ([]byte, error) {
	n := len(b) - SealLen
	if n < 0 || binary.LittleEndian.Uint32(b[n:]) != checksum(key, b[:n]) {
		return nil, ErrChecksum
	}
	return b[:n:n], nil
}
