package proxy

import (
	"errors"
	"net/http"
	"time"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/quorum"
	"martlet/internal/timestamp"
	"martlet/proxy/chain"
)

// write sends a small write to every replica of a place and returns the answer
// that stands. build makes the requests for a stamp.
//
// Where a majority says that something newer is there already, or some do and the others have
// taken the write, it is sent once more above the newest stamp that they know: the client's write comes last,
// whatever another proxy's clock says. treat is as in quorum.Place.Best.
func (s *Server) write(rq *request, place quorum.Place, build func(stamp string) quorum.Build, treat map[int]int) (quorum.Answer, error) {
	stamp, fixed, err := s.stamp(rq.Request)
	if err != nil {
		return quorum.Answer{}, err
	}
	answers := s.cluster.Write(rq.ctx, place, build(stamp.String()))
	best, err := place.Best(answers, treat)
	if fixed || err == nil && best.Status != http.StatusConflict || err != nil && !place.Outrun(answers, stamp, treat) {
		return best, err
	}
	newest := quorum.Newest(answers)
	if newest.Before(stamp) {
		return best, nil // a conflict of another sort: the container is not empty, say
	}
	answers = s.cluster.Write(rq.ctx, place, build(s.stamps.After(newest).String()))
	return place.Best(answers, treat)
}

// farthest is how far ahead of this proxy's clock the time of another cluster's write
// may be. One at the end of all time could never be written over.
const farthest = 24 * time.Hour

// stamp returns the time of a write: one of this proxy's, or that which it had in
// another cluster, which is fixed.
func (s *Server) stamp(r *chain.Request) (t timestamp.T, fixed bool, err error) {
	given := r.Header[chain.Stamp]
	if given == nil {
		return s.stamps.Next(), false, nil
	}
	t, err = timestamp.Parse(given[0])
	if err == nil && (t.IsZero() || t.After(s.stamps.Now().Add(farthest))) {
		err = timestamp.ErrFormat
	}
	if err != nil {
		err = errs.E(errs.Op("proxy.stamp"), errs.Invalid, errs.Public("X-Timestamp should be a UNIX timestamp float value; was "+given[0]), err)
	}
	return t, true, err
}

func isText(err error) bool { return errors.Is(err, name.ErrText) || errors.Is(err, name.ErrEncoding) }
