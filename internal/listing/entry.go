package listing

import (
	"encoding/json"
	"strconv"
	"unicode/utf8"

	"martlet/internal/errs"
	"martlet/internal/policy"
)

// Object is an entry of a container's listing: an object, or with Subdir the
// common beginning of many, of which only Name is set.
type Object struct {
	Name         string
	Hash         string
	Bytes        int64
	ContentType  string
	LastModified string // ISO, microseconds, no zone
	SLOETag      string // of the large object whose manifest it is, in quotes; "" for others
	SymlinkPath  string // of the object that a link stands for, encoded, as a URL has it; "" for others
	SymlinkETag  string // that a static link wants of it; "" for other links
	SymlinkBytes int64  // of what a static link stands for
	Subdir       bool

	// Of a container with versions: that the object is one of them, and its path; of a
	// listing of versions, which one it is ("" for other listings), and whether it is
	// the current one. Only JSON has them.
	VersionLink bool
	LinkPath    string
	VersionID   string
	Latest      bool
}

// Container is an entry of an account's listing: a container, or with Subdir
// the common beginning of many, of which only Name is set.
type Container struct {
	Name         string
	Count        int64
	Bytes        int64
	LastModified string // ISO, microseconds, no zone
	PolicyIndex  policy.Index
	Policy       string // the policy's name, which only the edge knows; "" leaves it out
	Subdir       bool
}

// AppendObject appends an entry as compact JSON, without a comma.
func AppendObject(b []byte, o *Object) []byte {
	if o.Subdir {
		return appendSubdir(b, o.Name)
	}
	b = appendString(append(b, `{"name":`...), o.Name)
	b = appendString(append(b, `,"hash":`...), o.Hash)
	b = strconv.AppendInt(append(b, `,"bytes":`...), o.Bytes, 10)
	b = appendString(append(b, `,"content_type":`...), o.ContentType)
	b = appendString(append(b, `,"last_modified":`...), o.LastModified)
	return append(b, '}')
}

// AppendContainer appends an entry as compact JSON, without a comma.
func AppendContainer(b []byte, c *Container) []byte {
	if c.Subdir {
		return appendSubdir(b, c.Name)
	}
	b = appendString(append(b, `{"name":`...), c.Name)
	b = strconv.AppendInt(append(b, `,"count":`...), c.Count, 10)
	b = strconv.AppendInt(append(b, `,"bytes":`...), c.Bytes, 10)
	b = appendString(append(b, `,"last_modified":`...), c.LastModified)
	b = strconv.AppendUint(append(b, `,"storage_policy_index":`...), uint64(c.PolicyIndex), 10)
	return append(b, '}')
}

func appendSubdir(b []byte, name string) []byte {
	return append(appendString(append(b, `{"subdir":`...), name), '}')
}

// wire is either kind of entry as it travels.
type wire struct {
	Name         *string      `json:"name"`
	Subdir       *string      `json:"subdir"`
	Hash         string       `json:"hash"`
	Bytes        int64        `json:"bytes"`
	ContentType  string       `json:"content_type"`
	Count        int64        `json:"count"`
	LastModified string       `json:"last_modified"`
	PolicyIndex  policy.Index `json:"storage_policy_index"`
}

func decode(body []byte) ([]wire, error) {
	var list []wire
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, errs.E(errs.Op("listing.decode"), errs.Unavailable, err)
	}
	for i := range list {
		if (list[i].Name == nil) == (list[i].Subdir == nil) {
			return nil, errs.E(errs.Op("listing.decode"), errs.Unavailable, "an entry has neither or both of name and subdir")
		}
	}
	return list, nil
}

// DecodeObjects reads a JSON array of what AppendObject writes. What it can't
// read is of kind errs.Unavailable: another replica may do better.
func DecodeObjects(body []byte) ([]Object, error) {
	if list, ok := quick(body); ok {
		return list, nil
	}
	return decodeObjects(body)
}

// decodeObjects is DecodeObjects of any JSON.
func decodeObjects(body []byte) ([]Object, error) {
	list, err := decode(body)
	if err != nil {
		return nil, err
	}
	out := make([]Object, len(list))
	for i, w := range list {
		if w.Subdir != nil {
			out[i] = Object{Name: *w.Subdir, Subdir: true}
			continue
		}
		out[i] = Object{Name: *w.Name, Hash: w.Hash, Bytes: w.Bytes, ContentType: w.ContentType, LastModified: w.LastModified}
	}
	return out, nil
}

// DecodeContainers reads a JSON array of what AppendContainer writes. What it
// can't read is of kind errs.Unavailable: another replica may do better.
func DecodeContainers(body []byte) ([]Container, error) {
	list, err := decode(body)
	if err != nil {
		return nil, err
	}
	out := make([]Container, len(list))
	for i, w := range list {
		if w.Subdir != nil {
			out[i] = Container{Name: *w.Subdir, Subdir: true}
			continue
		}
		out[i] = Container{Name: *w.Name, Count: w.Count, Bytes: w.Bytes, LastModified: w.LastModified, PolicyIndex: w.PolicyIndex}
	}
	return out, nil
}

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string, what is beyond ASCII as it is. Bytes
// that are no UTF-8 become U+FFFD.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c < utf8.RuneSelf {
			b = appendEscape(append(b, s[from:i]...), c)
			i++
			from = i
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			b = append(append(b, s[from:i]...), "\ufffd"...)
			from = i + 1
		}
		i += n
	}
	return append(append(b, s[from:]...), '"')
}

// appendEscape appends the escape of a byte below ' ', a quote or a backslash.
func appendEscape(b []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\b':
		return append(b, `\b`...)
	case '\f':
		return append(b, `\f`...)
	case '\n':
		return append(b, `\n`...)
	case '\r':
		return append(b, `\r`...)
	case '\t':
		return append(b, `\t`...)
	}
	return append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
}
