package test

import (
	"bytes"
	"debug/elf"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"martlet/internal/planted"
)

// traces returns what a program has of planted bugs: their names, what chooses them, and symbols of what they are in.
func traces(t *testing.T, program string) (found []string) {
	t.Helper()
	b, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	words := []string{"MARTLET_PLANTED"} // the file of a clock is named by martlet check to the processes that it starts
	for _, bug := range planted.All() {
		words = append(words, bug.Name)
	}
	for _, w := range words {
		if bytes.Contains(b, []byte(w)) {
			found = append(found, w)
		}
	}
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range symbols {
		// The last ones are what bugs do that take more than a line.
		for _, part := range []string{"martlet/internal/planted", "/seglog.(*late)", ".nameLater", ".addMost", ".fillWith", ".oneFurther", ".endsAnyway", ".isOlder"} {
			if strings.Contains(s.Name, part) {
				found = append(found, s.Name)
			}
		}
	}
	return found
}

// The program that is shipped has nothing of planted bugs, not even their names.
func TestPlantedLeavesNoTrace(t *testing.T) {
	if found := traces(t, binary); len(found) > 0 {
		t.Errorf("the ordinary build has traces of planted bugs: %s", strings.Join(found, ", "))
	}
	// The test would see them.
	if found := traces(t, plantedBinary(t)); len(found) < 2*len(planted.All()) {
		t.Errorf("in the build that has %d bugs, only this is seen of them: %s", len(planted.All()), strings.Join(found, ", "))
	}
}

// plantedBinary builds the program that has bugs.
func plantedBinary(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "martlet-planted")
	if err := build(path, "planted"); err != nil {
		t.Fatal(err)
	}
	return path
}
