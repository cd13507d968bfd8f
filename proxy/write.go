package proxy

import (
	"errors"
	"net/http"

	"martlet/internal/name"
	"martlet/internal/quorum"
)

// write sends a small write to every replica of a place and returns the answer
// that stands. build makes the requests for a stamp.
//
// Where a majority says that something newer is there already, the write is sent
// once more above the newest stamp that they know: the client's write comes last,
// whatever another proxy's clock says. treat is as in quorum.Best.
func (s *Server) write(rq *request, place quorum.Place, build func(stamp string) quorum.Build, treat map[int]int) (quorum.Answer, error) {
	n := len(place.Primaries)
	stamp := s.stamps.Next()
	answers := s.cluster.Write(rq.ctx, place, build(stamp.String()))
	best, err := quorum.Best(answers, n, treat)
	if err != nil || best.Status != http.StatusConflict {
		return best, err
	}
	newest := quorum.Newest(answers)
	if newest.Before(stamp) {
		return best, nil // a conflict of another sort: the container is not empty, say
	}
	answers = s.cluster.Write(rq.ctx, place, build(s.stamps.After(newest).String()))
	return quorum.Best(answers, n, treat)
}

func isText(err error) bool { return errors.Is(err, name.ErrText) || errors.Is(err, name.ErrEncoding) }
