package fragments

import (
	"sync/atomic"
	"testing"
	"testing/synctest"

	"martlet/internal/policy"
	"martlet/ring"
)

// As many things are done at one time as there are makers, each once, and all are when they end.
func TestMakers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most, things = 3, 20
		m := newMakers(most)
		free := make(chan struct{})
		var inside, done atomic.Int64
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for range things {
				m.do(func() {
					inside.Add(1)
					<-free
					inside.Add(-1)
					done.Add(1)
				})
			}
			m.end()
		}()
		for n := range int64(things) {
			synctest.Wait()
			if in, want := inside.Load(), min(most, things-n); in != want || done.Load() != n {
				t.Errorf("%d are under way and %d done, want %d and %d", in, done.Load(), want, n)
			}
			free <- struct{}{}
		}
		<-ended
		if n := done.Load(); n != things {
			t.Errorf("%d of %d were done", n, things)
		}
	})
}

// The first pieces that are gone into together are few, and then more, up to a bound; none is left out.
func TestWavesGrow(t *testing.T) {
	r, err := ring.New(ring.Data{PartPower: 6, Rows: [][]uint32{make([]uint32, 64)}, Devices: []*ring.Device{{IP: "127.0.0.1", Port: 1, Name: "d", Weight: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	var all []*part
	for i := range ring.Partition(60) {
		all = append(all, &part{policy: policy.Policy{Index: 1}, ring: r, number: i, many: 512, lacks: 512})
	}
	var sizes []int
	lacks := int64(0)
	for w := range waves(all) {
		sizes = append(sizes, len(w))
		for _, u := range w {
			lacks += u.lacks
		}
	}
	want := []int{2, 4, 8, 16, 16, 14}
	if len(sizes) != len(want) || lacks != 60*512 {
		t.Fatalf("waves of %v pieces, of which %d fragments are missing, want %v", sizes, lacks, want)
	}
	for i := range want {
		if sizes[i] != want[i] {
			t.Errorf("waves of %v pieces, want %v", sizes, want)
		}
	}
}
