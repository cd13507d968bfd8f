//go:build planted

package planted

import (
	"reflect"
	"strings"
	"testing"
)

// none has nothing in force when the test has ended.
func none(t *testing.T) {
	t.Cleanup(func() {
		if err := Choose(""); err != nil {
			t.Error(err)
		}
	})
}

func TestChoose(t *testing.T) {
	none(t)
	all := All()
	if len(all) != len(switches) {
		t.Fatalf("there are %d bugs, and %d switches", len(all), len(switches))
	}
	for i, b := range all {
		if i > 0 && all[i-1].Name >= b.Name {
			t.Errorf("%s comes after %s", b.Name, all[i-1].Name)
		}
		if err := Choose(b.Name); err != nil {
			t.Fatal(err)
		}
		if got := Chosen(); !reflect.DeepEqual(got, []Bug{b}) {
			t.Errorf("%s was chosen, and %v is in force", b.Name, got)
		}
		if b.Breaks == "" || b.Rules == "" || strings.ContainsAny(b.Name, " ,_") {
			t.Errorf("%+v says too little", b)
		}
	}
	if err := Choose(" ack-before-sync, quorum-of-one,"); err != nil {
		t.Fatal(err)
	}
	if !AckBeforeSync || !QuorumOfOne || TombstoneEarly || len(Chosen()) != 2 {
		t.Errorf("of two, %v are in force", Chosen())
	}
	err := Choose("tombstone-early,no-such-bug")
	if err == nil || !strings.Contains(err.Error(), `"no-such-bug"`) || !strings.Contains(err.Error(), "parity-wrong") {
		t.Errorf("an unknown name: %v, want an error that names it and lists what there is", err)
	}
	if TombstoneEarly || len(Chosen()) != 2 {
		t.Errorf("what could not be chosen has changed what is: %v", Chosen())
	}
	if err := Choose(""); err != nil || len(Chosen()) != 0 {
		t.Errorf("none were chosen: %v, and %v are in force", err, Chosen())
	}
}

// Each switch is of the bug whose name it has: switches and list are in one order.
func TestEachIsItsOwn(t *testing.T) {
	none(t)
	for _, b := range All() {
		if err := Choose(b.Name); err != nil {
			t.Fatal(err)
		}
		for name, is := range named {
			if *is != (b.Name == name) {
				t.Errorf("with %s chosen, the switch of %s is %v", b.Name, name, *is)
			}
		}
	}
	if len(named) != len(All()) {
		t.Errorf("%d switches, and %d bugs", len(named), len(All()))
	}
}

var named = map[string]*bool{
	"account-not-told":         &AccountNotTold,
	"ack-before-sync":          &AckBeforeSync,
	"blob-after-record":        &BlobAfterRecord,
	"checkpoint-loses-entry":   &CheckpointLosesEntry,
	"checkpoint-without-sync":  &CheckpointWithoutSync,
	"checksum-ignored":         &ChecksumIgnored,
	"commit-before-fragments":  &CommitBeforeFragments,
	"compaction-drops-live":    &CompactionDropsLive,
	"conflict-acknowledged":    &ConflictAcknowledged,
	"container-update-lost":    &ContainerUpdateLost,
	"count-only-grows":         &CountOnlyGrows,
	"cut-upload-kept":          &CutUploadKept,
	"delete-row-forgotten":     &DeleteRowForgotten,
	"etag-not-checked":         &ETagNotChecked,
	"expires-early":            &ExpiresEarly,
	"fragment-rebuilt-wrong":   &FragmentRebuiltWrong,
	"handoff-dropped-early":    &HandoffDroppedEarly,
	"listing-skips-at-edge":    &ListingSkipsAtEdge,
	"merge-loses-row":          &MergeLosesRow,
	"older-over-newer":         &OlderOverNewer,
	"parity-wrong":             &ParityWrong,
	"post-lost":                &PostLost,
	"post-not-replicated":      &PostNotReplicated,
	"push-not-sent":            &PushNotSent,
	"queue-lost-at-restart":    &QueueLostAtRestart,
	"quorum-of-one":            &QuorumOfOne,
	"resume-off-by-one":        &ResumeOffByOne,
	"row-merged-wrong":         &RowMergedWrong,
	"rows-not-replicated":      &RowsNotReplicated,
	"tombstone-early":          &TombstoneEarly,
	"tombstone-not-replicated": &TombstoneNotReplicated,
}
