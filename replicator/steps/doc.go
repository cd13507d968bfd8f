// Package steps remembers for each device up to when it was in step with others, so
// that one that was away for too long does not bring back what was deleted meanwhile.
//
// A tombstone is forgotten when it is older than the reclaim age. A device that was
// away, switched off or cut off, from before the delete until after that still has what was
// deleted, nobody knows better any more, and nothing shows that it is not a copy which all
// others have lost. So it must not push it. Whether a device was away can't be told when
// it is back; so it keeps, durably, for each partition of which it holds something, the
// latest time as of which it knew that another primary of it had nothing newer. Where
// the next such time is too far from it (Terms.Limit), the partition is fenced: May says
// no until somebody who knows says that it is to be pushed after all (Readmit).
//
// It promises: a partition that is fenced stays so across restarts and crashes, also
// when the device is in step again; a crash makes the device look as if it had been away
// for longer, never for shorter; a file that is damaged fences everything. It leaves to
// its users what "in step" takes, and what is not done with what is fenced.
//
// # What is remembered
//
// Partitions are of a Set: one kind of data, and of objects one policy. A partition that is
// seen to hold something for the first time (Look) is taken to be in step as of the last
// look before that one: what has come to it since came while the device was here. A
// device that was never looked at begins with the time of the first look. What a device
// holds nothing of is forgotten at the next look. When the part power of a ring changes, each part of a
// partition inherits from it, and a partition of several the earliest time of its parts.
//
// # The file
//
// <device>/replication/steps, replaced as a whole, numbers little endian:
//
//	0  8  "MARTSTP1"
//	8  4  how many sets follow
//	      for each, in order of name: length of the name 1, name, part power 1,
//	      time of the last look 8, how many partitions 4, and for each of these, in
//	      order: number 4, time 8, 1 if it is fenced, else 0
//	      CRC32C of all this 4
//
// Times are seconds since 1970. The file is written when Save is called and something
// has changed that matters (see Save).
package steps
