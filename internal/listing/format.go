package listing

import (
	"io"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// flushAt is how much of a listing is put together before it is written.
const flushAt = 32 << 10

// xmlHead begins every XML document.
const xmlHead = `<?xml version="1.0" encoding="UTF-8"?>` + "\n"

// out collects what is written and keeps the first error.
type out struct {
	w   io.Writer
	b   []byte
	err error
}

func newOut(w io.Writer) *out { return &out{w: w, b: make([]byte, 0, flushAt+4<<10)} }

func (o *out) flush(above int) {
	if len(o.b) <= above || o.err != nil {
		return
	}
	_, o.err = o.w.Write(o.b)
	o.b = o.b[:0]
}

// each appends every entry, writing what piles up.
func each[E any](o *out, list []E, add func(b []byte, i int, e *E) []byte) {
	for i := range list {
		o.b = add(o.b, i, &list[i])
		if o.flush(flushAt); o.err != nil {
			return
		}
	}
}

func (o *out) close() error {
	o.flush(0)
	return o.err
}

// WriteObjectsText writes a name a line.
func WriteObjectsText(w io.Writer, list []Object) error {
	o := newOut(w)
	each(o, list, func(b []byte, _ int, e *Object) []byte { return append(append(b, e.Name...), '\n') })
	return o.close()
}

// WriteContainersText writes a name a line.
func WriteContainersText(w io.Writer, list []Container) error {
	o := newOut(w)
	each(o, list, func(b []byte, _ int, e *Container) []byte { return append(append(b, e.Name...), '\n') })
	return o.close()
}

// WriteObjectsJSON writes the array of a container's listing in ASCII, as
// Swift does.
func WriteObjectsJSON(w io.Writer, list []Object) error {
	o := newOut(w)
	o.b = append(o.b, '[')
	each(o, list, func(b []byte, i int, e *Object) []byte {
		b = separate(b, i)
		if e.Subdir {
			return subdirJSON(b, e.Name)
		}
		b = strconv.AppendInt(append(b, `{"bytes": `...), e.Bytes, 10)
		b = appendASCII(append(b, `, "hash": `...), e.Hash)
		b = appendASCII(append(b, `, "name": `...), e.Name)
		b = appendASCII(append(b, `, "content_type": `...), e.ContentType)
		b = appendASCII(append(b, `, "last_modified": `...), e.LastModified)
		if e.SLOETag != "" {
			b = appendASCII(append(b, `, "slo_etag": `...), e.SLOETag)
		}
		if e.SymlinkPath != "" {
			b = appendLink(b, e)
		}
		if e.VersionLink {
			b = appendASCII(append(b, `, "version_symlink": true, "symlink_path": `...), e.LinkPath)
		}
		if e.VersionID != "" {
			b = appendASCII(append(b, `, "version_id": `...), e.VersionID)
			b = strconv.AppendBool(append(b, `, "is_latest": `...), e.Latest)
		}
		return append(b, '}')
	})
	o.b = append(o.b, ']')
	return o.close()
}

// appendLink appends what a listing says of a link.
func appendLink(b []byte, e *Object) []byte {
	b = appendASCII(append(b, `, "symlink_path": `...), e.SymlinkPath)
	if e.SymlinkETag != "" {
		b = appendASCII(append(b, `, "symlink_etag": `...), e.SymlinkETag)
		b = strconv.AppendInt(append(b, `, "symlink_bytes": `...), e.SymlinkBytes, 10)
	}
	return b
}

// WriteContainersJSON writes the array of an account's listing in ASCII, as
// Swift does.
func WriteContainersJSON(w io.Writer, list []Container) error {
	o := newOut(w)
	o.b = append(o.b, '[')
	each(o, list, func(b []byte, i int, e *Container) []byte {
		b = separate(b, i)
		if e.Subdir {
			return subdirJSON(b, e.Name)
		}
		b = appendASCII(append(b, `{"name": `...), e.Name)
		b = strconv.AppendInt(append(b, `, "count": `...), e.Count, 10)
		b = strconv.AppendInt(append(b, `, "bytes": `...), e.Bytes, 10)
		b = appendASCII(append(b, `, "last_modified": `...), e.LastModified)
		if e.Policy != "" {
			b = appendASCII(append(b, `, "storage_policy": `...), e.Policy)
		}
		return append(b, '}')
	})
	o.b = append(o.b, ']')
	return o.close()
}

func separate(b []byte, i int) []byte {
	if i > 0 {
		return append(b, ", "...)
	}
	return b
}

func subdirJSON(b []byte, name string) []byte {
	return append(appendASCII(append(b, `{"subdir": `...), name), '}')
}

// WriteObjectsXML writes the document of a container's listing.
func WriteObjectsXML(w io.Writer, container string, list []Object) error {
	o := newOut(w)
	o.b = appendXMLAttr(append(o.b, xmlHead+`<container name="`...), container)
	if len(list) == 0 {
		o.b = append(o.b, `" />`...)
		return o.close()
	}
	o.b = append(o.b, `">`...)
	each(o, list, func(b []byte, _ int, e *Object) []byte {
		if e.Subdir {
			b = append(appendXMLAttr(append(b, `<subdir name="`...), e.Name), `">`...)
			return append(element(b, "name", e.Name), `</subdir>`...)
		}
		b = element(append(b, `<object>`...), "name", e.Name)
		b = element(b, "hash", e.Hash)
		b = number(b, "bytes", e.Bytes)
		b = element(b, "content_type", e.ContentType)
		b = element(b, "last_modified", e.LastModified)
		return append(b, `</object>`...)
	})
	o.b = append(o.b, `</container>`...)
	return o.close()
}

// WriteContainersXML writes the document of an account's listing.
func WriteContainersXML(w io.Writer, account string, list []Container) error {
	o := newOut(w)
	o.b = append(appendXMLAttr(append(o.b, xmlHead+`<account name="`...), account), "\">\n"...)
	each(o, list, func(b []byte, _ int, e *Container) []byte {
		if e.Subdir {
			return append(appendXMLAttr(append(b, `<subdir name="`...), e.Name), "\" />\n"...)
		}
		b = element(append(b, `<container>`...), "name", e.Name)
		b = number(b, "count", e.Count)
		b = number(b, "bytes", e.Bytes)
		b = element(b, "last_modified", e.LastModified)
		if e.Policy != "" {
			b = element(b, "storage_policy", e.Policy)
		}
		return append(b, "</container>\n"...)
	})
	o.b = append(o.b, `</account>`...)
	return o.close()
}

func element(b []byte, tag, text string) []byte {
	b = append(append(b, '<'), tag...)
	if text == "" {
		return append(b, " />"...)
	}
	b = AppendXMLText(append(b, '>'), text)
	return append(append(append(b, "</"...), tag...), '>')
}

func number(b []byte, tag string, n int64) []byte {
	b = append(append(append(b, '<'), tag...), '>')
	b = strconv.AppendInt(b, n, 10)
	return append(append(append(b, "</"...), tag...), '>')
}

// AppendXMLText appends s as the text of an XML element.
func AppendXMLText(b []byte, s string) []byte { return appendXML(b, s, false) }

func appendXMLAttr(b []byte, s string) []byte { return appendXML(b, s, true) }

// appendXML escapes what XML gives a meaning, and control characters as
// references: XML 1.0 has no way to write most of them, but a lenient parser
// gets the name back, and no parser takes one for something else.
func appendXML(b []byte, s string, attr bool) []byte {
	for i := range len(s) {
		switch c := s[i]; {
		case c == '&':
			b = append(b, "&amp;"...)
		case c == '<':
			b = append(b, "&lt;"...)
		case c == '>':
			b = append(b, "&gt;"...)
		case c == '"' && attr:
			b = append(b, "&quot;"...)
		case c < ' ' && (attr || c != '\n' && c != '\t'), c == 0x7f:
			b = append(strconv.AppendUint(append(b, "&#"...), uint64(c), 10), ';')
		default:
			b = append(b, c)
		}
	}
	return b
}

// appendASCII appends s as a JSON string in ASCII. Bytes that are no UTF-8
// become U+FFFD.
func appendASCII(b []byte, s string) []byte {
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c < ' ' || c == '"' || c == '\\' {
				b = appendEscape(b, c)
			} else {
				b = append(b, c)
			}
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		i += n
		if hi, lo := utf16.EncodeRune(r); hi != utf8.RuneError {
			b = appendUnit(appendUnit(b, hi), lo)
		} else {
			b = appendUnit(b, r)
		}
	}
	return append(b, '"')
}

func appendUnit(b []byte, u rune) []byte {
	return append(b, '\\', 'u', hexDigits[u>>12&15], hexDigits[u>>8&15], hexDigits[u>>4&15], hexDigits[u&15])
}
