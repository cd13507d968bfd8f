// Package small keeps many small values of a device in a few bbolt files: those whose
// keys begin with the same two bits share one.
//
// # Files
//
//	<folder>/{0,4,8,c}.small     named by the first digit of the least key that may be in it
//
// Buckets, every value under a CRC32C of key and value:
//
//	info     "small": the version of the format; "walked": see Walked
//	values   key -> what the owner keeps there
//	marks    key -> nothing: which of the owner's things are marked
//	told     key -> a note of the owner's
//
// A file is put together in a temporary one, synced, renamed, and the directory is synced,
// when the first thing is put into it.
//
// # Promises
//
// When Commit returns nil all of what it was given is on stable storage, and before anything
// that was found in the file was added to, that and the file's name were. Those who commit at
// the same time share a transaction and its syncs. After a commit that failed the file is closed
// and opened anew, once what names its latest state is written again and synced: Turn tells
// those who keep what they read that it may be another.
//
// What can't be read is of kind errs.Corrupt and never looks like what is not there: a value
// whose checksum is wrong, a page that is damaged or that the disk can't deliver, and also a key
// that is missing next to such a value, since the damage may be in the key. bbolt has no checksums
// of pages: a page that says that it has fewer entries than it has is not found out here,
// unless it is by whom the owner compares with.
//
// Where a page is damaged, and no single value, nothing can be written any more, and Salvage is to be called:
// it puts into a new file all that can be read, and leaves the damaged one to the caller. Only what
// the tree of the file leads to is taken, and not what else lies in its pages, since that may be of
// earlier.
//
// Pages that deletes make free are used again. A file does not get smaller.
package small
