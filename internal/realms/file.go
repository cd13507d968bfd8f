package realms

import (
	"fmt"
	"strings"

	"martlet/internal/errs"
)

// Parse reads a file of Swift's form: a section for each realm, with key, key2 and
// cluster_NAME. What is in the section DEFAULT is in all of them, as there. Options
// that say nothing here, such as mtime_check_interval, are passed over. The error
// names the line and shows no secrets.
func Parse(text string) (map[string]Realm, error) {
	all := map[string]Realm{}
	var shared []option
	section, inSection := "", false
	for i, line := range strings.Split(text, "\n") {
		bad := func(why string) error {
			return errs.E(errs.Op("realms.parse"), errs.Invalid, fmt.Errorf("line %d: %s", i+1, why))
		}
		text := strings.TrimSpace(line)
		switch {
		case text == "" || text[0] == '#' || text[0] == ';':
			continue
		case text[0] == '[':
			if text[len(text)-1] != ']' || len(text) == 2 {
				return nil, bad("a section is not closed, or has no name")
			}
			section, inSection = text[1:len(text)-1], true
			if _, twice := all[strings.ToUpper(section)]; twice {
				return nil, bad("there is such a section already")
			}
			if section != "DEFAULT" {
				all[strings.ToUpper(section)] = Realm{Clusters: map[string]string{}}
			}
			continue
		case line[0] == ' ' || line[0] == '\t':
			return nil, bad("values of several lines are not understood")
		case !inSection:
			return nil, bad("it is in no section")
		}
		at := strings.IndexAny(text, "=:")
		if at <= 0 {
			return nil, bad("it has no equals sign")
		}
		o := option{strings.ToLower(strings.TrimSpace(text[:at])), strings.ReplaceAll(strings.TrimSpace(text[at+1:]), "%%", "%")}
		if section == "DEFAULT" {
			shared = append(shared, o)
			continue
		}
		n := strings.ToUpper(section)
		all[n] = o.in(all[n])
	}
	for n, r := range all {
		own := r
		r = Realm{Clusters: map[string]string{}}
		for _, o := range shared {
			r = o.in(r)
		}
		if own.Key != "" {
			r.Key = own.Key
		}
		if own.Key2 != "" {
			r.Key2 = own.Key2
		}
		for c, at := range own.Clusters {
			r.Clusters[c] = at
		}
		if err := r.validate(n); err != nil {
			return nil, err
		}
		all[n] = r
	}
	return all, nil
}

// option is one line of a section.
type option struct{ key, value string }

// in returns a realm with the option in it.
func (o option) in(r Realm) Realm {
	switch cluster, is := strings.CutPrefix(o.key, "cluster_"); {
	case o.key == "key":
		r.Key = o.value
	case o.key == "key2":
		r.Key2 = o.value
	case is:
		r.Clusters[strings.ToUpper(cluster)] = o.value
	}
	return r
}
