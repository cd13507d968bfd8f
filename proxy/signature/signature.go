// Package signature is signatures that take the place of a sender: HMACs with the keys
// that the owner of an account set, as metadata of it or of a container. Each opens no
// more than that account, or that container.
//
// The keys, the digests and the forms of signatures are Swift's.
package signature

import (
	"context"
	"crypto/hmac"
	"crypto/sha1" // what older clients sign with, where an operator allows it
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"
	"strings"

	"martlet/internal/name"
	"martlet/proxy/chain"
)

// digests are those that there are.
var digests = map[string]func() hash.Hash{"sha1": sha1.New, "sha256": sha256.New, "sha512": sha512.New}

// Digests are the names of those that signatures may be made by.
type Digests []string

// Defaults returns Swift's.
func Defaults() Digests { return Digests{"sha256", "sha512"} }

// Validate checks that all are digests that there are. An error names key, which is
// that of the operator's file.
func (d Digests) Validate(key string) error {
	for _, n := range d {
		if digests[n] == nil {
			return fmt.Errorf("key %q: value %q: it is none of sha1, sha256 and sha512", key, n)
		}
	}
	return nil
}

// Parse reads a signature by one of the digests: hexadecimal, whose length tells which
// it is, or its name, a colon and base64 of either alphabet.
func (d Digests) Parse(text string) (s Signature, ok bool) {
	s.algorithm, s.mac, ok = parse(text)
	return s, ok && slices.Contains(d, s.algorithm)
}

func parse(text string) (algorithm string, mac []byte, ok bool) {
	if algorithm, encoded, named := strings.Cut(text, ":"); named {
		encoded = strings.TrimRight(strings.NewReplacer("-", "+", "_", "/").Replace(encoded), "=")
		mac, err := base64.RawStdEncoding.DecodeString(encoded)
		return algorithm, mac, err == nil && !strings.ContainsAny(encoded, "\r\n") && digests[algorithm] != nil
	}
	mac, err := hex.DecodeString(text)
	switch len(mac) {
	case sha1.Size:
		algorithm = "sha1"
	case sha256.Size:
		algorithm = "sha256"
	case sha512.Size:
		algorithm = "sha512"
	}
	return algorithm, mac, err == nil && algorithm != ""
}

// Signature is one that was read.
type Signature struct {
	algorithm string
	mac       []byte
}

// by reports whether one of the keys makes this signature of one of the texts.
func (s Signature) by(keys, texts []string) bool {
	for _, key := range keys {
		for _, text := range texts {
			m := hmac.New(digests[s.algorithm], []byte(key))
			m.Write([]byte(text))
			if hmac.Equal(m.Sum(nil), s.mac) {
				return true
			}
		}
	}
	return false
}

// Keys finds the keys that the owner of an account has set, for all of it and for
// one container. fresh asks again for what is known already.
type Keys func(ctx context.Context, container name.Path, fresh bool) (account, own []string, err error)

// Opens finds the key that a signature of one of the texts was made with, and what it opens:
// the account of a path or its container. It is nil where there is none; keys are asked for
// again before that is said.
func (s Signature) Opens(ctx context.Context, keys Keys, p name.Path, texts ...string) (chain.Grant, error) {
	container := name.Path{Account: p.Account, Container: p.Container}
	for _, fresh := range []bool{false, true} {
		account, own, err := keys(ctx, container, fresh)
		if err != nil {
			return nil, err
		}
		if s.by(account, texts) {
			return func(_ string, of name.Path) bool { return of.Account == p.Account }, nil
		}
		if s.by(own, texts) {
			return func(_ string, of name.Path) bool { return of.Account == p.Account && of.Container == p.Container }, nil
		}
	}
	return nil, nil
}
