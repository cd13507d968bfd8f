package node

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"martlet/internal/conf"
	"martlet/internal/errs"
	"martlet/replicator"
)

// What an operator can ask of a storage node's admin address about what holds back its
// replication. Each is of the device that the query names, or of all of them, and is
// answered with a list of replicator.PaceReport.
const (
	// PacePath tells what is in force, to GET, and changes limits, to POST: the query
	// has the keys of LimitKeys with their new values.
	PacePath = "/replicate/pace"
	// PausePath and ResumePath pause and resume it, to POST.
	PausePath  = "/replicate/pause"
	ResumePath = "/replicate/resume"
)

// limitKeys are the limits that can be set, by the keys that they have in the configuration.
var limitKeys = map[string]func(*replicator.Limits, string) error{
	"bytes_per_second": func(l *replicator.Limits, text string) error {
		var size conf.Size
		err := size.UnmarshalText([]byte(text))
		l.BytesPerSecond = int64(size)
		return err
	},
	"operations_per_second": func(l *replicator.Limits, text string) (err error) {
		l.OperationsPerSecond, err = strconv.ParseInt(text, 10, 64)
		return whole(text, err)
	},
	"concurrency": func(l *replicator.Limits, text string) (err error) {
		l.Concurrency, err = strconv.Atoi(text)
		return whole(text, err)
	},
	"incoming": func(l *replicator.Limits, text string) (err error) {
		l.Incoming, err = strconv.Atoi(text)
		return whole(text, err)
	},
}

func whole(text string, err error) error {
	if err != nil {
		return fmt.Errorf("%q is not a whole number", text)
	}
	return nil
}

// LimitKeys returns what can be set, in order.
func LimitKeys() []string {
	var keys []string
	for key := range limitKeys {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// ParseLimits reads new values of limits, by key, as in the configuration. The function that
// it returns changes those, and leaves the others. The error names the key and the value.
func ParseLimits(values url.Values) (change func(*replicator.Limits), err error) {
	if len(values) == 0 {
		return nil, fmt.Errorf("nothing is set: the keys are %s", strings.Join(LimitKeys(), ", "))
	}
	var all []error
	for key, texts := range values {
		set := limitKeys[key]
		switch {
		case set == nil:
			all = append(all, fmt.Errorf("%s: no such limit: the keys are %s", key, strings.Join(LimitKeys(), ", ")))
		case len(texts) != 1:
			all = append(all, fmt.Errorf("%s: %q: is given more than once", key, texts))
		default:
			if err := set(new(replicator.Limits), texts[0]); err != nil {
				all = append(all, fmt.Errorf("%s: %w", key, err))
			}
		}
	}
	return func(l *replicator.Limits) {
		for key, texts := range values {
			_ = limitKeys[key](l, texts[0]) // it was read before
		}
	}, errors.Join(all...)
}

// pacing adds to the admin address what is about the pace of replication.
func (s *Storage) pacing(mux *http.ServeMux) {
	handle := func(pattern string, do func(device string, rest url.Values) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			report, err := s.pace(r.URL, do)
			s.tell(w, r, report, err)
		})
	}
	handle("GET "+PacePath, func(_ string, rest url.Values) error { return nothing(rest) })
	handle("POST "+PacePath, func(device string, rest url.Values) error {
		change, err := ParseLimits(rest)
		if err != nil {
			return errs.E(errs.Invalid, errs.Public(err.Error()), err)
		}
		return s.replicator.Limit(device, change)
	})
	handle("POST "+PausePath, func(device string, rest url.Values) error {
		if err := nothing(rest); err != nil {
			return err
		}
		return s.replicator.Pause(device)
	})
	handle("POST "+ResumePath, func(device string, rest url.Values) error {
		if err := nothing(rest); err != nil {
			return err
		}
		return s.replicator.Resume(device)
	})
}

// pace does what is asked of a device, or of all, and tells what is in force then.
func (s *Storage) pace(asked *url.URL, do func(device string, rest url.Values) error) ([]replicator.PaceReport, error) {
	if s.replicator == nil {
		return nil, errs.Refuse(errs.Unavailable, "replication is switched off on this node")
	}
	query, err := url.ParseQuery(asked.RawQuery)
	if err != nil {
		return nil, errs.E(errs.Invalid, errs.Public("query is not percent-encoded"), err)
	}
	device := query.Get("device")
	query.Del("device")
	if err := do(device, query); err != nil {
		return nil, err
	}
	return s.replicator.Pacing(device)
}

func nothing(rest url.Values) error {
	for key := range rest {
		return errs.Refuse(errs.Invalid, "%s: is not asked for here", key)
	}
	return nil
}
