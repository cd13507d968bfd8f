package sigv4

import (
	"strings"
	"testing"
	"time"
)

const nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" // the SHA-256 of no bytes

// The examples that AWS gives for S3, of which these two are signed over just the fields that this package has.
func TestExamples(t *testing.T) {
	s := Signer{Access: "AKIAIOSFODNN7EXAMPLE", Secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", Region: "us-east-1"}
	now := time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC)
	for query, want := range map[string]string{
		"lifecycle=":          "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
		"max-keys=2&prefix=J": "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
	} {
		got := s.Sign(now, "GET", "examplebucket.s3.amazonaws.com", "/", query, nothing)
		all := "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=host;x-amz-content-sha256;x-amz-date,Signature=" + want
		if got.Date != "20130524T000000Z" || got.Authorization != all {
			t.Errorf("%s: got %+v, want %s", query, got, all)
		}
	}
}

// A key is of its day, and of all that it was asked for.
func TestSignatureDepends(t *testing.T) {
	now := time.Date(2026, 1, 2, 23, 59, 59, 0, time.UTC)
	s := Signer{Access: "a", Secret: "b", Region: "c"}
	sign := func(s *Signer, now time.Time, method, host, path, query, digest string) string {
		_, signature, _ := strings.Cut(s.Sign(now, method, host, path, query, digest).Authorization, "Signature=")
		return signature
	}
	first := sign(&s, now, "GET", "h", "/p", "q=1", Unsigned)
	for name, other := range map[string]string{
		"method": sign(&s, now, "PUT", "h", "/p", "q=1", Unsigned),
		"host":   sign(&s, now, "GET", "i", "/p", "q=1", Unsigned),
		"path":   sign(&s, now, "GET", "h", "/q", "q=1", Unsigned),
		"query":  sign(&s, now, "GET", "h", "/p", "q=2", Unsigned),
		"digest": sign(&s, now, "GET", "h", "/p", "q=1", nothing),
		"day":    sign(&s, now.Add(time.Second), "GET", "h", "/p", "q=1", Unsigned),
		"secret": sign(&Signer{Access: "a", Secret: "B", Region: "c"}, now, "GET", "h", "/p", "q=1", Unsigned),
		"region": sign(&Signer{Access: "a", Secret: "b", Region: "C"}, now, "GET", "h", "/p", "q=1", Unsigned),
	} {
		if other == first {
			t.Errorf("another %s, and the same signature", name)
		}
	}
	if again := sign(&s, now, "GET", "h", "/p", "q=1", Unsigned); again != first {
		t.Errorf("the same again is signed with %s, and was with %s", again, first)
	}
}
