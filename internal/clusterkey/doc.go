// Package clusterkey has the nodes of a cluster prove to each other that they are of it:
// requests on the replication network, and the answers to them, carry an HMAC-SHA-256 with a
// key that all nodes share, so that somebody else who reaches that network, or sits in between,
// can neither change anything nor pass for a peer. Sender signs requests and looks at answers,
// Guard looks at requests and signs answers; they stand before and behind whatever carries
// backend requests, which knows nothing of it.
//
// It promises, where both sides have a key:
//
//   - no handler sees a request whose method, path, query, header and length of the body are
//     not those that a holder of the key has sent to this very address, at about this time,
//     and not before. Of the header that is every field but those of the connection
//     (Connection, Content-Length, User-Agent and their like), which are taken away;
//   - no handler reads a byte of a body that is not the one sent at that place of that
//     request: each 64 KiB are followed by a MAC of them, and looked at before any of them is
//     handed out. A body that is changed, cut short, reordered or of another request ends in an
//     error before its end. So what is taken in whole before it is applied is applied whole or
//     not at all, and a large object, which is committed at the end of its body, is not committed;
//   - nobody who asks sees an answer whose status, header, or any byte that he reads of the
//     body, is not that of a holder of the key to this request. An answer that is not signed is an
//     error, whatever it says: it confirms nothing.
//
// It does not hide anything: names and data are readable on the network. It does not tell
// nodes apart: whoever has the key is any node, and which addresses are served is asked besides.
// What arrives is as old as its sender's clock says: up to the skew that is allowed on both sides.
// The requests that were seen within that time, and for an hour, are kept in mind, and not served again; a process
// does not serve what was signed before it began, so that only a sender whose clock is ahead could
// be repeated after a restart, for as long as it is ahead. A clock that is put right, either way, neither has
// anything be served twice nor refuses anything for that; only one that is put back, wrongly, to when
// the process began, or before, can be told again what an earlier process was told then. What replication pushes is merged by its
// own times, so that a repetition would do no harm but bring something back for a while.
//
// # On the wire
//
// A request has a field
//
//	X-Backend-Signature: 1 <key> <time> <nonce> <address> <mac>
//
// with the id of the key (8 hexadecimal digits), the time in microseconds since 1970, 16 random
// bytes and the MAC in hexadecimal, and the host:port that it was sent to. The MAC is over, each
// text with its length of 4 bytes before it, numbers of 8 bytes, big endian:
//
//	"martlet request 1", address, time, nonce, method, path, query, length of the body,
//	number of fields, and each field's name in lower case and value, in order of name
//
// An answer has
//
//	X-Backend-Signature: 1 <key> <mac>
//
// with the key of the request, over
//
//	"martlet answer 1", MAC of the request, status, length of the body, number of fields, fields
//
// A body is sent in blocks of 64 KiB, the last one shorter, each followed by the MAC over
//
//	"martlet block 1", MAC of the request or answer, number of the block from 0, block
//
// Content-Length counts those too; the length that is signed does not. An empty body has none.
package clusterkey
