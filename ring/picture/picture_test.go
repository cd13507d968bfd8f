package picture

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"martlet/ring"
	"martlet/ring/builder"
	"martlet/ring/forecast"
)

// parsed is an SVG as a reader of XML sees it: how many elements of each class, and all
// the text.
type parsed struct {
	classes map[string]int
	text    string
}

func parse(t *testing.T, svg string) parsed {
	t.Helper()
	p := parsed{classes: map[string]int{}}
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return p
		}
		if err != nil {
			t.Fatalf("not well formed: %v\n%s", err, svg)
		}
		switch token := token.(type) {
		case xml.StartElement:
			if name := token.Name.Local; !strings.Contains(" svg title style rect line text path ", " "+name+" ") {
				t.Errorf("an element %s", name)
			}
			for _, a := range token.Attr {
				if a.Name.Local == "class" {
					p.classes[a.Value]++
				}
				if strings.Contains(a.Value, "NaN") || strings.Contains(a.Value, "Inf") {
					t.Errorf("%s has %s=%q", token.Name.Local, a.Name.Local, a.Value)
				}
			}
		case xml.CharData:
			p.text += string(token) + "\n"
		}
	}
}

func grid(t testing.TB, power, zones, nodes, disks int) *builder.Builder {
	t.Helper()
	b, err := builder.New(power, 3, 0)
	if err != nil {
		t.Fatal(err)
	}
	for z := range zones {
		for n := range nodes {
			for d := range disks {
				add(t, b, z, n, d)
			}
		}
	}
	if _, err := b.Rebalance(builder.Options{}); err != nil {
		t.Fatal(err)
	}
	return b
}

func add(t testing.TB, b *builder.Builder, z, n, d int) {
	t.Helper()
	if _, err := b.Add(ring.Device{
		Region: 1 + z%2, Zone: z, IP: fmt.Sprintf("10.%d.%d.%d", z, n/200, n%200), Port: 6200, Name: fmt.Sprintf("d%d", d), Weight: 100,
		Meta: `<script>&"'` + "\x01]]>",
	}); err != nil {
		t.Fatal(err)
	}
}

func fillOf(t *testing.T, b *builder.Builder) parsed {
	t.Helper()
	stats, err := b.Stats()
	if err != nil {
		t.Fatal(err)
	}
	var svg bytes.Buffer
	if err := Fill(&svg, "a<b>&c", stats.Devices); err != nil {
		t.Fatal(err)
	}
	return parse(t, svg.String())
}

func TestFill(t *testing.T) {
	b := grid(t, 8, 4, 2, 3)
	p := fillOf(t, b)
	const legend = 1 // of each class
	if p.classes["held"] != 24+legend || p.classes["zone"] != 4 || p.classes["region"] != 2 || !strings.Contains(p.text, "a<b>&c") ||
		!strings.Contains(p.text, "d0 10.0.0.0:6200/d0: holds 32, weight 100 asks for 32, <script>") || !strings.Contains(p.text, "24 devices") {
		t.Errorf("%v\n%s", p.classes, p.text)
	}
	// One that is removed, one that is to be emptied, one that is new.
	if err := errors.Join(b.Remove(3), b.SetWeight(4, 0)); err != nil {
		t.Fatal(err)
	}
	add(t, b, 0, 9, 9)
	p = fillOf(t, b)
	if p.classes["gone"] != 2+legend || p.classes["track"] != 23+legend || p.classes["over"] != legend || !strings.Contains(p.text, ", removed") {
		t.Errorf("%v", p.classes)
	}
	if err := b.SetWeight(5, 10); err != nil {
		t.Fatal(err)
	}
	if p = fillOf(t, b); p.classes["over"] != 1+legend || p.classes["track"] != 22+legend {
		t.Errorf("%v", p.classes)
	}
}

// However many devices there are, the picture is bounded, and says what it shows.
func TestFillIsBounded(t *testing.T) {
	for name, tt := range map[string]struct {
		zones, nodes, disks int
		bars                int
		note                string
	}{
		"devices": {10, 10, 10, 1000, "1,000 devices"},
		"nodes":   {10, 30, 12, 300, "3,600 devices, too many to draw: a bar is a node"},
		"zones":   {4, 900, 1, 4, "3,600 devices, too many to draw: a bar is a zone"},
	} {
		var devices []builder.DeviceStats
		for i := range tt.zones * tt.nodes * tt.disks {
			d := ring.Device{ID: i, Region: 1, Zone: i / (tt.nodes * tt.disks), IP: fmt.Sprint("10.0.0.", i/tt.disks), Port: 1, Name: fmt.Sprint("d", i)}
			devices = append(devices, builder.DeviceStats{Device: d, Held: 10, Wish: 10})
		}
		var svg bytes.Buffer
		if err := Fill(&svg, name, devices); err != nil {
			t.Fatal(err)
		}
		p := parse(t, svg.String())
		if p.classes["held"] != tt.bars+1 || !strings.Contains(p.text, tt.note) {
			t.Errorf("%s: %v\n%.200s", name, p.classes, p.text)
		}
	}
	var svg bytes.Buffer
	if err := Fill(&svg, "none", nil); err != nil {
		t.Fatal(err)
	}
	if p := parse(t, svg.String()); !strings.Contains(p.text, "no devices") {
		t.Error(p.text)
	}
}

func flowsOf(t *testing.T, before, after *ring.Ring) parsed {
	t.Helper()
	c, err := forecast.Compare(before, after, forecast.Options{BytesPerPartition: 1e9, Rate: 1e6})
	if err != nil {
		t.Fatal(err)
	}
	var svg bytes.Buffer
	if err := Flows(&svg, "a<b>", "9 TB & more", c); err != nil {
		t.Fatal(err)
	}
	return parse(t, svg.String())
}

func ringOf(t *testing.T, b *builder.Builder) *ring.Ring {
	t.Helper()
	r, err := b.Ring()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestFlows(t *testing.T) {
	b := grid(t, 8, 4, 2, 3)
	before := ringOf(t, b)
	if p := flowsOf(t, before, before); !strings.Contains(p.text, "nothing flows") || p.classes["flow take"] != 0 {
		t.Errorf("no change: %s", p.text)
	}
	if p := flowsOf(t, nil, before); !strings.Contains(p.text, "not assigned before") || p.classes["flow take"] != 8 {
		t.Errorf("the first ring: %v\n%s", p.classes, p.text)
	}
	for d := range 3 {
		add(t, b, 7, 0, d)
	}
	if _, err := b.Rebalance(builder.Options{}); err != nil {
		t.Fatal(err)
	}
	p := flowsOf(t, before, ringOf(t, b))
	if p.classes["give"] != 8 || p.classes["take"] != 1 || p.classes["flow take"] != 8 || !strings.Contains(p.text, "r2 z7 10.7.0.0") || !strings.Contains(p.text, "; 9 TB & more") {
		t.Errorf("a new node: %v\n%s", p.classes, p.text)
	}
	if err := b.SetReplicas(2.5); err != nil {
		t.Fatal(err)
	}
	before = ringOf(t, b)
	if _, err := b.Rebalance(builder.Options{}); err != nil {
		t.Fatal(err)
	}
	if p := flowsOf(t, before, ringOf(t, b)); !strings.Contains(p.text, "no more") {
		t.Errorf("fewer replicas: %s", p.text)
	}
}

// Of many nodes zones are drawn, of many zones regions.
func TestFlowsAreBounded(t *testing.T) {
	for zones, kind := range map[int]string{10: "one zone to another", 60: "one region to another"} {
		b := grid(t, 10, zones, 5, 1)
		before := ringOf(t, b)
		for n := range 5 {
			add(t, b, zones+1, n, 0)
		}
		if _, err := b.Rebalance(builder.Options{}); err != nil {
			t.Fatal(err)
		}
		if p := flowsOf(t, before, ringOf(t, b)); !strings.Contains(p.text, kind) || p.classes["give"] > maxEnds {
			t.Errorf("%d zones: %v\n%.300s", zones, p.classes, p.text)
		}
	}
}
