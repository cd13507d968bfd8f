package name

import (
	"strings"

	"martlet/internal/timestamp"
)

// versions begins the name of the hidden container in which the versions of the
// objects of another one are.
const versions = Reserved + "versions" + Reserved

// Versions returns the path of the hidden container that has the versions of the
// objects of p's container.
func (p Path) Versions() Path {
	return Path{Account: p.Account, Container: versions + p.Container}
}

// Version returns the path of one version of the object p. Later ones come first in
// the order of names. An offset of the time is left out.
func (p Path) Version(id timestamp.T) Path {
	v := p.Versions()
	v.Object = VersionPrefix(p.Object) + id.Inverted().String()
	return v
}

// VersionPrefix returns what the names of all versions of an object begin with.
func VersionPrefix(object string) string { return Reserved + object + Reserved }

// Versioned returns what p belongs to, if it is a hidden container of versions or a
// version in one: the container or the object as clients know it.
func (p Path) Versioned() (of Path, ok bool) {
	of.Account = p.Account
	if of.Container, ok = VersionedContainer(p.Container); !ok || p.Object == "" {
		return of, ok
	}
	of.Object, _, ok = ParseVersion(p.Object)
	return of, ok
}

// VersionedContainer returns of which container one by this name has the versions.
func VersionedContainer(container string) (of string, ok bool) {
	of, ok = strings.CutPrefix(container, versions)
	return of, ok && of != ""
}

// ParseVersion takes the name of a version apart: the name of the object, and the time
// that tells this version from others.
func ParseVersion(object string) (of string, id timestamp.T, ok bool) {
	rest, ok := strings.CutPrefix(object, Reserved)
	at := strings.LastIndex(rest, Reserved)
	if !ok || at <= 0 {
		return "", timestamp.T{}, false
	}
	id, err := timestamp.Parse(rest[at+1:])
	if err != nil || id.String() != rest[at+1:] || id.Offset() != 0 {
		return "", timestamp.T{}, false // not the one form that it has
	}
	return rest[:at], id.Inverted(), true
}

// placement is how many bytes of a hash decide about a place: no ring has more than
// 2^32 partitions.
const placement = 4
