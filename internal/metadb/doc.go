// Package metadb is the base that the account and the container server share:
// one database per replica of an account or container, with its metadata and
// its rows.
//
// # Files
//
// A small database is a value, of at most 16 KiB, in one of four files that all small ones of a kind
// on a device share (package small; the format of the value is at image):
//
//	<device>/<folder>/{0,4,8,c}.small
//
// It is read as a whole when it is opened, and written as a whole with each commit; those of many databases
// share transactions. One that grows moves into a file of its own, which is a bbolt
// file, and stays there (see shared): nothing moves back. What room deleted ones, and those that have moved,
// had in a shared file is used again; such a file does not get smaller. A database with
// a file of its own lies at
//
//	<device>/<folder>/<first 2 hex>/<next 2 hex>/<32 hex>.db
//
// which follows from the hash of its path alone, so that nothing moves when a
// ring's part power changes. It is put together in <device>/tmp, synced, renamed,
// and the directories are synced: a database is there whole or not at all. What
// a crash left in tmp is swept when the store opens.
//
// Buckets of a file, every value under a CRC32C of key and value:
//
//	info     "info": identity, stamps, policy; "reported": what the account was told;
//	         "digest": the sum over all that replicas must agree on; "known-" and
//	         an incarnation: up to which change that replica has the rows;
//	         "merged": up to where the journal, of which log, is in the file
//	meta     metadata name -> stamp and value, an empty value being a deleted one
//	live     policy (2 bytes), name -> change number, row: what listings see
//	dead     the same for rows that listings do not see: tombstones, and rows
//	         that are older than the delete of their database
//	changes  change number (8 bytes, big endian) -> policy, name
//	stats    policy (2 bytes) -> count of live rows, their objects and bytes
//
// In memory a small database has the same tables.
//
// A shared file has beside the values which databases may have news for the owner of a listing
// (see telling), of both kinds: so a start looks at those and at no others.
//
// Tombstones have a bucket of their own so that a listing never walks over the
// dead. Each change of a row moves it to a new change number, the next of its
// database; change numbers are of one replica, named by the incarnation in its
// info, and mean nothing in another.
//
// # The journal
//
// Where the device has a log (Config.Journal) rows go there first, many of all databases
// with one sync, and wait in memory to be merged into their files, in the order of the log
// and in steps: when many of one database wait, or some have waited for long. A look sees
// the file and over it what waits; a change of another kind merges what waited before it, in
// its own transaction or before that, unless it is not for rows (UpdateApart): such ones come between the steps. What was not merged is replayed when the device is
// next attached. A record names the incarnation of its database, and the file says up to
// which record it is merged, in the same transaction as the rows: so each is merged once,
// into the database it was for, whatever is replayed. Change numbers are given out, and
// replication sees rows, when they are merged.
//
// What waits is bounded: those who would add more wait for the merger.
//
// # Promises
//
// When Update, Ensure or MergeRows returns nil, what it wrote is on stable storage: the
// journal is, and every commit is synced, and so is, before the first of them, what a process that was
// killed may have left in the file and the name of the file unsynced. Writers of one database that wait at the same time share one
// transaction and its syncs. Rows and metadata merge by their stamps, so that any
// order of the same merges ends in the same state; a merge that changes nothing
// bumps no change number and costs no sync. Listings cost in proportion to
// what they return.
//
// What cannot be read is of kind errs.Corrupt, also what may be in a part of a shared file that
// can't be. Isolate, and Audit in its rounds, read
// it again, and move what is damaged to
//
//	<device>/quarantined/<folder>/<32 hex>.<time>.db, and .reason beside it
//	<device>/quarantined/<folder>/<32 hex>.<time>.value for a small one: what was stored
//	<device>/quarantined/<folder>/{0,4,8,c}.small.<time>.db for a shared file that has a damaged page,
//	  when all that can be read is in a new one
//
// so that there is none until replication brings it back; Replicas.Lost tells of those. Audit checks databases while they are
// in use (see audit), and writes those anew whose files are mostly empty (see vacuum). A
// panic of bbolt, or a page that the disk can't deliver, is caught here. After a
// commit that failed, the database, or all of a shared file, is closed and read anew, once
// what names the file's latest state is written again and synced: nothing that a
// failed sync left in the kernel's memory alone is taken for durable.
//
// Replicas is how replication sees the databases: it compares digests, takes what
// changed in bounded parts, merges a part whole or not at all, makes a large database of all parts of
// another one before anybody sees it (see whole), and drops a database
// that is in exactly the state that others were seen to have.
//
// What is dead is kept so that it reaches every replica, and forgotten once all that it says is before a
// horizon (Reclaim): rows, with their changes, metadata, and a deleted database with nothing live in it and
// nothing later, whole, once its owner knows of the delete. It is a change like any other, in the same
// transaction as the digest; the numbers of other changes stay, and so does that of the latest, though no row may
// have it any more. Replicas do that at different moments, and differ meanwhile. That no one hands back what
// another has forgotten is the business of who takes it: of a part of a replica what is dead and before the horizon
// (Config.Horizon) is left out where nothing is here that it could end, no database is made for what may be forgotten
// whole, and such a one is for replication not there. What is live is always taken, whatever its age. So a replica
// that was away for longer than that may bring back what was deleted: to keep it from pushing is not done here.
//
// What a row is, and how two of them merge, is the Schema's business; what a
// deleted database means to a client is the servers'. Nothing here
// speaks to other nodes.
package metadb
