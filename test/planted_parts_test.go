package test

import (
	"errors"
	"os"
	"os/exec"
	"testing"

	"martlet/internal/planted"
)

// parts is which test of which package fails for a planted bug: the promise is tested where it is kept, before any cluster is.
// Where there is none, only a cluster shows it.
var parts = map[string]struct{ pkg, test string }{
	"account-not-told":         {"replicator/stats", "TestMajority"},
	"ack-before-sync":          {"internal/seglog", "TestCrashAnywhere"},
	"blob-after-record":        {"object/engine", "TestLifeOfAnObject"},
	"checkpoint-loses-entry":   {"object/index", "TestModel"},
	"checksum-ignored":         {"object/engine", "TestEveryByteFlips"},
	"commit-before-fragments":  {"proxy", "TestCodedPutWithoutEnoughFragments"},
	"compaction-drops-live":    {"object/engine", "TestCompactChangesNothing"},
	"conflict-acknowledged":    {"proxy", "TestAWriteThatLoses"},
	"container-update-lost":    {"object", "TestSilentServerAndBatches"},
	"count-only-grows":         {"container", "TestCountsAreWhatIsListed"},
	"cut-upload-kept":          {"object", "TestBrokenBodies"},
	"delete-row-forgotten":     {"container", "TestLife"},
	"expires-early":            {"replicator/expiry", "TestDelay"},
	"fragment-rebuilt-wrong":   {"internal/ec", "TestRebuild"},
	"handoff-dropped-early":    {"cmd/internal/node", "TestNothingDropped"},
	"listing-skips-at-edge":    {"internal/metadb", "TestListing"},
	"merge-loses-row":          {"internal/metadb", "TestJournalChangesNothing"},
	"older-over-newer":         {"object/engine", "TestEveryOrderEndsInTheSameState"},
	"parity-wrong":             {"internal/ec", "TestEveryChoiceOfLosses"},
	"post-lost":                {"object", "TestPost"},
	"post-not-replicated":      {"cmd/internal/node", "TestObjectsMeet"},
	"push-not-sent":            {"cmd/internal/node", "TestObjectsMeet"},
	"queue-lost-at-restart":    {"object/pending", "TestQueuedLongAgo"},
	"quorum-of-one":            {"internal/quorum", "TestWriteWithoutQuorum"},
	"resume-off-by-one":        {"proxy", "TestGetGoesOnFromAnotherReplica"},
	"row-merged-wrong":         {"container", "TestLife"},
	"rows-not-replicated":      {"replicator/databases", "TestReplicaAway"},
	"tombstone-early":          {"object", "TestDelete"},
	"tombstone-not-replicated": {"cmd/internal/node", "TestObjectsMeet"},
}

// The tests of the parts notice planted bugs, each by the promise that it breaks. It compiles a dozen packages anew, so CI
// has it only where all of it is wanted.
func TestPlantedParts(t *testing.T) {
	if !allPlanted() {
		return
	}
	for _, b := range planted.All() {
		of, ok := parts[b.Name]
		if !ok {
			continue
		}
		t.Run(b.Name, func(t *testing.T) {
			for bug, want := range map[string]bool{b.Name: false, "": true} {
				cmd := exec.CommandContext(t.Context(), "go", "test", "-count", "1", "-timeout", "5m", "-tags", "planted", "-run", "^"+of.test+"$", "./"+of.pkg)
				cmd.Dir, cmd.Env = "..", append(os.Environ(), "MARTLET_PLANTED="+bug)
				out, err := cmd.CombinedOutput()
				if failed := (*exec.ExitError)(nil); err != nil && !errors.As(err, &failed) {
					t.Fatal(err)
				}
				if passed := err == nil; passed != want {
					t.Errorf("with %q in force %s of %s has passed: %v, want %v\n%s", bug, of.test, of.pkg, passed, want, out)
				}
			}
		})
	}
}
