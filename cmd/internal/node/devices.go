package node

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"martlet/cmd/internal/config"
	"martlet/internal/backend"
	"martlet/internal/device"
	"martlet/internal/name"
)

// devices opens the node's devices, locked against every other process, and has
// them watched.
func (s *Storage) devices(c *config.Storage, hasher name.Hasher, o Options) (*device.Set, error) {
	set, err := device.Open(device.Config{
		Root: c.Server.Root, Names: c.Server.Devices, Interval: c.Server.DeviceCheckInterval.D(), Log: o.Log,
		Owner:  device.Owner{Cluster: c.Cluster.Name, Fingerprint: hasher.Fingerprint()},
		Remedy: "martlet device init --config " + c.Path + " --device",
	})
	if err != nil {
		return nil, err
	}
	s.owned = set
	s.atEnd(set.Close)
	s.beside("device watch", set.Watch)
	return set, o.Registry.Register(deviceMetrics{set})
}

// suspecting has a device looked at when a request has failed in a way that may be
// its fault.
func suspecting(devices *device.Set, h backend.Handler) backend.Handler {
	return backend.HandlerFunc(func(ctx context.Context, r *backend.Request) (*backend.Response, error) {
		resp, err := h.Serve(ctx, r)
		if err != nil {
			if t, bad := backend.ParseTarget(r.Path); bad == nil {
				devices.Blame(t.Device, err)
			}
		}
		return resp, err
	})
}

var (
	deviceUp    = prometheus.NewDesc("martlet_device_up", "Whether the device can be used.", []string{"device"}, nil)
	deviceBytes = prometheus.NewDesc("martlet_device_bytes", "Bytes of the device's file system, at the last check; none while it can't be used.", []string{"device", "state"}, nil)

	deviceSyncs = prometheus.NewDesc("martlet_device_syncs_total", "Syncs that were asked of the device's disk, but for those of large databases: what is acknowledged waits for them.", []string{"device"}, nil)
	deviceMoved = prometheus.NewDesc("martlet_device_moved_bytes_total", "Bytes written to files on the device, and read from them, but for those of large databases; the kernel's cache may have taken them.", []string{"device", "way"}, nil)
)

// deviceMetrics tells of a node's devices without touching a disk.
type deviceMetrics struct{ set *device.Set }

// Describe implements prometheus.Collector.
func (m deviceMetrics) Describe(to chan<- *prometheus.Desc) {
	to <- deviceUp
	to <- deviceBytes
	to <- deviceSyncs
	to <- deviceMoved
}

// Collect implements prometheus.Collector.
func (m deviceMetrics) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	count := func(d *prometheus.Desc, value int64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
	}
	for d := range m.set.All() {
		w := d.Work()
		count(deviceSyncs, w.Syncs+w.DirSyncs, d.Name())
		count(deviceMoved, w.Written, d.Name(), "written")
		count(deviceMoved, w.Read, d.Name(), "read")
		u, known := d.Usage()
		if d.Check() != nil {
			gauge(deviceUp, 0, d.Name())
			continue
		}
		gauge(deviceUp, 1, d.Name())
		if known {
			gauge(deviceBytes, float64(u.Total), d.Name(), "total")
			gauge(deviceBytes, float64(u.Available), d.Name(), "available")
		}
	}
}
