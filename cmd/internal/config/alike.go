package config

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"martlet/proxy/auth"
)

// Alike is what must be alike in the files of a cluster's processes, or those of its proxies or its storage nodes, by
// what it is about: the key, where it is one. A process compares what both it and the other have. What is secret is
// there as a digest made with the secret itself, which shows nothing of it but whether two are the same; who can guess
// the secret can see that he is right, so it has to be one that nobody guesses.
type Alike map[string]string

// What is in Alike of every process.
const (
	AlikeName     = "cluster.name"
	AlikeHash     = "cluster.hash_path" // prefix and suffix together
	AlikePolicies = "cluster.policies"
)

// What is in Alike beside that.
const (
	AlikeKeys    = "cluster.key_file" // of storage nodes: which keys they have, as ids, in any order
	AlikeReclaim = "replicator.reclaim_age"
	AlikeSkew    = "storage.clock_skew"

	AlikeMetaCount = "limits.max_meta_count" // of proxies, proxy.limits.max_meta_count
	AlikeMetaSize  = "limits.max_meta_overall_size"

	AlikeFileSize = "proxy.limits.max_file_size"
	AlikeSecrets  = "auth.secrets" // in any order
	AlikeUsers    = "auth.users"
)

// Checksum is eight hexadecimal digits of all of it.
func (a Alike) Checksum() string {
	h := sha256.New()
	for _, key := range slices.Sorted(maps.Keys(a)) {
		h.Write(fmt.Appendf(nil, "%q %q\n", key, a[key]))
	}
	return hex.EncodeToString(h.Sum(nil)[:4])
}

// Alike is what must be alike of a storage node's file. Keys are the ids of the cluster's keys, none without.
func (c *Storage) Alike(keys []string) Alike {
	a := c.Cluster.alike()
	a[AlikeKeys] = cmp.Or(strings.Join(slices.Sorted(slices.Values(keys)), " "), "none")
	a[AlikeReclaim], a[AlikeSkew] = c.Replicator.ReclaimAge.D().String(), c.Server.ClockSkew.D().String()
	a[AlikeMetaCount], a[AlikeMetaSize] = strconv.Itoa(c.Limits.MaxMetaCount), strconv.Itoa(c.Limits.MaxMetaOverallSize)
	return a
}

// Alike is what must be alike of a proxy's file.
func (c *Proxy) Alike() Alike {
	a := c.Cluster.alike()
	l := c.Server.Limits
	a[AlikeMetaCount], a[AlikeMetaSize] = strconv.Itoa(l.MaxMetaCount), strconv.Itoa(l.MaxMetaOverallSize)
	a[AlikeFileSize] = strconv.FormatInt(int64(l.MaxFileSize), 10)
	var secrets []string
	for _, s := range c.Auth.Secrets {
		secrets = append(secrets, fingerprint(s, "auth.secrets"))
	}
	slices.Sort(secrets)
	a[AlikeSecrets] = cmp.Or(strings.Join(secrets, " "), "none")
	a[AlikeUsers] = fingerprint(c.Cluster.hashed(), users(c.Auth.Users)) // while secrets are replaced users stay the same
	return a
}

// users is all that is said of users, in an order that does not depend on that of the file.
func users(all []auth.User) string {
	lines := make([]string, len(all))
	for i := range all {
		u := &all[i]
		lines[i] = fmt.Sprintf("%q %q %q %q %q", u.Account, u.Name, u.Key, u.Groups, u.StorageURL)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// fingerprint is a digest of a text that is made with a secret.
func fingerprint(secret, text string) string {
	h := hmac.New(sha256.New, []byte(secret))
	h.Write([]byte("martlet: what must be alike\x00" + text))
	return hex.EncodeToString(h.Sum(nil)[:6])
}

func (c *Cluster) hashed() string { return c.HashPathPrefix + "\x00" + c.HashPathSuffix }

func (c *Cluster) alike() Alike {
	return Alike{
		AlikeName:     c.Name,
		AlikeHash:     fingerprint(c.hashed(), AlikeHash),
		AlikePolicies: c.policiesText(),
	}
}

// policiesText says what the policies are, in a form in which only what matters differs.
func (c *Cluster) policiesText() string {
	set, err := c.PolicySet()
	if err != nil {
		return err.Error() // the file was checked before
	}
	var all []string
	for _, p := range set.All() {
		text := fmt.Sprintf("%d %s", p.Index, strings.Join(append([]string{p.Name}, slices.Sorted(slices.Values(p.Aliases))...), "="))
		if p.Default {
			text += " default"
		}
		if p.Deprecated {
			text += " deprecated"
		}
		if p.Coded() {
			text += fmt.Sprintf(" %d+%d whole to %d", p.Data, p.Parity, p.WholeUpTo)
		}
		all = append(all, text)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}
