// Package limits is what a request may hold: Swift's constraints, their defaults,
// and the checks that enforce them.
//
// Each check takes the little it needs and returns nil or an error from
// internal/errs, whose kind gives the status that Swift answers with and whose
// public text says which limit was passed. All lengths are bytes of the UTF-8
// form, never characters. The package changes no request, and leaves to others
// what only the stored state can tell, such as the sum of an account's old and new
// metadata.
package limits

import (
	"fmt"
	"strings"

	"martlet/internal/conf"
	"martlet/internal/errs"
)

// Limits are the constraints of a cluster. Those of proxies and storage nodes
// should be the same.
type Limits struct {
	MaxFileSize             conf.Size `toml:"max_file_size"`              // bytes of one object
	MaxMetaNameLength       int       `toml:"max_meta_name_length"`       // bytes, without X-Object-Meta- and the like
	MaxMetaValueLength      int       `toml:"max_meta_value_length"`      // bytes
	MaxMetaCount            int       `toml:"max_meta_count"`             // names
	MaxMetaOverallSize      int       `toml:"max_meta_overall_size"`      // bytes of all names and values together
	MaxHeaderSize           int       `toml:"max_header_size"`            // bytes of one header value
	MaxRequestLine          int       `toml:"max_request_line"`           // bytes of the first line of a request
	MaxObjectNameLength     int       `toml:"max_object_name_length"`     // bytes
	MaxContainerNameLength  int       `toml:"max_container_name_length"`  // bytes
	MaxAccountNameLength    int       `toml:"max_account_name_length"`    // bytes
	ContainerListingLimit   int       `toml:"container_listing_limit"`    // rows in one answer
	AccountListingLimit     int       `toml:"account_listing_limit"`      // rows in one answer
	ExtraHeaderCount        int       `toml:"extra_header_count"`         // header fields beyond MaxMetaCount and Swift's own
	ValidAPIVersions        []string  `toml:"valid_api_versions"`         // the first part of a path
	AutoCreateAccountPrefix string    `toml:"auto_create_account_prefix"` // of internal accounts
}

// ownHeaders is how many header fields a request may have besides metadata.
const ownHeaders = 36

// Defaults returns Swift's.
func Defaults() Limits {
	return Limits{
		MaxFileSize:             5<<30 + 2,
		MaxMetaNameLength:       128,
		MaxMetaValueLength:      256,
		MaxMetaCount:            90,
		MaxMetaOverallSize:      4096,
		MaxHeaderSize:           8192,
		MaxRequestLine:          8192,
		MaxObjectNameLength:     1024,
		MaxContainerNameLength:  256,
		MaxAccountNameLength:    256,
		ContainerListingLimit:   10000,
		AccountListingLimit:     10000,
		ValidAPIVersions:        []string{"v1", "v1.0"},
		AutoCreateAccountPrefix: ".",
	}
}

// Validate checks the values themselves. An error names the key.
func (l Limits) Validate() error {
	for _, v := range []struct {
		key   string
		value int64
	}{
		{"max_file_size", int64(l.MaxFileSize)},
		{"max_meta_name_length", int64(l.MaxMetaNameLength)},
		{"max_meta_value_length", int64(l.MaxMetaValueLength)},
		{"max_meta_count", int64(l.MaxMetaCount)},
		{"max_meta_overall_size", int64(l.MaxMetaOverallSize)},
		{"max_header_size", int64(l.MaxHeaderSize)},
		{"max_request_line", int64(l.MaxRequestLine)},
		{"max_object_name_length", int64(l.MaxObjectNameLength)},
		{"max_container_name_length", int64(l.MaxContainerNameLength)},
		{"max_account_name_length", int64(l.MaxAccountNameLength)},
		{"container_listing_limit", int64(l.ContainerListingLimit)},
		{"account_listing_limit", int64(l.AccountListingLimit)},
	} {
		if v.value <= 0 {
			return fmt.Errorf("key %q: value %d: it must be at least 1", v.key, v.value)
		}
	}
	if l.ExtraHeaderCount < 0 {
		return fmt.Errorf("key %q: value %d: it is negative", "extra_header_count", l.ExtraHeaderCount)
	}
	if len(l.ValidAPIVersions) == 0 {
		return fmt.Errorf("key %q: there is no version", "valid_api_versions")
	}
	if p := l.AutoCreateAccountPrefix; p == "" || strings.Contains(p, "/") {
		return fmt.Errorf("key %q: value %q: it must not be empty nor hold a slash", "auto_create_account_prefix", p)
	}
	return nil
}

// MaxHeaderCount returns how many header fields a request may have.
func (l Limits) MaxHeaderCount() int { return l.MaxMetaCount + ownHeaders + l.ExtraHeaderCount }

// CheckAccount checks the name of an account, as it stands in a path or in
// X-Copy-From-Account: 412 where it is empty or holds a slash, 400 where it is
// too long.
func (l Limits) CheckAccount(name string) error {
	return checkName("Account", name, l.MaxAccountNameLength)
}

// CheckContainer checks the name of a container, with the same statuses.
func (l Limits) CheckContainer(name string) error {
	return checkName("Container", name, l.MaxContainerNameLength)
}

func checkName(what, name string, longest int) error {
	if name == "" {
		return errs.Refuse(errs.Precondition, "%s name cannot be empty", what)
	}
	if strings.Contains(name, "/") {
		return errs.Refuse(errs.Precondition, "%s name cannot contain slashes", what)
	}
	return checkLength(what, name, longest)
}

// CheckObject checks the name of an object that is to be written: 400 where it is
// too long. Any byte that a path can hold is legal in it.
func (l Limits) CheckObject(name string) error {
	return checkLength("Object", name, l.MaxObjectNameLength)
}

func checkLength(what, name string, longest int) error {
	if len(name) > longest {
		return errs.Refuse(errs.Invalid, "%s name length of %d longer than %d", what, len(name), longest)
	}
	return nil
}

// Listing returns how many rows a listing has at most: the limit parameter as
// sent, "" where it is not, and the configured maximum. What is not a number is
// ignored; more than the maximum is 412.
func Listing(limit string, maximum int) (int, error) {
	if limit == "" || !digits(limit) {
		return maximum, nil
	}
	n, ok := number(limit, int64(maximum))
	if !ok {
		return 0, errs.Refuse(errs.Precondition, "Maximum limit is %d", maximum)
	}
	return int(n), nil
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// number reads digits. It is false where they are more than most.
func number(s string, most int64) (int64, bool) {
	var n int64
	for i := range len(s) {
		d := int64(s[i] - '0')
		if n > (most-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, n <= most
}
