package auth

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"martlet/internal/errs"
	"martlet/internal/name"
)

// Resellers are the prefixes of the accounts that this cluster's users and ACLs
// speak for: AUTH_ in AUTH_test. An account with none of them is closed to
// everybody.
type Resellers struct {
	prefixes []string          // each "" or with an underscore at its end
	groups   map[string]string // by prefix: what an owner must have besides
}

// NewResellers checks prefixes, each written with or without the underscore at
// its end: letters, digits, "-" and "_". The empty one fits every account. None
// at all is the empty one.
func NewResellers(prefixes []string) (Resellers, error) {
	var rs Resellers
	for _, p := range prefixes {
		for _, c := range []byte(p) {
			if !wordByte(c) {
				return Resellers{}, fmt.Errorf("reseller prefix %q has %q in it: letters, digits, dashes and underscores only", p, c)
			}
		}
		if p != "" && !strings.HasSuffix(p, "_") {
			p += "_"
		}
		if slices.Contains(rs.prefixes, p) {
			return Resellers{}, fmt.Errorf("reseller prefix %q is there twice", p)
		}
		rs.prefixes = append(rs.prefixes, p)
	}
	if len(rs.prefixes) == 0 {
		rs.prefixes = []string{""}
	}
	return rs, nil
}

// Require returns the resellers with groups that owners of the accounts of a prefix
// must have besides: those of a service, whose accounts nobody but it gets into,
// and it only for the user whose token it has. Prefixes are written as in
// NewResellers.
func (rs Resellers) Require(groups map[string]string) (Resellers, error) {
	rs.groups = make(map[string]string, len(groups))
	for p, g := range groups {
		full := p
		if p != "" && !strings.HasSuffix(p, "_") {
			full += "_"
		}
		if !slices.Contains(rs.prefixes, full) {
			return Resellers{}, fmt.Errorf("group %q is required of reseller prefix %q, which is none of those that there are", g, p)
		}
		if err := checkWord("group", g, ","); err != nil {
			return Resellers{}, err
		}
		rs.groups[full] = g
	}
	return rs, nil
}

// admits reports whether an owner has what the prefix of an account requires.
func (rs Resellers) admits(id *Identity, prefix string) bool {
	g := rs.groups[prefix]
	return g == "" || slices.Contains(id.Groups, g)
}

func wordByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// First returns the prefix of accounts that name none, with its underscore.
func (rs Resellers) First() string {
	if len(rs.prefixes) == 0 {
		return ""
	}
	return rs.prefixes[0]
}

// Prefix returns the prefix that an account has, and false where it has none of
// them.
func (rs Resellers) Prefix(account string) (string, bool) {
	for _, p := range rs.prefixes {
		if p != "" && strings.HasPrefix(account, p) {
			return p, true
		}
	}
	return "", slices.Contains(rs.prefixes, "")
}

// accounts returns the name of an account under each prefix but the empty one.
func (rs Resellers) accounts(account string) []string {
	var list []string
	for _, p := range rs.prefixes {
		if p != "" {
			list = append(list, p+account)
		}
	}
	return list
}

// Access says which of a container's ACLs can allow a request.
type Access uint8

// The values of Access.
const (
	AccessNone  Access = iota // none: an account, or a change of a container itself
	AccessRead                // X-Container-Read
	AccessWrite               // X-Container-Write
)

// AccessFor returns which ACL of its container speaks about a request. A COPY is
// judged as the GET and the PUT that it is made of.
func AccessFor(method string, p name.Path) Access {
	switch method {
	case http.MethodGet, http.MethodHead:
		if p.Container != "" {
			return AccessRead
		}
	case http.MethodPut, http.MethodPost, http.MethodDelete:
		if p.Object != "" {
			return AccessWrite
		}
	}
	return AccessNone
}

// Request is what Authorize has to know of a request.
type Request struct {
	Method     string
	Path       name.Path
	Referer    string
	ACL        *ACL        // that of the container which AccessFor chooses; nil: none
	AccountACL *AccountACL // that of the account; nil: none
}

var (
	errAnonymous = errs.E(errs.Op("auth.authorize"), errs.Unauthorized)
	errForbidden = errs.E(errs.Op("auth.authorize"), errs.Forbidden)
)

// Authorize decides whether somebody (nil: anonymous) may make a request. The
// error is of kind errs.Unauthorized for the anonymous and errs.Forbidden for
// others. An owner may see and set what only owners do: ACLs, keys, quotas.
//
// ACLs only ever add to what is allowed. So a caller can ask without them first,
// which settles every request of an owner, and fetch them only after a refusal.
func (rs Resellers) Authorize(id *Identity, rq Request) (owner bool, err error) {
	account := rq.Path.Account
	prefix, ours := rs.Prefix(account)
	if !ours || account == "" {
		return false, denied(id)
	}
	accountLevel := rq.Path.Container == ""
	manages := accountLevel && (rq.Method == http.MethodPut || rq.Method == http.MethodDelete)
	reads := rq.Method == http.MethodGet || rq.Method == http.MethodHead
	// Bare prefixes and accounts such as AUTH_.name are nobody's.
	rest := account[len(prefix):]
	named := rest != "" && rest[0] != '.'
	switch {
	case id != nil && id.Reseller && named:
		return true, nil
	case id.Owner(account) && !manages && rs.admits(id, prefix):
		return true, nil
	case id != nil && id.Reader && named && reads:
		return false, nil
	case rq.Method == http.MethodOptions:
		return false, nil
	case rq.ACL.allows(id, rq):
		return false, nil
	case rq.AccountACL == nil || id == nil:
		return false, denied(id)
	case id.named(rq.AccountACL.Admin):
		return true, nil
	case id.named(rq.AccountACL.ReadWrite) && (!accountLevel || reads):
		return false, nil
	case id.named(rq.AccountACL.ReadOnly) && reads:
		return false, nil
	}
	return false, denied(id)
}

func denied(id *Identity) error {
	if id == nil {
		return errAnonymous
	}
	return errForbidden
}
