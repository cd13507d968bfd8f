package ecread

import (
	"sync"

	"martlet/internal/ec"
)

// Codes has the code for each layout that objects have. It is safe for concurrent use, and
// there should be one in a process: codes keep the buffers of transfers.
type Codes struct {
	mu sync.RWMutex
	by map[ec.Layout]*ec.Code // guarded by mu
}

// keptLayouts bounds for how many layouts a code is kept. Objects of one policy have one
// layout, until what is written has another some day.
const keptLayouts = 64

// NewCodes returns codes of which some are there already.
func NewCodes(there ...*ec.Code) *Codes {
	c := &Codes{by: map[ec.Layout]*ec.Code{}}
	for _, code := range there {
		c.by[code.Layout] = code
	}
	return c
}

// Of returns the code of a layout. The error is of kind errs.Invalid.
func (c *Codes) Of(l ec.Layout) (*ec.Code, error) {
	c.mu.RLock()
	code := c.by[l]
	c.mu.RUnlock()
	if code != nil {
		return code, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if code := c.by[l]; code != nil {
		return code, nil
	}
	code, err := ec.New(l)
	if err == nil && len(c.by) < keptLayouts {
		c.by[l] = code
	}
	return code, err
}
