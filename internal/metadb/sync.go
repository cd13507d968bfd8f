//go:build !nosync

package metadb

import bolt "go.etcd.io/bbolt"

// dropSync leaves out the syncs of databases: never, except in the build of
// sync_nosync.go.
const dropSync = false

func syncDB(db *bolt.DB) error { return db.Sync() }
