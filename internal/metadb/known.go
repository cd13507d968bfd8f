package metadb

import (
	"bytes"
	"encoding/binary"
)

// Known is what another replica is known to have: all rows of this database up to
// a change number.
type Known struct {
	Ours   uint64 // the change number
	Theirs uint64 // that of the other's latest change when this was learnt
}

const (
	knownVersion = 1

	// maxKnown is how many other replicas are remembered; those that are furthest
	// behind make room.
	maxKnown = 16
)

var prefixKnown = []byte("known-")

func knownKey(peer ID) []byte { return append(bytes.Clone(prefixKnown), peer[:]...) }

// syncs returns what is known of other replicas, by their incarnations.
func (t *Tx) syncs() (map[ID]Known, error) {
	all := map[ID]Known{}
	c := t.infob.Cursor()
	for k, v := c.Seek(prefixKnown); bytes.HasPrefix(k, prefixKnown); k, v = c.Next() {
		raw, err := unseal(k, v)
		if err != nil {
			return nil, corrupt(err)
		}
		if len(k) != len(prefixKnown)+len(ID{}) {
			return nil, corrupt(ErrDecode)
		}
		if err := checkVersion(raw, 17, knownVersion); err != nil {
			return nil, corrupt(err)
		}
		all[ID(k[len(prefixKnown):])] = Known{binary.BigEndian.Uint64(raw[1:]), binary.BigEndian.Uint64(raw[9:])}
	}
	return all, nil
}

// Known returns what the replica of an incarnation is known to have; the zero
// Known if nothing.
func (t *Tx) Known(peer ID) (Known, error) {
	all, err := t.syncs()
	return all[peer], err
}

// SetKnown remembers what the replica of an incarnation is known to have, as
// durably as the rows.
func (t *Tx) SetKnown(peer ID, k Known) error {
	all, err := t.syncs()
	if err != nil {
		return err
	}
	if _, ok := all[peer]; !ok && len(all) >= maxKnown {
		last := ID{}
		least := ^uint64(0)
		for id, k := range all {
			if k.Ours <= least {
				last, least = id, k.Ours
			}
		}
		t.touch = true
		if err := t.infob.Delete(knownKey(last)); err != nil {
			return err
		}
	}
	key := knownKey(peer)
	return t.put(t.infob, key, seal(key, appendSync(nil, k)))
}

func appendSync(b []byte, k Known) []byte {
	b = binary.BigEndian.AppendUint64(append(b, knownVersion), k.Ours)
	return binary.BigEndian.AppendUint64(b, k.Theirs)
}
