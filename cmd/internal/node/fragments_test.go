package node

import (
	"fmt"
	"testing"

	"martlet/internal/ec"
)

// What a device lacks is made again from others, byte for byte, and is then looked at no more.
func TestFragmentsRebuilt(t *testing.T) {
	for _, shape := range []ec.Shape{{Data: 1, Parity: 1}, {Data: 2, Parity: 1}, {Data: 4, Parity: 2}} {
		t.Run(shape.String(), func(t *testing.T) {
			f := newCells(t, shape, shape.Fragments()+1)
			var all []*wholeObject
			for i, size := range []int{0, 1, 100, 1024, 5000} {
				all = append(all, f.object(fmt.Sprint("o", i), size))
			}
			streamed := f.encode("streamed", f.source.Next(), []byte("no one knew how long this is"), false)
			f.putAll(streamed)
			f.commit(streamed)
			all = append(all, streamed)
			if c := f.clean(); c.Rebuilt+c.Pushed+c.Dropped > 0 {
				t.Errorf("all is in place, and %+v", c)
			}
			for i := range shape.Fragments() {
				f.wipe(i)
				f.pass() // what others hold of the commits is brought
				f.clean(i)
				f.inPlace(fmt.Sprint("node ", i), all...)
			}
			f.clean()
			before := f.requests("REPLICATE")
			f.clean()
			if n := f.requests("REPLICATE") - before; n > 3*len(f.nodes)*len(f.nodes) {
				t.Errorf("%d questions when all is in place", n)
			}
		})
	}
}
