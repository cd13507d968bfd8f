package replwire

import (
	"testing"

	"martlet/internal/timestamp"
)

// What was lost is replaced by data or a tombstone that is as new in all that is known of it, and by nothing else.
func TestReplaced(t *testing.T) {
	at := func(ticks int64) timestamp.Packed {
		ts := timestamp.FromTicks(ticks)
		return timestamp.Packed{Data: ts, ContentType: ts, Meta: ts}
	}
	later := at(5)
	later.Meta = timestamp.FromTicks(7)
	for what, tt := range map[string]struct {
		lost   Object
		theirs *Object
		want   bool
	}{
		"by data of its time":                 {Object{Kind: Lost, Times: at(5)}, &Object{Kind: Data, Times: at(5)}, true},
		"by newer data":                       {Object{Kind: Lost, Times: at(5)}, &Object{Kind: Data, Times: at(6)}, true},
		"by a newer tombstone":                {Object{Kind: Lost, Times: at(5)}, &Object{Kind: Tombstone, Times: at(6)}, true},
		"not by what is older":                {Object{Kind: Lost, Times: at(5)}, &Object{Kind: Data, Times: at(4)}, false},
		"not by nothing":                      {Object{Kind: Lost, Times: at(5)}, nil, false},
		"not by what is lost as well":         {Object{Kind: Lost, Times: at(5)}, &Object{Kind: Lost, Times: at(6)}, false},
		"not by metadata alone":               {Object{Kind: Lost, Times: at(5)}, &Object{Kind: Waiting, Times: timestamp.Packed{Meta: timestamp.FromTicks(9)}}, false},
		"not where metadata was later":        {Object{Kind: Lost, Times: later}, &Object{Kind: Data, Times: at(5)}, false},
		"where data is later than metadata":   {Object{Kind: Lost, Times: later}, &Object{Kind: Data, Times: at(8)}, true},
		"not where its time is not known":     {Object{Kind: Lost}, &Object{Kind: Data, Times: at(5)}, false},
		"not what is there, and was not lost": {Object{Kind: Data, Times: at(5)}, &Object{Kind: Data, Times: at(5)}, false},
	} {
		if got := tt.lost.Replaced(tt.theirs); got != tt.want {
			t.Errorf("%s: %t", what, got)
		}
	}
}

// Metadata that was lost while it waited for its data is replaced by metadata that is as new in both its parts, with data or without, and
// by data or a tombstone that makes it void.
func TestWaitingReplaced(t *testing.T) {
	at := func(data, ctype, meta int64) timestamp.Packed {
		of := func(ticks int64) timestamp.T {
			if ticks == 0 {
				return timestamp.T{}
			}
			return timestamp.FromTicks(ticks)
		}
		return timestamp.Packed{Data: of(data), ContentType: of(ctype), Meta: of(meta)}
	}
	both := Object{Kind: Lost, Left: Waiting, Times: at(0, 5, 7)}
	for what, tt := range map[string]struct {
		lost   Object
		theirs *Object
		want   bool
	}{
		"by the same":                       {both, &Object{Kind: Waiting, Times: at(0, 5, 7)}, true},
		"by later metadata":                 {both, &Object{Kind: Waiting, Times: at(0, 6, 8)}, true},
		"by data that has it":               {both, &Object{Kind: Data, Times: at(3, 5, 7)}, true},
		"by newer data":                     {both, &Object{Kind: Data, Times: at(8, 8, 8)}, true},
		"by a newer tombstone":              {both, &Object{Kind: Tombstone, Times: at(8, 8, 8)}, true},
		"by an older tombstone, beside it":  {both, &Object{Kind: Tombstone, Times: at(3, 5, 7)}, true},
		"not by nothing":                    {both, nil, false},
		"not by older metadata":             {both, &Object{Kind: Waiting, Times: at(0, 5, 6)}, false},
		"not by an older content type":      {both, &Object{Kind: Waiting, Times: at(0, 4, 7)}, false},
		"not by data without it":            {both, &Object{Kind: Data, Times: at(3, 3, 3)}, false},
		"not by data in between":            {both, &Object{Kind: Data, Times: at(6, 6, 6)}, false},
		"not by an older tombstone":         {both, &Object{Kind: Tombstone, Times: at(6, 6, 6)}, false},
		"not by what is lost as well":       {both, &Object{Kind: Lost, Times: at(8, 8, 8)}, false},
		"not where its time is not known":   {Object{Kind: Lost, Left: Waiting}, &Object{Kind: Data, Times: at(8, 8, 8)}, false},
		"not where data may have been lost": {Object{Kind: Lost, Times: at(0, 5, 7)}, &Object{Kind: Waiting, Times: at(0, 5, 7)}, false},
	} {
		if got := tt.lost.Replaced(tt.theirs); got != tt.want {
			t.Errorf("%s: %t", what, got)
		}
	}
}

// What is good beside what was lost is as good as ever: what is there at just its time has to be the same, or less for certain.
func TestGoodBesideLost(t *testing.T) {
	at := func(data, meta int64) timestamp.Packed {
		d := timestamp.FromTicks(data)
		return timestamp.Packed{Data: d, ContentType: d, Meta: timestamp.FromTicks(meta)}
	}
	typed := at(5, 5)
	typed.ContentType = timestamp.FromTicks(7)
	data := Object{Kind: Lost, Left: Data, Times: at(5, 7), MD5: [16]byte{5}, SystemSum: 3, TypeSum: 2} // its later metadata was lost
	tombstone := Object{Kind: Lost, Left: Tombstone, Times: at(5, 7)}                                   // so was that beside it
	meta := Object{Kind: Lost, Times: at(5, 7), MetaSum: 4}                                             // its data was lost
	ctype := Object{Kind: Lost, Times: typed, TypeSum: 4}
	nothing := Object{Kind: Lost, Times: at(5, 7)}
	for what, tt := range map[string]struct {
		lost   *Object
		theirs Object
		want   bool
	}{
		"data by itself, with metadata as late":       {&data, Object{Kind: Data, Times: at(5, 7), MD5: [16]byte{5}, SystemSum: 3, MetaSum: 9, TypeSum: 2}, true},
		"data by greater data of its time":            {&data, Object{Kind: Data, Times: at(5, 7), MD5: [16]byte{6}}, true},
		"data not by lesser data of its time":         {&data, Object{Kind: Data, Times: at(5, 7), MD5: [16]byte{4}}, false},
		"data not by what it may be less than":        {&data, Object{Kind: Data, Times: at(5, 7), MD5: [16]byte{5}, SystemSum: 4}, false},
		"data by newer data":                          {&data, Object{Kind: Data, Times: at(8, 8)}, true},
		"data not by newer data with older metadata":  {&data, Object{Kind: Data, Times: at(6, 6)}, false},
		"data by a tombstone of its time":             {&data, Object{Kind: Tombstone, Times: at(5, 7)}, true},
		"a tombstone not by data of its time":         {&tombstone, Object{Kind: Data, Times: at(5, 7), MD5: [16]byte{9}}, false},
		"a tombstone by one":                          {&tombstone, Object{Kind: Tombstone, Times: at(5, 7)}, true},
		"a tombstone by newer data":                   {&tombstone, Object{Kind: Data, Times: at(6, 7)}, true},
		"metadata by itself":                          {&meta, Object{Kind: Data, Times: at(5, 7), MetaSum: 4}, true},
		"metadata by what is later":                   {&meta, Object{Kind: Data, Times: at(5, 8), MetaSum: 5}, true},
		"metadata not by another of its time":         {&meta, Object{Kind: Data, Times: at(5, 7), MetaSum: 5}, false},
		"metadata by newer data":                      {&meta, Object{Kind: Data, Times: at(7, 7), MetaSum: 5}, true},
		"a content type by itself":                    {&ctype, Object{Kind: Data, Times: typed, TypeSum: 4}, true},
		"a content type not by another of its time":   {&ctype, Object{Kind: Data, Times: typed, TypeSum: 5}, false},
		"what is all damaged by anything of its time": {&nothing, Object{Kind: Data, Times: at(5, 7), SystemSum: 1, MetaSum: 2, TypeSum: 3}, true},
	} {
		if got := tt.lost.Replaced(&tt.theirs); got != tt.want {
			t.Errorf("%s: %t", what, got)
		}
	}
}

// What is good of what was lost is lacked by who has nothing as new, or has lost it; what was lost is not, and it still tells whether an end is void.
func TestLacksLeft(t *testing.T) {
	at := func(data, meta int64) timestamp.Packed {
		d := timestamp.FromTicks(data)
		return timestamp.Packed{Data: d, ContentType: d, Meta: timestamp.FromTicks(meta)}
	}
	end := timestamp.Expiry(timestamp.FromTicks(5), timestamp.FromTicks(5), 1_900_000_000)
	ended := &Object{Kind: Tombstone, Times: timestamp.Packed{Data: end, ContentType: end, Meta: end}}
	data := Object{Kind: Lost, Left: Data, Times: at(5, 7), MD5: [16]byte{5}}
	tombstone := Object{Kind: Lost, Left: Tombstone, Times: at(5, 7)}
	meta := Object{Kind: Lost, LeftMeta: true, Times: at(5, 7), MetaSum: 4}
	nothing := Object{Kind: Lost, Times: at(5, 7)}
	waiting := Object{Kind: Lost, Left: Waiting, Times: timestamp.Packed{Meta: timestamp.FromTicks(7)}}
	for what, tt := range map[string]struct {
		mine   *Object
		theirs *Object
		want   Lack
	}{
		"data, of nothing":                       {&data, nil, LackData},
		"data, of what is older":                 {&data, &Object{Kind: Data, Times: at(4, 4)}, LackData},
		"data, of itself":                        {&data, &Object{Kind: Data, Times: at(5, 5), MD5: [16]byte{5}}, 0},
		"data, of what is newer":                 {&data, &Object{Kind: Tombstone, Times: at(6, 6)}, 0},
		"data, of what is lost":                  {&data, &Object{Kind: Lost, Times: at(5, 5)}, LackData},
		"data, of newer that is lost":            {&data, &Object{Kind: Lost, Times: at(6, 6)}, 0},
		"data, of an end that is void":           {&data, ended, LackData},
		"a tombstone, of nothing":                {&tombstone, nil, LackData},
		"a tombstone, of data":                   {&tombstone, &Object{Kind: Data, Times: at(4, 4)}, LackData},
		"a tombstone, of itself":                 {&tombstone, &Object{Kind: Tombstone, Times: at(5, 5)}, 0},
		"metadata, of nothing":                   {&meta, nil, LackMeta},
		"metadata, of data without it":           {&meta, &Object{Kind: Data, Times: at(5, 5)}, LackMeta},
		"metadata, of data with it":              {&meta, &Object{Kind: Data, Times: at(5, 7), MetaSum: 4}, 0},
		"metadata, of newer data":                {&meta, &Object{Kind: Data, Times: at(8, 8)}, 0},
		"what is lost as a whole, of nothing":    {&nothing, nil, 0},
		"lost metadata without data, of nothing": {&waiting, nil, 0},
		"what was not lost, of nothing":          {&Object{Kind: Data, Times: at(5, 7)}, nil, LackData | LackMeta},
	} {
		if got := tt.mine.LacksLeft(tt.theirs); got != tt.want {
			t.Errorf("%s: %d, want %d", what, got, tt.want)
		}
	}
}

// What is left of a state that is lost is not sent: older nodes refuse a list that says more of it.
func TestLeftIsNotSent(t *testing.T) {
	ts := timestamp.FromTicks(7)
	at := timestamp.Packed{Data: ts, ContentType: ts, Meta: ts}
	o := Object{Kind: Lost, Left: Data, LeftMeta: true, Times: at, MD5: [16]byte{1}, Length: 1, CRC: 1, SystemSum: 1, MetaSum: 1, TypeSum: 1}
	list, _, err := ParseObjects(End(AppendObject(Begin(nil, Objects), &o), 1, false), lowest, highest)
	if err != nil || len(list) != 1 || list[0] != (Object{Kind: Lost, Times: at}) {
		t.Errorf("got %+v, %v", list, err)
	}
}
