// Package chunked is what both ends of a connection know of the chunks of a body.
//
// Source: RFC 9112, section 7.1.
package chunked

import "bytes"

// Size reads the line in front of a chunk, without its CR LF: the length in hexadecimal digits, of which there are up to 15; an
// extension behind it is ignored. It is false for what is no such line.
func Size(line []byte) (int64, bool) {
	if i := bytes.IndexByte(line, ';'); i >= 0 {
		line = bytes.TrimRight(line[:i], " \t")
	}
	if len(line) == 0 || len(line) > 15 {
		return 0, false
	}
	var n int64
	for _, d := range line {
		switch {
		case '0' <= d && d <= '9':
			d -= '0'
		case 'a' <= d|0x20 && d|0x20 <= 'f':
			d = d | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		n = n<<4 | int64(d)
	}
	return n, true
}
