package replwire

import (
	"bytes"
	"encoding/base64"

	"martlet/internal/name"
)

// MaxNames is how many hashes one question may name: their text has to fit into the head of a request with room to spare.
const MaxNames = 1024

// NamesText is the value of NamesHeader for some hashes, at most MaxNames and at least one, in order and each once. A node that does not know the header
// answers with all that there is in the range.
func NamesText(hashes []name.Hash) string {
	b := make([]byte, 0, len(hashes)*len(name.Hash{}))
	for i := range hashes {
		b = append(b, hashes[i][:]...)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// ParseNames reads what NamesText writes, and nothing else. The error wraps ErrList.
func ParseNames(text string) ([]name.Hash, error) {
	const size = len(name.Hash{})
	if len(text) > base64.RawURLEncoding.EncodedLen(MaxNames*size) {
		return nil, bad("more than %d hashes are asked for", MaxNames)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) == 0 || len(b)%size != 0 || base64.RawURLEncoding.EncodedLen(len(b)) != len(text) {
		return nil, bad("%.60q names no hashes", text)
	}
	list := make([]name.Hash, len(b)/size)
	for i := range list {
		copy(list[i][:], b[i*size:])
		if i > 0 && bytes.Compare(list[i-1][:], list[i][:]) >= 0 {
			return nil, bad("hash %s is asked for out of order", list[i])
		}
	}
	return list, nil
}
