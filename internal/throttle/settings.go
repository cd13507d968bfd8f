package throttle

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"martlet/internal/conf"
)

// Rates are the limits of each server of a node, in requests a second; 0 is no limit.
type Rates struct {
	Requests float64 `toml:"requests_per_device_per_second" json:"requests_per_device_per_second"`
	Get      float64 `toml:"get_requests_per_device_per_second" json:"get_requests_per_device_per_second"`
	Head     float64 `toml:"head_requests_per_device_per_second" json:"head_requests_per_device_per_second"`
	Put      float64 `toml:"put_requests_per_device_per_second" json:"put_requests_per_device_per_second"`
	Post     float64 `toml:"post_requests_per_device_per_second" json:"post_requests_per_device_per_second"`
	Delete   float64 `toml:"delete_requests_per_device_per_second" json:"delete_requests_per_device_per_second"`
	// Buffer is for how long of what was not used counts.
	Buffer conf.Duration `toml:"requests_per_device_rate_buffer" json:"requests_per_device_rate_buffer"`

	// Account is how many of one account, on all devices of the node together.
	Account       float64       `toml:"requests_per_account_per_second" json:"requests_per_account_per_second"`
	AccountBuffer conf.Duration `toml:"requests_per_account_rate_buffer" json:"requests_per_account_rate_buffer"`
}

// Defaults returns rates that limit nothing.
func Defaults() Rates {
	return Rates{Buffer: conf.Duration(time.Second), AccountBuffer: conf.Duration(time.Second)}
}

// method is the rate of one of the methods that are counted.
func (r *Rates) method(i int) float64 {
	return [...]float64{r.Get, r.Head, r.Put, r.Post, r.Delete}[i]
}

// rates and buffers are the fields by their keys, as in the configuration.
func (r *Rates) rates() map[string]*float64 {
	return map[string]*float64{
		"requests_per_device_per_second": &r.Requests, "get_requests_per_device_per_second": &r.Get, "head_requests_per_device_per_second": &r.Head,
		"put_requests_per_device_per_second": &r.Put, "post_requests_per_device_per_second": &r.Post, "delete_requests_per_device_per_second": &r.Delete,
		"requests_per_account_per_second": &r.Account,
	}
}

func (r *Rates) buffers() map[string]*conf.Duration {
	return map[string]*conf.Duration{"requests_per_device_rate_buffer": &r.Buffer, "requests_per_account_rate_buffer": &r.AccountBuffer}
}

const (
	leastRate  = 0.001
	mostRate   = 1_000_000
	mostBuffer = time.Hour
)

// Check returns the first thing that is wrong, naming the key and the value.
func (r *Rates) Check() error {
	rates, buffers := r.rates(), r.buffers()
	for _, key := range Keys() {
		if rate := rates[key]; rate != nil && *rate != 0 && !(*rate >= leastRate && *rate <= mostRate) { // which no NaN is
			return fmt.Errorf("%s: %v: must be 0, which is no limit, or from %v to %v", key, *rate, leastRate, mostRate)
		}
		if buffer := buffers[key]; buffer != nil && (buffer.D() < 0 || buffer.D() > mostBuffer) {
			return fmt.Errorf("%s: %v: must be from 0 to %v", key, buffer.D(), mostBuffer)
		}
	}
	return nil
}

// limits reports whether there is any limit.
func (r *Rates) limits() bool {
	for _, rate := range r.rates() {
		if *rate > 0 {
			return true
		}
	}
	return false
}

// Settings are the rates in force, which can be changed while servers run. They are safe for
// concurrent use.
type Settings struct {
	active atomic.Pointer[Rates] // nil while nothing is limited

	mu  sync.Mutex
	now Rates // mu
}

// NewSettings returns settings of these rates. The error names what is wrong with them.
func NewSettings(r Rates) (*Settings, error) {
	s := &Settings{}
	return s, s.change(func(to *Rates) error { *to = r; return nil })
}

// Rates returns those in force.
func (s *Settings) Rates() Rates {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// Set changes what the values name, by the keys that the configuration has, and leaves the rest. The error
// names the key and the value; nothing is changed then.
func (s *Settings) Set(values url.Values) error {
	return s.change(func(to *Rates) error {
		rates, buffers := to.rates(), to.buffers()
		for key, texts := range values {
			var err error
			switch {
			case len(texts) != 1:
				err = fmt.Errorf("%q: is given more than once", texts)
			case rates[key] != nil:
				if *rates[key], err = strconv.ParseFloat(texts[0], 64); err != nil {
					err = fmt.Errorf("%q is not a number", texts[0])
				}
			case buffers[key] != nil:
				err = buffers[key].UnmarshalText([]byte(texts[0]))
			default:
				err = fmt.Errorf("no such limit: the keys are %s", strings.Join(Keys(), ", "))
			}
			if err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
		}
		return nil
	})
}

func (s *Settings) change(how func(*Rates) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	to := s.now
	err := how(&to)
	if err == nil {
		err = to.Check()
	}
	if err != nil {
		return err
	}
	s.now = to
	if to.limits() {
		s.active.Store(&to)
	} else {
		s.active.Store(nil)
	}
	return nil
}

// Keys returns what can be set, in order.
func Keys() []string {
	var r Rates
	var keys []string
	for key := range r.rates() {
		keys = append(keys, key)
	}
	for key := range r.buffers() {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
