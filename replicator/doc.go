// Package replicator brings every replica to where the ring says: the frame that
// serves peers on the replication network and runs passes over a node's devices.
// What is compared and pushed, and how, is each kind's own: package objects for
// objects, package databases for accounts and containers, both a Kind. What their
// passes have in common is here too: how partitions are handed out (Batcher,
// Spread), what holds a device back (Paces: limits, slow peers, a pause), who else
// is to have one (Others), how peers are spoken with and whom to believe (Client,
// Doubt), and when a handoff may drop what it has (Guard).
//
// It promises that a request of somebody who is no peer, for a device that isn't
// here, or that contradicts itself, is refused and logged before any kind sees it;
// that there is never more than one pass over a device at a time; and that what a
// pass could not confirm is in its report. It leaves to its caller when passes run,
// and to whoever assembles the node how stores are opened and rings found.
//
// # The conversation
//
// Peers speak HTTP/1.1 on the replication address of a device in the ring:
//
//	REPLICATE      /<device>
//	REPLICATE      /<device>/<partition>[?from=<hash>&to=<hash>]
//	PUT            /<device>
//	PUT|POST|DELETE /<device>/<partition>/<account>[/<container>[/<object>]]
//
// The first asks with a question in its body which ranges of hashes differ, by their sums; the
// second for the list of what is in a range of a partition; the third brings many versions at
// once, of any partitions, and the last one version. Accounts and containers know the second and
// the last.
//
// An answer carries X-Backend-Node, which tells one process from another, and
// X-Backend-Primary (replwire.PrimaryHeader): whether the device that answers takes
// itself for a primary. Nothing is dropped for an answer that does not say so. That to a request
// about no partition says "false"; of many versions that were brought each has an answer of its own,
// which says so of its partition.
//
// Every request carries X-Backend-Kind (object, account or container),
// X-Backend-Part-Power, and X-Backend-Sender, which process sends it and for which device, those about objects X-Backend-Storage-Policy-Index too,
// and pushes X-Backend-Replication: true. What is asked, brought
// in number, and answered is a list as package replwire encodes it. A request with anything missing, out of range or
// beside the partition is 400, one from somebody else's address 403, one that
// is too long 413, one for a device that can't be used 507, any other verb 405.
//
// Where the cluster has a key, package clusterkey stands before all this, on both sides.
package replicator
