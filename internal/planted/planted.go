// Package planted has bugs. A build with the tag of the same name has them all, and the
// environment says which of them are in force in a process: so that the tests and `martlet check`,
// which are to notice when a promise is broken, can be seen to notice.
//
//	MARTLET_PLANTED=ack-before-sync,quorum-of-one martlet storage --config FILE
//
// No other build has anything of it: there each of them is a constant, false, and the compiler takes away
// what it guards before it does anything else with the code around. Nothing looks at the environment then.
// TestPlantedLeavesNoTrace in test looks for what may be left in the binary.
//
// The code that a bug breaks has it where the promise is kept, in a line of its own:
//
//	if planted.AckBeforeSync { // breaks: ...
//
// A bug does what a mistake would do that somebody could make there, and no more. Who may have any is in
// test/architecture.
package planted

// A Bug is one that can be planted.
type Bug struct {
	Name   string // by which it is chosen
	Breaks string // the promise that does not hold then, and how
	Rules  string // of the model, which find it broken, with | between: docs/check.md has them
}

// All returns the bugs that there are, in order of name, in any build: who names them in one
// that has none is a test.
func All() []Bug {
	return []Bug{
		{"account-not-told", "what a container holds comes to its account's listing: it counts as told, and was not sent", "count"},
		{"ack-before-sync", "a record of the log is on the disk when it is answered: it is in the process's memory for a moment longer", "lost|undeleted|converges"},
		{"blob-after-record", "a large object's file is there, synced, before the record that names it: it follows a moment later", "unreadable|lost|converges"},
		{"checkpoint-loses-entry", "a checkpoint of the index has all that it covers of the log: a few names are left out", "lost|floor|disagree|converges"},
		{"checkpoint-without-sync", "rows that were merged into a database's file are on the disk before the journal forgets them: the file is not synced", "listing|count|converges"},
		{"checksum-ignored", "no byte is handed out whose checksum does not match: blocks of objects are sent as they are read", "false"},
		{"commit-before-fragments", "an erasure-coded object is committed once enough fragments are on stable storage: the commit goes first, and the fragments follow a moment later", "unreadable|lost|converges"},
		{"compaction-drops-live", "compaction keeps what is in force: of some records it keeps nothing", "lost|floor|stale|converges"},
		{"conflict-acknowledged", "a write that loses against a newer time is done again above it: it is said to be stored, and was dropped", "stale|lost"},
		{"container-update-lost", "a container is told of a write before that is answered, or it is durably queued: of a few objects it is neither", "stale|listing|count"},
		{"count-only-grows", "counts and bytes of a container follow its rows: what goes is not taken off", "stale|listing|count"},
		{"cut-upload-kept", "a body that breaks off leaves nothing: what has come of it is stored as if it were all", "false|refused|mixed"},
		{"delete-row-forgotten", "a DELETE takes the object's row out of the listing: the row stays", "stale|listing|count"},
		{"etag-not-checked", "a body that has not the ETag that its client gives is refused: it is stored", "refused"},
		{"expires-early", "an object ends when its time has come, and not before: the expirer's clock is two days ahead", "floor|lost|stale"},
		{"fragment-rebuilt-wrong", "a fragment that is made again is byte for byte the one that was lost: it is filled with another one's bytes", "false"},
		{"handoff-dropped-early", "a handoff drops a copy once all primaries have confirmed it: it does not wait for them", "lost|floor"},
		{"listing-skips-at-edge", "a page of a listing begins with the name right behind its marker: that one is skipped", "stale|listing"},
		{"merge-loses-row", "rows that wait in the journal are merged into the database's file: a few are not", "stale|listing|count"},
		{"older-over-newer", "the newest version wins wherever two meet: replication pushes, and takes, any other one", "lost|floor|disagree|converges"},
		{"parity-wrong", "any k fragments give the object: those of parity are of other bytes", "false"},
		{"post-lost", "a POST is kept, and replaces the one before it: it is answered, and dropped", "stale"},
		{"post-not-replicated", "a replica that has missed a POST gets it: only data is compared", "disagree|lost|converges"},
		{"push-not-sent", "a replica that has missed a write gets it: the push counts as taken, and is not sent", "converges|disagree|lost"},
		{"queue-lost-at-restart", "an update that was queued is delivered, after a restart as well: what was queued by the process before is passed over", "stale|listing|count"},
		{"quorum-of-one", "a write is on a majority when it is answered: it is sent to one replica alone", "stale"},
		{"resume-off-by-one", "a body that goes on from another replica goes on at the same byte: it goes on one further", "false"},
		{"row-merged-wrong", "of two rows of one object the later is listed: it is the earlier", "stale|listing|mixed|count"},
		{"rows-not-replicated", "a replica that has missed a container, or rows of it, gets them: it counts as having all", "converges|listing|count"},
		{"tombstone-early", "a tombstone is kept for the reclaim age: it is dropped at once", "undeleted|floor|disagree"},
		{"tombstone-not-replicated", "a replica that has missed a DELETE gets the tombstone: it is not pushed", "undeleted|disagree|converges"},
	}
}
