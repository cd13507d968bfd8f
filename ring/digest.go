package ring

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// Digest is a checksum of what the ring says, in hex: its devices and where every
// partition is, but not its version. Rings of one digest are the same to whoever
// looks things up in them. It reads the whole ring.
func (r *Ring) Digest() string {
	var text []byte
	text = fmt.Appendf(text, "%d\n", r.partPower)
	for d := range r.Devices() {
		text = fmt.Appendf(text, "%d %d %d %q %d %q %d %q %v %q\n", d.ID, d.Region, d.Zone, d.IP, d.Port,
			d.ReplicationIP, d.ReplicationPort, d.Name, d.Weight, d.Meta)
	}
	h := sha256.New()
	h.Write(text)
	for _, row := range r.Rows() {
		text = binary.LittleEndian.AppendUint32(text[:0], uint32(len(row)))
		for _, id := range row {
			text = binary.LittleEndian.AppendUint32(text, id)
		}
		h.Write(text)
	}
	return hex.EncodeToString(h.Sum(nil))
}
