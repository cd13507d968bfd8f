package node

import (
	"net/http"
	"net/url"

	"martlet/cmd/internal/config"
	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/httpapi"
	"martlet/internal/throttle"
)

// RateLimitPath is where an operator asks a storage node's admin address for the limits of [backend_ratelimit]
// in force, with GET, and changes some of them, with POST: the query has their keys with new
// values. Both are answered with all of them.
const RateLimitPath = "/ratelimit"

// limited puts the node's limits before a server that has a level, and says how its gate is to share its
// places: among accounts.
func (s *Storage) limited(c *config.Storage, o Options, v service) (backend.Handler, httpapi.GateConfig, error) {
	gate := httpapi.GateConfig{Requests: int64(c.Server.MaxRequests)}
	if v.level == 0 {
		return v.handler, gate, nil
	}
	gate.Carried = func(r *backend.Request) string { return throttle.AccountOf(r.Path) }
	l, err := throttle.New(o.Registry, throttle.Config{Server: v.name, Level: v.level, Devices: c.Server.Devices, Settings: s.rates})
	if err != nil {
		return nil, gate, err
	}
	return l.Wrap(v.handler), gate, nil
}

// limiting adds to the admin address what is about the limits of requests.
func (s *Storage) limiting(mux *http.ServeMux) {
	mux.HandleFunc("GET "+RateLimitPath, func(w http.ResponseWriter, r *http.Request) { s.tell(w, r, s.rates.Rates(), nil) })
	mux.HandleFunc("POST "+RateLimitPath, func(w http.ResponseWriter, r *http.Request) {
		err := s.setRates(r.URL.RawQuery)
		s.tell(w, r, s.rates.Rates(), err)
	})
}

// setRates changes what a query names.
func (s *Storage) setRates(query string) error {
	values, err := url.ParseQuery(query)
	if err == nil {
		err = s.rates.Set(values)
	}
	if err != nil {
		return errs.E(errs.Invalid, errs.Public(err.Error()), err)
	}
	return nil
}
