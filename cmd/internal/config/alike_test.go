package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"martlet/proxy/auth"
)

// Each setting that has to be alike shows where it differs, alone; nothing else does, and what is secret is not shown.
func TestAlike(t *testing.T) {
	proxy := func() *Proxy {
		c := DefaultProxy()
		c.Cluster.HashPathSuffix = "the suffix"
		c.Cluster.Policies = []Policy{{Index: 0, Name: "gold", Default: true}, {Index: 1, Name: "tin", Aliases: []string{"a", "b"}}}
		c.Auth.Secrets = []string{"the first secret", "the other secret"}
		c.Auth.Users = []auth.User{{Account: "a", Name: "one", Key: "the key"}, {Account: "a", Name: "two", Key: "k"}}
		return c
	}
	first := proxy().Alike()
	for _, secret := range []string{"the suffix", "first secret", "other secret", "the key"} {
		if strings.Contains(fmt.Sprint(first), secret) {
			t.Errorf("%q is shown: %v", secret, first)
		}
	}
	for want, change := range map[string]func(*Proxy){
		"":             func(c *Proxy) { slices.Reverse(c.Auth.Secrets); slices.Reverse(c.Auth.Users); c.Server.Listen = ":1" },
		" ":            func(c *Proxy) { slices.Reverse(c.Cluster.Policies); slices.Reverse(c.Cluster.Policies[0].Aliases) },
		AlikeName:      func(c *Proxy) { c.Cluster.Name = "x" },
		AlikeHash:      func(c *Proxy) { c.Cluster.HashPathPrefix = "x" },
		AlikePolicies:  func(c *Proxy) { c.Cluster.Policies[1].Deprecated = true },
		AlikeMetaCount: func(c *Proxy) { c.Server.Limits.MaxMetaCount = 7 },
		AlikeMetaSize:  func(c *Proxy) { c.Server.Limits.MaxMetaOverallSize = 7 },
		AlikeFileSize:  func(c *Proxy) { c.Server.Limits.MaxFileSize = 7 },
		AlikeSecrets:   func(c *Proxy) { c.Auth.Secrets = c.Auth.Secrets[1:] },
		AlikeUsers:     func(c *Proxy) { c.Auth.Users[0].Key = "another" },
	} {
		c := proxy()
		change(c)
		got := c.Alike()
		var differ []string
		for key := range first {
			// Users are keyed by the hash, which is another cluster's then.
			if got[key] != first[key] && !(want == AlikeHash && key == AlikeUsers) {
				differ = append(differ, key)
			}
		}
		if strings.Join(differ, " ") != strings.TrimSpace(want) || (got.Checksum() == first.Checksum()) != (strings.TrimSpace(want) == "") {
			t.Errorf("what differs is %q, want %q", differ, want)
		}
	}
	s := DefaultStorage()
	s.Cluster = proxy().Cluster
	keys := s.Alike([]string{"b", "a"})
	for _, key := range []string{AlikeName, AlikeHash, AlikePolicies, AlikeMetaCount, AlikeMetaSize} {
		if keys[key] != first[key] {
			t.Errorf("%s of a storage node is %q, of a proxy %q", key, keys[key], first[key])
		}
	}
	if keys[AlikeKeys] != "a b" || s.Alike(nil)[AlikeKeys] != "none" || keys[AlikeReclaim] != "168h0m0s" {
		t.Errorf("%v", keys)
	}
	s.Replicator.Enabled, s.Store.Scrub.Enabled, s.Object.Enabled, s.Updater.Enabled = false, false, false, false
	if got := s.Off(); !slices.Equal(got, []string{"replicator", "store.scrub"}) {
		t.Errorf("off is %q", got)
	}
}
