package proxy

import (
	"context"
	"io"

	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/quorum"
)

// wholeBody returns the body of what a GET of all of an object was answered with by a storage
// node, and its length: of an erasure-coded object it reads the fragments. It takes the reply over:
// who calls it closes the body, which may be nil of an object of no bytes, and on an error nothing is open.
func (s *Server) wholeBody(ctx context.Context, p policy.Index, path name.Path, reply quorum.Reply) (body io.ReadCloser, length int64, err error) {
	o, err := s.coded.Object(p, path, reply.Header)
	switch {
	case err != nil:
		letGo(reply)
		return nil, 0, err
	case o == nil:
		return reply.Body, reply.Length, nil
	}
	letGo(reply)
	body, err = o.Open(ctx, 0, o.Size)
	return body, o.Size, err
}
