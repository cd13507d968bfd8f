package objects

import (
	"testing"
	"time"

	"martlet/internal/name"
)

func TestClaims(t *testing.T) {
	c := claims{by: map[claim]claimed{}}
	k, other := claim{device: "d1", hash: name.Hash{1}}, claim{device: "d2", hash: name.Hash{1}}
	now := time.Unix(1_000_000, 0)
	want := func(what string, k claim, sender string, ok bool) {
		t.Helper()
		if c.take(k, sender, false, now) != ok {
			t.Errorf("%s: %s may bring it: %v", what, sender, !ok)
		}
	}
	want("nobody else", k, "a", true)
	if k := (claim{whole: true}); !c.take(k, "a", false, now) || !c.take(k, "b", true, now) || c.take(k, "a", false, now) {
		t.Error("who is first is not")
	}
	want("a device beside it", other, "b", true)
	want("somebody else", k, "b", false)
	want("the same again", k, "a", true)
	now = now.Add(claimTime)
	want("he has not begun in time", k, "b", true)
	end := c.begin(k, "b")
	c.begin(k, "a")() // who has not asked is no reason to forget who has
	now = now.Add(time.Hour)
	want("it takes its time", k, "a", false)
	again := c.begin(k, "b")
	end()
	want("he sends it twice", k, "a", false)
	again()
	want("it has ended", k, "a", true)
	for range 3 {
		want("nothing comes of it", other, "b", true)
	}
	want("who has asked so often and sent nothing is not waited for", other, "a", true)
	want("he has just asked", other, "b", false)
	for i := range maxClaims + 10 {
		want("many", claim{device: "d3", hash: name.Hash{byte(i), byte(i >> 8)}}, "a", true)
	}
	if len(c.by) > maxClaims {
		t.Errorf("there are %d claims", len(c.by))
	}
	now = now.Add(claimTime)
	want("later", claim{device: "d4"}, "a", true)
	if len(c.by) > 10 {
		t.Errorf("%d claims are left when their time is over", len(c.by))
	}
}
