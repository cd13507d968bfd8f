package replwire

import (
	"encoding/binary"
	"math"

	"martlet/internal/backend"
	"martlet/internal/name"
)

// The kinds of lists by which many versions are pushed at once.
const (
	pushes  byte = 'u'
	results byte = 'r'
)

// What a list of pushes may hold. A list has at most MaxPushes of MaxPushBytes together.
const (
	MaxPushes    = 256
	MaxPushBytes = 4 << 20

	maxFields   = 256
	maxText     = 256 // bytes of the text in a result
	pushSize    = 1 + 4 + 3*2 + 2 + 4
	resultSize  = 2 + 1 + 2
	putMethod   = 'P'
	metaMethod  = 'M'
	deathMethod = 'D'
)

// Push is one version, or a part of one, that a device is to take: what a request of its
// own would say, but for what all requests of one pass have in common.
type Push struct {
	Method    string // PUT, POST or DELETE
	Partition uint32 // of the sender's part power
	Path      name.Path
	Header    backend.Header
	Body      []byte // of PUT
}

// Pushes is a list of pushes that is being made. The zero Pushes is empty.
type Pushes struct {
	b     []byte
	count int
}

// Len is how many pushes there are.
func (p *Pushes) Len() int { return p.count }

// Reset makes it empty again. What Encoded has returned is not valid any more.
func (p *Pushes) Reset() { p.b, p.count = p.b[:0], 0 }

// Fits reports whether a push can be in a list at all; if not, it goes alone.
func (x *Push) Fits() bool {
	if method(x.Method) == 0 || len(x.Header) > maxFields || x.size()+headSize+tailSize > MaxPushBytes {
		return false
	}
	for _, text := range []string{x.Path.Account, x.Path.Container, x.Path.Object} {
		if len(text) > math.MaxUint16 {
			return false
		}
	}
	for _, f := range x.Header {
		if !f.Valid() || len(f.Name) > math.MaxUint16 || len(f.Value) > math.MaxUint16 {
			return false
		}
	}
	return true
}

func (x *Push) size() int {
	n := pushSize + len(x.Path.Account) + len(x.Path.Container) + len(x.Path.Object) + len(x.Body)
	for _, f := range x.Header {
		n += 4 + len(f.Name) + len(f.Value)
	}
	return n
}

// Room reports whether there is room for all of some pushes that Fit.
func (p *Pushes) Room(all ...Push) bool {
	size := max(len(p.b), headSize) + tailSize
	for i := range all {
		size += all[i].size()
	}
	return p.count+len(all) <= MaxPushes && size <= MaxPushBytes
}

// Add adds a push that Fits and for which there is Room. It keeps nothing of it.
func (p *Pushes) Add(x *Push) {
	if p.count == 0 {
		p.b = Begin(p.b[:0], pushes)
	}
	be := binary.BigEndian
	p.b = be.AppendUint32(append(p.b, method(x.Method)), x.Partition)
	p.b = appendText(appendText(appendText(p.b, x.Path.Account), x.Path.Container), x.Path.Object)
	p.b = be.AppendUint16(p.b, uint16(len(x.Header)))
	for _, f := range x.Header {
		p.b = appendText(appendText(p.b, f.Name), f.Value)
	}
	p.b = append(be.AppendUint32(p.b, uint32(len(x.Body))), x.Body...)
	p.count++
}

// Encoded returns the encoded list, which is not empty, and ends it: nothing can be added
// before Reset.
func (p *Pushes) Encoded() []byte { return End(p.b, p.count, false) }

func method(text string) byte {
	switch text {
	case "PUT":
		return putMethod
	case "POST":
		return metaMethod
	case "DELETE":
		return deathMethod
	}
	return 0
}

func appendText(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// ParsePushes reads an encoded list of pushes, whose bodies are a part of b. What a server
// would not take as a request of its own is left to it, but for what is no header. The error
// wraps ErrList.
func ParsePushes(b []byte) ([]Push, error) {
	if len(b) > MaxPushBytes {
		return nil, bad("%d bytes of pushes", len(b))
	}
	records, count, more, err := Open(b, pushes)
	if err != nil {
		return nil, err
	}
	if count == 0 || count > MaxPushes || more {
		return nil, bad("%d pushes", count)
	}
	d := decoder{rest: records}
	list := make([]Push, count)
	for i := range list {
		d.push(&list[i])
	}
	return list, d.end()
}

// Result is what has become of one push.
type Result struct {
	Status  int    // as it would be if the push had come alone
	Primary bool   // the device takes itself for a primary of the push's partition
	Text    string // for who reads a report; long ones are cut
}

// AppendResults appends the encoded results to b, which must be empty.
func AppendResults(b []byte, list []Result) []byte {
	b = Begin(b, results)
	for i := range list {
		r := &list[i]
		primary := byte(0)
		if r.Primary {
			primary = 1
		}
		b = append(binary.BigEndian.AppendUint16(b, uint16(r.Status)), primary)
		b = appendText(b, r.Text[:min(len(r.Text), maxText)])
	}
	return End(b, len(list), false)
}

// ParseResults reads the encoded results of so many pushes. The error wraps ErrList.
func ParseResults(b []byte, of int) ([]Result, error) {
	records, count, more, err := Open(b, results)
	if err != nil {
		return nil, err
	}
	if count != of || more {
		return nil, bad("%d results of %d pushes", count, of)
	}
	d := decoder{rest: records}
	list := make([]Result, count)
	for i := range list {
		r := &list[i]
		r.Status = int(d.uint16())
		primary := d.byte()
		r.Primary, r.Text = primary == 1, d.text()
		if d.err == nil && (r.Status < 200 || r.Status > 599 || primary > 1 || len(r.Text) > maxText) {
			d.fail("result %d: status %d, primary %d, a text of %d bytes", i, r.Status, primary, len(r.Text))
		}
	}
	return list, d.end()
}

// decoder reads records. After the first failure all that it returns is zero.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = bad(format, args...)
	}
	d.rest = nil
}

func (d *decoder) take(n int) []byte {
	if n > len(d.rest) {
		d.fail("it ends in the middle")
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) uint16() uint16 {
	if b := d.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (d *decoder) uint32() uint32 {
	if b := d.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) text() string { return string(d.take(int(d.uint16()))) }

func (d *decoder) push(x *Push) {
	switch m := d.byte(); m {
	case putMethod:
		x.Method = "PUT"
	case metaMethod:
		x.Method = "POST"
	case deathMethod:
		x.Method = "DELETE"
	default:
		d.fail("method %q", m)
	}
	x.Partition = d.uint32()
	x.Path = name.Path{Account: d.text(), Container: d.text(), Object: d.text()}
	n := int(d.uint16())
	if n > maxFields || n*4 > len(d.rest) {
		d.fail("%d header fields in %d bytes", n, len(d.rest))
		return
	}
	x.Header = make(backend.Header, n)
	for i := range x.Header {
		f := &x.Header[i]
		*f = backend.Field{Name: d.text(), Value: d.text()}
		if d.err == nil && !f.Valid() {
			d.fail("header field %.100q: %.100q", f.Name, f.Value)
		}
	}
	if x.Body = d.take(int(d.uint32())); len(x.Body) > 0 && x.Method != "PUT" {
		d.fail("%s has a body", x.Method)
	}
}

// end is the error of everything that was read.
func (d *decoder) end() error {
	if d.err == nil && len(d.rest) > 0 {
		d.fail("%d bytes are left over", len(d.rest))
	}
	return d.err
}
