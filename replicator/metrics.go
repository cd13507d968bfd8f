package replicator

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics count what passes do.
type metrics struct {
	pushed, bytes, dropped, failed *prometheus.CounterVec // by device and kind
	rebuilt, rebuiltBytes          *prometheus.CounterVec // by device and kind
	seconds, ended                 *prometheus.GaugeVec   // by device
	refused                        prometheus.Counter
}

// newMetrics makes the metrics, and registers them where there is a registry.
func newMetrics(reg prometheus.Registerer, paces *Paces) (*metrics, error) {
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "martlet_replication_" + name, Help: help}, []string{"device", "kind"})
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "martlet_replication_" + name, Help: help}, []string{"device"})
	}
	m := &metrics{
		pushed:       counter("pushed_total", "Versions, rows and databases that peers took."),
		bytes:        counter("pushed_bytes_total", "Bytes of bodies that were pushed."),
		dropped:      counter("handoffs_dropped_total", "Names that left this device because every primary has them."),
		failed:       counter("failures_total", "What passes could not confirm."),
		rebuilt:      counter("rebuilt_total", "Fragments that a device has got since it lacked them."),
		rebuiltBytes: counter("rebuilt_bytes_total", "Bytes of those."),
		seconds:      gauge("pass_seconds", "How long the last pass took."),
		ended:        gauge("pass_end_timestamp_seconds", "When the last pass ended."),
		refused:      prometheus.NewCounter(prometheus.CounterOpts{Name: "martlet_replication_refused_total", Help: "Requests of peers that were refused."}),
	}
	if reg == nil {
		return m, nil
	}
	var all []error
	for _, c := range []prometheus.Collector{m.pushed, m.bytes, m.dropped, m.failed, m.rebuilt, m.rebuiltBytes, m.seconds, m.ended, m.refused, paceMetrics{paces}} {
		all = append(all, reg.Register(c))
	}
	return m, errors.Join(all...)
}

// count adds what a pass over a device has done.
func (m *metrics) count(r *DeviceReport) {
	for _, k := range r.Kinds {
		m.pushed.WithLabelValues(r.Device, k.Kind).Add(float64(k.Pushed))
		m.bytes.WithLabelValues(r.Device, k.Kind).Add(float64(k.Bytes))
		m.dropped.WithLabelValues(r.Device, k.Kind).Add(float64(k.Dropped))
		m.failed.WithLabelValues(r.Device, k.Kind).Add(float64(k.Failed))
		if k.Rebuilt > 0 {
			m.rebuilt.WithLabelValues(r.Device, k.Kind).Add(float64(k.Rebuilt))
			m.rebuiltBytes.WithLabelValues(r.Device, k.Kind).Add(float64(k.RebuiltBytes))
		}
	}
	m.seconds.WithLabelValues(r.Device).Set(r.Seconds)
	if r.Error == "" {
		m.ended.WithLabelValues(r.Device).Set(float64(time.Now().UnixMilli()) / 1e3)
	}
}

var (
	paceFactor       = prometheus.NewDesc("martlet_replication_pace_factor", "What is left of the pace to the peer that takes longest: 1 for all of it.", []string{"device"}, nil)
	pacePaused       = prometheus.NewDesc("martlet_replication_paused", "Whether replication of the device is paused.", []string{"device"}, nil)
	toSendPartitions = progressDesc("to_send_partitions", "Partitions of objects or fragments of which a peer lacks something that the device holds, as its last pass found.")
	toSendObjects    = progressDesc("to_send_objects", "Objects that peers lacked then, less what was pushed since.")
	toSendBytes      = progressDesc("to_send_bytes", "Bytes of those, by the mean size in their partitions.")
	toGetObjects     = progressDesc("to_get_fragments", "Fragments that the device lacks, as far as its last pass knows, less what it has got since.")
	toGetBytes       = progressDesc("to_get_bytes", "Bytes of those.")
	toGetSeconds     = progressDesc("to_get_seconds", "How long those take at the rate of late; none where nobody knows.")
	toSendUnknown    = progressDesc("unknown_partitions", "Partitions of objects of which a peer did not say then what it has.")
	tookObjects      = progressDesc("received_objects_total", "Objects that peers have brought.")
	tookBytes        = progressDesc("received_bytes_total", "Bytes of their data.")
	arrivedBytes     = progressDesc("received_body_bytes_total", "Bytes of the bodies of pushes of objects, taken or not: what they take on the network.")
	needlessBytes    = progressDesc("needless_bytes_total", "Bytes of data that peers have brought although it was there, as another one had brought it meanwhile.")
	rateObjects      = progressDesc("received_objects_per_second", "How fast peers bring objects lately; none where nothing has come.")
	rateBytes        = progressDesc("received_bytes_per_second", "How fast they bring data.")
	paceWaited       = prometheus.NewDesc("martlet_replication_waiting_seconds_total", "What pushes have waited, each for itself.", []string{"device", "for"}, nil)
	paceSent         = prometheus.NewDesc("martlet_replication_sent_bytes_total", "Bytes of bodies that were sent to peers, whether they took them or not.", []string{"device", "kind"}, nil)
)

func progressDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("martlet_replication_"+name, help, []string{"device"}, nil)
}

// paceMetrics tells what holds replication back.
type paceMetrics struct{ paces *Paces }

// Describe implements prometheus.Collector.
func (m paceMetrics) Describe(to chan<- *prometheus.Desc) {
	to <- paceFactor
	to <- pacePaused
	to <- paceWaited
	to <- paceSent
	for _, d := range []*prometheus.Desc{toSendPartitions, toSendObjects, toSendBytes, toSendUnknown, toGetObjects, toGetBytes, toGetSeconds, tookObjects, tookBytes, arrivedBytes, needlessBytes, rateObjects, rateBytes} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (m paceMetrics) Collect(to chan<- prometheus.Metric) {
	for _, d := range m.paces.all() {
		r, paused := d.Report(), 0.0
		if r.Paused != "" {
			paused = 1
		}
		to <- prometheus.MustNewConstMetric(paceFactor, prometheus.GaugeValue, r.Factor, r.Device)
		to <- prometheus.MustNewConstMetric(pacePaused, prometheus.GaugeValue, paused, r.Device)
		for kind, bytes := range r.Sent {
			to <- prometheus.MustNewConstMetric(paceSent, prometheus.CounterValue, float64(bytes), r.Device, kind)
		}
		d.collect(to)
		for what, seconds := range map[string]float64{"limits": r.Waited.Limits, "latency": r.Waited.Latency, "line": r.Waited.Line} {
			to <- prometheus.MustNewConstMetric(paceWaited, prometheus.CounterValue, seconds, r.Device, what)
		}
	}
}

// collect tells what the device has to send, and what it has taken.
func (d *DevicePace) collect(to chan<- prometheus.Metric) {
	tell := func(desc *prometheus.Desc, kind prometheus.ValueType, value float64) {
		to <- prometheus.MustNewConstMetric(desc, kind, value, d.device)
	}
	send, objects, bytes, arrived, needless := d.progress.now()
	tell(toSendPartitions, prometheus.GaugeValue, float64(send.Partitions))
	tell(toSendObjects, prometheus.GaugeValue, float64(send.Objects))
	tell(toSendBytes, prometheus.GaugeValue, float64(send.Bytes))
	tell(toSendUnknown, prometheus.GaugeValue, float64(send.Unknown))
	get := d.progress.ToGet()
	tell(toGetObjects, prometheus.GaugeValue, float64(get.Objects))
	tell(toGetBytes, prometheus.GaugeValue, float64(get.Bytes))
	if get.ETASeconds != nil {
		tell(toGetSeconds, prometheus.GaugeValue, *get.ETASeconds)
	}
	tell(tookObjects, prometheus.CounterValue, float64(objects))
	tell(tookBytes, prometheus.CounterValue, float64(bytes))
	tell(arrivedBytes, prometheus.CounterValue, float64(arrived))
	tell(needlessBytes, prometheus.CounterValue, float64(needless))
	if rate := d.progress.rate(d.device); rate.Known {
		tell(rateObjects, prometheus.GaugeValue, rate.Objects)
		tell(rateBytes, prometheus.GaugeValue, rate.Bytes)
	}
}
