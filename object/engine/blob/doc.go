// Package blob is one object version in one file: its format, the writer that
// makes such a file around the page cache, and the reader that lets no byte out
// before its checksum has been compared; a large one is read around the page
// cache as well, and ahead of who reads it.
//
// It promises that a file which Writer.Seal has returned nil for is whole and
// synced, that a damaged, torn or truncated file is told from a whole one, and
// that reading any file at all needs bounded memory. In which order a file gets its
// parts says nothing: it has a name only once it was synced. It leaves to its callers
// how files are named, when a name is durable, and what becomes of a bad file.
//
// # Format, version 1
//
// Numbers are little endian. A file is a page of 4096 bytes, the data, and a
// footer where the page has no room for everything:
//
//	0         4096            4096+length          end
//	| header  | data          | footer, mostly none |
//
// The header page:
//
//	offset size
//	     0    7  magic, "martblb"
//	     7    1  version, 1
//	     8    1  kind: 1 data, 2 tombstone, 3 metadata, 4 lost
//	     9    1  flags: 1 the text is in the footer, 2 the table is in the footer
//	    10    2  zero
//	    12    4  bytes in a block, 65536
//	    16   16  hash of the name
//	    32   16  time of the data or tombstone: ticks, offset
//	    48   16  time of the content type
//	    64   16  time of the metadata
//	    80    8  length of the data
//	    88   16  MD5 of the data, as the writer was told
//	   104    4  CRC32C of the data
//	   108    4  length of the text
//	   112    4  CRC32C of the text
//	   116    4  zero
//	   120    8  offset of the footer, 0 where there is none
//	   128    8  length of the footer
//	   136   48  zero
//	   184    4  CRC32C of the page from 192 to its end
//	   188    4  CRC32C of the page from 0 to 188
//	   192       text, if it fits; then the table, if it fits; zeros
//
// The first 192 bytes have a checksum of their own: where damage is behind them
// the reader still knows which version was lost.
//
// The text is what was said of the object: account, container, object, content
// type, then the fields that stay for the life of the data, then those that an
// update replaces. Each string is a uvarint length and its bytes; each list of
// fields a uvarint count and then names and values.
//
// The table has one CRC32C for each block of 65536 bytes of data, the last one
// short. In the footer it comes in pages of 4096 bytes: 1023 checksums, zeros
// where there are fewer, and a CRC32C of those 4092 bytes. So a reader of a
// range needs one page of it for each 64 MiB. The footer is the text, if it is
// there, and behind it the table pages.
//
// Everything from which an index can be made again is in the file alone.
package blob
