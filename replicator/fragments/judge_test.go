package fragments

import (
	"testing"

	"martlet/internal/backend"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
)

// What must not be dropped matters as much as what must: the table has both.
func TestFate(t *testing.T) {
	const (
		u = replwire.Unsure
		n = replwire.Unknown
		c = replwire.Current
		a = replwire.Another
		e = replwire.Ended
		w = replwire.Newer
	)
	type said = []replwire.Verdict
	for what, tt := range map[string]struct {
		said       said
		young, old fate // of a policy of which two lost replicas can't hide a write: 4 replicas, 3 needed
	}{
		"nobody":                                    {nil, keep, keep},
		"nobody has answered":                       {said{u, u, u, u}, keep, keep},
		"all have newer":                            {said{w, w, w, w}, superseded, superseded},
		"as many as a write has to be on":           {said{w, w, w, u}, superseded, superseded},
		"as many, and one still has it":             {said{w, w, w, c}, superseded, superseded},
		"one fewer, and one is silent":              {said{w, w, u, n}, keep, keep},
		"one fewer, and one still has it":           {said{w, w, n, c}, keep, keep},
		"one fewer, and the others know nothing":    {said{w, w, n, n}, keep, givenUp},
		"one has newer":                             {said{w, n, n, n}, keep, givenUp},
		"nobody knows of it":                        {said{n, n, n, n}, young, givenUp},
		"nobody knows of it, but one is silent":     {said{n, n, n, u}, keep, keep},
		"one has it":                                {said{n, n, n, c}, keep, keep},
		"all have it":                               {said{c, c, c, c}, keep, keep},
		"another of just that time":                 {said{a, a, a, a}, young, givenUp},
		"another of just that time, and one has it": {said{a, a, a, c}, keep, keep},
		"another of just that time, and a silent":   {said{a, a, a, u}, keep, keep},
		"ended for all":                             {said{e, e, e, e}, superseded, superseded},
		"ended for all, or newer":                   {said{e, w, e, w}, superseded, superseded},
		"ended for three, and one still has it":     {said{e, e, e, c}, keep, keep},
		"ended for three, and one is silent":        {said{e, e, e, u}, keep, keep},
		"ended for three, one does not know":        {said{e, e, e, n}, keep, givenUp},
	} {
		if got := fateOf(tt.said, 3, false); got != tt.young {
			t.Errorf("%s: %d, want %d", what, got, tt.young)
		}
		if got := fateOf(tt.said, 3, true); got != tt.old {
			t.Errorf("%s, and old: %d, want %d", what, got, tt.old)
		}
	}
}

func TestVerdict(t *testing.T) {
	at := func(seconds int64) timestamp.T { return timestamp.FromTicks(1_800_000_000_00000 + seconds*100_000) }
	w := replwire.Write{Time: at(10), ID: [16]byte{1}}
	coded := func(id byte) string {
		return backend.Coded{Data: 4, Parity: 2, Segment: 1, Write: [16]byte{id}, ETag: "00112233445566778899aabbccddeeff"}.String()
	}
	state := func(kind replwire.ObjectKind, data, meta timestamp.T, coded string) Entry {
		return Entry{Object: replwire.Object{Kind: kind, Times: timestamp.Packed{Data: data, ContentType: data, Meta: meta}}, Coded: coded}
	}
	expiry := timestamp.Expiry(at(10), at(10), at(20).Time().Unix())
	of := func(t timestamp.T) timestamp.T { return timestamp.Expiry(t, t, at(100).Time().Unix()) }
	for what, tt := range map[string]struct {
		state Entry
		want  replwire.Verdict
	}{
		"nothing":                         {Entry{}, replwire.Unknown},
		"its commit":                      {state(replwire.Data, at(10), at(10), coded(1)), replwire.Current},
		"its commit, and metadata later":  {state(replwire.Data, at(10), at(50), coded(1)), replwire.Current},
		"another write of the time":       {state(replwire.Data, at(10), at(10), coded(2)), replwire.Another},
		"data of the time":                {state(replwire.Data, at(10), at(10), ""), replwire.Another},
		"a commit that can't be read":     {state(replwire.Data, at(10), at(10), "x"), replwire.Unsure},
		"an earlier commit":               {state(replwire.Data, at(9), at(9), coded(2)), replwire.Unknown},
		"an earlier one, metadata later":  {state(replwire.Data, at(9), at(30), coded(2)), replwire.Unknown},
		"a later commit":                  {state(replwire.Data, at(11), at(11), coded(2)), replwire.Newer},
		"later data":                      {state(replwire.Data, at(11), at(11), ""), replwire.Newer},
		"a later tombstone":               {state(replwire.Tombstone, at(11), at(11), ""), replwire.Newer},
		"a tombstone of the time":         {state(replwire.Tombstone, at(10), at(10), ""), replwire.Newer},
		"an earlier tombstone":            {state(replwire.Tombstone, at(9), at(9), ""), replwire.Unknown},
		"lost":                            {state(replwire.Lost, at(11), at(11), ""), replwire.Unsure},
		"lost, of what time is not known": {state(replwire.Lost, timestamp.T{}, timestamp.T{}, ""), replwire.Unsure},
		"later metadata that waits":       {state(replwire.Waiting, timestamp.T{}, at(11), ""), replwire.Unsure},
		"earlier metadata that waits":     {state(replwire.Waiting, timestamp.T{}, at(9), ""), replwire.Unknown},
		"its end":                         {state(replwire.Tombstone, expiry, expiry, ""), replwire.Ended},
		"its end, which is void":          {state(replwire.Tombstone, expiry, at(30), ""), replwire.Unsure},
		"the end of later data":           {state(replwire.Tombstone, of(at(11)), of(at(11)), ""), replwire.Newer},
		"the end of earlier data":         {state(replwire.Tombstone, of(at(9)), of(at(9)), ""), replwire.Unknown},
	} {
		if got := verdictOn(&tt.state, &w); got != tt.want {
			t.Errorf("%s: %d, want %d", what, got, tt.want)
		}
	}
}
