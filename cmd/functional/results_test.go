package main

import (
	"strings"
	"testing"
)

const reportText = `<?xml version="1.0"?><testsuites><testsuite name="pytest">
<testcase classname="test.functional.test_a.TestA" name="test_good" time="1"></testcase>
<testcase classname="test.functional.test_a.TestA" name="test_bad"><failure message="1 != 2&#10;more">trace</failure></testcase>
<testcase classname="test.functional.test_a.TestB" name="test_broken"><error message="failed on setup">trace</error></testcase>
<testcase classname="test.functional.test_a.TestB" name="test_not"><skipped type="x" message="no quotas">at</skipped></testcase>
</testsuite></testsuites>`

func TestReport(t *testing.T) {
	got, err := parseReport([]byte(reportText))
	want := []result{
		{"test_a::TestA::test_good", passed, ""}, {"test_a::TestA::test_bad", failed, "1 != 2"},
		{"test_a::TestB::test_broken", failed, "failed on setup"}, {"test_a::TestB::test_not", skipped, "no quotas"},
	}
	if err != nil || len(got) != len(want) {
		t.Fatalf("got %v, %v", got, err)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("got %v, want %v", got[i], want[i])
		}
	}
	if text := table([]string{"test_a"}, got); !strings.Contains(text, "| all            |      1 |      2 |       1 |     4 |") || !strings.Contains(text, "skipped: 1, no quotas") {
		t.Errorf("the table is\n%s", text)
	}
	for _, bad := range []string{"", "<a>", "<testsuites></testsuites>"} {
		if _, err := parseReport([]byte(bad)); err == nil {
			t.Errorf("report %q: no error", bad)
		}
	}
}

func TestExclusions(t *testing.T) {
	for text, ok := range map[string]bool{
		"":                            true,
		"# nothing\n\na::B::c why\n":  true,
		"a::B::c\n":                   false,
		"a::B why\n":                  false,
		"a::B::c why\na::B::c why2\n": false,
	} {
		if _, err := parseExclusions(text); (err == nil) != ok {
			t.Errorf("%q: got %v", text, err)
		}
	}
}

// What fails must be on the list, and what is on the list must fail.
func TestCompare(t *testing.T) {
	all, err := parseReport([]byte(reportText))
	if err != nil {
		t.Fatal(err)
	}
	for what, tt := range map[string]struct {
		excluded string
		want     string
	}{
		"all known":          {"test_a::TestA::test_bad x\ntest_a::TestB::test_broken x", ""},
		"another file's":     {"test_a::TestA::test_bad x\ntest_a::TestB::test_broken x\ntest_z::Z::z x", ""},
		"one is not":         {"test_a::TestA::test_bad x", "test_broken failed: failed on setup"},
		"one passes":         {"test_a::TestA::test_bad x\ntest_a::TestB::test_broken x\ntest_a::TestA::test_good x", "test_good is excluded"},
		"one is skipped":     {"test_a::TestA::test_bad x\ntest_a::TestB::test_broken x\ntest_a::TestB::test_not x", "test_not is excluded"},
		"one is not there":   {"test_a::TestA::test_bad x\ntest_a::TestB::test_broken x\ntest_a::TestA::gone x", "gone is excluded"},
		"nothing is allowed": {"", "test_bad failed: 1 != 2"},
	} {
		excluded, err := parseExclusions(tt.excluded)
		if err != nil {
			t.Fatal(err)
		}
		err = compare([]string{"test_a"}, all, excluded)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", what, err, tt.want)
		}
	}
}
