// Package realms is what clusters that sync containers with each other agree on:
// realms, each with a secret key and the addresses of its clusters, the signature of
// a request from one cluster to another, and what X-Container-Sync-To may say.
//
// The facts are Swift's, so that one side may be a Swift cluster. Realms are in the
// configuration, or in a file of Swift's form, or both.
package realms

import (
	"crypto/hmac"
	"crypto/sha1" // of the protocol
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"martlet/internal/errs"
	"martlet/internal/name"
)

// Config is what an operator may set.
type Config struct {
	// File is one of Swift's form (container-sync-realms.conf); empty is none. It is
	// read again when it has changed.
	File string `toml:"realms_file"`
	// Realms are those of the configuration itself, by name.
	Realms map[string]Realm `toml:"realms"`
	// AllowedHosts are the hosts of which a whole URL may be given as where to sync to,
	// without a realm.
	AllowedHosts []string `toml:"allowed_hosts"`
}

// Defaults has no realms, and no hosts.
func Defaults() Config { return Config{} }

// Realm is one realm. Names of realms and clusters have no case: they are kept in
// upper case.
type Realm struct {
	Key  string `toml:"key"`  // signs, and is accepted
	Key2 string `toml:"key2"` // is accepted, so that a key can be replaced; "" is none

	// Clusters are the addresses by name: of the API with its version, as
	// "https://host/v1".
	Clusters map[string]string `toml:"clusters"`
}

// recheck is how often it is looked whether the file has changed.
const recheck = 15 * time.Second

// A Book is the realms that a process knows. It is safe for concurrent use.
type Book struct {
	cfg Config
	log *slog.Logger
	now func() time.Time

	mu      sync.Mutex
	all     map[string]Realm // guarded by mu; not changed once it is there
	checked time.Time        // guarded by mu
	as      stat             // of the file as it was read last; guarded by mu
}

// stat tells one state of a file from another.
type stat struct {
	modified time.Time
	size     int64
}

// New reads the realms of a configuration. The error says what is wrong with them.
// A file that is not there, or can't be read, is told to log (nil is none), and what was
// known before stays.
func New(cfg Config, log *slog.Logger) (*Book, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	b := &Book{cfg: cfg, log: log, now: time.Now}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	b.all = b.with(nil)
	return b, nil
}

// Validate says what is wrong with the realms that are in the configuration itself.
func (c Config) Validate() error {
	for n, r := range c.Realms {
		if err := r.validate(n); err != nil {
			return err
		}
	}
	return nil
}

func (r Realm) validate(n string) error {
	if n == "" || strings.ContainsAny(n, "/ \t") {
		return errs.Refuse(errs.Invalid, "realm %q: a name has no slash and no space in it", n)
	}
	for of, at := range r.Clusters {
		u, err := url.Parse(at)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return errs.Refuse(errs.Invalid, "realm %q, cluster %q: %q is not an address such as \"https://host/v1\"", n, of, at)
		}
	}
	return nil
}

// with is the realms of the configuration and others, over which the first win.
func (b *Book) with(of map[string]Realm) map[string]Realm {
	all := map[string]Realm{}
	for _, from := range []map[string]Realm{of, b.cfg.Realms} {
		for n, r := range from {
			clusters := map[string]string{}
			for c, at := range r.Clusters {
				clusters[strings.ToUpper(c)] = at
			}
			all[strings.ToUpper(n)] = Realm{r.Key, r.Key2, clusters}
		}
	}
	return all
}

// realms returns all of them, as the file says now or did a moment ago.
func (b *Book) realms() map[string]Realm {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	if b.cfg.File == "" || !b.checked.IsZero() && now.Sub(b.checked) < recheck && !now.Before(b.checked) {
		return b.all
	}
	b.checked = now
	if err := b.read(); err != nil {
		b.log.Error("the realms of container sync could not be read", "file", b.cfg.File, "err", err)
	}
	return b.all
}

// read reads the file if it is another than before. It is called with mu held.
func (b *Book) read() error {
	fi, err := os.Stat(b.cfg.File)
	if err != nil {
		return err
	}
	as := stat{fi.ModTime(), fi.Size()}
	if as == b.as {
		return nil
	}
	text, err := os.ReadFile(b.cfg.File)
	if err != nil {
		return err
	}
	of, err := Parse(string(text))
	if err != nil {
		b.as = as // it is told of once
		return err
	}
	b.all, b.as = b.with(of), as
	return nil
}

// Realm returns a realm of any case that has a key.
func (b *Book) Realm(n string) (Realm, bool) {
	r, ok := b.realms()[strings.ToUpper(n)]
	return r, ok && r.Key != ""
}

// Section is what /info says. current is the realm and the cluster of this one, as
// "//REALM/CLUSTER"; "" is not said.
func (b *Book) Section(current string) map[string]any {
	realm, cluster, _ := strings.Cut(strings.ToUpper(strings.Trim(current, "/")), "/")
	all := map[string]any{}
	for n, r := range b.realms() {
		clusters := map[string]any{}
		for c := range r.Clusters {
			clusters[c] = map[string]any{}
			if n == realm && c == cluster {
				clusters[c] = map[string]any{"current": true}
			}
		}
		if len(clusters) > 0 {
			all[n] = map[string]any{"clusters": clusters}
		}
	}
	return map[string]any{"realms": all}
}

// Target is where a container is synced to.
type Target struct {
	Container *url.URL // of the container there
	Realm     string   // in upper case; "" is none: the container's own key goes with each request
	Key       string   // of the realm
}

// Check reads a value of X-Container-Sync-To: //realm/cluster/account/container, or
// the URL of a container on one of the allowed hosts. What it can't be is of kind
// errs.Invalid, in Swift's words.
func (b *Book) Check(value string) (Target, error) {
	bare := strings.TrimRight(value, "/")
	if rest, ok := strings.CutPrefix(bare, "//"); ok {
		return b.inRealm(value, strings.Split(rest, "/"))
	}
	u, err := url.Parse(bare)
	if err != nil {
		return Target{}, errs.Refuse(errs.Invalid, "Invalid X-Container-Sync-To format '%s'", value)
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return Target{}, errs.Refuse(errs.Invalid, `Invalid scheme '%s' in X-Container-Sync-To, must be "//", "http", or "https".`, u.Scheme)
	case u.Path == "":
		return Target{}, errs.Refuse(errs.Invalid, "Path required in X-Container-Sync-To")
	case strings.ContainsAny(bare, ";?#"):
		return Target{}, errs.Refuse(errs.Invalid, "Params, queries, and fragments not allowed in X-Container-Sync-To")
	case u.User != nil, !slices.Contains(b.cfg.AllowedHosts, u.Hostname()): // a name before the host is there to hide it
		return Target{}, errs.Refuse(errs.Invalid, "Invalid host '%s' in X-Container-Sync-To", u.Hostname())
	}
	return Target{Container: u}, nil
}

func (b *Book) inRealm(value string, parts []string) (Target, error) {
	bad := errs.Refuse(errs.Invalid, "Invalid X-Container-Sync-To format '%s'", value)
	if len(parts) != 4 {
		return Target{}, bad
	}
	realm, cluster := strings.ToUpper(parts[0]), strings.ToUpper(parts[1])
	r, ok := b.Realm(realm)
	if !ok {
		return Target{}, errs.Refuse(errs.Invalid, "No realm key for '%s'", parts[0])
	}
	at := r.Clusters[cluster]
	if at == "" {
		return Target{}, errs.Refuse(errs.Invalid, "No cluster endpoint for '%s' '%s'", parts[0], parts[1])
	}
	p, err := name.Parse("/" + parts[2] + "/" + parts[3])
	if err != nil || p.Container == "" {
		return Target{}, bad
	}
	u, err := url.Parse(strings.TrimRight(at, "/") + p.Quoted())
	if err != nil {
		return Target{}, bad
	}
	return Target{Container: u, Realm: realm, Key: r.Key}, nil
}

// Object is the URL of an object in the container.
func (t Target) Object(object string) *url.URL {
	u := *t.Container
	u.Path += "/" + object
	u.RawPath = t.Container.EscapedPath() + "/" + name.Quote(object)
	return &u
}

// ID tells targets apart: another one begins anew.
func (t Target) ID() (id [16]byte) {
	sum := sha256.Sum256([]byte("container sync to " + t.Container.String()))
	copy(id[:], sum[:])
	return id
}

// Header is the fields by which the other cluster knows a request for its own kind:
// what is signed is the method, the path of the URL, the stamp, which goes with it as X-Timestamp,
// a nonce, and the key of the container.
func (t Target) Header(method string, u *url.URL, stamp, nonce, containerKey string) (field, value string) {
	if t.Realm == "" {
		return "X-Container-Sync-Key", containerKey
	}
	return "X-Container-Sync-Auth", t.Realm + " " + nonce + " " + Sign(method, u.EscapedPath(), stamp, nonce, t.Key, containerKey)
}

// Sign returns the signature of a request in hexadecimal digits.
func Sign(method, path, stamp, nonce, realmKey, containerKey string) string {
	m := hmac.New(sha1.New, []byte(realmKey))
	_, _ = fmt.Fprintf(m, "%s\n%s\n%s\n%s\n%s", method, path, stamp, nonce, containerKey) // never fails
	return hex.EncodeToString(m.Sum(nil))
}

// Signed reports whether a signature is good by either key of the realm.
func (r Realm) Signed(signature, method, path, stamp, nonce, containerKey string) bool {
	ok := false
	for _, key := range []string{r.Key, r.Key2} {
		ok = key != "" && hmac.Equal([]byte(signature), []byte(Sign(method, path, stamp, nonce, key, containerKey))) || ok
	}
	return ok
}

// Names returns the names of the realms, in order.
func (b *Book) Names() []string { return slices.Sorted(maps.Keys(b.realms())) }
