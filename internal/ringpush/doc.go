// Package ringpush is how an operator's tool hands rings to a running process, be it a storage
// node or a proxy: the words of that conversation, and the server's side of it.
//
// A process is asked what it runs with GET of Path, and given a ring with PUT of Path/NAME,
// NAME being that of the ring's file without its ending ("account", "object-1"). The body is
// the file. Both are for who has the cluster's key: package clusterkey stands before the Server,
// which itself asks nobody who he is.
//
// A GET has the process look at its files first: it takes in use what is newer there, and says of each
// file that is not what is in use what is wrong with it.
//
// What is promised of a PUT:
//
//   - 200 means that the ring is in use in this process, that its file is in rings.folder, and
//     that file and name are on stable storage;
//   - whatever else the answer is, and wherever the process or the machine dies, the file in
//     rings.folder is the one of before or the new one, whole. What was not answered with 200 may
//     so turn out to have been done; the same PUT again finds that, and says 200;
//   - a ring never takes the place of a newer one, nor of one of its own version that says
//     something else; both are 409, as are a ring of another kind, one of another cluster, and
//     one of a lower part power. What is no ring, or not the bytes that were announced, is 400 or 422.
//
// One process takes one ring at a time. Several that share a folder take turns.
//
// It leaves to others which processes there are, and in which order they get a ring.
package ringpush
