// Package ec cuts objects into erasure-coded fragments and puts them together
// again. It knows no server and no disk: bytes go in, bytes come out.
//
// An object is cut into segments of 1 MiB, the last one as long as what is left.
// Each is encoded by itself into k data and m parity fragments, of which any k
// give it back. The fragments with one index, one of each segment, are an archive:
// what one node keeps of the object.
//
// What the package promises: bytes that it gives out are those that were written,
// or there is an error, whatever archives it is given. A fragment whose checksum
// fails, or that is of another write, another place or another shape, takes no part.
// Memory is bounded by two segments' fragments for each transfer. What it leaves to
// others: which version of an object is the one to read, which nodes to ask and in
// what order, when an archive is durable, and what becomes of a bad one.
//
// # Format of an archive, version 1
//
// Numbers are little endian. An archive is a header and a frame for each segment:
//
//	| header 64 | frame 0 | frame 1 | ... | last frame |
//
// The header:
//
//	offset size
//	     0    7  magic, "martfrg"
//	     7    1  version, 1
//	     8    1  k
//	     9    1  m
//	    10    1  index, 0 to k+m-1; the data fragments are those below k
//	    11    1  code, 1: Vandermonde over GF(2^8) with the polynomial 0x11d, as below
//	    12    4  bytes in a segment
//	    16    8  bytes in the object, or 2^64-1: the last frame tells
//	    24   16  identity of the write
//	    40   16  zero
//	    56    8  CRC-64/NVME of the 56 bytes before
//
// A frame of a segment of n bytes:
//
//	 0    4  n; the highest bit is set in the last frame
//	 4    4  number of the segment, from 0 on
//	 8    8  CRC-64/NVME of the header's first 56 bytes, the 8 bytes before, and
//	         the fragment
//	16    ⌈n/k⌉  the fragment
//
// So a frame is good only in the archive and at the place that it was made for. All
// frames but the last are of whole segments, and all of one length; the last is of 1
// byte at least, but an object of no bytes has one frame of a segment of 0.
//
// Data fragment i has the bytes from i×⌈n/k⌉ on, zeros behind the segment's end. The
// parity fragments are rows k to k+m-1 of the matrix V×T⁻¹ times the data fragments,
// byte by byte: V has i to the power of j in row i and column j, T is its first k rows.
package ec
