package survey

import (
	"context"
	"encoding/json"
	"fmt"

	"martlet/cmd/internal/node"
	"martlet/ring"
)

// Failing returns, a line each, what the last passes of replication over the devices of a node could not confirm, and why
// in most cases. The node is that of any device of its object server.
func (a HTTP) Failing(ctx context.Context, d *ring.Device) (lines []string, err error) {
	b, err := a.get(ctx, "http://"+d.Addr()+node.StatusPath)
	if err != nil {
		return nil, err
	}
	var st node.Status
	if err := json.Unmarshal(b, &st); err != nil {
		return nil, fmt.Errorf("%s: %w", d.Addr(), err)
	}
	for _, one := range st.Devices {
		for _, p := range one.Passes {
			if p.Failed == 0 {
				continue
			}
			line := fmt.Sprintf("the last pass of %s/%s over %ss could not confirm %d: %s", d.Addr(), one.Device, p.Kind, p.Failed, p.Why)
			if p.Peer != "" {
				line += " (" + p.Peer + ")"
			}
			lines = append(lines, line)
		}
	}
	return lines, nil
}
