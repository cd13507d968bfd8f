package history

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

func readAll(t testing.TB, text string) (Header, []History, error) {
	t.Helper()
	h, rounds, err := Read(strings.NewReader(text))
	if err != nil {
		return h, nil, err
	}
	var all []History
	for r, err := range rounds {
		if err != nil {
			return h, all, err
		}
		all = append(all, r)
	}
	return h, all, nil
}

// sample is a history with something of everything.
func sample() []History {
	limits := Limits{Skew: time.Millisecond, Grace: time.Second}
	floor := []Entry{{Name{"c", "ö \n"}, State{Data: 1, Body: 1, Mark: 2, Size: 9}}}
	return []History{
		{Limits: limits, Round: 1, Steady: 77, Events: []Event{{At: 5, What: "kill"}}, Ops: []Op{
			{ID: 1, Kind: Put, Container: "c", Object: "ö \n", Start: 1, End: 2, Status: 201, Outcome: Acked, Body: 1, Size: 9},
			{ID: 2, Client: 3, Proxy: 1, Kind: Post, Container: "c", Object: "ö \n", Start: 2, End: 4, Outcome: Unknown, Note: "EOF"},
			{ID: 3, Kind: Copy, Container: "c", Object: "p", From: &Name{"c", "ö \n"}, Start: 2, End: 4, Status: 404, Outcome: Refused},
			{ID: 4, Kind: Get, Container: "c", Object: "p", Start: 4, End: 5, Status: 404, Outcome: Acked, Seen: &Seen{State: State{Missing: true}}},
			{ID: 5, Kind: List, Container: "c", Start: 4, End: 5, Status: 200, Outcome: Acked, Query: &Query{Prefix: "o", Limit: 3}, Seen: &Seen{Names: []Listed{{"o", 1, 1, 9}}, Whole: true}},
		}},
		{Limits: limits, Round: 2, Began: 100, Steady: 100, Floor: floor},
	}
}

func TestSaveAndRead(t *testing.T) {
	want := sample()
	var b bytes.Buffer
	if err := Save(&b, Header{Seed: 7, Options: map[string]string{"a": "b"}, Limits: want[0].Limits}, want...); err != nil {
		t.Fatal(err)
	}
	h, got, err := readAll(t, b.String())
	if err != nil || h.Seed != 7 || h.Options["a"] != "b" || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v\n%+v, want\n%+v", h, err, got, want)
	}
}

// What clients add at the same time is all there, in the file as in memory.
func TestLog(t *testing.T) {
	var b bytes.Buffer
	l := NewLog(&b, Header{Seed: 1, Limits: Limits{Grace: time.Second}})
	work := func() {
		var all sync.WaitGroup
		for client := range 8 {
			all.Go(func() {
				for range 50 {
					id, at := l.Start()
					l.Add(Op{ID: id, Client: client, Kind: Delete, Container: "c", Object: "o", Start: at, End: l.Now(), Outcome: Acked})
				}
			})
		}
		all.Wait()
	}
	work()
	if e := l.Event("kill"); e.At == 0 || e.What != "kill" {
		t.Errorf("%+v", e)
	}
	l.Unsteady()
	first := l.History()
	l.Unsteady()
	l.NextRound([]Entry{{Name{"c", "o"}, State{Data: 3}}}, false)
	work()
	second := l.History()
	l.NextRound(nil, true)
	if third := l.History(); third.Steady <= third.Began || third.Round != 3 || len(third.Ops) > 0 {
		t.Errorf("a round that began steady: %+v", third)
	}
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	_, got, err := readAll(t, b.String())
	if err != nil || len(got) != 3 {
		t.Fatalf("%d rounds, %v", len(got), err)
	}
	for i, want := range []History{first, second} {
		if len(want.Ops) != 400 || want.Ops[0].ID != int64(400*i+1) || !reflect.DeepEqual(got[i], want) {
			t.Errorf("round %d: %d operations, in the file %d; steady up to %v, %v", i+1, len(want.Ops), len(got[i].Ops), want.Steady, got[i].Steady)
		}
	}
	if second.Steady != second.Began || first.Steady == 0 {
		t.Errorf("steady up to %v and %v", first.Steady, second.Steady)
	}
}

type full struct{}

var errFull = errors.New("no room")

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestLogThatCannotBeWritten(t *testing.T) {
	l := NewLog(full{}, Header{})
	l.Add(Op{ID: 1, Kind: Put, Outcome: Acked, Note: strings.Repeat("x", 1<<20)})
	if err := l.Flush(); !errors.Is(err, errFull) {
		t.Errorf("%v", err)
	}
	if h := l.History(); len(h.Ops) != 1 {
		t.Errorf("in memory: %+v", h)
	}
}

func TestRefused(t *testing.T) {
	const header = `{"history":1,"seed":1,"skew":0,"grace":0}` + "\n"
	const round = `{"round":{"n":1,"began":0}}` + "\n"
	op := func(change string) string {
		fields := map[string]string{"id": "1", "kind": `"put"`, "object": `"o"`, "outcome": `"acked"`, "start": "1", "end": "2"}
		if k, v, ok := strings.Cut(change, ":"); ok {
			fields[k] = v
		}
		text := ""
		for k, v := range fields {
			if v != "" {
				text += fmt.Sprintf(",%q:%s", k, v)
			}
		}
		return `{"op":{"container":"c"` + text + "}}\n"
	}
	for name, tt := range map[string]struct{ text, says string }{
		"empty":                  {"", "empty"},
		"not JSON":               {"x\n", "line 1"},
		"another version":        {`{"history":2}` + "\n", "version 2"},
		"a skew of no clock":     {`{"history":1,"skew":-1}` + "\n", "skew"},
		"before a round":         {header + op(""), "line 2: no history: it belongs to no round"},
		"round 0":                {header + `{"round":{"n":0}}` + "\n", "round 0"},
		"two things":             {header + `{"round":{"n":1},"steady":4}` + "\n", "2 things"},
		"nothing":                {header + "{}\n", "0 things"},
		"an ID twice":            {header + round + op("") + op(""), "line 4: no history: operation 1 is there twice"},
		"no ID":                  {header + round + op("id:"), "IDs"},
		"no kind":                {header + round + op("kind:"), "no kind"},
		"an unknown kind":        {header + round + op(`kind:"move"`), "move"},
		"an unknown outcome":     {header + round + op(`outcome:"fine"`), "fine"},
		"it ends before":         {header + round + op("end:0"), "from 1ns to 0s"},
		"it begins before all":   {header + round + op("start:-1"), "from -1ns"},
		"a copy of nothing":      {header + round + op(`kind:"copy"`), "source"},
		"a put of something":     {header + round + op(`from:{"container":"c","object":"p"}`), "source"},
		"a listing of an object": {header + round + op(`kind:"list"`), "listing"},
		"a get of no object":     {header + round + op(`object:`), "listing"},
		"a write that sees":      {header + round + op(`seen:{"data":1}`), "sees nothing"},
		"a time beyond all":      {header + round + `{"steady":9000000000000000000}` + "\n", "no such time"},
		"a line without end":     {header + round + `{"event":{"what":"` + strings.Repeat("x", maxLine) + "\"}}\n", "longer"},
	} {
		if _, _, err := readAll(t, tt.text); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want one that says %q", name, err, tt.says)
		}
	}
	if _, got, err := readAll(t, header+round+op("")+`{"op":{"id":2`); err != nil || len(got) != 1 || len(got[0].Ops) != 1 || got[0].Steady != 2 {
		t.Errorf("broken off: %+v, %v", got, err)
	}
}

// Whatever a file holds is refused or read, and what was read is written and read again as it was.
func FuzzRead(f *testing.F) {
	var b bytes.Buffer
	if err := Save(&b, Header{Seed: 7}, sample()...); err != nil {
		f.Fatal(err)
	}
	f.Add(b.String())
	f.Fuzz(func(t *testing.T, text string) {
		h, got, err := readAll(t, text)
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := Save(&b, h, got...); err != nil {
			t.Fatal(err)
		}
		_, again, err := readAll(t, b.String())
		if err != nil {
			t.Fatal(err)
		}
		was, err1 := json.Marshal(got)
		is, err2 := json.Marshal(again)
		if err1 != nil || err2 != nil || !bytes.Equal(was, is) {
			t.Fatalf("%v, %v\n%s\n%s", err1, err2, was, is)
		}
	})
}
