package test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"martlet/internal/planted"
)

// aimed is how martlet check is aimed at a bug.
type aimed struct {
	flags string
	quick bool // CI runs it: it needs no luck, and few seconds
}

const (
	unbroken = "--disks=false --duration 16s --bound 25s --faults none "
	faulty   = "--disks=false --duration 24s --bound 25s --every 700ms "
	// lone is one device that has all there is, so that nobody has again what it loses. Killing it, or cutting its power, is borne,
	// and clients have time to be told that something is stored before it happens.
	lone = "--nodes 1 --devices 1 --proxies 1 --replicas 1 --policy plain --duration 24s --bound 25s --every 2s "
)

// noticed is the bugs that martlet check notices, and with which workload and faults. Those without --disks=false want root:
// they cut power, and fill devices.
var noticed = map[string]aimed{
	"account-not-told":         {unbroken + "--workload listing", false},
	"ack-before-sync":          {lone + "--disks=false --faults killall --names 400", false},
	"blob-after-record":        {lone + "--disks=false --faults killall --names 400", false},
	"checkpoint-loses-entry":   {faulty + "--faults restart", false},
	"checkpoint-without-sync":  {lone + "--faults powerall --workload listing", false},
	"checksum-ignored":         {faulty + "--faults flip --workload read --every 300ms", false},
	"commit-before-fragments":  {faulty + "--faults proxy --names 100", false},
	"compaction-drops-live":    {lone + "--disks=false --faults none --names 100", false},
	"conflict-acknowledged":    {lone + "--disks=false --proxies 2 --faults none --workload overwrite --ahead 3s", false},
	"container-update-lost":    {unbroken + "--workload listing", true},
	"count-only-grows":         {lone + "--disks=false --faults none --workload listing", false},
	"cut-upload-kept":          {unbroken + "--duration 24s --workload large", false},
	"delete-row-forgotten":     {unbroken + "--workload listing", false},
	"etag-not-checked":         {unbroken + "--workload overwrite", false},
	"expires-early":            {unbroken + "--duration 24s", false},
	"fragment-rebuilt-wrong":   {faulty + "--faults flip --workload ec --every 300ms", false},
	"handoff-dropped-early":    {"--nodes 2 --devices 1 --replicas 1 --policy plain --duration 24s --bound 25s --every 700ms --faults full --names 200", false},
	"listing-skips-at-edge":    {unbroken + "--workload listing --names 100", false},
	"merge-loses-row":          {unbroken + "--workload listing --names 100", false},
	"older-over-newer":         {faulty + "--faults kill,pause --workload overwrite", false},
	"parity-wrong":             {faulty + "--faults kill --workload ec", false},
	"post-lost":                {unbroken + "--workload post", true},
	"post-not-replicated":      {faulty + "--faults kill --workload post", false},
	"push-not-sent":            {faulty + "--faults kill --workload overwrite", false},
	"queue-lost-at-restart":    {faulty + "--faults queue --workload listing", false},
	"quorum-of-one":            {unbroken + "--workload overwrite", true},
	"resume-off-by-one":        {"--disks=false --nodes 3 --devices 1 --policy plain --duration 45s --bound 25s --every 150ms --faults slow,cut --workload stream", false},
	"row-merged-wrong":         {unbroken + "--workload listing", false},
	"rows-not-replicated":      {faulty + "--faults ring --workload listing", false},
	"tombstone-early":          {faulty + "--faults kill --workload delete", false},
	"tombstone-not-replicated": {faulty + "--faults kill --workload delete", false},
}

// all reports whether the tests of planted bugs are to look at all of them: that takes half an hour.
func allPlanted() bool { return os.Getenv("MARTLET_PLANTED_ALL") != "" }

// judged is what is needed of a check's report.
type judged struct {
	Verdict    string  `json:"verdict"`
	Seconds    float64 `json:"seconds"`
	Violations []struct {
		Rule string `json:"rule"`
		Why  string `json:"why"`
	} `json:"violations"`
}

// checkPlanted runs a check with a bug in force; "" is none.
func checkPlanted(t *testing.T, program, bug, flags string, seed int) (r judged) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "check")
	ctx, stop := context.WithTimeout(t.Context(), 5*time.Minute)
	defer stop()
	cmd := exec.CommandContext(ctx, program, append([]string{"check", "--dir", dir, "--seed", fmt.Sprint(seed)}, strings.Fields(flags)...)...)
	cmd.Env = append(os.Environ(), "MARTLET_PLANTED="+bug)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it ends what it has started
	cmd.WaitDelay = time.Minute
	out, err := cmd.CombinedOutput()
	if ended := (*exec.ExitError)(nil); err != nil && !errors.As(err, &ended) {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "report.json"))
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		t.Fatalf("no report: %v\n%s", err, out)
	}
	return r
}

// rightly reports whether a check has found a bug by a rule that it breaks.
func (r *judged) rightly(b planted.Bug) bool {
	rules := strings.Split(b.Rules, "|")
	for _, v := range r.Violations {
		if slices.Contains(rules, v.Rule) {
			return r.Verdict == "broken"
		}
	}
	return false
}

// Martlet check notices planted bugs, each with the workload and the faults that are aimed at it. What is by
// chance, such as what is under way when a process is killed, may pass one by: then another seed is tried, twice.
func TestPlantedIsNoticed(t *testing.T) {
	program := plantedBinary(t)
	for _, b := range planted.All() {
		aim, ok := noticed[b.Name]
		if !ok {
			t.Errorf("no check is aimed at %s", b.Name)
		}
		if !ok || !aim.quick && !allPlanted() {
			continue
		}
		t.Run(b.Name, func(t *testing.T) {
			var said []string
			for seed := 7; seed < 10; seed++ {
				r := checkPlanted(t, program, b.Name, aim.flags, seed)
				if r.rightly(b) {
					t.Logf("seed %d, %.0f s: %s: %s", seed, r.Seconds, r.Violations[0].Rule, r.Violations[0].Why)
					return
				}
				said = append(said, fmt.Sprintf("seed %d, %.0f s: %s %+v", seed, r.Seconds, r.Verdict, r.Violations))
			}
			t.Errorf("%s: %s\nflags %s, want a violation of %s, got\n%s", b.Name, b.Breaks, aim.flags, b.Rules, strings.Join(said, "\n"))
		})
	}
}

// Without a bug the same checks find nothing: it is the bug that they have found.
func TestPlantedNoneIsKept(t *testing.T) {
	program := plantedBinary(t)
	done := map[string]bool{}
	for name, aim := range noticed {
		if done[aim.flags] || name != "quorum-of-one" && !allPlanted() {
			continue
		}
		done[aim.flags] = true
		t.Run(strings.ReplaceAll(aim.flags, " ", "_"), func(t *testing.T) {
			if r := checkPlanted(t, program, "", aim.flags, 7); r.Verdict != "kept" {
				t.Errorf("nothing is planted, and with %s the verdict is %s: %+v", aim.flags, r.Verdict, r.Violations)
			}
		})
	}
}
