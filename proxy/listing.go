package proxy

import (
	"net/http"

	"martlet/internal/backend"
	"martlet/internal/listing"
	"martlet/proxy/chain"
)

// maxListing is how many bytes of a listing a node may send.
const maxListing = 64 << 20

// listingHeader makes the start of a request for a listing.
func (rq *request) listingHeader() backend.Header {
	h := rq.header(1)
	if rq.Header[chain.AllowReserved] != nil {
		h.Add(chain.AllowReserved, "true")
	}
	return h
}

// list answers with the rows of a listing, or with its head. resp is nil for what
// does not exist and is shown as empty.
func (s *Server) list(rq *request, resp *backend.Response) error {
	if rq.Method == http.MethodHead {
		rq.empty(http.StatusNoContent)
		return nil
	}
	rows, err := s.rows(rq, resp)
	if err != nil {
		return err
	}
	rq.out.Status, rq.out.Rows = http.StatusOK, rows
	return nil
}

// rows reads a listing that a node sent. The names of policies are added here:
// only the edge knows them.
func (s *Server) rows(rq *request, resp *backend.Response) (*chain.Rows, error) {
	rows := &chain.Rows{}
	if resp == nil || resp.Body == nil {
		return rows, nil
	}
	sent := chain.Response{Length: resp.Length, Body: resp.Body}
	body, err := sent.ReadAll(maxListing)
	if err != nil {
		return nil, err
	}
	if rq.Path.Container != "" {
		rows.Objects, err = listing.DecodeObjects(body)
		return rows, err
	}
	if rows.Containers, err = listing.DecodeContainers(body); err != nil {
		return nil, err
	}
	for i := range rows.Containers {
		row := &rows.Containers[i]
		if p, ok := s.policies.ByIndex(row.PolicyIndex); ok && !row.Subdir {
			row.Policy = p.Name
		}
	}
	return rows, nil
}
