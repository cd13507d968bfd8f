package cluster

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"martlet/object/engine"
)

// flip changes a byte of what a device has in its log, which must be there once.
func (p *probe) flip(place, what string) {
	p.t.Helper()
	_, dev, _ := strings.Cut(place, "/")
	root := filepath.Join(p.configs[nodeAt(place)-1].Server.Root, dev, "log")
	files, err := filepath.Glob(filepath.Join(root, "*.seg"))
	if err != nil {
		p.t.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			p.t.Fatal(err)
		}
		at := bytes.Index(b, []byte(what))
		if at < 0 {
			continue
		}
		f, err := os.OpenFile(file, os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteAt([]byte{what[0] ^ 1}, int64(at))
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			p.t.Fatal(err)
		}
		return
	}
	p.t.Fatalf("%s has no %q", place, what)
}

// A copy that is found damaged is back soon, without a pass.
func TestDamageIsRepaired(t *testing.T) {
	p := startProbe(t, withKey)
	const object, body = "damaged", "a body that is nowhere else"
	p.object("PUT", object, map[string]string{"X-Object-Meta-K": "v"}, body, 201)
	p.pass(true) // the third replica may come after the answer
	primaries, _ := p.places(object)
	right := func(s engine.State) bool { return holds(body)(s) && s.Meta.Get("X-Object-Meta-K") == "v" }
	p.exactly(object, primaries, right)
	p.flip(primaries[1], body)
	p.at(primaries[1], "GET", object, p.source.Next(), nil, "", 503)
	ticks, end := time.NewTicker(20*time.Millisecond), time.After(time.Minute)
	defer ticks.Stop()
	for !right(p.copies(object)[primaries[1]]) {
		select {
		case <-ticks.C:
		case <-end:
			t.Fatalf("after a minute there is %+v", p.copies(object)[primaries[1]])
		}
	}
	p.exactly(object, primaries, right)
}
