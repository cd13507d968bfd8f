package auth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"math"
	"strings"
	"sync"
	"time"
)

// A token is the first reseller's prefix, "tk", and in unpadded URL-safe base64:
//
//	offset  bytes  what
//	0       1      version, 1
//	1       8      issued, seconds since 1970, big-endian
//	9       8      expires, the same
//	17      n      the user, "account:user"
//	17+n    32     HMAC-SHA-256 over a label, all of the above, and the first
//	               16 bytes of the SHA-256 of the user's key
//
// The key of the HMAC is derived from the cluster's secret. Groups are not in
// it: they are looked up at each use, so that taking a role or a user away works
// at once; and since the user's key is under the HMAC, changing it ends all
// tokens that were made with the old one.
const (
	tokenMark    = "tk"
	tokenVersion = 1
	tokenUser    = 17 // where the user begins
	tokenMAC     = sha256.Size
	maxToken     = 2048 // characters of a token
	minSecret    = 16   // bytes of a secret
	keyDigest    = 16   // bytes of the digest of a user's key
	derivedLabel = "martlet: key for signing tokens"
)

var macLabel = []byte("martlet token 1\x00")

var tokenText = base64.RawURLEncoding.Strict()

// Tokens issues and verifies tokens. It is an Authenticator. Any process that
// has the same secrets and users accepts the same tokens.
type Tokens struct {
	users  *Users
	prefix string       // reseller's, with its underscore
	keys   []*sync.Pool // of signers, one pool for each secret: making one costs more than using it
	life   time.Duration
	now    func() time.Time
}

// NewTokens returns the issuer for users whose reseller has the prefix. The
// first secret signs; all verify, so that a new one can be put first while
// tokens of the old one live on. A secret has at least 16 bytes, a life at least
// a second.
func NewTokens(users *Users, prefix string, secrets []string, life time.Duration, now func() time.Time) (*Tokens, error) {
	if len(secrets) == 0 {
		return nil, errors.New("there is no secret to sign tokens with")
	}
	if life < time.Second {
		return nil, fmt.Errorf("token_life %s is less than a second", life)
	}
	t := &Tokens{users: users, prefix: prefix, life: life, now: now}
	for i, s := range secrets {
		if len(s) < minSecret {
			return nil, fmt.Errorf("secret %d has %d bytes, fewer than %d", i+1, len(s), minSecret)
		}
		// A key of its own: the secret signs other things as well.
		mac := hmac.New(sha256.New, []byte(s))
		mac.Write([]byte(derivedLabel))
		key := mac.Sum(nil)
		t.keys = append(t.keys, &sync.Pool{New: func() any { return &signer{mac: hmac.New(sha256.New, key)} }})
	}
	return t, nil
}

// Issue makes a token for a user, "account:user", who must exist: otherwise the
// error is of kind errs.Unauthorized. The token is good until expires, to the
// second.
func (t *Tokens) Issue(user string) (token string, expires time.Time, err error) {
	e, ok := t.users.byName[user]
	if !ok {
		return "", time.Time{}, errWrong
	}
	token, expires = t.issue(e)
	return token, expires, nil
}

func (t *Tokens) issue(e *entry) (token string, expires time.Time) {
	now := t.now()
	expires = now.Add(t.life).Truncate(time.Second)
	user := e.id.User
	b := make([]byte, 0, tokenUser+len(user)+tokenMAC)
	b = append(b, tokenVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(now.Unix()))
	b = binary.BigEndian.AppendUint64(b, uint64(expires.Unix()))
	b = append(b, user...)
	b = sign(b, t.keys[0], b, e)
	return t.prefix + tokenMark + tokenText.EncodeToString(b), expires
}

// sign appends the HMAC over the body of a token of a user to dst.
func sign(dst []byte, key *sync.Pool, body []byte, e *entry) []byte {
	s := key.Get().(*signer) //nolint:forcetypeassert // the pool holds nothing else
	defer key.Put(s)
	return append(dst, s.sign(body, e)...)
}

// A signer is an HMAC with room for a token, for what it is computed of, and for
// its result.
type signer struct {
	mac  hash.Hash
	text [maxToken]byte
	body [maxToken]byte
	sum  [tokenMAC]byte
}

// sign returns the HMAC over the body of a token of a user. It is good until the
// next one.
func (s *signer) sign(body []byte, e *entry) []byte {
	s.mac.Reset()
	s.mac.Write(macLabel)
	s.mac.Write(body)
	s.mac.Write(e.digest[:keyDigest])
	return s.mac.Sum(s.sum[:0])
}

// Authenticate implements Authenticator. Its own are the tokens with the
// reseller's prefix; where that is empty, those that verify.
func (t *Tokens) Authenticate(_ context.Context, c Credentials) (*Identity, error) {
	if c.Token == "" || !strings.HasPrefix(c.Token, t.prefix) {
		return nil, ErrNotMine
	}
	id, err := t.verify(c.Token)
	if err != nil && t.prefix == "" {
		return nil, ErrNotMine
	}
	return id, err
}

func (t *Tokens) verify(token string) (*Identity, error) {
	text, ok := strings.CutPrefix(token[len(t.prefix):], tokenMark)
	// base64 would pass over line breaks: one token must not have two texts.
	if !ok || len(token) > maxToken || strings.ContainsAny(text, "\r\n") {
		return nil, errWrong
	}
	first := t.keys[0].Get().(*signer) //nolint:forcetypeassert // the pool holds nothing else
	defer t.keys[0].Put(first)
	n, err := tokenText.Decode(first.body[:], first.text[:copy(first.text[:], text)])
	b := first.body[:n]
	if err != nil || len(b) <= tokenUser+tokenMAC || b[0] != tokenVersion {
		return nil, errWrong
	}
	body, mac := b[:len(b)-tokenMAC], b[len(b)-tokenMAC:]
	e, ok := t.users.byName[string(body[tokenUser:])]
	if !ok || !t.signed(first, body, mac, e) {
		return nil, errWrong
	}
	if expires := binary.BigEndian.Uint64(body[9:tokenUser]); expires > math.MaxInt64 || t.now().Unix() >= int64(expires) {
		return nil, errWrong
	}
	return e.id, nil
}

// signed reports whether one of the secrets made the HMAC.
func (t *Tokens) signed(first *signer, body, mac []byte, e *entry) bool {
	if hmac.Equal(mac, first.sign(body, e)) {
		return true
	}
	for _, key := range t.keys[1:] {
		if hmac.Equal(mac, sign(nil, key, body, e)) {
			return true
		}
	}
	return false
}

var _ Authenticator = (*Tokens)(nil)
