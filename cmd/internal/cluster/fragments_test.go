package cluster

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"martlet/cmd/internal/survey"
	"martlet/internal/backend"
	"martlet/internal/ec"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/timestamp"
	"martlet/replicator"
	"martlet/ring"
)

// coded is a probe with a policy of erasure coding, ec, and a container of it.
type coded struct {
	*probe
	shape ec.Shape
	ring  *ring.Ring // of the fragments
}

func startCoded(t testing.TB, shape ec.Shape) *coded {
	t.Helper()
	p := startProbe(t, withKey, func(o *Options) {
		o.Nodes, o.Devices, o.PartPower, o.Policies = shape.Fragments()+1, 1, 3, []Policy{{Name: "ec", Shape: shape}}
	})
	c := &coded{probe: p, shape: shape}
	c.load()
	p.want("PUT", p.url+"/coded", map[string]string{"X-Storage-Policy": "ec"}, "", 201)
	return c
}

func (c *coded) file() string { return filepath.Join(c.configs[0].Rings.Folder, "object-1.ring.gz") }

func (c *coded) load() {
	c.t.Helper()
	var err error
	if c.ring, err = ring.Load(c.file()); err != nil {
		c.t.Fatal(err)
	}
}

// write is one write of an object.
type write struct {
	path name.Path
	at   timestamp.T
	body string
}

// put writes an object that is like no other.
func (c *coded) put(object string, size int) write {
	c.t.Helper()
	body := make([]byte, size)
	random := rand.NewChaCha8([32]byte{byte(size), byte(len(object)), object[0]})
	if _, err := io.ReadFull(random, body); err != nil {
		c.t.Fatal(err)
	}
	w := write{path: name.Path{Account: "AUTH_test", Container: "coded", Object: object}, body: string(body)}
	c.want("PUT", c.url+"/coded/"+object, nil, w.body, 201)
	at, err := timestamp.Parse(c.want("HEAD", c.url+"/coded/"+object, nil, "", 200).Header.Get("X-Timestamp"))
	if err != nil {
		c.t.Fatal(err)
	}
	w.at = at
	return w
}

// homes are the places of an object's fragments.
func (c *coded) homes(path name.Path) (places []string) {
	for _, d := range c.ring.AppendPrimaries(nil, c.ring.Partition(c.hasher.Hash(path))) {
		places = append(places, placeOf(d))
	}
	return places
}

// fragment reads a fragment from a place; nil for none.
func (c *coded) fragment(w write, index int, place string) (archive []byte, status int) {
	c.t.Helper()
	n := nodeAt(place)
	_, dev, _ := strings.Cut(place, "/")
	part := c.ring.Partition(c.hasher.Hash(w.path))
	r := &backend.Request{Method: "GET", Path: backend.Target{Device: dev, Partition: uint32(part), Path: w.path}.Quoted(), Header: backend.Header{
		{Name: backend.PolicyIndex, Value: policy.Index(1).Fragments().String()},
		{Name: backend.FragmentTime, Value: w.at.String()}, {Name: backend.FragmentIndex, Value: strconv.Itoa(index)},
	}}
	resp, err := c.direct.Do(c.t.Context(), fmt.Sprintf("%s:%d", c.configs[n-1].Server.Address, c.configs[n-1].Object.Port), r)
	if err != nil {
		c.t.Fatal(err)
	}
	if resp.Body == nil {
		return nil, resp.Status
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.Status != 200 {
		return nil, resp.Status
	}
	return b, resp.Status
}

// all returns the archives of a write at a place, in the order of their indexes.
func (c *coded) all(w write, place string) map[int][]byte {
	c.t.Helper()
	all := map[int][]byte{}
	for i := range c.ring.ReplicaCount() {
		if b, _ := c.fragment(w, i, place); b != nil {
			all[i] = b
		}
	}
	return all
}

// archives returns the archives of a write that is in place, and fails the test if it isn't.
func (c *coded) archives(what string, w write) [][]byte {
	c.t.Helper()
	homes := c.homes(w.path)
	list := make([][]byte, len(homes))
	for n := range c.configs {
		place := nodeName(n+1) + "/" + c.configs[n].Server.Devices[0]
		all := c.all(w, place)
		i := slices.Index(homes, place)
		for index, b := range all {
			if index != i {
				c.t.Errorf("%s: %s has fragment %d of %s, and %d belongs there", what, place, index, w.path.Object, i)
			}
			if index == i {
				list[i] = b
			}
		}
		if i >= 0 && all[i] == nil {
			c.t.Errorf("%s: %s lacks fragment %d of %s", what, place, i, w.path.Object)
		}
	}
	return list
}

// reads fails the test if an object reads otherwise than it was written.
func (c *coded) reads(w write) {
	c.t.Helper()
	got, err := c.answer("GET", c.url+"/coded/"+w.path.Object, "", 200)
	if err != nil || got != w.body {
		c.t.Errorf("%s: got %d bytes, %v, want %d", w.path.Object, len(got), err, len(w.body))
	}
}

// durability is what is said of the fragments of the policy.
func (c *coded) durability() *survey.Fragments {
	c.t.Helper()
	d, err := survey.FragmentsOf(c.t.Context(), survey.HTTP{Client: c.client}, survey.Policy{
		Index: 1, Name: "ec", Ring: c.ring.First(c.shape.Parity + 2), Data: c.shape.Data, Fragments: c.ring,
	}, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return d
}

func (c *coded) whole(what string) {
	c.t.Helper()
	if d := c.durability(); !d.Whole() || d.Objects == 0 {
		c.t.Errorf("%s: %+v", what, d)
	}
}

// sumOf is what passes have done with fragments.
func sumOf(reports []replicator.Report) (sum replicator.Counts) {
	for _, r := range reports {
		for _, d := range r.Devices {
			for _, k := range d.Kinds {
				if k.Kind == "fragment" {
					sum.Pushed += k.Pushed
					sum.Rebuilt += k.Rebuilt
					sum.Dropped += k.Dropped
				}
			}
		}
	}
	return sum
}

// What becomes of the fragments of a real cluster when devices, nodes and rings change.
func TestFragments(t *testing.T) {
	c := startCoded(t, ec.Shape{Data: 2, Parity: 1})
	var kept []write
	for i, size := range []int{9_000, 200_000, 3_000_000} { // in the log, and in files
		kept = append(kept, c.put(fmt.Sprint("kept", i), size))
	}
	c.pass(true)
	before := map[string][][]byte{}
	for _, w := range kept {
		before[w.path.Object] = c.archives("at first", w)
	}
	same := func(what string) {
		t.Helper()
		for _, w := range kept {
			now := c.archives(what, w)
			for i, b := range before[w.path.Object] {
				if !bytes.Equal(b, now[i]) {
					t.Errorf("%s: fragment %d of %s is another", what, i, w.path.Object)
				}
			}
			c.reads(w)
		}
	}
	same("nothing has happened")
	if sum := sumOf(c.pass(true)); sum.Pushed+sum.Rebuilt+sum.Dropped > 0 {
		t.Errorf("all is in place, and %+v", sum)
	}

	c.whole("nothing has happened")
	emptied := c.homes(kept[2].path)[1]
	lacking := int64(0)
	for _, w := range kept {
		if slices.Contains(c.homes(w.path), emptied) {
			lacking++
		}
	}
	c.empty(emptied)
	if d := c.durability(); d.Objects != 3 || d.Lacking != lacking || d.Unreadable != 0 || d.Missing[1] != lacking || d.Fragments[survey.ToBeMade] != lacking {
		t.Errorf("%d fragments were on a device that was emptied, and %+v", lacking, d)
	}
	c.pass(false)
	c.pass(true)
	same("a device was emptied")
	c.whole("a device was emptied")

	away := c.homes(name.Path{Account: "AUTH_test", Container: "coded", Object: "late"})[0]
	c.stop(nodeAt(away))
	late := c.put("late", 50_000)
	over := c.put("over", 60_000)
	c.start(nodeAt(away))
	c.pass(true)
	c.pass(true)
	kept = append(kept, late)
	before["late"] = c.archives("a node was away", late)
	c.reads(late)
	c.archives("a node was away", over)

	again := c.put("over", 70_000)
	gone := c.put("gone", 80_000)
	c.want("DELETE", c.url+"/coded/gone", nil, "", 204)
	c.pass(true)
	c.pass(true)
	for n := range c.configs {
		place := nodeName(n+1) + "/" + c.configs[n].Server.Devices[0]
		for _, w := range []write{over, gone} {
			if all := c.all(w, place); len(all) > 0 {
				t.Errorf("%s has still %d fragments of %s", place, len(all), w.path.Object)
			}
		}
	}
	kept = append(kept, again)
	before["over"] = c.archives("what was written again", again)

	home := c.homes(kept[0].path)[2]
	c.flip(home, string(before["kept0"][2][1000:1100]))
	if _, status := c.fragment(kept[0], 2, home); status == 200 {
		t.Errorf("a damaged fragment is answered with %d", status)
	}
	for end := time.Now().Add(time.Minute); ; {
		if b, _ := c.fragment(kept[0], 2, home); bytes.Equal(b, before["kept0"][2]) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("after a minute a damaged fragment was not made again")
		}
	}
	same("a fragment was damaged")

	c.turn()
	c.pass(false)
	c.pass(false)
	c.pass(true)
	c.pass(true)
	same("another ring")
}

// turn has the primaries of all partitions change places, each with the one before.
func (c *coded) turn() {
	c.t.Helper()
	rows := c.ring.Rows()
	data := ring.Data{PartPower: c.ring.PartPower(), Version: c.ring.Version() + 1, Rows: append(rows[1:], rows[0])}
	for d := range c.ring.Devices() {
		for len(data.Devices) <= d.ID {
			data.Devices = append(data.Devices, nil)
		}
		data.Devices[d.ID] = d
	}
	r, err := ring.New(data)
	if err != nil {
		c.t.Fatal(err)
	}
	folders := map[string]bool{}
	for n, cfg := range c.configs {
		c.stop(n + 1)
		folders[cfg.Rings.Folder] = true
	}
	for folder := range folders {
		if err := r.Save(filepath.Join(folder, "object-1.ring.gz")); err != nil {
			c.t.Fatal(err)
		}
	}
	for n := range c.configs {
		c.start(n + 1)
	}
	c.load()
	c.startProxy()
}
