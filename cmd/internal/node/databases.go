package node

import (
	"github.com/prometheus/client_golang/prometheus"

	"martlet/internal/metadb"
)

var databaseCounts = []struct {
	desc *prometheus.Desc
	of   func(metadb.Counts) int64
}{
	{databaseDesc("checked_total", "Databases that were checked and found whole."), func(c metadb.Counts) int64 { return c.Checked }},
	{databaseDesc("checked_bytes_total", "Bytes of their rows."), func(c metadb.Counts) int64 { return c.Bytes }},
	{databaseDesc("quarantined_total", "Damaged databases that were moved into quarantine."), func(c metadb.Counts) int64 { return c.Quarantined }},
	{databaseDesc("rewritten_total", "Databases that were mostly empty and were made smaller."), func(c metadb.Counts) int64 { return c.Rewritten }},
	{databaseDesc("freed_bytes_total", "Bytes that those gave back."), func(c metadb.Counts) int64 { return c.Freed }},
	{databaseDesc("forgotten_rows_total", "Rows of what was deleted that were forgotten after the reclaim age."), func(c metadb.Counts) int64 { return c.Forgotten }},
	{databaseDesc("forgotten_total", "Deleted databases that were."), func(c metadb.Counts) int64 { return c.Dropped }},
}

func databaseDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("martlet_databases_"+name, help, nil, nil)
}

// databaseMetrics tells what audits and reclaims of databases have done.
type databaseMetrics struct{ store *metadb.Store }

// Describe implements prometheus.Collector.
func (m databaseMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, c := range databaseCounts {
		to <- c.desc
	}
}

// Collect implements prometheus.Collector.
func (m databaseMetrics) Collect(to chan<- prometheus.Metric) {
	now := m.store.Counts()
	for _, c := range databaseCounts {
		to <- prometheus.MustNewConstMetric(c.desc, prometheus.CounterValue, float64(c.of(now)))
	}
}
