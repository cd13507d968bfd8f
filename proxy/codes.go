package proxy

import (
	"fmt"

	"martlet/internal/ec"
	"martlet/internal/ecread"
	"martlet/internal/policy"
)

// A coding is a policy that erasure-codes, and its code, which keeps the buffers of all
// transfers under it.
type coding struct {
	policy policy.Policy
	code   *ec.Code
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
		of[p.Index] = coding{p, code}
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
