package cluster

import (
	"strings"
	"testing"
	"time"

	"martlet/internal/ec"
)

// What clients see of objects under erasure coding that others are written over, copied to and deleted:
// what was there before there were versions is kept as one, read and written anew.
func TestCodedVersionsAndCopies(t *testing.T) {
	p := startPatientProbe(t, 20*time.Second, func(o *Options) { // the machine may be busy
		o.Nodes, o.Devices = 6, 1
		o.Policies = []Policy{{Name: "ec42", Shape: ec.Shape{Data: 4, Parity: 2}}}
	})
	coded := p.url + "/coded"
	p.want("PUT", coded, map[string]string{"X-Storage-Policy": "ec42"}, "", 201)
	before := map[string]string{
		"long": strings.Repeat("long before versions ", 150_000), "middle": strings.Repeat("middle ", 20_000), "short": "short",
	}
	after := strings.Repeat("after ", 300_000)
	for o, data := range before {
		p.want("PUT", coded+"/"+o, map[string]string{"X-Object-Meta-Of": o}, data, 201)
		p.want("COPY", coded+"/"+o, map[string]string{"Destination": "coded/copy-" + o}, "", 201)
		p.want("COPY", coded+"/"+o, map[string]string{"Destination": "c/copy-" + o}, "", 201)
	}
	p.want("POST", coded, map[string]string{"X-Versions-Enabled": "true"}, "", 204)
	for o, data := range before {
		first := p.want("HEAD", coded+"/"+o, nil, "", 200).Header.Get("X-Timestamp")
		p.want("PUT", coded+"/"+o, nil, after, 201)
		id := p.want("PUT", coded+"/"+o, nil, "now "+o, 201).Header.Get("X-Object-Version-Id")
		p.want("DELETE", coded+"/"+o, nil, "", 204)
		p.want("GET", coded+"/"+o, nil, "", 404)
		for url, want := range map[string]string{
			coded + "/" + o + "?version-id=" + first: data,
			coded + "/" + o + "?version-id=" + id:    "now " + o,
			coded + "/copy-" + o:                     data,
			p.url + "/c/copy-" + o:                   data,
		} {
			got, header := p.get(url, 200)
			if got != want {
				t.Errorf("%s: %d bytes, want %d", url, len(got), len(want))
			}
			if want == data && header.Get("X-Object-Meta-Of") != o {
				t.Errorf("%s: its metadata is %v", url, header)
			}
		}
	}
}
