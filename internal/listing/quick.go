package listing

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// quick reads a listing of objects in exactly the form that AppendObject writes, an array
// of them with commas between. ok is false for anything else, be it JSON or not.
func quick(body []byte) (list []Object, ok bool) {
	q := quickReader{rest: string(body)} // one copy: what is kept of it are parts of that
	if q.skip("[]") {
		return []Object{}, q.rest == ""
	}
	list = make([]Object, 0, 1+strings.Count(q.rest, "},{"))
	for first := true; ; first = false {
		switch {
		case first && q.skip("["), !first && q.skip(","):
		case !first && q.skip("]"):
			return list, q.rest == ""
		default:
			return nil, false
		}
		var o Object
		if q.skip(`{"subdir":`) {
			o = Object{Name: q.text(), Subdir: true}
		} else {
			q.need(`{"name":`)
			o.Name = q.text()
			q.need(`,"hash":`)
			o.Hash = q.text()
			q.need(`,"bytes":`)
			o.Bytes = q.number()
			q.need(`,"content_type":`)
			o.ContentType = q.text()
			q.need(`,"last_modified":`)
			o.LastModified = q.text()
		}
		q.need("}")
		if q.failed {
			return nil, false
		}
		list = append(list, o)
	}
}

// quickReader takes what is expected off the beginning of a text.
type quickReader struct {
	rest   string
	failed bool
}

func (q *quickReader) skip(s string) bool {
	rest, ok := strings.CutPrefix(q.rest, s)
	q.rest = rest
	return ok
}

func (q *quickReader) need(s string) { q.failed = !q.skip(s) || q.failed }

// text reads a string. One with escapes is left to who reads any JSON, but for that of a
// NUL, which the names of versions have.
func (q *quickReader) text() string {
	if !q.skip(`"`) {
		q.failed = true
		return ""
	}
	from, nuls := q.rest, 0
	for i := 0; i < len(from); i++ {
		switch c := from[i]; {
		case c == '"':
			q.rest = from[i+1:]
			s := from[:i]
			if nuls > 0 {
				s = strings.ReplaceAll(s, nul, "\x00")
			}
			q.failed = q.failed || !utf8.ValidString(s)
			return s
		case c == '\\' && strings.HasPrefix(from[i:], nul):
			i += len(nul) - 1
			nuls++
		case c == '\\' || c < ' ':
			q.failed = true
			return ""
		}
	}
	q.failed = true
	return ""
}

// nul is how a NUL is escaped.
const nul = `\u0000`

// number reads digits, in the one form that a number of them has.
func (q *quickReader) number() int64 {
	end := 0
	for end < len(q.rest) && ('0' <= q.rest[end] && q.rest[end] <= '9') {
		end++
	}
	n, err := strconv.ParseInt(q.rest[:end], 10, 64)
	q.failed = q.failed || err != nil || end > 1 && q.rest[0] == '0'
	q.rest = q.rest[end:]
	return n
}
