package test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// ruleQuotas: what would exceed a quota is refused, be it sent or copied; who may
// not write hears nothing of quotas, and only a reseller admin sets those of accounts.
func ruleQuotas(t *testing.T, c *cluster, me *api) {
	const says = "Upload exceeds quota."
	about := string((&api{url: c.url()}).want(t, 200, "GET", "/info", "").body)
	for _, section := range []string{`"container_quotas"`, `"account_quotas"`} {
		if !strings.Contains(about, section) {
			t.Errorf("/info has no %s: %s", section, about)
		}
	}
	full := func(a *api, what, method, path, body string, headers ...string) answer {
		t.Helper()
		var got answer
		poll(t, 20*time.Second, what, func() error {
			if got = a.call(t, method, path, strings.NewReader(body), headers...); got.StatusCode != 413 {
				return fmt.Errorf("%s", got.Status)
			}
			return nil
		})
		return got
	}

	me.want(t, 400, "PUT", "/quotas", "", "X-Container-Meta-Quota-Bytes", "many")
	me.want(t, 404, "HEAD", "/quotas", "")
	me.want(t, 201, "PUT", "/quotas", "", "X-Container-Meta-Quota-Bytes", "10")
	me.want(t, 400, "POST", "/quotas", "", "X-Container-Meta-Quota-Count", "-1")
	has(t, me.want(t, 204, "HEAD", "/quotas", ""), "X-Container-Meta-Quota-Bytes", "10", "X-Container-Meta-Quota-Count", "-")
	text(t, me.want(t, 413, "PUT", "/quotas/o", "eleven byte"), says)
	me.want(t, 404, "GET", "/quotas/o", "")
	me.want(t, 201, "PUT", "/quotas/o", "sixsix")
	text(t, full(me, "the count is known", "PUT", "/quotas/o", "sixsix"), says)
	text(t, me.want(t, 413, "COPY", "/quotas/o", "", "Destination", "quotas/p"), says)
	text(t, me.want(t, 413, "PUT", "/quotas/p", "", "X-Copy-From", "quotas/o"), says)
	(&api{url: me.url}).want(t, 401, "PUT", "/quotas/p", "sixsix")
	me.want(t, 201, "PUT", "/quotas/p", "four")
	me.want(t, 204, "POST", "/quotas", "", "X-Container-Meta-Quota-Bytes", "", "X-Container-Meta-Quota-Count", "2")
	text(t, full(me, "the count of objects is known", "PUT", "/quotas/p", ""), says)
	me.want(t, 204, "DELETE", "/quotas/p", "")
	me.want(t, 201, "COPY", "/quotas/o", "", "Destination", "quotas/p") // there is room again, whatever was known
	policy := me.want(t, 204, "HEAD", "/quotas", "").Header.Get("X-Storage-Policy")
	for _, path := range []string{"/quotas/o", "/quotas/p", "/quotas"} {
		me.want(t, 204, "DELETE", path, "")
	}

	other, reseller := signIn(t, c.url(), "test2:tester2", "testing2"), signIn(t, c.url(), "admin:admin", "admin")
	reseller.url = other.url
	other.want(t, 201, "PUT", "/quotas", "")
	for name, said := range map[string]string{
		"Quota-Count": says, "Quota-Bytes": says, "Meta-Quota-Bytes": says,
		"Quota-Bytes-Policy-" + policy: "Upload exceeds policy quota.", "Quota-Count-Policy-" + policy: "Upload exceeds policy quota.",
	} {
		other.want(t, 403, "POST", "", "", "X-Account-"+name, "0")
		reseller.want(t, 400, "POST", "", "", "X-Account-"+name, "none")
		other.want(t, 201, "PUT", "/quotas/o", "x")
		reseller.want(t, 204, "POST", "", "", "X-Account-"+name, "0")
		has(t, other.want(t, 204, "HEAD", "", ""), "X-Account-"+name, "0", "X-Account-Sysmeta-"+name, "-")
		text(t, other.want(t, 413, "PUT", "/quotas/o", "x"), said)
		other.want(t, 204, "DELETE", "/quotas/o", "")
		reseller.want(t, 201, "PUT", "/quotas/o", "x") // who is not bound by it
		other.want(t, 403, "POST", "", "", "X-Remove-Account-"+name, "t")
		reseller.want(t, 204, "POST", "", "", "X-Remove-Account-"+name, "t")
		has(t, other.want(t, 204, "HEAD", "", ""), "X-Account-"+name, "-")
	}
	// An account's count is what its containers report, in a while.
	other.want(t, 201, "PUT", "/quotas/o", "sixsix")
	used := func() string { return other.want(t, 204, "HEAD", "", "").Header.Get("X-Account-Bytes-Used") }
	poll(t, 20*time.Second, "the account has it", func() error {
		if got := used(); got == "0" || got == "1" {
			return fmt.Errorf("it has %s bytes", got)
		}
		return nil
	})
	reseller.want(t, 204, "POST", "", "", "X-Account-Quota-Bytes", used())
	text(t, full(other, "the count of the account is known", "PUT", "/quotas/o", "x"), says)
	reseller.want(t, 204, "POST", "", "", "X-Account-Quota-Bytes", "")
	other.want(t, 201, "PUT", "/quotas/o", "x")
	other.want(t, 204, "DELETE", "/quotas/o", "")
	other.want(t, 204, "DELETE", "/quotas", "")
}
