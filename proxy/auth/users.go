package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"martlet/internal/name"
)

// User is one user as configured.
type User struct {
	Account    string   `toml:"account"`     // "test", without the reseller's prefix
	Name       string   `toml:"user"`        // "tester"
	Key        string   `toml:"key"`         // the password
	Groups     []string `toml:"groups"`      // roles, and names for ACLs
	StorageURL string   `toml:"storage_url"` // "" is "$HOST/v1/AUTH_<account>"; $HOST is the scheme and host of the request
}

// String returns "account:user". The key is in no text that this makes.
func (u User) String() string { return u.Account + ":" + u.Name }

// GoString is String: %#v shows no key either.
func (u User) GoString() string { return u.String() }

// Users are the configured users. They do not change.
type Users struct {
	byName map[string]*entry
}

// entry is one user with what can be worked out beforehand.
type entry struct {
	user   User
	url    string // with $HOST in it, or absolute
	digest [sha256.Size]byte
	id     *Identity
}

// hostMark stands for scheme and host in a storage URL.
const hostMark = "$HOST"

// NewUsers checks the users. An error names the user, and what is wrong.
func NewUsers(list []User, rs Resellers) (*Users, error) {
	us := &Users{byName: make(map[string]*entry, len(list))}
	for i, u := range list {
		if err := check(u); err != nil {
			return nil, fmt.Errorf("user %d, %q: %w", i+1, u.String(), err)
		}
		if _, ok := us.byName[u.String()]; ok {
			return nil, fmt.Errorf("user %d, %q: there is such a user already", i+1, u.String())
		}
		e := &entry{user: u, url: u.StorageURL, digest: sha256.Sum256([]byte(u.Key))}
		if e.url == "" {
			e.url = hostMark + "/v1/" + name.Quote(rs.First()+u.Account)
		}
		account, err := accountOf(e.url)
		if err != nil {
			return nil, fmt.Errorf("user %d, %q: storage_url %q: %w", i+1, u.String(), e.url, err)
		}
		e.id = identify(u, account, rs)
		us.byName[u.String()] = e
	}
	return us, nil
}

func check(u User) error {
	if err := checkWord("account", u.Account, ":/,"); err != nil {
		return err
	}
	if err := checkWord("user", u.Name, ":,"); err != nil {
		return err
	}
	// The account is one of its users' groups: it must not read as a role.
	if u.Account[0] == '.' {
		return fmt.Errorf("account %q begins with a dot: such names are roles and internal accounts", u.Account)
	}
	if u.Key == "" {
		return fmt.Errorf("the key is empty")
	}
	for i, g := range u.Groups {
		if err := checkWord("group", g, ","); err != nil {
			return err
		}
		if g == listings {
			return fmt.Errorf("group %q is a word of ACLs", g)
		}
		if slices.Contains(u.Groups[:i], g) {
			return fmt.Errorf("group %q is there twice", g)
		}
	}
	return nil
}

// checkWord checks a name: not empty, UTF-8, no white space, no control
// characters, and none of the others that are not allowed.
func checkWord(what, word, without string) error {
	if word == "" {
		return fmt.Errorf("the name of the %s is empty", what)
	}
	if !utf8.ValidString(word) {
		return fmt.Errorf("%s %q is not UTF-8", what, word)
	}
	for _, c := range word {
		if unicode.IsSpace(c) || unicode.IsControl(c) || strings.ContainsRune(without, c) {
			return fmt.Errorf("%s %q has %q in it", what, word, c)
		}
	}
	return nil
}

// accountOf returns the account that a storage URL leads to: its last part.
func accountOf(url string) (string, error) {
	path, relative := strings.CutPrefix(url, hostMark)
	if !relative {
		_, rest, ok := strings.Cut(url, "://")
		slash := strings.IndexByte(rest, '/')
		if !ok || slash <= 0 {
			return "", fmt.Errorf("neither %s/v1/ACCOUNT nor SCHEME://HOST/v1/ACCOUNT", hostMark)
		}
		path = rest[slash:]
	}
	if err := checkWord("path", path, "?#"); err != nil {
		return "", err
	}
	account, err := name.Unquote(path[strings.LastIndexByte(path, '/')+1:])
	if err != nil {
		return "", err
	}
	if account == "" || path[0] != '/' {
		return "", fmt.Errorf("it names no account")
	}
	return account, nil
}

// identify works out what the groups of a user mean.
func identify(u User, account string, rs Resellers) *Identity {
	id := &Identity{User: u.String(), Account: account, Groups: []string{u.Account, u.String()}}
	for _, g := range u.Groups {
		switch g {
		case RoleAdmin:
			id.Owns = rs.accounts(u.Account)
			if !slices.Contains(id.Owns, account) {
				id.Owns = append(id.Owns, account)
			}
			continue // it stands for the accounts, which are names for ACLs themselves
		case RoleResellerAdmin:
			id.Reseller = true
		case RoleResellerReader:
			id.Reader = true
		}
		id.Groups = append(id.Groups, g)
	}
	id.Groups = append(id.Groups, id.Owns...)
	return id
}

// Len returns how many users there are.
func (us *Users) Len() int { return len(us.byName) }

// Lookup returns a user ("account:user") and their identity. It is for those who
// verify signatures made with the user's key.
func (us *Users) Lookup(user string) (User, *Identity, bool) {
	e, ok := us.byName[user]
	if !ok {
		return User{}, nil, false
	}
	return e.user, e.id, true
}

// nobody takes the part of a user who does not exist, so that both take as long.
var nobody = &entry{}

// check compares a key, in a time that does not depend on either.
func (us *Users) check(user, key string) (*entry, bool) {
	e, known := us.byName[user]
	if !known {
		e = nobody
	}
	got := sha256.Sum256([]byte(key))
	same := subtle.ConstantTimeCompare(got[:], e.digest[:]) == 1
	return e, same && known
}
