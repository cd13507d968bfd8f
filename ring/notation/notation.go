// Package notation is how devices of a ring are written on a command line, as
// operators of Swift know it: a device to add,
//
//	[r<region>]z<zone>-<ip>:<port>[R<ip>:<port>]/<device>[_<meta>]
//
// with the address on the replication network behind R, and what devices are looked for
// by, of which each part may be left out:
//
//	d<id>r<region>z<zone>-<ip>:<port>R<ip>:<port>/<device>_<meta>
//
// IPv6 addresses are in brackets. Beyond Swift's, host names may stand for addresses:
// in a search only behind the dash, as they could not be told from the other parts.
//
// The package promises that a device that it reads is written so that it is read back as
// it was; and that what FormatID writes finds the device, and no other, whatever ring the
// device is from. A name with a _ in it is written as it is, and can only be looked for:
// in a device to add the first _ ends the name. It leaves to others whether a ring can
// have a device (ring.Device.Validate).
package notation

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"martlet/ring"
)

// ErrSyntax is wrapped by every error about a text that can't be read.
var ErrSyntax = errors.New("can't be read")

func bad(text, format string, args ...any) error {
	return fmt.Errorf("%q %w: %s", text, ErrSyntax, fmt.Sprintf(format, args...))
}

// Device reads a device to add. Without a region it gets region 1, as in Swift, and
// defaulted is true.
func Device(text string) (d ring.Device, defaulted bool, err error) {
	s := scanner{text: text, rest: text}
	d.Region = 1
	if n, ok := s.number('r'); ok {
		d.Region = n
	} else {
		defaulted = true
	}
	var ok bool
	if d.Zone, ok = s.number('z'); !ok && s.err == nil {
		s.fail("it has no zone; the form is [r<region>]z<zone>-<ip>:<port>[R<ip>:<port>]/<device>[_<meta>]")
	}
	if !s.prefix("-") {
		s.fail("there is no \"-\" between the zone and the address")
	}
	d.IP, d.Port = s.address("")
	if s.prefix("R") {
		d.ReplicationIP, d.ReplicationPort = s.address("replication ")
	}
	if !s.prefix("/") {
		s.fail("there is no \"/\" before the name of the device")
	}
	d.Name = s.until('_')
	if d.Name == "" {
		s.fail("the device has no name")
	}
	if s.prefix("_") {
		d.Meta = s.rest
	}
	if s.err != nil {
		return ring.Device{}, false, s.err
	}
	return d, defaulted, nil
}

// Format writes a device as Device reads it, with the replication address where it is
// another.
func Format(d *ring.Device) string {
	text := fmt.Sprintf("r%dz%d-%s", d.Region, d.Zone, address(d.Addr()))
	if d.ReplicationAddr() != d.Addr() {
		text += "R" + address(d.ReplicationAddr())
	}
	return text + describe(d)
}

// describe writes the name of a device, and the text about it.
func describe(d *ring.Device) string {
	if d.Meta == "" {
		return "/" + d.Name
	}
	return "/" + d.Name + "_" + d.Meta
}

// address writes an address and port with the address in the form of Host: rings may
// have others, of which an R in a name would be taken for the replication address.
func address(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	form, err := Host(host)
	if err != nil {
		return addr
	}
	return net.JoinHostPort(form, port)
}

// FormatID writes a device with its id in front, as a search for just that one. What
// can't be read in a search, such as an address that is none, is left out.
func FormatID(d *ring.Device) string {
	id, place := fmt.Sprintf("d%d", d.ID), fmt.Sprintf("r%dz%d", d.Region, d.Zone)
	for _, text := range []string{id + Format(d), id + place + describe(d), id + place} {
		if f, err := ParseSearch(text); err == nil && f.Match(d) {
			return text
		}
	}
	return id
}

// Host brings an address to one form: IPv6 without brackets, in lower case and as short
// as it can be; host names in lower case.
func Host(text string) (string, error) {
	plain := strings.ToLower(text)
	inner, opened := strings.CutPrefix(plain, "[")
	inner, closed := strings.CutSuffix(inner, "]")
	if opened != closed {
		return "", fmt.Errorf("%q %w: it has one bracket without the other", text, ErrSyntax)
	}
	if a, err := netip.ParseAddr(inner); err == nil {
		if opened && a.Is4() {
			return "", fmt.Errorf("%q %w: brackets are for IPv6 addresses", text, ErrSyntax)
		}
		return a.String(), nil
	}
	if opened || !hostname(inner) {
		return "", fmt.Errorf("%q %w: it is neither an IP address nor a host name", text, ErrSyntax)
	}
	return inner, nil
}

// hostname reports whether a text could be one: labels of letters, digits and inner
// dashes, the last of them not a number, so that a mistyped address is none.
func hostname(s string) bool {
	labels := strings.Split(strings.TrimSuffix(s, "."), ".")
	for _, l := range labels {
		odd := func(c rune) bool { return c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') }
		if l == "" || len(l) > 63 || strings.HasPrefix(l, "-") || strings.HasSuffix(l, "-") || strings.ContainsFunc(l, odd) {
			return false
		}
	}
	last := labels[len(labels)-1]
	return len(s) <= 255 && strings.Trim(last, "0123456789") != ""
}

// Search is what devices are looked for by: parts that are nil match any.
type Search struct {
	ID, Region, Zone *int
	IP               *string
	Port             *int
	ReplicationIP    *string
	ReplicationPort  *int
	Name             *string
	Weight           *float64
	Meta             *string // a part of the device's

	// described is what is behind the slash of a text with a _ in it. Rings may have
	// names with one, too: which of them ends the name is for the device to say.
	described *string
}

// ParseSearch reads a search, which has at least one part.
func ParseSearch(text string) (Search, error) {
	s := scanner{text: text, rest: text, search: true}
	f := Search{ID: s.optional('d')}
	s.parts(&f)
	if f.Name != nil && f.Meta != nil {
		described := *f.Name + "_" + *f.Meta
		f.described = &described
	}
	if s.err == nil && f == (Search{}) {
		s.fail("it has no part of d<id>r<region>z<zone>-<ip>:<port>R<ip>:<port>/<device>_<meta>")
	}
	if s.err != nil {
		return Search{}, s.err
	}
	return f, nil
}

// ParseInfo reads what is to be changed about devices: a search without an id.
func ParseInfo(text string) (Search, error) {
	s := scanner{text: text, rest: text}
	var f Search
	s.parts(&f)
	if s.err == nil && f == (Search{}) {
		s.fail("it has no part of r<region>z<zone>-<ip>:<port>R<ip>:<port>/<device>_<meta>")
	}
	if s.err != nil {
		return Search{}, s.err
	}
	return f, nil
}

// Empty reports whether a search has no part, and so matches everything.
func (f *Search) Empty() bool { return *f == Search{} }

// Match reports whether a device is what is looked for.
func (f *Search) Match(d *ring.Device) bool {
	rip, rport := d.ReplicationIP, d.ReplicationPort
	if rip == "" {
		rip = d.IP
	}
	if rport == 0 {
		rport = d.Port
	}
	return is(f.ID, d.ID) && is(f.Region, d.Region) && is(f.Zone, d.Zone) &&
		host(f.IP, d.IP) && is(f.Port, d.Port) && host(f.ReplicationIP, rip) && is(f.ReplicationPort, rport) &&
		is(f.Weight, d.Weight) && f.describes(d)
}

// describes reports whether the name of a device, and the text about it, are what is
// looked for.
func (f *Search) describes(d *ring.Device) bool {
	if f.described != nil {
		if rest, ok := strings.CutPrefix(*f.described, d.Name); ok {
			meta, ok := strings.CutPrefix(rest, "_")
			return rest == "" || ok && strings.Contains(d.Meta, meta)
		}
		return false
	}
	return is(f.Name, d.Name) && (f.Meta == nil || strings.Contains(d.Meta, *f.Meta))
}

func is[T comparable](want *T, got T) bool { return want == nil || *want == got }

// host compares addresses in one form, as rings may have them in any.
func host(want *string, got string) bool {
	if want == nil {
		return true
	}
	if form, err := Host(got); err == nil {
		got = form
	}
	return *want == got
}

// Apply puts the parts of a search into a device; its meta as a whole.
func (f *Search) Apply(d *ring.Device) {
	put(f.Region, &d.Region)
	put(f.Zone, &d.Zone)
	put(f.IP, &d.IP)
	put(f.Port, &d.Port)
	put(f.ReplicationIP, &d.ReplicationIP)
	put(f.ReplicationPort, &d.ReplicationPort)
	put(f.Name, &d.Name)
	put(f.Weight, &d.Weight)
	put(f.Meta, &d.Meta)
}

func put[T any](from *T, to *T) {
	if from != nil {
		*to = *from
	}
}

// scanner reads a text from its beginning, and keeps the first thing that is wrong.
type scanner struct {
	text, rest string
	search     bool // of devices that are there
	err        error
}

func (s *scanner) fail(format string, args ...any) {
	if s.err == nil {
		s.err = bad(s.text, format, args...)
	}
}

func (s *scanner) prefix(p string) bool {
	rest, ok := strings.CutPrefix(s.rest, p)
	s.rest = rest
	return ok
}

// until takes what is before any of some characters, or all.
func (s *scanner) until(stops ...rune) string {
	at := strings.IndexFunc(s.rest, func(c rune) bool { return slices.Contains(stops, c) })
	if at < 0 {
		at = len(s.rest)
	}
	head := s.rest[:at]
	s.rest = s.rest[at:]
	return head
}

func (s *scanner) digits() string {
	n := len(s.rest) - len(strings.TrimLeft(s.rest, "0123456789"))
	head := s.rest[:n]
	s.rest = s.rest[n:]
	return head
}

// number takes a letter and the number behind it.
func (s *scanner) number(letter byte) (n int, ok bool) {
	if !s.prefix(string(letter)) {
		return 0, false
	}
	return s.integer("no number is behind %q", string(letter)), true
}

func (s *scanner) integer(missing string, of string) int {
	text := s.digits()
	if text == "" {
		s.fail(missing, of)
		return 0
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		s.fail("%s is too large", text)
	}
	return int(n)
}

func (s *scanner) optional(letter byte) *int {
	n, ok := s.number(letter)
	if !ok {
		return nil
	}
	return &n
}

// address takes an address with its port.
func (s *scanner) address(of string) (host string, port int) {
	if strings.HasPrefix(s.rest, "[") {
		host = s.bracketed()
	} else {
		end := strings.IndexAny(s.rest+"/", "R/")
		if strings.Count(s.rest[:end], ":") > 1 {
			s.fail("an IPv6 address has to be in brackets")
		}
		host = s.until(':', '/')
	}
	host = s.normal(host, of)
	if !s.prefix(":") {
		s.fail("the %saddress has no port", of)
	}
	return host, s.port(of)
}

// bracketed takes an address in brackets, with them.
func (s *scanner) bracketed() string {
	text := s.until(']')
	if !s.prefix("]") {
		s.fail("the bracket of %q is not closed", text)
	}
	return text + "]"
}

func (s *scanner) port(of string) int {
	n := s.integer("the %saddress has no port", of)
	if s.err == nil && (n < 1 || n > 65535) {
		s.fail("port %d is not within 1 and 65535", n)
	}
	return n
}

func (s *scanner) normal(host, of string) string {
	form, err := Host(host)
	if err != nil {
		s.fail("the %saddress %q is neither an IP address nor a host name", of, host)
	}
	return form
}

// parts takes all parts of a search but the id.
func (s *scanner) parts(f *Search) {
	f.Region, f.Zone = s.optional('r'), s.optional('z')
	f.IP = s.some(s.prefix("-"))
	if s.prefix(":") {
		n := s.port("")
		f.Port = &n
	}
	if s.prefix("R") {
		f.ReplicationIP = s.some(true)
		if s.prefix(":") {
			n := s.port("replication ")
			f.ReplicationPort = &n
		}
		if f.ReplicationIP == nil && f.ReplicationPort == nil {
			s.fail("nothing is behind \"R\"")
		}
	}
	if s.prefix("/") {
		n := s.until('_')
		f.Name = &n
		if n == "" && (!s.search || s.rest == "") { // rings may have names that begin with a _
			s.fail("the device has no name")
		}
	}
	if s.prefix("_") {
		meta := s.rest
		f.Meta, s.rest = &meta, ""
	}
	if s.rest != "" {
		s.fail("%q is no part of d<id>r<region>z<zone>-<ip>:<port>R<ip>:<port>/<device>_<meta>, or not in its place", s.rest)
	}
}

// some takes an address without its port, if there is one. Names are only taken where
// nothing else can be meant.
func (s *scanner) some(named bool) *string {
	var text string
	switch {
	case strings.HasPrefix(s.rest, "["):
		text = s.bracketed()
	case named:
		text = s.until(':', '/', '_', 'R')
	default:
		n := len(s.rest) - len(strings.TrimLeft(s.rest, "0123456789."))
		text, s.rest = s.rest[:n], s.rest[n:]
	}
	if text == "" {
		return nil
	}
	text = s.normal(text, "")
	return &text
}
