//go:build !race

package cluster

// guarded has the nodes of probes use memory that nobody can touch once it was given back. Each use of it is a mapping of its own, for
// which the race detector needs as much again: with that it would take minutes.
const guarded = true
