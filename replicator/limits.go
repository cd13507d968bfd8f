package replicator

import (
	"errors"
	"fmt"
)

// Limits are what replication may use of one device. They can be changed while it runs.
type Limits struct {
	BytesPerSecond      int64 `json:"bytes_per_second"`      // of what it pushes; 0 is no limit
	OperationsPerSecond int64 `json:"operations_per_second"` // requests to peers; 0 is no limit
	Concurrency         int   `json:"concurrency"`           // partitions under way at one time, 1 to MaxConcurrency
	Incoming            int   `json:"incoming"`              // pushes of peers that it takes at one time, 1 to MaxConcurrency; others wait in line
}

// MaxConcurrency bounds what is under way at one time.
const MaxConcurrency = 1024

// DefaultLimits are those that fit most devices.
func DefaultLimits() Limits { return Limits{Concurrency: 4, Incoming: 8} }

// Check returns what is wrong with the limits, naming the key and the value.
func (l *Limits) Check() error {
	var all []error
	for _, rate := range []struct {
		key string
		n   int64
	}{{"bytes_per_second", l.BytesPerSecond}, {"operations_per_second", l.OperationsPerSecond}} {
		if rate.n < 0 {
			all = append(all, fmt.Errorf("%s: %d: must be at least 0, which is no limit", rate.key, rate.n))
		}
	}
	for _, bound := range []struct {
		key string
		n   int
	}{{"concurrency", l.Concurrency}, {"incoming", l.Incoming}} {
		if bound.n < 1 || bound.n > MaxConcurrency {
			all = append(all, fmt.Errorf("%s: %d: must be from 1 to %d", bound.key, bound.n, MaxConcurrency))
		}
	}
	return errors.Join(all...)
}
