package main

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// outcome is how a test ended.
type outcome string

// The outcomes.
const (
	passed  outcome = "passed"
	failed  outcome = "failed"
	skipped outcome = "skipped"
)

// result is what came of one test.
type result struct {
	id      string // file::Class::test
	outcome outcome
	why     string // one line, of a test that has not passed
}

func (r result) file() string { f, _, _ := strings.Cut(r.id, "::"); return f }

// runFile runs one file of the suite. That tests fail is no error; that they
// can't be run is.
func runFile(ctx context.Context, o options, dir, config, file string) ([]result, error) {
	report := filepath.Join(dir, file+".xml")
	cmd := exec.CommandContext(ctx, o.python, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", "--junitxml="+report,
		filepath.Join("test", "functional", file+".py"))
	cmd.Dir = o.suite
	cmd.Env = append(os.Environ(), "SWIFT_TEST_CONFIG_FILE="+config, "PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.CombinedOutput()
	const someFailed = 1 // pytest's exit status where all were run
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != someFailed) {
		return nil, fmt.Errorf("pytest: %w\n%s", err, out)
	}
	text, err := os.ReadFile(report)
	if err != nil {
		return nil, err
	}
	return parseReport(text)
}

// parseReport reads the report of pytest in the form of JUnit.
func parseReport(text []byte) ([]result, error) {
	type problem struct {
		Message string `xml:"message,attr"`
	}
	var doc struct {
		Suites []struct {
			Cases []struct {
				Class   string   `xml:"classname,attr"`
				Name    string   `xml:"name,attr"`
				Failure *problem `xml:"failure"`
				Error   *problem `xml:"error"`
				Skipped *problem `xml:"skipped"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	var list []result
	for _, s := range doc.Suites {
		for _, c := range s.Cases {
			class := strings.TrimPrefix(c.Class, "test.functional.")
			r := result{id: strings.ReplaceAll(class, ".", "::") + "::" + c.Name, outcome: passed}
			switch {
			case c.Failure != nil:
				r.outcome, r.why = failed, c.Failure.Message
			case c.Error != nil:
				r.outcome, r.why = failed, c.Error.Message
			case c.Skipped != nil:
				r.outcome, r.why = skipped, c.Skipped.Message
			}
			r.why, _, _ = strings.Cut(strings.TrimSpace(r.why), "\n")
			list = append(list, r)
		}
	}
	if len(list) == 0 {
		return nil, errors.New("the report has no tests in it")
	}
	return list, nil
}

// parseExclusions reads the list of tests that may fail: on each line a test and
// why it does. Empty lines, and those that begin with #, say nothing.
func parseExclusions(text string) (map[string]string, error) {
	list := map[string]string{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		id, why, _ := strings.Cut(line, " ")
		why = strings.TrimSpace(why)
		switch _, twice := list[id]; {
		case strings.Count(id, "::") != 2:
			return nil, fmt.Errorf("line %d: %q is not file::Class::test", n, id)
		case why == "":
			return nil, fmt.Errorf("line %d: %s has no reason", n, id)
		case twice:
			return nil, fmt.Errorf("line %d: %s is there twice", n, id)
		}
		list[id] = why
	}
	return list, nil
}

// table shows how many tests of each file ended how, and why some were skipped.
func table(files []string, all []result) string {
	count := map[string]map[outcome]int{}
	total := map[outcome]int{}
	why := map[string]int{}
	for _, r := range all {
		if count[r.file()] == nil {
			count[r.file()] = map[outcome]int{}
		}
		count[r.file()][r.outcome]++
		total[r.outcome]++
		if r.outcome == skipped {
			why[r.why]++
		}
	}
	var b strings.Builder
	row := func(name string, n map[outcome]int) {
		fmt.Fprintf(&b, "| %-14s | %6d | %6d | %7d | %5d |\n", name, n[passed], n[failed], n[skipped], n[passed]+n[failed]+n[skipped])
	}
	b.WriteString("| file           | passed | failed | skipped | total |\n|----------------|-------:|-------:|--------:|------:|\n")
	for _, f := range files {
		row(f, count[f])
	}
	row("all", total)
	for _, r := range slices.Sorted(keys(why)) {
		fmt.Fprintf(&b, "skipped: %d, %s\n", why[r], r)
	}
	return b.String()
}

func keys(m map[string]int) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// compare is an error where a test failed that may not, or one that may did not.
func compare(files []string, all []result, excluded map[string]string) error {
	var problems []error
	failures := map[string]bool{}
	for _, r := range all {
		if r.outcome != failed {
			continue
		}
		failures[r.id] = true
		if excluded[r.id] == "" {
			problems = append(problems, fmt.Errorf("%s failed: %s", r.id, r.why))
		}
	}
	ids := make([]string, 0, len(excluded))
	for id := range excluded {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		if slices.Contains(files, result{id: id}.file()) && !failures[id] {
			problems = append(problems, fmt.Errorf("%s is excluded, and does not fail", id))
		}
	}
	return errors.Join(problems...)
}
