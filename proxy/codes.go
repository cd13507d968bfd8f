package proxy

import (
	"fmt"
	"sync"

	"martlet/internal/ec"
	"martlet/internal/ecread"
	"martlet/internal/policy"
)

// A coding is a policy that erasure-codes, and its code. Both keep the buffers of all
// transfers under it.
type coding struct {
	policy   policy.Policy
	code     *ec.Code
	segments *sync.Pool // of *chunk, each for the fragments of one segment
}

// codings is what there is for each policy that erasure-codes.
type codings map[policy.Index]coding

// newCodings makes the codes of a cluster's policies. A shape that is out of bounds is of
// kind errs.Invalid.
func newCodings(set policy.Set) (codings, error) {
	of := codings{}
	for _, p := range set.All() {
		if !p.Coded() {
			continue
		}
		code, err := ec.New(ec.Of(ec.Shape{Data: p.Data, Parity: p.Parity}))
		if err != nil {
			return nil, fmt.Errorf("policy %q: %w", p.Name, err)
		}
		n, each := code.Fragments(), int(code.ArchiveSize(int64(code.Segment)))
		of[p.Index] = coding{p, code, &sync.Pool{New: func() any {
			return &chunk{buf: make([]byte, n*each), parts: make([][]byte, n)}
		}}}
	}
	return of, nil
}

// codes is the codes for who reads.
func (c codings) codes() *ecread.Codes {
	all := make([]*ec.Code, 0, len(c))
	for _, of := range c {
		all = append(all, of.code)
	}
	return ecread.NewCodes(all...)
}
