//go:build !race

package proxy

import (
	"bytes"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"martlet/internal/backend"
)

// Whatever each device does with whatever it is asked: a commit that anybody has is of a write
// of which more fragments than a reader needs are there, and what the client was told is stored is on
// as many replicas as it has to be.
func TestCodedPutKeepsItsPromise(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		shape := rapid.SampledFrom([][2]int{{1, 1}, {2, 1}, {2, 3}, {4, 2}}).Draw(rt, "shape")
		c := newCodedNodes(t, shape[0], shape[1])
		size := rapid.SampledFrom([]int{9 << 10, 300 << 10, 2<<20 + 1}).Draw(rt, "size")
		deeds := make([]int, 2*c.nodes)
		for i := range deeds {
			deeds[i] = rapid.SampledFrom([]int{0, 0, 0, 0, 1, 2, 3, 4}).Draw(rt, "deed")
		}
		c.script(func(device string, r *backend.Request, keep func() *backend.Response) *backend.Response {
			var n int
			if _, err := fmt.Sscanf(device, "d%d", &n); err != nil {
				return nil
			}
			if isFragment(r) {
				n += c.nodes
			}
			switch deeds[n] {
			case 1:
				return saying(507)(r, keep)
			case 2:
				return broke(r, keep)
			case 3:
				return keptAndBroke(r, keep)
			case 4: // of a commit it would say that there is something newer
				if isFragment(r) {
					return saying(409)(r, keep)
				}
			}
			return nil
		})
		data := randomBytes(size)
		resp := c.put(t.Context(), c.server(), nil, bytes.NewReader(data), int64(size))
		c.kept()
		commits := c.replicas("o")
		for _, o := range commits {
			of, err := backend.ParseCoded(o.header.Get(backend.CodedWrite))
			if err != nil {
				rt.Fatal(err)
			}
			archives := c.archives("o", o.time, of.Write)
			if len(archives) < c.policy.FragmentQuorum() {
				rt.Errorf("got %d, and there is a commit of %d fragments", resp.Status, len(archives))
			}
			if got, err := c.decode(of, archives); err != nil || !bytes.Equal(got, data) {
				rt.Errorf("what was committed is %d bytes, %v", len(got), err)
			}
		}
		if resp.Status == 201 && len(commits) < c.policy.Quorum() {
			rt.Errorf("the client was told 201, and there are %d commits", len(commits))
		}
		if resp.Status/100 == 4 && len(commits) >= c.policy.Quorum() {
			rt.Errorf("the client was told %d, and there are %d commits", resp.Status, len(commits))
		}
	})
}
