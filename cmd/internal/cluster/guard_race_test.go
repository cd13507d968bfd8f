//go:build race

package cluster

const guarded = false // see there
