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
