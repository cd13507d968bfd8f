// Package name is what things are called: the path of an account, container or
// object, its percent-encoded form, and the hash that decides where it lives.
//
// Paths are parsed once, at the edge, into a Path; nothing further in splits
// strings. The encoded path is split before it is decoded, since a name may
// hold any byte: `%2F` is a slash inside a name, and `//` and `..` are legal in
// the name of an object.
package name

import (
	"crypto/md5" // the hash of the ring's format, not a secret
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Errors of parsing.
var (
	// ErrShape is returned for a path with too few or too many parts, or an
	// empty one where there must be a name.
	ErrShape = errors.New("not a path of account, container and object")
	// ErrEncoding is returned for a part that is not valid percent-encoding.
	ErrEncoding = errors.New("broken percent-encoding")
	// ErrText is returned for a part that holds a NUL or is not UTF-8.
	ErrText = errors.New("not valid UTF-8, or a NUL in it")
)

// Reserved is the byte that begins names which clients can't reach.
const Reserved = "\x00"

// Path names an account, a container in it, or an object in that: decoded, the
// parts that do not apply empty.
type Path struct {
	Account, Container, Object string
}

// String returns the plain form, "/account/container/object".
func (p Path) String() string { return string(p.append(make([]byte, 0, p.size()))) }

func (p Path) size() int { return 3 + len(p.Account) + len(p.Container) + len(p.Object) }

func (p Path) append(b []byte) []byte {
	b = append(append(b, '/'), p.Account...)
	if p.Container == "" {
		return b
	}
	b = append(append(b, '/'), p.Container...)
	if p.Object == "" {
		return b
	}
	return append(append(b, '/'), p.Object...)
}

// Quoted returns the percent-encoded form, "/account/container/object", that
// Parse reads back.
func (p Path) Quoted() string { return string(p.AppendQuoted(make([]byte, 0, p.size()+8))) }

// AppendQuoted appends the percent-encoded form to b.
func (p Path) AppendQuoted(b []byte) []byte {
	b = appendQuoted(append(b, '/'), p.Account, false)
	if p.Container == "" {
		return b
	}
	b = appendQuoted(append(b, '/'), p.Container, false)
	if p.Object == "" {
		return b
	}
	return appendQuoted(append(b, '/'), p.Object, true)
}

// Parent returns the container of an object, the account of a container, and
// an empty path for an account.
func (p Path) Parent() Path {
	switch {
	case p.Object != "":
		return Path{Account: p.Account, Container: p.Container}
	case p.Container != "":
		return Path{Account: p.Account}
	}
	return Path{}
}

// Parse reads a percent-encoded "/account[/container[/object]]". A slash at the
// end of an account or a container is no part. It returns ErrShape,
// ErrEncoding or ErrText.
func Parse(raw string) (Path, error) {
	if !strings.HasPrefix(raw, "/") {
		return Path{}, ErrShape
	}
	var p Path
	rest, more := raw[1:], true
	for _, to := range [...]*string{&p.Account, &p.Container, &p.Object} {
		if !more {
			break
		}
		part := rest
		if to != &p.Object {
			part, rest, more = strings.Cut(rest, "/")
		}
		part, err := Unquote(part)
		if err != nil {
			return Path{}, err
		}
		if strings.Contains(part, Reserved) || !utf8.ValidString(part) {
			return Path{}, ErrText
		}
		*to = part
	}
	if p.Account == "" || p.Container == "" && p.Object != "" {
		return Path{}, ErrShape
	}
	return p, nil
}

const upperHex = "0123456789ABCDEF"

// Quote percent-encodes everything but letters, digits, "_.-~" and the slash.
func Quote(s string) string {
	for i := range len(s) {
		if c := s[i]; !plain(c) && c != '/' {
			return string(appendQuoted(make([]byte, 0, len(s)+8), s, true))
		}
	}
	return s
}

func appendQuoted(b []byte, s string, slashes bool) []byte {
	for i := range len(s) {
		if c := s[i]; plain(c) || slashes && c == '/' {
			b = append(b, c)
		} else {
			b = append(b, '%', upperHex[c>>4], upperHex[c&15])
		}
	}
	return b
}

func plain(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return c == '_' || c == '.' || c == '-' || c == '~'
}

// Unquote decodes percent-encoding; a plus sign stays what it is. Broken
// encoding is ErrEncoding.
func Unquote(s string) (string, error) {
	first := strings.IndexByte(s, '%')
	if first < 0 {
		return s, nil
	}
	b := make([]byte, 0, len(s))
	b = append(b, s[:first]...)
	for i := first; i < len(s); i++ {
		if s[i] != '%' {
			b = append(b, s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", ErrEncoding
		}
		hi, lo := unhex(s[i+1]), unhex(s[i+2])
		if hi < 0 || lo < 0 {
			return "", ErrEncoding
		}
		b = append(b, byte(hi<<4|lo))
		i += 2
	}
	return string(b), nil
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// Hash is the MD5 of a path between the cluster's prefix and suffix, but for versions
// (Hasher.Hash): the key under which a thing is stored, whose top bits are its partition.
type Hash [16]byte

// String returns thirty-two hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// ParseHash reads what String writes, in lower case only.
func ParseHash(s string) (Hash, error) {
	var h Hash
	if len(s) != 2*len(h) || strings.ToLower(s) != s {
		return Hash{}, fmt.Errorf("%.40q is not a hash", s)
	}
	if _, err := hex.Decode(h[:], []byte(s)); err != nil {
		return Hash{}, fmt.Errorf("%.40q is not a hash: %w", s, err)
	}
	return h, nil
}

// A Hasher hashes paths for one cluster. Its prefix and suffix may never change
// in a cluster's life: without them no object is found again.
type Hasher struct {
	prefix, suffix string
}

// ErrNoSalt is returned where both prefix and suffix are empty: anyone could
// then choose names that fall on one device.
var ErrNoSalt = errors.New("hash_path_prefix and hash_path_suffix are both empty")

// NewHasher returns the hasher of a cluster, or ErrNoSalt.
func NewHasher(prefix, suffix string) (Hasher, error) {
	if prefix == "" && suffix == "" {
		return Hasher{}, ErrNoSalt
	}
	return Hasher{prefix, suffix}, nil
}

// Hash returns the hash of a path. Versions of an object, and the container that has
// them, are in the same place as what they are of: the first four bytes are those of its
// hash, and the rest their own. It allocates nothing for names of ordinary length.
func (h Hasher) Hash(p Path) Hash {
	own := h.sum(p)
	if of, ok := p.Versioned(); ok {
		near := h.sum(of)
		copy(own[:placement], near[:placement])
	}
	return own
}

// sum is the MD5 of a path between prefix and suffix.
func (h Hasher) sum(p Path) Hash {
	var room [512]byte
	b := append(room[:0], h.prefix...)
	b = p.append(b)
	b = append(b, h.suffix...)
	return md5.Sum(b)
}

// Fingerprint returns sixteen hexadecimal digits that tell one cluster's prefix
// and suffix from another's without giving them away.
func (h Hasher) Fingerprint() string {
	sum := md5.Sum([]byte("fingerprint\x00" + h.prefix + "\x00" + h.suffix))
	return hex.EncodeToString(sum[:8])
}
