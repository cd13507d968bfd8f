// Package vfs is the seam between what keeps data on disk and the file system
// under it: the few calls an object store or a log needs, in a real form (OS),
// in a form in memory that can lose power (Mem), and in wrappers that fail a
// chosen call (Faulty) or count calls (Counter).
//
// It promises that the same sequence of calls has the same result on OS and
// on Mem, errors included, as far as package vfstest checks. It leaves to its
// callers when to sync, what to do about an error, and how to tell torn data
// from whole: nothing here retries a failure or hides one.
//
// # What survives a power cut on Linux
//
// These are the rules that callers may rely on, and the only ones. Mem keeps
// no more than them, so that code which relies on luck fails its tests.
//
//   - Data written to a file, and a size it grew to, are durable once a Sync
//     that began afterwards has returned nil. fdatasync flushes the metadata
//     needed to read the data back, so the size is included and the
//     modification time is not (fsync(2)). Sync covers the whole file, whoever
//     wrote and through whichever handle.
//   - Until then the kernel writes back what it likes, in any order. Each
//     512-byte sector of an unsynced write holds, after a crash, one of the
//     contents it has had since the last Sync. A file may have kept a new size
//     and lost the data: the gap reads as zeros.
//   - O_DIRECT goes around the page cache. It is no promise of durability:
//     the device may hold the data in a cache of its own (open(2)).
//   - Syncing a file does not make its name durable: that takes an fsync of
//     the directory which holds the name (fsync(2)). So creating, linking and
//     removing want SyncDir of the directory; renaming across directories wants
//     SyncDir of both; a new directory wants SyncDir of its parent.
//   - A rename that replaces is atomic: after a crash the new name is the old
//     file or the new one, and a renamed file has exactly one of its two names
//     (rename(2)). Which one is not known before the directories are synced. A
//     name may be durable before the file's data is.
//   - A file made with O_TMPFILE has no name until linkat gives it one and
//     vanishes when it is closed, or at a crash, before that (open(2), link(2)).
//   - An error of fsync may concern anything written to the file since the last
//     success, through any handle (fsync(2), EIO). Linux does not keep the pages
//     that it could not write dirty: a later fsync finds nothing to do and
//     succeeds. So after a failed Sync nothing written since the last good one
//     may be trusted, and reading it back proves nothing: the reads may come
//     from the cache.
//   - Direct I/O wants memory, offset and length aligned as STATX_DIOALIGN of
//     statx(2) says, and may fail with EINVAL otherwise (open(2)).
//
// Journaling file systems promise a little more, such as directory operations
// that reach the disk in the order they were made. Mem orders only operations on
// one and the same name, and calls nothing durable that was not synced.
package vfs
