package conditional

import "fmt"

// ContentRange returns the field of that name in an answer with a span of so many bytes.
func ContentRange(s Span, length int64) string {
	return fmt.Sprintf("bytes %d-%d/%d", s.Off, s.Off+s.N-1, length)
}

// A Part of a body is some text and then some bytes of the representation.
type Part struct {
	Text string
	Span Span
}

// Multipart lays several spans out as multipart/byteranges, of a representation of that type and
// length. The boundary is for the caller to choose; MultipartType names it.
func Multipart(spans []Span, boundary, contentType string, length int64) []Part {
	parts := make([]Part, 0, len(spans)+1)
	lead := ""
	for _, span := range spans {
		text := fmt.Sprintf("%s--%s\r\nContent-Type: %s\r\nContent-Range: %s\r\n\r\n", lead, boundary, contentType, ContentRange(span, length))
		parts = append(parts, Part{Text: text, Span: span})
		lead = "\r\n"
	}
	return append(parts, Part{Text: "\r\n--" + boundary + "--"})
}

// MultipartType is the type of what Multipart lays out.
func MultipartType(boundary string) string { return "multipart/byteranges;boundary=" + boundary }

// Length returns how many bytes parts have.
func Length(parts []Part) int64 {
	var n int64
	for _, p := range parts {
		n += int64(len(p.Text)) + p.Span.N
	}
	return n
}
