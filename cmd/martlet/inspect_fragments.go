package main

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"slices"

	"martlet/internal/backend"
	"martlet/internal/ec"
	"martlet/object/engine"
	"martlet/object/engine/record"
	"martlet/object/index"
)

// heldFragment is a fragment that a device has of an object, or what is left of one.
type heldFragment struct {
	at     engine.Location
	found  engine.Inspection
	header *ec.Header // nil where it is not known what it is
}

// index is that of the fragment, -1 where it is not known.
func (f *heldFragment) index() int {
	if f.header == nil {
		return -1
	}
	return f.header.Index
}

func (f *heldFragment) whole() bool { return f.found.Entry.Kind != index.Lost && f.found.Whole() }

// fragmentsOf looks for the fragments of an object, which are next to each other on the device, and lists the newest
// first. Of one that was dropped it says nothing.
func fragmentsOf(ctx context.Context, v *engine.View, of engine.Location, how engine.How) (list []heldFragment, err error) {
	if of.Policy.IsFragments() {
		return nil, nil
	}
	p, r := of.Policy.Fragments(), of.Hash.FragmentRange()
	for h, err := range v.Hashes(p, r.First(), r.Last()) {
		if err != nil {
			return nil, err
		}
		f := heldFragment{at: engine.Location{Policy: p, Hash: h}}
		if f.found, err = v.Inspect(ctx, f.at, how); err != nil {
			return nil, err
		}
		if f.found.Entry.Kind == index.Gone {
			continue
		}
		f.header = headerOf(&f.found)
		list = append(list, f)
	}
	slices.SortStableFunc(list, func(a, b heldFragment) int {
		return cmp.Or(b.found.Entry.Times.Data.Compare(a.found.Entry.Times.Data), a.index()-b.index())
	})
	return list, nil
}

// inForce returns what the record with the data says, nil where there is none.
func inForce(i *engine.Inspection) *record.Head {
	for n := range i.Records {
		if h := &i.Records[n].Head; i.Records[n].Part == "data" && (h.Kind == record.Data || h.Kind == record.Blob) {
			return h
		}
	}
	return nil
}

// headerOf returns what a fragment says of itself, nil of what is none.
func headerOf(i *engine.Inspection) *ec.Header {
	r := inForce(i)
	if r == nil {
		return nil
	}
	b, err := hex.DecodeString(r.Object.System.Get(backend.Fragment))
	if err != nil {
		return nil
	}
	h, err := ec.ParseHeader(b)
	if err != nil {
		return nil
	}
	return &h
}

// codedOf returns what an object says of its fragments, nil where its data is in none.
func codedOf(i *engine.Inspection) *backend.Coded {
	r := inForce(i)
	if r == nil || r.Object.Length != 0 {
		return nil
	}
	c, err := backend.ParseCoded(r.Object.System.Get(backend.CodedWrite))
	if err != nil {
		return nil
	}
	return &c
}

// codedText says of an object or a fragment what it is, "" of one that is whole.
func codedText(i *engine.Inspection) string {
	if c := codedOf(i); c != nil {
		return fmt.Sprintf("object of %s, in fragments, %d+%d, of the write %x", someBytes(c.Size), c.Data, c.Parity, c.Write)
	}
	if h := headerOf(i); h != nil {
		return fmt.Sprintf("fragment %d of %v, of the write %x: %s", h.Index, h.Shape, h.Write.ID, someBytes(i.Entry.Length))
	}
	return ""
}

// fragmentTable lists the fragments of the object that are on the device.
func (a *objectAnswer) fragmentTable(p *page) {
	if len(a.fragments) == 0 {
		return
	}
	p.printf("\n")
	rows := [][]cell{head("FRAGMENT", "OF", "TIME", "WRITE", "BYTES>", "WHOLE", "HASH")}
	for i := range a.fragments {
		f := &a.fragments[i]
		whole := left("yes")
		switch {
		case f.found.Entry.Kind == index.Lost:
			whole = left("lost").in(yellow)
		case !f.whole():
			whole = left("no").in(yellow)
		}
		number, of, write := "?", "?", "?"
		if h := f.header; h != nil {
			number, of, write = fmt.Sprint(h.Index), h.Shape.String(), fmt.Sprintf("%x", h.Write.ID)
		}
		rows = append(rows, []cell{
			left(number), left(of), left(f.found.Entry.Times.Data.String()), left(write), right(inBytes(float64(f.found.Entry.Length))), whole, left(f.at.Hash.String()),
		})
	}
	p.table("", rows)
}

// What inspect object prints as JSON of what erasure coding has made.
type (
	codedJSON struct {
		Shape string `json:"shape"`
		Write string `json:"write"`
		Bytes int64  `json:"bytes"` // of the whole
		MD5   string `json:"md5"`   // likewise
	}
	fragmentJSON struct {
		Index *int   `json:"index,omitempty"`
		Shape string `json:"shape,omitempty"`
		Write string `json:"write,omitempty"`
		Time  string `json:"time"`
		Bytes int64  `json:"bytes"`
		State string `json:"state"`
		Whole bool   `json:"whole"`
		Hash  string `json:"hash"`
	}
)

func codedJSONOf(i *engine.Inspection) *codedJSON {
	c := codedOf(i)
	if c == nil {
		return nil
	}
	return &codedJSON{Shape: fmt.Sprintf("%d+%d", c.Data, c.Parity), Write: fmt.Sprintf("%x", c.Write), Bytes: c.Size, MD5: c.ETag}
}

func fragmentJSONOf(at engine.Location, i *engine.Inspection) fragmentJSON {
	f := heldFragment{at: at, found: *i, header: headerOf(i)}
	v := fragmentJSON{
		Time: i.Entry.Times.Data.String(), Bytes: i.Entry.Length, State: states[i.Entry.Kind], Whole: f.whole(), Hash: at.Hash.String(),
	}
	if h := f.header; h != nil {
		v.Index, v.Shape, v.Write = &h.Index, h.Shape.String(), fmt.Sprintf("%x", h.Write.ID)
	}
	return v
}
