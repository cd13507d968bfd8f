package swift

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"martlet/cmd/internal/bench/sigv4"
	"martlet/internal/backend"
)

// S3 says that an endpoint speaks S3 and not Swift: containers are buckets then. Credentials.URL is the
// endpoint, User the access key and Key the secret one.
//
// What is asked and answered is what Swift would have: a bucket or an object that was made is a 201,
// one's own bucket that is there already a 202, and listings are names, a line each. Bodies are
// not signed, buckets are part of the path.
type S3 struct {
	Region string
}

// openS3 signs in to nothing: each request is signed.
func openS3(c Credentials, o Options) (*Client, error) {
	u, err := base(c.URL)
	if err != nil {
		return nil, err
	}
	client := &Client{creds: c}
	hosts, err := o.hosts(u)
	if err != nil {
		return nil, err
	}
	for _, u := range hosts {
		client.endpoints = append(client.endpoints, newEndpoint(u, o))
	}
	return client, nil
}

// doS3 sends a request as S3 has it.
func (s *Sender) doS3(ctx context.Context, r Request, each func([]byte)) (Answer, error) {
	path := "/" + r.Container
	if r.Object != "" {
		path += "/" + r.Object
	}
	query := ""
	if r.List != nil && r.Container != "" {
		query = r.List.s3()
	}
	e := s.next()
	signed := s.signer.Sign(time.Now(), r.Method, e.host, path, query, sigv4.Unsigned)
	s.header = append(append(s.header[:0],
		backend.Field{Name: "X-Amz-Content-Sha256", Value: sigv4.Unsigned},
		backend.Field{Name: "X-Amz-Date", Value: signed.Date},
		backend.Field{Name: "Authorization", Value: signed.Authorization}), r.Header...)
	out := backend.Request{Method: r.Method, Path: path, Query: query, Header: s.header, Length: r.Length}
	if r.Body != nil {
		out.Body = r.Body
	}
	if r.List == nil || each == nil {
		a, err := s.send(ctx, e, &out, each)
		return asSwift(r, a), err
	}
	var text strings.Builder
	a, err := s.send(ctx, e, &out, func(p []byte) { text.Write(p) })
	if err != nil || a.Status/100 != 2 {
		return a, err
	}
	names, err := namesOf(strings.NewReader(text.String()))
	if err != nil {
		return a, fmt.Errorf("the listing is none of S3: %w", err)
	}
	if r.Container == "" { // all buckets come at one time
		names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, r.List.Prefix) || n <= r.List.Marker })
	}
	for _, n := range names {
		each([]byte(n + "\n"))
	}
	return a, nil
}

// asSwift is what Swift would have answered with.
func asSwift(r Request, a Answer) Answer {
	switch {
	case r.Method == "PUT" && a.Status == 200:
		a.Status = 201
	case r.Method == "PUT" && r.Object == "" && a.Status == 409:
		a.Status = 202
	}
	return a
}

// s3 is the query of a listing, its parameters in order, as they are signed.
func (l *Listing) s3() string {
	q := "list-type=2&max-keys=" + strconv.Itoa(l.Limit)
	if l.Prefix != "" {
		q += "&prefix=" + escape(l.Prefix)
	}
	if l.Marker != "" {
		q += "&start-after=" + escape(l.Marker)
	}
	return q
}

// escape escapes as signatures want it.
func escape(text string) string { return strings.ReplaceAll(url.QueryEscape(text), "+", "%20") }

// namesOf reads the names of objects, or of buckets, of a listing.
func namesOf(from io.Reader) (all []string, err error) {
	var within string
	for d := xml.NewDecoder(from); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		switch t := token.(type) {
		case xml.StartElement:
			name := t.Name.Local
			if within == "Contents" && name == "Key" || within == "Bucket" && name == "Name" {
				var text string
				if err := d.DecodeElement(&text, &t); err != nil {
					return nil, err
				}
				all = append(all, text)
			} else if name == "Contents" || name == "Bucket" {
				within = name
			}
		case xml.EndElement:
			if t.Name.Local == within {
				within = ""
			}
		}
	}
}
