package ringpush

import (
	"martlet/internal/errs"
	"martlet/ring"
)

// judge returns why a ring may not take the place of one in use, which says something else; nil
// where it may.
func judge(name string, now Running, next *ring.Ring, is Running, all map[string]*ring.Ring, digests map[string]string) error {
	switch {
	case is.Version < now.Version:
		return errs.Refuse(errs.Stale, "version %d of the %s ring is older than the one in use, version %d", is.Version, name, now.Version)
	case is.Version == now.Version:
		return errs.Refuse(errs.Conflict, "version %d of the %s ring is in use and says something else: one of the two was made by another builder, or by an old copy of it", is.Version, name)
	case is.PartPower < now.PartPower:
		return errs.Refuse(errs.Conflict, "the %s ring has part power %d, and the one in use %d: it is never lowered", name, is.PartPower, now.PartPower)
	}
	return judgeKind(name, next, is, all, digests)
}

// judgeKind returns why a ring seems to be that of something else than its name says, nil where it
// does not. A ring file does not say what it is of; but each kind has servers of its own, whose
// addresses are in it, and rings of one cluster have some of them in common.
func judgeKind(name string, next *ring.Ring, is Running, all map[string]*ring.Ring, digests map[string]string) error {
	if shared(next, all[name]) {
		for other, digest := range digests {
			if other != name && digest == is.Digest && digest != digests[name] {
				return errs.Refuse(errs.Conflict, "what is to be the %s ring is the %s ring that is in use", name, other)
			}
		}
		return nil
	}
	for other, r := range all {
		if other != name && shared(next, r) {
			return errs.Refuse(errs.Conflict, "what is to be the %s ring has the servers of the %s ring, and none of the %s ring in use", name, other, name)
		}
	}
	return errs.Refuse(errs.Conflict, "the %s ring has no server in common with the one in use: it is of another cluster, or every address has changed at once, and then it has to be copied to rings.folder by hand", name)
}

// shared reports whether two rings have a server in common.
func shared(a, b *ring.Ring) bool {
	of := map[string]bool{}
	for d := range b.Devices() {
		of[d.Addr()] = true
	}
	for d := range a.Devices() {
		if of[d.Addr()] {
			return true
		}
	}
	return false
}
