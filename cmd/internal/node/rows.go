package node

import (
	"github.com/prometheus/client_golang/prometheus"

	"martlet/internal/rowbatch"
)

var (
	rowUpdates  = prometheus.NewDesc("martlet_row_updates_total", "Updates of listings sent to container and account servers.", nil, nil)
	rowRequests = prometheus.NewDesc("martlet_row_requests_total", "Requests in which they were sent, by whether there were many in one.", []string{"batch"}, nil)
)

// rowMetrics tells how updates of listings travel.
type rowMetrics struct{ sender *rowbatch.Sender }

// Describe implements prometheus.Collector.
func (m rowMetrics) Describe(to chan<- *prometheus.Desc) {
	to <- rowUpdates
	to <- rowRequests
}

// Collect implements prometheus.Collector.
func (m rowMetrics) Collect(to chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, n int64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	c := m.sender.Counts()
	count(rowUpdates, c.Updates)
	count(rowRequests, c.Requests-c.Batches, "no")
	count(rowRequests, c.Batches, "yes")
}
