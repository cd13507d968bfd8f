package container

import (
	"context"
	"net/http"

	"martlet/internal/backend"
	"martlet/internal/dbserver"
	"martlet/internal/errs"
)

// row answers an update that came in a batch, which is of a row and nothing else.
func (s *Server) row(ctx context.Context, r *backend.Request) (*backend.Response, error) {
	call, err := s.core.Parse(r)
	if err == nil && call.Target.Path.Object == "" {
		err = errs.Refuse(errs.Invalid, "the path is not that of an object")
	}
	if err != nil {
		return nil, err
	}
	return s.serveRow(ctx, &call)
}

func (s *Server) serveRow(ctx context.Context, call *dbserver.Call) (*backend.Response, error) {
	switch call.Method {
	case http.MethodPut:
		return s.putRow(ctx, call)
	case http.MethodDelete:
		return s.deleteRow(ctx, call)
	}
	return nil, errs.E(errs.Method)
}
