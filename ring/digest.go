package ring

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
)

// Digest is a checksum of what the ring says, in hex: its devices and where every
// partition is, but not its version. Rings of one digest are the same to whoever
// looks things up in them. It reads the whole ring.
func (r *Ring) Digest() string {
	h := sha256.New()
	enc := json.NewEncoder(h) // a hash takes everything
	_ = enc.Encode(r.partPower)
	_ = enc.Encode(r.devices)
	var chunk []byte
	for _, row := range r.Rows() {
		chunk = binary.LittleEndian.AppendUint32(chunk[:0], uint32(len(row)))
		for _, id := range row {
			chunk = binary.LittleEndian.AppendUint32(chunk, id)
		}
		h.Write(chunk)
	}
	return hex.EncodeToString(h.Sum(nil))
}
