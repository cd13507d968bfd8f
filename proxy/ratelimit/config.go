package ratelimit

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"martlet/internal/conf"
	"martlet/internal/errs"
)

// Config is what an operator may set. Rates are requests a second, through each proxy;
// 0 is no limit.
type Config struct {
	Enabled bool `toml:"enabled"` // off: what is said of single accounts means nothing, either

	Account    float64            `toml:"account_ratelimit"`           // PUT and DELETE of the containers of an account
	Containers map[string]float64 `toml:"container_ratelimit"`         // writes of objects of a container, by how many it has at least
	Listings   map[string]float64 `toml:"container_listing_ratelimit"` // GETs of a container, by how many objects it has at least

	Whitelist []string `toml:"account_whitelist"` // accounts that have no limits
	Blacklist []string `toml:"account_blacklist"` // accounts that are refused

	MaxSleepTime conf.Duration `toml:"max_sleep_time"` // a request that would wait longer is refused
	RateBuffer   conf.Duration `toml:"rate_buffer"`    // how much of the time in which nothing came may be made up for
	LogSleepTime conf.Duration `toml:"log_sleep_time"` // requests that wait longer are logged; 0: none
}

// Defaults returns Swift's.
func Defaults() Config {
	return Config{MaxSleepTime: conf.Duration(time.Minute), RateBuffer: conf.Duration(5 * time.Second)}
}

// maxRate is the highest rate that is taken for one.
const maxRate = 1e6

// Validate checks the values. An error names the key.
func (c Config) Validate() error {
	if !isRate(c.Account) {
		return fmt.Errorf("key %q: value %v: it is no rate from 0 to %v", "account_ratelimit", c.Account, maxRate)
	}
	for key, rates := range map[string]map[string]float64{"container_ratelimit": c.Containers, "container_listing_ratelimit": c.Listings} {
		for size, rate := range rates {
			if n, err := strconv.ParseInt(size, 10, 64); err != nil || n < 0 || strconv.FormatInt(n, 10) != size {
				return fmt.Errorf("key %q: value %q: it is no number of objects", key, size)
			}
			if !isRate(rate) {
				return fmt.Errorf("key %q: value %v: it is no rate from 0 to %v", key+"."+size, rate, maxRate)
			}
		}
	}
	for _, a := range c.Whitelist {
		if slices.Contains(c.Blacklist, a) {
			return fmt.Errorf("key %q: value %q: it is in account_whitelist, too", "account_blacklist", a)
		}
	}
	return nil
}

// isRate is false for what is negative, too high, or no number.
func isRate(r float64) bool { return r >= 0 && r <= maxRate }

// Section is what /info says.
func (c Config) Section() map[string]any {
	pairs := func(s steps) [][2]float64 {
		list := make([][2]float64, len(s))
		for i, step := range s {
			list[i] = [2]float64{float64(step.size), step.rate}
		}
		return list
	}
	return map[string]any{
		"account_ratelimit": c.Account, "max_sleep_time_seconds": c.MaxSleepTime.D().Seconds(),
		"container_ratelimits": pairs(stepsOf(c.Containers)), "container_listing_ratelimits": pairs(stepsOf(c.Listings)),
	}
}

// Meta is the system metadata of an account that says what holds for it: a rate for all writes together, that it has
// no limits, or that it is refused.
const Meta = "X-Account-Sysmeta-Global-Write-Ratelimit"

// Header is the header field of a POST of an account that sets Meta. Whoever lets it
// through to where it is stored holds it back from all but administrators, and refuses
// the request.
const Header = "X-Account-Global-Write-Ratelimit"

// What Meta may say besides a rate.
const (
	allowed = "WHITELIST"
	denied  = "BLACKLIST"
)

// Value is what is kept of what an administrator sets; "" where nothing is to hold
// any more. What is none of it is of kind errs.Invalid.
func Value(text string) (string, error) {
	text = strings.ToUpper(strings.TrimSpace(text))
	if text == "" || text == allowed || text == denied {
		return text, nil
	}
	if r, err := strconv.ParseFloat(text, 64); err != nil || !isRate(r) {
		return "", errs.Refuse(errs.Invalid, "%s must be %s, %s, or a number of requests a second", Header, allowed, denied)
	}
	return text, nil
}

// writes is the rate that Meta says; 0 where it says none.
func writes(said string) float64 {
	if said == "" {
		return 0
	}
	r, err := strconv.ParseFloat(said, 64)
	if err != nil || !isRate(r) {
		return 0
	}
	return r
}

// steps are rates by how many objects a container has, the fewest first. Between two of
// them the rate is on the line from one to the other.
type steps []step

type step struct {
	size int64 // objects
	rate float64
}

func stepsOf(rates map[string]float64) steps {
	s := make(steps, 0, len(rates))
	for size, rate := range rates {
		n, _ := strconv.ParseInt(size, 10, 64) // Validate has seen it
		s = append(s, step{n, rate})
	}
	slices.SortFunc(s, func(a, b step) int { return cmp.Compare(a.size, b.size) })
	return s
}

// at is the rate for a container with so many objects, as its header says it; 0 where there
// is none.
func (s steps) at(count string) float64 {
	n, err := strconv.ParseInt(count, 10, 64)
	if err != nil {
		return 0
	}
	for i := len(s) - 1; i >= 0; i-- {
		switch {
		case n < s[i].size:
		case i == len(s)-1:
			return s[i].rate
		default:
			part := float64(n-s[i].size) / float64(s[i+1].size-s[i].size)
			return s[i].rate + part*(s[i+1].rate-s[i].rate)
		}
	}
	return 0
}
