package model

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"martlet/cmd/internal/check/history"
)

// Histories that are short enough to be understood, and what is found in each: the rule and the name, or nothing.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.jsonl")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d histories, %v", len(files), err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".jsonl"), func(t *testing.T) {
			file, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			header, rounds, err := history.Read(file)
			if err != nil {
				t.Fatal(err)
			}
			var found []string
			for h, err := range rounds {
				if err != nil {
					t.Fatal(err)
				}
				reads, _ := Reads(h)
				last, _, _ := Settled(h, *h.Final)
				for _, v := range append(reads, last...) {
					t.Log(v.Why)
					found = append(found, fmt.Sprintf("%s %s", v.Rule, v.Names[0]))
				}
			}
			if got := strings.Join(found, ", "); got != header.Options["want"] {
				t.Errorf("found %q, want %q", got, header.Options["want"])
			}
		})
	}
}
