package auth

import (
	"slices"
	"strings"

	"martlet/internal/errs"
)

// A container's ACL is a list of items with commas between them: names of groups
// (an account, "account:user", an owned account such as AUTH_test, any other
// group), and rules about the Referer header, ".r:" with a host, a domain
// (".example.com") or "*", and a "-" before it to deny. Rules about the referrer
// apply in order, and the last that fits wins. They open objects; ".rlistings"
// opens the listing as well to those whom they let in.

const (
	referrerMark = ".r:"
	listings     = ".rlistings"
	noReferrer   = "unknown" // the host of a request without Referer
	space        = " \t\n\v\f\r\x1c\x1d\x1e\x1f"
)

// CleanACL checks the value of X-Container-Read or X-Container-Write and returns
// the form in which it is stored: no spaces, no empty items, ".r:" for its longer
// spellings. What is malformed, and a referrer rule for writing, is of kind
// errs.Invalid, with a message for the client. Cleaning again changes nothing.
func CleanACL(header, value string) (string, error) {
	write := strings.Contains(strings.ToLower(header), "write")
	var b strings.Builder
	b.Grow(len(value))
	for item := range strings.SplitSeq(value, ",") {
		item = strings.Trim(item, space)
		if item == "" {
			continue
		}
		clean, err := cleanItem(item, write)
		if err != nil {
			return "", err
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(clean)
	}
	return b.String(), nil
}

func cleanItem(item string, write bool) (string, error) {
	first, host, ok := strings.Cut(item, ":")
	first, host = strings.Trim(first, space), strings.Trim(host, space)
	if !ok || !strings.HasPrefix(first, ".") {
		return item, nil
	}
	switch first {
	case ".r", ".ref", ".referer", ".referrer":
	default:
		return "", errs.Refuse(errs.Invalid, "Unknown designator %.100q in ACL: %.100q", first, item)
	}
	if write {
		return "", errs.Refuse(errs.Invalid, "Referrers not allowed in write ACL: %.100q", item)
	}
	deny := ""
	if rest, ok := strings.CutPrefix(host, "-"); ok {
		deny, host = "-", strings.Trim(rest, space)
	}
	if rest, ok := strings.CutPrefix(host, "*"); ok && rest != "" {
		// "*.example.com" is ".example.com". What would read as a sign once the
		// star is gone is refused: cleaned again, it would mean something else, a
		// second star even that all may read.
		host = strings.Trim(rest, space)
		if strings.HasPrefix(host, "*") || strings.HasPrefix(host, "-") {
			return "", errs.Refuse(errs.Invalid, "%.1q after * in referrer designation in ACL: %.100q", host, item)
		}
	}
	if host == "" || host == "." {
		return "", errs.Refuse(errs.Invalid, "No host/domain value after referrer designation in ACL: %.100q", item)
	}
	return referrerMark + deny + host, nil
}

// ACL is a container's ACL, ready to be asked. It does not change. A nil *ACL
// allows nothing.
type ACL struct {
	referrers []referrer
	groups    []string
	listings  bool
}

// referrer is one rule about the host of the Referer header.
type referrer struct {
	host string // a host, ".domain", or "*" where it allows
	deny bool
}

// ParseACL reads a stored ACL, in the form of CleanACL; what is not in that form
// is taken as names that nobody has. An empty one is nil.
func ParseACL(stored string) *ACL {
	if stored == "" {
		return nil
	}
	a := &ACL{}
	for item := range strings.SplitSeq(stored, ",") {
		if host, ok := strings.CutPrefix(item, referrerMark); ok {
			host, deny := strings.CutPrefix(host, "-")
			a.referrers = append(a.referrers, referrer{host, deny})
			continue
		}
		group := unquoteLoose(item)
		a.groups = append(a.groups, group)
		a.listings = a.listings || group == listings
	}
	return a
}

// Referrer reports whether the ACL lets requests with this Referer header read
// objects.
func (a *ACL) Referrer(referer string) bool {
	if a == nil || len(a.referrers) == 0 {
		return false
	}
	host, allowed := refererHost(referer), false
	for _, r := range a.referrers {
		if r.fits(host) {
			allowed = !r.deny
		}
	}
	return allowed
}

func (r referrer) fits(host string) bool {
	return r.host == host || r.host == "*" && !r.deny ||
		strings.HasPrefix(r.host, ".") && strings.HasSuffix(host, r.host)
}

// Grants reports whether the ACL names one of the groups.
func (a *ACL) Grants(groups []string) bool {
	if a == nil {
		return false
	}
	return slices.ContainsFunc(a.groups, func(g string) bool { return g != "" && slices.Contains(groups, g) })
}

// Listings reports whether those whom a referrer rule lets in may list.
func (a *ACL) Listings() bool { return a != nil && a.listings }

func (a *ACL) allows(id *Identity, rq Request) bool {
	if a == nil {
		return false
	}
	if (rq.Path.Object != "" || a.listings) && a.Referrer(rq.Referer) {
		return true
	}
	return id != nil && a.Grants(id.Groups)
}

// unquoteLoose decodes percent-encoding and leaves what is none as it is: ACLs
// are written with and without it.
func unquoteLoose(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]) {
			b = append(b, fromHex(s[i+1])<<4|fromHex(s[i+2]))
			i += 2
			continue
		}
		b = append(b, s[i])
	}
	return string(b)
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func fromHex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&^0x20 - 'A' + 10
}
