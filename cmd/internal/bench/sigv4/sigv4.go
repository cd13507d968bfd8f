// Package sigv4 signs requests to S3 as AWS's signature version 4 has it, for a benchmark: at
// little cost, and without looking at bodies, whose digest is declared to be unsigned.
//
// Paths and queries are signed as they are given: both have to be encoded as S3 wants
// them, and the parameters of a query to be in order.
package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"time"
)

// Unsigned stands for the digest of a body.
const Unsigned = "UNSIGNED-PAYLOAD"

// A Signer signs with one key. It is for one goroutine.
type Signer struct {
	Access, Secret string
	Region         string

	day     string // that key is of
	key     []byte
	scratch []byte
}

// A Signature is the fields that a request is sent with.
type Signature struct {
	Date          string // X-Amz-Date
	Authorization string
}

const (
	service    = "s3"
	algorithm  = "AWS4-HMAC-SHA256"
	headers    = "host;x-amz-content-sha256;x-amz-date"
	dateFormat = "20060102T150405Z"
	dayLength  = len("20060102")
)

// Sign signs a request that is sent with the fields of the signature, with Host, and with digest as
// X-Amz-Content-Sha256: Unsigned, or the SHA-256 of the body in hexadecimal.
func (s *Signer) Sign(now time.Time, method, host, path, query, digest string) Signature {
	date := now.UTC().Format(dateFormat)
	day := date[:dayLength]
	if s.day != day {
		s.day, s.key = day, s.keyOf(day)
	}
	b := append(s.scratch[:0], method...)
	b = append(append(b, '\n'), path...)
	b = append(append(b, '\n'), query...)
	b = append(append(b, "\nhost:"...), host...)
	b = append(append(b, "\nx-amz-content-sha256:"...), digest...)
	b = append(append(b, "\nx-amz-date:"...), date...)
	b = append(append(append(b, "\n\n"...), headers...), '\n')
	request := sha256.Sum256(append(b, digest...))
	scope := day + "/" + s.Region + "/" + service + "/aws4_request"
	b = append(b[:0], algorithm...)
	b = append(append(b, '\n'), date...)
	b = append(append(append(b, '\n'), scope...), '\n')
	b = hex.AppendEncode(b, request[:])
	sum := mac(s.key, b)
	s.scratch = b
	return Signature{date, algorithm + " Credential=" + s.Access + "/" + scope + ",SignedHeaders=" + headers + ",Signature=" + hex.EncodeToString(sum)}
}

// keyOf derives the key of a day.
func (s *Signer) keyOf(day string) []byte {
	k := []byte("AWS4" + s.Secret)
	for _, part := range []string{day, s.Region, service, "aws4_request"} {
		k = mac(k, []byte(part))
	}
	return k
}

func mac(key, text []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(text)
	return h.Sum(nil)
}
