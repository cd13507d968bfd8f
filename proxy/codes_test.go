package proxy

import (
	"strings"
	"testing"

	"martlet/internal/ec"
	"martlet/internal/errs"
	"martlet/internal/policy"
)

func TestCodings(t *testing.T) {
	set := func(data, parity int) policy.Set {
		s, err := policy.NewSet([]policy.Policy{
			{Index: 0, Name: "gold", Default: true}, {Index: 2, Name: "cold", Data: data, Parity: parity, WholeUpTo: 8 << 10},
		})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	of, err := newCodings(set(4, 2))
	if err != nil {
		t.Fatal(err)
	}
	c, ok := of[2]
	if len(of) != 1 || !ok || c.policy.Name != "cold" || c.code.Shape != (ec.Shape{Data: 4, Parity: 2}) {
		t.Errorf("got %+v, want the code of policy 2 alone", of)
	}
	if _, err := newCodings(set(30, 2)); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), `"cold"`) {
		t.Errorf("30+2: %v, want the policy named as invalid", err)
	}
}
