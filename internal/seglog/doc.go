// Package seglog is the log of a device: the one place to which what has to be
// durable is appended, by the object stores of all policies and by the databases'
// journal, so that one sync serves all that waits.
//
// It promises: when Append returns nil, the record is on stable storage, and is found
// there after any crash; records are found in the order in which they were made
// durable; one that was being appended at a crash is found whole or not at all; no
// byte is handed out whose checksum does not match; and what was damaged afterwards is
// reported as such, and hides nothing of what comes after it. It leaves to its users
// what a record means, where they remember its Position, and when a segment holds
// nothing any more that is of use.
//
// # Files
//
//	<folder>/<16 hex digits>.seg    a segment, by its number, in order of age
//	<folder>/.spare-<16 hex digits> a file that will become one: room, and no meaning
//
// A segment is appended to from when it is made until it is full or the log is closed;
// it is sealed then, and never changed again. After a crash the last one is cut behind
// the last whole record, and sealed: what is appended later goes into a new one.
// So no byte of a segment is ever written twice, and nothing that was cut can be
// taken for a record when something else has been written before it.
//
// All numbers are little endian, all checksums CRC32C. A segment begins with a block
// of 4096 bytes, zero behind what it holds:
//
//	 0  8  "MARTSEG2"; "MARTSEG1" in format 1
//	 8  8  number of the segment
//	16 16  identity of the log, random: a segment of another one is refused
//	32  4  checksum of all this
//
// and the same again from 2048 on, but in format 1.
//
// Records follow, each at a multiple of 8, with zeros between:
//
//	 0  4  "MLR1"
//	 4  4  checksum of bytes 8 to 56, as if they came behind the identity of the log;
//	       of those alone in a segment of format 1
//	 8  8  number of the segment
//	16  4  checksum of head and table
//	20  4  length of the head
//	24  8  length of the body
//	32 16  key
//	48  4  where in the segment its batch starts, in units of 8 bytes
//	52  1  kind; 255 is a seal, others are the user's
//	53  3  zero
//	56     head, the user's; then the table: a checksum for each 65,536 bytes of the
//	       body, the last of which may be shorter; then the body
//
// The number of the segment is in each record so that the file of a segment that is
// of no more use can become another one: what it held is no record of that. Its checksum
// begins with the identity of the log, which no client knows: so nobody can have a body
// stored that is taken for records where what comes before it is damaged.
//
// # Batches
//
// One batch is written at a time, and the next only after it was synced: of all that
// waits, as much as fits. Who comes while nobody writes is the one who does, for
// himself and those who come meanwhile; there is no goroutine for it. He lets those run first
// who are ready to: where processors are what is short, some of them are about to append as
// well, and where nobody is ready it is no wait. A batch that was not
// synced, and no other, may be torn by a crash.
//
// # What a broken record means
//
// Behind the last record there is, where the log was not closed, anything: zeros, a
// torn batch, or what the file held in an earlier life. A record that does not hold is
// where the log ends, unless a later one shows that it was acknowledged: one of a
// batch that began behind the broken place. Then that is damage: it is reported with
// its bounds, and reading goes on behind it. In a sealed segment all is damage that
// does not hold before the seal.
//
// What a killed process had written and not yet synced is still in the page cache, and
// would be read as if it were there; what a sync has failed to write may be, too. So
// opening the log syncs what was not sealed, and then reads it from the disk.
//
// The very last batch before a crash can't be told from a torn one if it is damaged
// before the log is opened again: whoever remembers positions sees that the log ends before one of them.
//
// # When writing fails
//
// After a write or a sync has failed, its batch fails as a whole, nothing of it is
// ever taken for written, and the segment is left: the next batch goes into a new one,
// once what may be left behind the end of that segment was cut off, durably.
// A sync that failed is not tried again, since that would succeed without having
// written. Whether what was synced before can still be read is for the user to find
// out (Config.Fault tells him).
//
// # Room
//
// A segment has its room before the first record is written to it, and the next one is
// kept as a spare; where spares are filled with zeros that is done beside, from when the
// segment is half full. Where they are not, a batch of little that needs room which was never
// written brings some zeros with it, as far as room is reserved: those after it are synced
// without the file system having anything to note. Where there is no room for a spare the last one is for records that
// are Urgent, such as deletes: all others are refused then, of kind errs.NoSpace.
package seglog
