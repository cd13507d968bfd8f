// Package index remembers where in the log of a device the newest state of each name
// is, and keeps the digests by which two devices tell that they hold the same.
//
// It is a cache of the log (internal/seglog), and nothing else: whatever is wrong with
// it, it is thrown away and made again from the log. It promises: what was applied is
// seen at once, by Get, by iteration and in the digests; opening it gives exactly the
// state as of Position, whatever crashed when, so that applying what the log has behind
// that gives what there was; applying a record twice changes nothing; no entry is
// handed out whose checksum does not match. It leaves to its users what a record means
// and how two states of a name join, when to checkpoint, and to replay.
//
// # Keys and order
//
// A Key is a policy, a hash, and of erasure coding also a version and a part. Order is
// that of the bytes: policy, hash, time and offset of the version, part. So a
// partition is a range of hashes whatever the part power is.
//
// # How it works
//
// Changes collect in a table in memory. A checkpoint writes that table, in order of
// key, to a file of its own, a run, and then a manifest which names all runs and the
// position in the log up to which they hold what it says. Runs are never changed. The
// newest one that has a key decides; one that says "dropped" hides what is older.
// When there are more than eight runs, some neighbours are merged into one: the newest
// ones, and each next one that has no more than twice as many entries as those before it.
// With 10 million names that writes an entry five to seven times in its life.
//
// Keys are hashes: they lie evenly, so that a filter of ten bits an entry needs no hash
// of its own, and each block is found within some comparisons of where it is guessed to be. A
// lookup reads one block of 4096 bytes; one of what is not there usually none.
//
// # Files
//
//	<folder>/manifest         which runs there are, and how far in the log they reach
//	<folder>/manifest.new     one that is being written
//	<folder>/<16 hex digits>.run
//
// All numbers are little endian, but those of keys, which are big endian so that their
// order is that of the bytes. All checksums are CRC32C. "Varint" is the unsigned one of
// encoding/binary, "zigzag" the signed one.
//
// A run is blocks of 4096 bytes, then the sections, then the foot:
//
//	block 0     0  8  "MARTRUN2"
//	            8 16  identity of the index, random
//	           24  8  number of the run
//	           32  4  checksum of all this; zeros to the end
//	block 1..   0  4  checksum of the rest of the block
//	            4  4  number of the run, its lower half
//	            8  4  number of the block
//	           12  2  policy
//	           14  2  how many entries follow; zeros to the end behind them
//	fences      for each block from 1 on: the key of its first entry, 35 bytes
//	dues        only if any of its entries expires, for each block from 1 on: the second
//	            since 1970 when the first of its entries does, 4 bytes; 0 for none
//	filter      n times 64 bytes
//	buckets     for each bucket that changed, in order: policy 2, part 1, prefix 4 (as
//	            keys, big endian), sum 16 (two words, the higher one first), objects 8,
//	            bytes 8
//	foot        0  8  "MARTFOOT"
//	            8 16  identity of the index
//	           24  8  number of the run
//	           32  8  blocks, without block 0
//	           40  8  entries
//	           48  8  of which say "dropped"
//	           56  8  bytes of the filter
//	           64  8  buckets
//	           72  8  dues: 0, or as many as blocks
//	           80  4  checksum of the fences
//	           84  4  checksum of the filter
//	           88  4  checksum of the buckets
//	           92  4  checksum of the dues
//	           96  4  depth of the buckets
//	          100  4  checksum of all this
//
// A key in full has 35 bytes: policy 2, hash 16, version 16 (ticks 8, offset 8), part 1.
// An entry in a block:
//
//	 0  1  length of the value
//	 1  1  first byte of the value, the flags
//	 2 16  hash
//	18 17  version and part, if bit 3 of the flags is set; they are zero else
//	       the rest of the value
//
// And the value:
//
//	flags   1  bits 0-2 kind (0 dropped, then nothing follows; 1 waiting, 2 data,
//	           3 tombstone, 4 lost, 5 gone), bit 3 see above, bit 4 the time of the
//	           content type is not the data's, bit 5 the metadata's is not the content
//	           type's, bit 6 one of the times has an offset, bit 7 the body is a blob
//	data    7  time of the data, ticks
//	ctype      bit 4: zigzag, ticks after the data
//	meta       bit 5: zigzag, ticks after the content type
//	offsets    bit 6: three varints: of data, content type, metadata
//	places  1  bit 0 a data or tombstone record, bit 1 a metadata record, bit 2 a mark
//	           of quarantine, bit 3 metadata is lost, bit 4 see below, bit 5 the object
//	           expires; others zero
//	expires 4  bit 5 of places: second since 1970, not zero
//	...        for each place, in that order, three varints: segment, offset, size
//	dead       bit 4 of places: varint, how many other records of the key the log has
//	tie     8  what tells states apart whose times are the same
//	length     kind data: varint, of the body
//
// 46 bytes for an object as most are. The manifest, whose number is that of all formats here
// (1 had nothing of what expires, and is made again from the log):
//
//	 0  8  "MARTIDX2"
//	 8 16  identity of the index
//	24 16  identity of the log, as the caller names it
//	40  4  depth of the buckets in runs
//	44  4  how many runs
//	48  8  number that the next run will have at least
//	56  8  position in the log: segment
//	64  8  and offset of the last record that is in the runs
//	72  4  length of what the caller has with it
//	76     for each run, newest first: number 8, bytes 8, entries 8, checksum of its foot 4
//	       what the caller has with it
//	       checksum of all this 4
//
// # Digests
//
// A state, but one that is gone, adds a term to the bucket of its hash: the first 128 bits,
// as big endian words, of the SHA-256 of the key without its policy (33 bytes), the kind
// (1), the times of data, content type and metadata (16 each: ticks, offset) and the tie
// (8), all big endian as in keys. A bucket is the sum of its terms modulo 2^128, whatever their order, with
// the number of objects and of their bytes. Buckets are by policy, part and the first
// bits of the hash, as many as the depth says. Each entry in the table in memory
// remembers what its key counted for before, so that a run holds for each of its buckets
// the difference, in the same file as the entries; a bucket is the sum over all runs.
// What is replayed either is not behind the position, and ignored, or is in no run:
// nothing is added twice. Terms, unlike files, are compared between nodes: changing
// them is a change on the wire.
//
// Files have buckets of depth 20: a ring of 2^20 partitions is one for some 30,000 devices,
// so that is as deep as any in use, and deeper would mean more buckets than objects. In
// memory they are as deep as Config.Depth says, which may be another one each time. There
// a bucket takes 32 bytes where the device has something near it: 32 MiB with a depth of
// 20, and 8 MiB with one of 18, where a device holds all of the hash space, which only a
// small cluster has; where it holds a few thousand partitions, megabytes at most. It is
// 18 unless told otherwise, enough for some 7,500 devices: the digest of a partition that
// is smaller than a bucket costs reading its entries.
//
// Of a partition that is being written to each device has some changes before the other.
// DigestBefore leaves those of the last while out: the table in memory knows what each
// key counted for before it. What a checkpoint has put into a run meanwhile can't be
// left out, nor the later of two changes of a key alone; then digests differ where
// states may not, and who compares goes on to look at those. So it serves best where
// checkpoints are further apart than what is left out, and costs one look at what
// is in memory of the partition.
//
// Partitions has the digests of all partitions as of one time, for one look at the buckets and
// at the table in memory, and Ranges those of any ranges of hashes, deeper than the buckets as
// well: those cost one pass over the entries of ranges that are neighbours.
//
// Sums of terms are safe against chance, not against somebody who chooses what both
// sides store: he would have to make two copies differ first.
//
// # What is durable when
//
// Nothing when Apply returns: it does no I/O. When Checkpoint returns nil all that was
// applied before it was called, and Position says so, as it would after a crash. What
// the caller keeps beside it (Config.Extra, such as how much of each segment is in use)
// goes into the manifest, as it was at that position. A run is complete, synced and
// named, and its name synced, before a manifest names it; a manifest takes the place of
// the one before it by a rename, and the folder is synced. Runs that no manifest names
// are removed only after that, and when the index is opened. Of what a merge or a checkpoint writes, no more than 4 MiB (1,000 pages) is
// written between two syncs, so that no other sync on the disk waits for more.
//
// A checkpoint that fails before the rename has done nothing and may be tried again: it
// writes a file of its own. When the rename or the sync of the folder fails, nobody knows
// what is on the disk: the index goes on in memory, and neither checkpoints nor merges until
// it is opened again. What is seen then need not be on the disk, and no sync would put it
// there; so Open writes the manifest that it has found once more, and removes runs only
// after that. Where the device is too full for it, it does neither: until a checkpoint
// finds room again, a crash may bring back an earlier manifest, whose runs are all there.
//
// # What goes wrong
//
// What is damaged is of kind errs.Corrupt, in Open or when it is read. The cure is
// always the same: Remove, Open, and replay of the whole log. A position behind the
// end of the log means that the log has lost something, which is for the caller to
// find. Where there is no manifest there is no index: one that is empty is opened.
//
// # Limits
//
// Between two checkpoints a change takes about 150 bytes of memory, in two tables
// while a checkpoint is under way; the caller bounds them (Stats.Changes). Beyond that
// memory holds a filter of 10 bits an entry and a fence of 35 bytes a block, for what
// is being merged twice, and the buckets. A merge of all runs wants as much room again as
// the runs have, and an iteration keeps the files that there were when it began. A run has
// at most 2^32 blocks.
//
// # What was turned down
//
// docs/dependencies.md has the figures: of a B+tree on disk (bbolt), which rewrites a
// page for each key of a batch that is small against the whole, and of a general LSM tree
// (Pebble), which writes as little as this, but costs more per lookup than a GET may cost
// altogether, and keeps no digests.
package index
