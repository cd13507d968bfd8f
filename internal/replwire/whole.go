package replwire

import (
	"encoding/hex"
	"math"
	"strconv"
	"strings"
)

// WholeHeader is with parts of a database that is sent as a whole to a device that has nothing of it: its
// value is a Whole. Until the last of them has come nobody there sees anything of the database. A node
// that does not know the header merges each part when it comes.
const WholeHeader = "X-Backend-Whole"

// RetellHeader is, with the value "true", with a part of a container from a handoff that is about to drop it and that has told the
// account what it counts, which may have been after others had told more: whoever takes the part tells the account anew what
// he counts. The account goes by the latest word, whosesoever it is, and that of a replica that is gone would stay. A
// node that does not know the header takes the part alone.
const RetellHeader = "X-Backend-Retell"

// Whole says which part of which sending a part is.
type Whole struct {
	ID   [16]byte // of who sends it, the same whenever he begins again
	N    uint32   // how many parts were before it
	Last bool     // with it the database is whole
}

// String returns the text form, "<32 hex digits>-<N>" with "-last" behind the last.
func (w Whole) String() string {
	s := hex.EncodeToString(w.ID[:]) + "-" + strconv.FormatUint(uint64(w.N), 10)
	if w.Last {
		s += "-last"
	}
	return s
}

// ParseWhole reads what String writes, and nothing else. The error wraps ErrList.
func ParseWhole(text string) (w Whole, err error) {
	rest, last := strings.CutSuffix(text, "-last")
	id, number, ok := strings.Cut(rest, "-")
	n, err := strconv.ParseUint(number, 10, 32)
	if ok && err == nil && n < math.MaxUint32 && len(id) == 2*len(w.ID) {
		if _, err = hex.Decode(w.ID[:], []byte(id)); err == nil {
			if w.N, w.Last = uint32(n), last; w.String() == text {
				return w, nil
			}
		}
	}
	return Whole{}, bad("%.60q does not say which part of what it is", text)
}
