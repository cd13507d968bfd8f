package backend

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"martlet/internal/errs"
)

// Coded is what an object says of itself whose data is in fragments: the commit of its
// write. It stands in a field of the object (CodedWrite), which has no data of its own, so
// that it is written, replicated, superseded and deleted as any object is. Whoever holds it
// attests that fragments of exactly this write were on stable storage, one more at least
// than it takes to read it, before it was written anywhere.
type Coded struct {
	Data, Parity int      // of k+m fragments any k give the object back
	Segment      int      // bytes of the object that are encoded together
	Write        [16]byte // of all writes this one; its fragments have it, too
	Size         int64    // of the object, bytes
	Sized        bool     // the fragments say the size themselves, as it was known before them
	ETag         string   // the MD5 of the object, 32 hexadecimal digits
}

// codedForm is in front of every text of a Coded.
const codedForm = "1"

// String returns the value of CodedWrite.
func (c Coded) String() string {
	sized := "sized"
	if !c.Sized {
		sized = "streamed"
	}
	return fmt.Sprintf("%s/%d+%d/%d/%x/%d/%s/%s", codedForm, c.Data, c.Parity, c.Segment, c.Write, c.Size, sized, c.ETag)
}

// ParseCoded reads what String writes, and nothing else. The error is of kind errs.Corrupt.
func ParseCoded(text string) (c Coded, err error) {
	parts := strings.Split(text, "/")
	if len(parts) == 7 {
		data, parity, _ := strings.Cut(parts[1], "+")
		numbers := [...]struct {
			text string
			to   *int
		}{{data, &c.Data}, {parity, &c.Parity}, {parts[2], &c.Segment}}
		for _, n := range numbers {
			*n.to, err = strconv.Atoi(n.text)
			if err != nil || *n.to <= 0 {
				return Coded{}, codedError(text)
			}
		}
		if id, err := hex.DecodeString(parts[3]); err != nil || copy(c.Write[:], id) != len(c.Write) {
			return Coded{}, codedError(text)
		}
		if c.Size, err = strconv.ParseInt(parts[4], 10, 64); err != nil || c.Size < 0 {
			return Coded{}, codedError(text)
		}
		c.Sized, c.ETag = parts[5] == "sized", parts[6]
	}
	if sum, err := hex.DecodeString(c.ETag); err != nil || len(sum) != 16 || c.String() != text {
		return Coded{}, codedError(text)
	}
	return c, nil
}

func codedError(text string) error {
	return errs.E(errs.Op("backend.coded"), errs.Corrupt, fmt.Sprintf("%.200q does not say where the data is", text))
}
