package survey

import (
	"context"
	"encoding/json"
	"fmt"

	"martlet/cmd/internal/node"
	"martlet/ring"
)

// Failing returns, a line each, what the last passes of replication over the devices of all nodes of some rings could not confirm, and why
// in most cases. Who does not answer says nothing, and who answers under several addresses says it once.
func (a HTTP) Failing(ctx context.Context, rings []*ring.Ring) (lines []string) {
	asked, heard := map[string]bool{}, map[string]bool{}
	for _, r := range rings {
		for d := range r.Devices() {
			if asked[d.Addr()] {
				continue
			}
			asked[d.Addr()] = true
			if st, err := a.status(ctx, d); err == nil && !heard[st.Process] {
				heard[st.Process] = true
				lines = append(lines, failing(d, st)...)
			}
		}
	}
	return lines
}

// status is that of the node of a device.
func (a HTTP) status(ctx context.Context, d *ring.Device) (st node.Status, err error) {
	b, err := a.get(ctx, "http://"+d.Addr()+node.StatusPath)
	if err == nil {
		err = json.Unmarshal(b, &st)
	}
	return st, err
}

// failing is what the passes of one node could not confirm.
func failing(d *ring.Device, st node.Status) (lines []string) {
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
	return lines
}
