package node

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"martlet/internal/clock"
	"martlet/internal/device"
	"martlet/internal/errs"
	"martlet/replicator/steps"
)

const (
	// ReadmitPath is where a storage node's admin address, to POST, has what is fenced of the
	// device that the query names, or of all, be pushed again as it is; and to GET tells what is.
	// Both are answered with a list of DeviceFences.
	ReadmitPath = "/replicate/fences"

	// EmptyPath is where it, to POST, has the device that the query names be emptied, of which something is fenced: all that it
	// holds is set aside on it, and it is used as a new one. It is answered as ReadmitPath is, once that is done.
	EmptyPath = "/replicate/empty"
)

// emptyWithin is how long emptying a device is waited for.
const emptyWithin = 30 * time.Second

// DeviceFences is what is fenced on a device: see package replicator/steps.
type DeviceFences struct {
	Device  string        `json:"device"`
	Fenced  []steps.Fence `json:"fenced"`
	Damaged string        `json:"damaged,omitempty"`   // why all of it is fenced
	Error   string        `json:"error,omitempty"`     // why that is not known
	Aside   string        `json:"set_aside,omitempty"` // where what it held is now, if it was just emptied
}

// keepFences changes nothing.
func keepFences(*steps.Book) error { return nil }

// fencing adds to the admin address what is about fences.
func (s *Storage) fencing(mux *http.ServeMux) {
	mux.HandleFunc("GET "+ReadmitPath, func(w http.ResponseWriter, r *http.Request) {
		report, err := s.fences(r.URL.Query(), keepFences)
		s.tell(w, r, report, err)
	})
	mux.HandleFunc("POST "+ReadmitPath, func(w http.ResponseWriter, r *http.Request) {
		report, err := s.fences(r.URL.Query(), func(b *steps.Book) error { return b.Readmit(clock.Now()) })
		s.tell(w, r, report, err)
	})
	mux.HandleFunc("POST "+EmptyPath, func(w http.ResponseWriter, r *http.Request) {
		report, err := s.empty(r.Context(), r.URL.Query())
		s.tell(w, r, report, err)
	})
}

// empty empties the device that a query names.
func (s *Storage) empty(ctx context.Context, query url.Values) ([]DeviceFences, error) {
	only := query.Get("device")
	before, err := s.fences(query, keepFences)
	switch {
	case err != nil:
		return nil, err
	case only == "":
		return nil, errs.Refuse(errs.Invalid, "which device is to be emptied has to be said")
	case before[0].Error != "":
		return nil, errs.Refuse(errs.BadDevice, "%s", before[0].Error)
	case before[0].Damaged == "" && len(before[0].Fenced) == 0:
		return nil, errs.Refuse(errs.Conflict, "nothing of %s is fenced: it is not emptied", only)
	}
	d, err := s.owned.Lookup(only)
	if err != nil {
		return nil, err
	}
	aside, err := d.Empty()
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithTimeout(ctx, emptyWithin)
	defer stop()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for d.Check() != nil {
		select {
		case <-ctx.Done():
			return nil, errs.E(errs.Unavailable, errs.Public("the device is still being emptied: "+d.Check().Error()))
		case <-look.C:
		}
	}
	f := fencesOf(d, s.steps, keepFences)
	f.Aside = aside
	return []DeviceFences{f}, nil
}

// fences does something with the books of the devices that a query names, and tells what is
// fenced then.
func (s *Storage) fences(query url.Values, do func(*steps.Book) error) ([]DeviceFences, error) {
	only := query.Get("device")
	query.Del("device")
	if err := nothing(query); err != nil {
		return nil, err
	}
	if s.steps == nil {
		return nil, errs.Refuse(errs.Unavailable, "replication is switched off on this node")
	}
	all := []DeviceFences{}
	for d := range s.owned.All() {
		if only == "" || only == d.Name() {
			all = append(all, fencesOf(d, s.steps, do))
		}
	}
	if only != "" && len(all) == 0 {
		return nil, errs.E(errs.NotFound, errs.Public("this node has no device "+only))
	}
	return all, nil
}

func fencesOf(d *device.Device, books *steps.Books, do func(*steps.Book) error) DeviceFences {
	f := DeviceFences{Device: d.Name(), Fenced: []steps.Fence{}}
	err := d.Check()
	var book *steps.Book
	if err == nil {
		book, err = books.Of(d.Name())
	}
	if err == nil {
		err = do(book)
	}
	if err != nil {
		f.Error = err.Error()
		return f
	}
	fenced, damaged := book.Fenced(clock.Now())
	f.Fenced = append(f.Fenced, fenced...)
	if damaged != nil {
		f.Damaged = damaged.Error()
	}
	return f
}

var fencedDesc = prometheus.NewDesc("martlet_replication_fenced_partitions",
	"Partitions of which nothing is pushed, since the device was away for too long.", []string{"device", "set"}, nil)

// fenceMetrics tells what is fenced.
type fenceMetrics struct{ s *Storage }

// Describe implements prometheus.Collector.
func (m fenceMetrics) Describe(to chan<- *prometheus.Desc) { to <- fencedDesc }

// Collect implements prometheus.Collector.
func (m fenceMetrics) Collect(to chan<- prometheus.Metric) {
	for d := range m.s.owned.All() {
		f := fencesOf(d, m.s.steps, keepFences)
		if f.Damaged != "" {
			to <- prometheus.MustNewConstMetric(fencedDesc, prometheus.GaugeValue, 1, f.Device, "all")
		}
		for _, one := range f.Fenced {
			to <- prometheus.MustNewConstMetric(fencedDesc, prometheus.GaugeValue, float64(one.Partitions), f.Device, string(one.Set))
		}
	}
}
