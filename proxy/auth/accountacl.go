package auth

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"martlet/internal/errs"
)

// AccountACL is an account's ACL, the value of X-Account-Access-Control: who may
// do what in all of the account. A name is that of a group, as in a container's
// ACL, and no name is special.
type AccountACL struct {
	Admin     []string // may do all that an owner may, and more: delete the account
	ReadWrite []string // may read the account, and all in containers and objects
	ReadOnly  []string // may read all, but not what only owners see
}

// The keys of the JSON form, sorted.
var accountACLKeys = []string{"admin", "read-only", "read-write"}

// CleanAccountACL checks the value of X-Account-Access-Control and returns the
// form in which it is stored and shown: JSON in ASCII, its keys sorted, without
// spaces; "" for a value that says nothing. What is malformed is of kind
// errs.Invalid, with a message for the client.
func CleanAccountACL(value string) (string, error) {
	lists, err := parseAccountACL(value)
	if err != nil {
		return "", errs.Refuse(errs.Invalid, "X-Account-Access-Control invalid: %v\n\nInput: %.1000q\n", err, value)
	}
	if len(lists) == 0 {
		return "", nil
	}
	b := []byte{'{'}
	for _, key := range accountACLKeys {
		list, ok := lists[key]
		if !ok {
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), key...), `":[`...)
		for i, s := range list {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendASCII(b, s)
		}
		b = append(b, ']')
	}
	return string(append(b, '}')), nil
}

// ParseAccountACL reads a stored ACL. One that is empty, that names nobody, or
// that is not in the form of CleanAccountACL is nil: it allows nothing.
func ParseAccountACL(stored string) *AccountACL {
	if stored == "" {
		return nil
	}
	lists, err := parseAccountACL(stored)
	if err != nil {
		return nil
	}
	a := &AccountACL{Admin: lists["admin"], ReadWrite: lists["read-write"], ReadOnly: lists["read-only"]}
	if len(a.Admin)+len(a.ReadWrite)+len(a.ReadOnly) == 0 {
		return nil
	}
	return a
}

func parseAccountACL(value string) (map[string][]string, error) {
	if value == "" {
		return nil, nil // it says nothing
	}
	var raw map[string]json.RawMessage
	if !utf8.ValidString(value) || json.Unmarshal([]byte(value), &raw) != nil || raw == nil {
		return nil, fmt.Errorf("Syntax error in input (%.1000q)", value) //nolint:staticcheck // Swift's words
	}
	for key := range raw {
		if !slices.Contains(accountACLKeys, key) {
			return nil, fmt.Errorf("Key %.100q not recognized", key) //nolint:staticcheck // Swift's words
		}
	}
	lists := make(map[string][]string, len(raw))
	for _, key := range accountACLKeys {
		text, ok := raw[key]
		if !ok {
			continue
		}
		var items []json.RawMessage
		if !strings.HasPrefix(string(text), "[") || json.Unmarshal(text, &items) != nil {
			return nil, fmt.Errorf("Value for key %q must be a list", key) //nolint:staticcheck // Swift's words
		}
		list := make([]string, len(items))
		for i, item := range items {
			if !strings.HasPrefix(string(item), `"`) || json.Unmarshal(item, &list[i]) != nil {
				return nil, fmt.Errorf("Elements of %q list must be strings", key) //nolint:staticcheck // Swift's words
			}
		}
		lists[key] = list
	}
	return lists, nil
}

// appendASCII appends a JSON string in which all that is not ASCII is escaped:
// not every client reads UTF-8 in a header.
func appendASCII(b []byte, s string) []byte {
	b = append(b, '"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', byte(c))
		case c == '\n':
			b = append(b, `\n`...)
		case c == '\r':
			b = append(b, `\r`...)
		case c == '\t':
			b = append(b, `\t`...)
		case c == '\b':
			b = append(b, `\b`...)
		case c == '\f':
			b = append(b, `\f`...)
		case ' ' <= c && c <= '~':
			b = append(b, byte(c))
		case c > 0xffff:
			hi, lo := utf16.EncodeRune(c)
			b = fmt.Appendf(b, `\u%04x\u%04x`, hi, lo)
		default:
			b = fmt.Appendf(b, `\u%04x`, c)
		}
	}
	return append(b, '"')
}
