package node

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/replicator"
)

// HeldPath is where every server of a storage node says, to GET, what the node's
// devices hold: a HeldReport as JSON. It is on the storage network, so that it can be read
// from wherever that is reachable, and no path of data: those have more parts.
const HeldPath = "/recon/held"

// HeldReport is what a node's devices hold.
type HeldReport struct {
	Devices []replicator.DeviceHeld `json:"devices"`
}

// recon answers what operators ask of a storage node on the storage network, and
// leaves the rest to a server.
type recon struct {
	node   *Storage
	server backend.Handler
}

// Serve implements backend.Handler.
func (r recon) Serve(ctx context.Context, req *backend.Request) (*backend.Response, error) {
	if req.Path != HeldPath {
		return r.server.Serve(ctx, req)
	}
	switch {
	case req.Method != "GET":
		return nil, errs.Refuse(errs.Method, "%s takes GET", HeldPath)
	case req.Length > 0 || strings.TrimSpace(req.Query) != "":
		return nil, errs.Refuse(errs.Invalid, "%s has neither a query nor a body", HeldPath)
	case r.node.replicator == nil:
		return nil, errs.Refuse(errs.Unavailable, "replication is switched off on this node")
	}
	body, err := json.Marshal(HeldReport{Devices: r.node.replicator.Held(ctx)})
	if err != nil {
		return nil, err
	}
	return &backend.Response{
		Status: 200, Length: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body)),
		Header: backend.Header{{Name: backend.ContentType, Value: "application/json"}},
	}, nil
}
