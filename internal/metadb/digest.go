package metadb

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"

	"martlet/internal/policy"
)

// A Digest stands for all that replicas of a database must agree on: what it
// knows of itself without the incarnation, metadata, and rows, the dead included.
// It is the sum of a hash of each item, so no order of changes matters, and a
// change costs the hashes of the item before and after.
type Digest struct{ hi, lo uint64 }

// Bytes returns the digest in big-endian order.
func (d Digest) Bytes() (b [16]byte) {
	binary.BigEndian.PutUint64(b[:8], d.hi)
	binary.BigEndian.PutUint64(b[8:], d.lo)
	return b
}

func digestOf(b []byte) Digest {
	return Digest{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:16])}
}

func (d Digest) plus(e Digest) Digest {
	lo, carry := bits.Add64(d.lo, e.lo, 0)
	hi, _ := bits.Add64(d.hi, e.hi, carry)
	return Digest{hi, lo}
}

func (d Digest) minus(e Digest) Digest {
	lo, borrow := bits.Sub64(d.lo, e.lo, 0)
	hi, _ := bits.Sub64(d.hi, e.hi, borrow)
	return Digest{hi, lo}
}

// What a term of a digest is about.
const (
	termInfo  = 'i'
	termField = 'm'
	termRow   = 'r'
)

const digestVersion = 1

// term returns the hash of one item.
func (t *Tx) term(what byte, key, value []byte) Digest {
	b := append(t.scratch[:0], what)
	b = binary.AppendUvarint(b, uint64(len(key)))
	b = append(append(b, key...), value...)
	t.scratch = b
	sum := sha256.Sum256(b)
	return digestOf(sum[:])
}

// infoTerm leaves the incarnation out: that is each replica's own.
func (t *Tx) infoTerm(i Info) Digest {
	i.Incarnation = ID{}
	return t.term(termInfo, nil, appendInfo(nil, &i))
}

// exchange notes that an item was replaced; nil stands for none.
func (t *Tx) exchange(what byte, key, before, after []byte) {
	if before != nil {
		t.delta = t.delta.minus(t.term(what, key, before))
	}
	if after != nil {
		t.delta = t.delta.plus(t.term(what, key, after))
	}
}

// Digest returns the digest of the database as the transaction has it.
func (t *Tx) Digest() (Digest, error) {
	stored, ok, err := t.storedDigest()
	switch {
	case err != nil:
		return Digest{}, err
	case !ok:
		return t.compute()
	}
	d := stored.plus(t.delta)
	if t.info != t.was {
		d = d.minus(t.infoTerm(t.was)).plus(t.infoTerm(t.info))
	}
	return d, nil
}

// storedDigest returns the digest as of the latest commit; a file of before there
// were digests has none.
func (t *Tx) storedDigest() (d Digest, ok bool, err error) {
	stored := t.infob.Get(keyDigest)
	if stored == nil {
		return Digest{}, false, nil
	}
	raw, err := unseal(keyDigest, stored)
	if err != nil {
		return Digest{}, false, corrupt(err)
	}
	if err := checkVersion(raw, 1+16, digestVersion); err != nil {
		return Digest{}, false, corrupt(err)
	}
	return digestOf(raw[1:]), true, nil
}

// keepDigest stores the digest.
func (t *Tx) keepDigest() error {
	d, err := t.Digest()
	if err != nil {
		return err
	}
	b := d.Bytes()
	return t.infob.Put(keyDigest, seal(keyDigest, append([]byte{digestVersion}, b[:]...)))
}

// compute adds up the digest from everything that is there.
func (t *Tx) compute() (Digest, error) {
	sum, err := t.computeFields()
	if err != nil {
		return Digest{}, err
	}
	for _, b := range [...]table{t.live, t.dead} {
		c := b.Cursor()
		for k, v := c.First(); k != nil; k, v = c.Next() {
			_, row, err := openRow(k, v)
			if err != nil {
				return Digest{}, err
			}
			sum = sum.plus(t.term(termRow, k, row))
		}
	}
	return sum, nil
}

// computeFields adds up the digest of what is not rows.
func (t *Tx) computeFields() (Digest, error) {
	sum := t.infoTerm(t.info)
	c := t.meta.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		raw, err := unseal(k, v)
		if err == nil {
			_, err = decodeField(k, raw)
		}
		if err != nil {
			return Digest{}, corrupt(err)
		}
		sum = sum.plus(t.term(termField, k, raw))
	}
	return sum, nil
}

// spaceOf returns the space of a row's key.
func spaceOf(key []byte) policy.Index { return policy.Index(binary.BigEndian.Uint16(key)) }
