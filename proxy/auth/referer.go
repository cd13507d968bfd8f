package auth

import "strings"

// refererHost returns the host of a Referer header in lower case, and "unknown"
// where there is none: what ACLs are compared with. It reads URLs as leniently
// as browsers write them: anything with "//" and a host behind it.
func refererHost(referer string) string {
	s := strings.TrimLeftFunc(referer, func(c rune) bool { return c <= ' ' })
	if strings.ContainsAny(s, "\t\r\n") {
		s = strings.NewReplacer("\t", "", "\r", "", "\n", "").Replace(s)
	}
	if i := strings.IndexByte(s, ':'); i > 0 && isScheme(s[:i]) {
		s = s[i+1:]
	}
	authority, ok := strings.CutPrefix(s, "//")
	if !ok {
		return noReferrer
	}
	if i := strings.IndexAny(authority, "/?#"); i >= 0 {
		authority = authority[:i]
	}
	if strings.Contains(authority, "[") != strings.Contains(authority, "]") {
		return noReferrer
	}
	host := authority[strings.LastIndexByte(authority, '@')+1:]
	if _, bracketed, ok := strings.Cut(host, "["); ok {
		host, _, _ = strings.Cut(bracketed, "]")
	} else {
		host, _, _ = strings.Cut(host, ":")
	}
	if host == "" {
		return noReferrer
	}
	return lower(host)
}

func isScheme(s string) bool {
	if c := s[0] | 0x20; c < 'a' || c > 'z' {
		return false
	}
	for _, c := range []byte(s) {
		if !wordByte(c) && c != '+' && c != '.' || c == '_' {
			return false
		}
	}
	return true
}

// lower lowers the ASCII letters. The zone of an IPv6 address keeps its case.
func lower(host string) string {
	name, zone, ok := strings.Cut(host, "%")
	b := []byte(name)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	if ok {
		b = append(append(b, '%'), zone...)
	}
	return string(b)
}
