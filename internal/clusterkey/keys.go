package clusterkey

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"martlet/internal/errs"
)

const (
	minKey  = 32       // bytes of a key's text
	maxKey  = 1024     //
	maxKeys = 16       // in a file
	maxFile = 64 << 10 // bytes

	macSize = sha256.Size
)

type mac = [macSize]byte

// key is one key, ready for use by many at once.
type key struct {
	id   string    // 8 hexadecimal digits that say nothing of it
	pool sync.Pool // of hash.Hash
}

func newKey(secret []byte) *key {
	k := &key{}
	k.pool.New = func() any { return hmac.New(sha256.New, secret) }
	sum := k.mac([]byte("martlet key id 1"))
	k.id = fmt.Sprintf("%x", sum[:4])
	return k
}

// mac is the MAC over all parts, one behind the other.
func (k *key) mac(parts ...[]byte) (m mac) {
	h := k.pool.Get().(hash.Hash) //nolint:forcetypeassert // the pool holds nothing else
	defer k.pool.Put(h)
	h.Reset()
	for _, p := range parts {
		h.Write(p)
	}
	h.Sum(m[:0])
	return m
}

// Keys are the keys of a cluster at one time: the first signs, all are believed. They are
// safe for concurrent use and never change.
type Keys struct{ list []*key }

// find returns the key of an id, nil where there is none.
func (k *Keys) find(id string) *key {
	for _, one := range k.list {
		if one.id == id {
			return one
		}
	}
	return nil
}

// IDs returns what tells the keys apart in logs, and says nothing of them.
func (k *Keys) IDs() []string {
	all := make([]string, len(k.list))
	for i, one := range k.list {
		all[i] = one.id
	}
	return all
}

// Parse reads a key file: a key on each line, of at least 32 printable characters without
// spaces. Empty lines, and those that begin with #, are not keys. The error names the line and
// nothing that is in it.
func Parse(text []byte) (*Keys, error) {
	k := &Keys{}
	for i, line := range bytes.Split(text, []byte{'\n'}) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		switch {
		case len(line) < minKey || len(line) > maxKey:
			return nil, fmt.Errorf("line %d: a key has from %d to %d characters, this one %d", i+1, minKey, maxKey, len(line))
		case bytes.ContainsFunc(line, func(r rune) bool { return r <= ' ' || r > '~' }):
			return nil, fmt.Errorf("line %d: a key is of printable characters without spaces", i+1)
		case len(k.list) == maxKeys:
			return nil, fmt.Errorf("line %d: there are more than %d keys", i+1, maxKeys)
		}
		one := newKey(bytes.Clone(line))
		if k.find(one.id) != nil {
			return nil, fmt.Errorf("line %d: the key is there twice", i+1)
		}
		k.list = append(k.list, one)
	}
	if len(k.list) == 0 {
		return nil, errors.New("there is no key in it")
	}
	return k, nil
}

// NewFile returns the text of a key file with one new key.
func NewFile() []byte {
	return []byte("# The key of the cluster, the same on every storage node. The first signs, all are believed.\n" + rand.Text() + rand.Text() + "\n")
}

// Load reads a key file, which nobody but its owner may be allowed to read or write.
func Load(path string) (*Keys, error) {
	k, _, err := load(path)
	return k, err
}

func load(path string) (k *Keys, text []byte, err error) {
	const op errs.Op = "clusterkey.load"
	text, err = readPrivate(path)
	if err == nil {
		k, err = Parse(text)
	}
	if err != nil {
		return nil, nil, errs.E(op, errs.Subject(path), errs.Invalid, err)
	}
	return k, text, nil
}

func readPrivate(path string) (text []byte, err error) {
	info, err := os.Stat(path) // before the open, which would wait for a writer if this were a pipe
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if info, err = f.Stat(); err != nil { // of the file that is open
		return nil, err
	}
	if open := info.Mode().Perm() & 0o077; open != 0 {
		return nil, fmt.Errorf("others than its owner may read or write it (mode %04o): chmod 600", info.Mode().Perm())
	}
	text, err = io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("it has more than %d bytes", maxFile)
	}
	return text, err
}

// A Source is the keys that are in use, from a file that may change. It is safe for
// concurrent use.
type Source struct {
	path string
	keys atomic.Pointer[Keys]

	mu   sync.Mutex
	text []byte // guarded by mu; what the file held when the keys were read
}

// Open reads a key file.
func Open(path string) (*Source, error) {
	k, text, err := load(path)
	if err != nil {
		return nil, err
	}
	s := &Source{path: path, text: text}
	s.keys.Store(k)
	return s, nil
}

// Keys returns those that are in use.
func (s *Source) Keys() *Keys { return s.keys.Load() }

// Check looks whether the file has changed, and takes its keys in use. Where it can't be
// used the keys of before stay.
func (s *Source) Check() (reloaded bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, text, err := load(s.path)
	if err != nil || bytes.Equal(text, s.text) {
		return false, err
	}
	s.text = text
	s.keys.Store(k)
	return true, nil
}

// String names the keys, and says nothing of them.
func (k *Keys) String() string { return strings.Join(k.IDs(), ",") }
