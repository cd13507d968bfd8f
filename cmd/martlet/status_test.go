package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"martlet/cmd/internal/survey"
)

// A list is printed before the sums, one thing at a time, and is one JSON object with them; with
// nothing in it, there is none.
func TestListIsPrintedAsItIsFound(t *testing.T) {
	for _, lines := range []int{0, 1, 3} {
		var out bytes.Buffer
		l := lister{out: &out, json: true}
		for i := range lines {
			line := baseLine{Kind: "account", Hash: strings.Repeat("a", i+1), Missing: 1, Reasons: []survey.Reason{survey.Queued}}
			before := out.Len()
			if l.print(line.text(), line); out.Len() == before {
				t.Errorf("line %d is kept", i)
			}
		}
		err := l.end(&durabilityReport{Durability: &survey.Durability{UnderReplicated: 7}, Databases: []*survey.Databases{{Kind: "account"}}})
		var got struct {
			List            []baseLine         `json:"list"`
			UnderReplicated int                `json:"under_replicated"`
			Databases       []survey.Databases `json:"databases"`
		}
		if err := json.Unmarshal(out.Bytes(), &got); err != nil {
			t.Errorf("%d lines: %v\n%s", lines, err, out.Bytes())
		}
		if err != nil || len(got.List) != lines || got.UnderReplicated != 7 || len(got.Databases) != 1 {
			t.Errorf("%d lines: %+v, %v\n%s", lines, got, err, out.Bytes())
		}
	}
}
