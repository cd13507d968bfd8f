package slo

import (
	"bytes"
	"crypto/md5" // the ETag of the API
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"martlet/internal/conditional"
	"martlet/internal/errs"
	"martlet/internal/name"
)

// wanted is a segment as a client names it in the manifest that it puts.
type wanted struct {
	path  name.Path // of an object
	text  string    // the path as it was written
	etag  string    // "" is any
	size  int64     // -1 is any
	span  string    // a range of the object: "M-N", "M-", "-N"; "" is all of it
	data  []byte    // of the manifest itself; then there is no path
	plain bool      // data is set
}

// parse reads a manifest that a client puts, of at most most segments that are
// objects. What is wrong with it is of kind errs.Invalid, a line for each segment;
// too many segments are errs.TooLarge.
func parse(body []byte, own name.Path, most int) ([]wanted, error) {
	if !utf8.Valid(body) {
		return nil, errs.Refuse(errs.Invalid, "Manifest must be valid JSON.\n")
	}
	list, err := split(body, most)
	if err != nil {
		return nil, err
	}
	var problems []string
	var segments []wanted
	objects := 0
	for i, keys := range list {
		w, why := segment(keys, own, i == len(list)-1)
		if why != "" {
			problems = append(problems, fmt.Sprintf("Index %d: %s", i, why))
			continue
		}
		if !w.plain {
			objects++
		}
		segments = append(segments, w)
	}
	switch {
	case len(list) == 0:
		problems = append(problems, "Manifest has no segments.")
	case len(problems) == 0 && objects == 0:
		problems = append(problems, "Inline data segments require at least one object-backed segment.")
	}
	if len(problems) > 0 {
		return nil, errs.Refuse(errs.Invalid, "%s\n", strings.Join(problems, "\n"))
	}
	if objects > most {
		return nil, tooMany(most)
	}
	return segments, nil
}

func tooMany(most int) error {
	return errs.Refuse(errs.TooLarge, "Number of object-backed segments must be <= %d", most)
}

// member is one key of a JSON object with its value.
type member struct {
	key   string
	value any
}

// split reads the JSON of a manifest: an array of objects, each as its members in
// order; what is no object is nil.
func split(body []byte, most int) ([][]member, error) {
	bad := errs.Refuse(errs.Invalid, "Manifest must be valid JSON.\n")
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	first, err := d.Token()
	if err != nil {
		return nil, bad
	}
	if first != json.Delim('[') {
		if !json.Valid(body) {
			return nil, bad
		}
		return nil, errs.Refuse(errs.Invalid, "Manifest must be a list.\n")
	}
	var list [][]member
	for d.More() {
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, bad
		}
		list = append(list, members(raw))
		if len(list) > 10*most+1000 { // inline data and all: what is read is bounded
			return nil, tooMany(most)
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, bad
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, bad
	}
	return list, nil
}

// members reads a JSON object. What is none is nil.
func members(raw json.RawMessage) []member {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil
	}
	list := []member{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil
		}
		text, ok := key.(string)
		var value any
		if !ok || d.Decode(&value) != nil {
			return nil
		}
		list = append(list, member{text, value})
	}
	return list
}

// keysOf are the keys that a segment may have beside the one that says its sort.
var keysOf = map[string][]string{"data": {"data"}, "path": {"path", "range", "etag", "size_bytes"}}

// segment reads one segment. why says what is wrong with it.
func segment(keys []member, own name.Path, last bool) (w wanted, why string) {
	if keys == nil {
		return w, "not a JSON object"
	}
	values := map[string]any{}
	var twice string
	for _, m := range keys {
		if _, ok := values[m.key]; ok {
			twice = m.key
		}
		values[m.key] = m.value
	}
	sort := "data"
	if _, ok := values[sort]; !ok {
		sort = "path"
	}
	if _, ok := values[sort]; !ok {
		return w, "expected keys to include one of 'data' or 'path'"
	}
	var extra []string
	for key := range values {
		if !slices.Contains(keysOf[sort], key) {
			extra = append(extra, strconv.QuoteToASCII(key))
		}
	}
	slices.Sort(extra)
	switch {
	case len(extra) > 0:
		return w, "extraneous keys " + strings.Join(extra, ", ")
	case twice != "":
		return w, "key " + strconv.QuoteToASCII(twice) + " is there twice"
	case sort == "data":
		return inline(values["data"])
	}
	return object(values, own, last)
}

// inline reads data that stands in the manifest.
func inline(value any) (w wanted, why string) {
	text, ok := value.(string)
	data, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		data, err = base64.RawStdEncoding.Strict().DecodeString(text)
	}
	switch {
	case !ok || err != nil || strings.ContainsAny(text, "\r\n"):
		return w, "data must be valid base64"
	case len(data) == 0:
		return w, tooSmall
	}
	return wanted{data: data, plain: true, size: -1}, ""
}

const tooSmall = "too small; each segment must be at least 1 byte."

// object reads a segment that is an object.
func object(values map[string]any, own name.Path, last bool) (w wanted, why string) {
	text, ok := values["path"].(string)
	if !ok {
		return w, `"path" must be a string`
	}
	w = wanted{text: text, size: -1}
	if v := values["etag"]; v != nil {
		if w.etag, ok = v.(string); !ok {
			return w, `"etag" must be a string or null (if provided)`
		}
	}
	if w.path, ok = pathOf(own.Account, text); !ok {
		return w, "path does not refer to an object. Path must be of the form /container/object."
	}
	if v := values["size_bytes"]; v != nil {
		if w.size, ok = integer(v); !ok || w.size < 0 {
			return w, "invalid size_bytes"
		}
		if w.size == 0 && !last {
			return w, tooSmall
		}
	}
	if w.path == own {
		return w, "manifest must not include itself as a segment"
	}
	if v := values["range"]; v != nil && v != "" {
		return ranged(w, v)
	}
	return w, ""
}

// ranged reads the range of a segment.
func ranged(w wanted, value any) (wanted, string) {
	text, ok := value.(string)
	if !ok {
		return w, "invalid range"
	}
	w.span = text
	for part := range strings.SplitSeq(text, ",") {
		if _, extent := spanOf(part, 1<<62); extent == conditional.Whole {
			return w, "invalid range"
		}
	}
	if strings.Contains(text, ",") {
		return w, "multiple ranges (only one allowed)"
	}
	if _, extent := spanOf(text, w.size); w.size >= 0 && extent != conditional.Partial {
		return w, "unsatisfiable range"
	}
	return w, ""
}

// spanOf works out a range of an object. Whole is one that can't be read.
func spanOf(text string, size int64) (conditional.Span, conditional.Extent) {
	r := conditional.Request{Range: "bytes=" + text}
	spans, extent := r.Spans(conditional.Validators{}, size)
	if extent != conditional.Partial {
		return conditional.Span{}, extent
	}
	return spans[0], extent
}

// integer reads a number that JSON has as such or as a string.
func integer(v any) (int64, bool) {
	var text string
	switch n := v.(type) {
	case json.Number:
		text = n.String()
	case string:
		text = strings.TrimSpace(n)
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil
}

// pathOf reads "/container/object", as manifests have it: not percent-encoded.
func pathOf(account, text string) (name.Path, bool) {
	container, object, ok := strings.Cut(strings.TrimLeft(text, "/"), "/")
	if !ok || strings.Trim(object, "/") == "" || strings.Contains(text, name.Reserved) {
		return name.Path{}, false
	}
	return name.Path{Account: account, Container: container, Object: object}, true
}

// stored is a segment as a manifest keeps it.
type stored struct {
	Name         string `json:"name,omitempty"` // "/container/object"
	Bytes        int64  `json:"bytes"`          // of the object
	Hash         string `json:"hash,omitempty"` // its ETag
	ContentType  string `json:"content_type,omitempty"`
	LastModified string `json:"last_modified,omitempty"`
	Range        string `json:"range,omitempty"`   // "first-last"
	Sub          bool   `json:"sub_slo,omitempty"` // it is a large object of the same sort

	Data []byte `json:"data,omitempty"` // of the manifest itself; then all else is empty
}

// MarshalJSON leaves out of inline data what is of objects only.
func (s stored) MarshalJSON() ([]byte, error) {
	if s.Data != nil {
		return json.Marshal(struct {
			Data []byte `json:"data"`
		}{s.Data})
	}
	type plain stored
	return json.Marshal(plain(s))
}

// span returns which bytes of the object the segment is.
func (s *stored) span() (conditional.Span, error) {
	if s.Data != nil {
		return conditional.Span{N: int64(len(s.Data))}, nil
	}
	if s.Range == "" {
		return conditional.Span{N: s.Bytes}, nil
	}
	first, last, ok := strings.Cut(s.Range, "-")
	from, err := strconv.ParseInt(first, 10, 64)
	to, err2 := strconv.ParseInt(last, 10, 64)
	if !ok || err != nil || err2 != nil || from < 0 || to < from || to >= s.Bytes {
		return conditional.Span{}, fmt.Errorf("the range %q of %d bytes", s.Range, s.Bytes)
	}
	return conditional.Span{Off: from, N: to - from + 1}, nil
}

// manifest is a manifest that was read, checked.
type manifest struct {
	account  string // that it and its segments are in
	segments []stored
	spans    []conditional.Span
	size     int64
	etag     string
}

// read reads a manifest as it is kept. One that can't be read is of kind
// errs.Corrupt: nothing but this package writes them.
func read(body []byte) (*manifest, error) {
	const op errs.Op = "slo.read"
	m := &manifest{}
	if err := json.Unmarshal(body, &m.segments); err != nil {
		return nil, errs.E(op, errs.Corrupt, err)
	}
	for i := range m.segments {
		s := &m.segments[i]
		span, err := s.span()
		if _, ok := pathOf("a", s.Name); err != nil || !ok && s.Data == nil || s.Bytes < 0 || m.size+span.N < m.size {
			return nil, errs.E(op, errs.Corrupt, fmt.Errorf("segment %d, %q: %w", i, s.Name, err))
		}
		m.spans = append(m.spans, span)
		m.size += span.N
	}
	m.etag = etagOf(m.segments)
	return m, nil
}

// etagOf is the ETag of a large object: the MD5 of its segments' ETags, each with
// its range where it has one, and of the MD5 of inline data.
func etagOf(segments []stored) string {
	sum := md5.New()
	for _, s := range segments {
		switch {
		case s.Data != nil:
			one := md5.Sum(s.Data)
			_, _ = io.WriteString(sum, hex.EncodeToString(one[:])) // never fails
		case s.Range != "":
			_, _ = fmt.Fprintf(sum, "%s:%s;", s.Hash, s.Range)
		default:
			_, _ = io.WriteString(sum, s.Hash)
		}
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// raw writes a manifest in the form in which clients put it.
func (m *manifest) raw() ([]byte, error) {
	type put struct {
		ETag  string `json:"etag"`
		Path  string `json:"path"`
		Range string `json:"range,omitempty"`
		Size  int64  `json:"size_bytes"`
	}
	list := make([]any, len(m.segments))
	for i, s := range m.segments {
		if s.Data != nil {
			list[i] = s
			continue
		}
		list[i] = put{s.Hash, s.Name, s.Range, s.Bytes}
	}
	return json.Marshal(list)
}
