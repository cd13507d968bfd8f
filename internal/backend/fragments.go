package backend

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"martlet/internal/errs"
	"martlet/internal/timestamp"
)

// MaxFragmentIDs is how many fragments of a name an answer lists at most, the newest. Where there
// are as many in one there may be more: all of one time are to be had by asking for that.
const MaxFragmentIDs = 1024

// A FragmentID says which fragment one is, of those of a name.
type FragmentID struct {
	Time  timestamp.T // of the data
	Index int         // 0 to 255
	Write [16]byte    // that it is of
}

// String returns "time#index/write".
func (f FragmentID) String() string { return string(f.append(nil)) }

func (f FragmentID) append(b []byte) []byte {
	b = append(append(b, f.Time.String()...), '#')
	b = append(strconv.AppendInt(b, int64(f.Index), 10), '/')
	return hex.AppendEncode(b, f.Write[:])
}

// ParseFragmentID reads what String writes, and nothing else. The error is of kind
// errs.Corrupt.
func ParseFragmentID(text string) (f FragmentID, err error) {
	at, rest, _ := strings.Cut(text, "#")
	index, write, _ := strings.Cut(rest, "/")
	if f.Time, err = timestamp.Parse(at); err != nil {
		return FragmentID{}, fragmentError(text)
	}
	n, err := strconv.ParseUint(index, 10, 8)
	if err != nil {
		return FragmentID{}, fragmentError(text)
	}
	f.Index = int(n)
	if f.Write, err = ParseWrite(write); err != nil || f.String() != text {
		return FragmentID{}, fragmentError(text)
	}
	return f, nil
}

// JoinFragmentIDs returns the value of FragmentsHeld. Of none it is empty.
func JoinFragmentIDs(list []FragmentID) string {
	b := make([]byte, 0, 64*len(list))
	for i, f := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = f.append(b)
	}
	return string(b)
}

// ParseFragmentIDs reads what JoinFragmentIDs writes, and nothing else. The error is of kind
// errs.Corrupt.
func ParseFragmentIDs(text string) ([]FragmentID, error) {
	if text == "" {
		return nil, nil
	}
	list := make([]FragmentID, 0, 1+strings.Count(text, ","))
	for one := range strings.SplitSeq(text, ",") {
		f, err := ParseFragmentID(one)
		if err != nil {
			return nil, err
		}
		list = append(list, f)
	}
	return list, nil
}

// ParseWrite reads the identity of a write, 32 hexadecimal digits: the value of FragmentWrite. The
// error is of kind errs.Invalid.
func ParseWrite(text string) (id [16]byte, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(id) {
		return id, errs.E(errs.Op("backend.write"), errs.Invalid, fmt.Sprintf("%.40q is not the identity of a write", text))
	}
	return [16]byte(b), nil
}

func fragmentError(text string) error {
	return errs.E(errs.Op("backend.fragment"), errs.Corrupt, fmt.Sprintf("%.200q does not name a fragment", text))
}
