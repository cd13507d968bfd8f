package config

// Off are the tables of a storage node's file that switch background work off, or all of replication, in order. A
// server that is switched off is none: the rings say whether it is missed.
func (c *Storage) Off() []string {
	var off []string
	for _, work := range []struct {
		table string
		on    bool
	}{
		{"replication", c.Replication.Enabled}, {"replicator", c.Replicator.Enabled}, {"updater", c.Updater.Enabled || !c.Object.Enabled},
		{"expirer", c.Expirer.Enabled || !c.Object.Enabled}, {"account_reaper", c.Reaper.Enabled || !c.Account.Enabled},
		{"reconciler", c.Reconciler.Enabled || !c.Container.Enabled}, {"stats", c.Stats.Enabled || !c.Container.Enabled},
		{"store.compaction", c.Store.Compaction.Enabled}, {"store.scrub", c.Store.Scrub.Enabled}, {"databases.audit", c.Databases.Audit.Enabled},
	} {
		if !work.on {
			off = append(off, work.table)
		}
	}
	return off
}
