package clusterkey

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"martlet/internal/backend"
)

// Header is the field that carries a signature.
const Header = "X-Backend-Signature"

const (
	nonceSize = 16
	maxField  = 1024 // bytes
	version   = "1"
)

var errField = errors.New("the signature can't be read")

// signature is what the field of a request says.
type signature struct {
	key   string
	time  time.Time // whole microseconds
	nonce [nonceSize]byte
	to    string // the address that it was sent to
	mac   mac
}

func (s *signature) String() string {
	return strings.Join([]string{
		version, s.key, strconv.FormatInt(s.time.UnixMicro(), 10), hex.EncodeToString(s.nonce[:]), s.to, hex.EncodeToString(s.mac[:]),
	}, " ")
}

// parseSignature reads the field of a request. Each has one form only.
func parseSignature(text string) (s signature, err error) {
	parts, ok := fields(text, 6)
	if !ok || len(parts[4]) == 0 {
		return s, errField
	}
	n, err := strconv.ParseInt(parts[2], 10, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != parts[2] {
		return s, errField
	}
	s.key, s.time, s.to = parts[1], time.UnixMicro(n), parts[4]
	if !unhex(s.nonce[:], parts[3]) || !unhex(s.mac[:], parts[5]) {
		return s, errField
	}
	return s, nil
}

// answered is the field of an answer.
func answered(key string, m *mac) string {
	return strings.Join([]string{version, key, hex.EncodeToString(m[:])}, " ")
}

func parseAnswered(text string) (key string, m mac, err error) {
	parts, ok := fields(text, 3)
	if !ok || !unhex(m[:], parts[2]) {
		return "", m, errField
	}
	return parts[1], m, nil
}

// fields cuts the text of a field into so many parts, of which the first is the version and the
// second the id of a key.
func fields(text string, n int) ([]string, bool) {
	if len(text) > maxField {
		return nil, false
	}
	parts := strings.Split(text, " ")
	var id [4]byte
	return parts, len(parts) == n && parts[0] == version && unhex(id[:], parts[1])
}

// unhex reads digits in lower case into all of b.
func unhex(b []byte, text string) bool {
	if len(text) != 2*len(b) || strings.ToLower(text) != text {
		return false
	}
	_, err := hex.Decode(b, []byte(text))
	return err == nil
}

// The fields that are not signed, and not handed on: they are about the connection, or added
// on the way.
var (
	ofRequest = map[string]bool{
		"connection": true, "content-length": true, "expect": true, "host": true, "keep-alive": true, "proxy-connection": true,
		"te": true, "trailer": true, "transfer-encoding": true, "upgrade": true, "user-agent": true, "x-backend-signature": true,
	}
	ofAnswer = map[string]bool{
		"connection": true, "content-length": true, "date": true, "keep-alive": true, "trailer": true, "transfer-encoding": true,
		"upgrade": true, "x-backend-signature": true, "x-openstack-request-id": true, "x-trans-id": true,
	}
)

// lowered is a field with its name in lower case.
type lowered struct{ name, value string }

// signed returns the fields that are signed, in order of name.
func signed(h backend.Header, without map[string]bool) []lowered {
	all := make([]lowered, 0, len(h))
	for _, f := range h {
		if name := strings.ToLower(f.Name); !without[name] {
			all = append(all, lowered{name, strings.Trim(f.Value, " \t")})
		}
	}
	slices.SortStableFunc(all, func(a, b lowered) int { return strings.Compare(a.name, b.name) })
	return all
}

// strip returns the fields that are signed, as they came.
func strip(h backend.Header, without map[string]bool) backend.Header {
	kept := make(backend.Header, 0, len(h))
	for _, f := range h {
		if !without[strings.ToLower(f.Name)] {
			kept = append(kept, f)
		}
	}
	return kept
}

// maxBuffer is the size up to which buffers are kept.
const maxBuffer = 64 << 10

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 1024); return &b }}

// text builds what a MAC is over.
type text []byte

func (t text) string(s string) text {
	return append(binary.BigEndian.AppendUint32(t, uint32(len(s))), s...)
}

func (t text) bytes(b []byte) text {
	return append(binary.BigEndian.AppendUint32(t, uint32(len(b))), b...)
}

func (t text) number(n int64) text { return binary.BigEndian.AppendUint64(t, uint64(n)) }

func (t text) header(h backend.Header, without map[string]bool) text {
	all := signed(h, without)
	t = t.number(int64(len(all)))
	for _, f := range all {
		t = t.string(f.name).string(f.value)
	}
	return t
}

// over is the MAC over what is built.
func (k *key) over(build func(text) text) mac {
	b := buffers.Get().(*[]byte) //nolint:forcetypeassert // the pool holds nothing else
	t := build((*b)[:0])
	m := k.mac(t)
	if cap(t) <= maxBuffer {
		*b = t
		buffers.Put(b)
	}
	return m
}

// request is the MAC of a request, whose body has so many bytes.
func (k *key) request(s *signature, r *backend.Request, length int64) mac {
	return k.over(func(t text) text {
		t = t.string("martlet request 1").string(s.to).number(s.time.UnixMicro()).bytes(s.nonce[:])
		return t.string(r.Method).string(r.Path).string(r.Query).number(length).header(r.Header, ofRequest)
	})
}

// answer is the MAC of an answer to a request.
func (k *key) answer(to *mac, r *backend.Response, length int64) mac {
	return k.over(func(t text) text {
		return t.string("martlet answer 1").bytes(to[:]).number(int64(r.Status)).number(length).header(r.Header, ofAnswer)
	})
}
