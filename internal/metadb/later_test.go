package metadb

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"

	"martlet/internal/errs"
)

// TestLater: a database in which a later release has written something that is not known here is no damaged one. It is refused, and stays
// as it is for that release: in quarantine, of all replicas at once, it would be lost.
func TestLater(t *testing.T) {
	stamp := at(5)
	for what, at := range map[string]struct{ bucket, key []byte }{
		"what it knows of itself": {bucketInfo, keyInfo},
		"its digest":              {bucketInfo, keyDigest},
		"what others have":        {bucketInfo, knownKey(ID{9})},
		"a field":                 {bucketMeta, []byte("X-A")},
		"the sums":                {bucketStats, []byte{0, 0}},
	} {
		t.Run(what, func(t *testing.T) {
			s, loc := one(t, own)
			fill := func(tx *Tx) error {
				_, err := tx.MergeRow(0, "row", live(5, 4))
				return errors.Join(err, tx.MergeFields([]Field{{"X-A", "1", stamp}}), tx.SetKnown(ID{9}, Known{3, 4}))
			}
			if err := errors.Join(s.Update(bg, loc, fill), s.Check(bg, loc)); err != nil {
				t.Fatal(err)
			}
			path := s.path(loc)
			s.Close()
			raise(t, path, at.bucket, at.key)
			whole, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			s, loc.Device = open(t, filepath.Dir(loc.Device.Path()), own)
			for range 2 {
				if err := s.Check(bg, loc); !errs.Is(err, errs.BadDevice) {
					t.Errorf("got %v, want an error of kind bad device", err)
				}
				if err := s.Isolate(bg, loc.Device, nil); err != nil {
					t.Error(err)
				}
			}
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, whole) {
				t.Errorf("the file is %d bytes, and was %d, %v", len(now), len(whole), err)
			}
			if _, err := os.Stat(filepath.Join(loc.Device.Path(), quarantineDir)); err == nil {
				t.Error("something is in quarantine")
			}
		})
	}
	// A bit of a version that has changed is damage: the checksum has it.
	for version := range 256 {
		record := seal(keyInfo, appendInfo(nil, &Info{}))
		if record[0] == byte(version) {
			continue
		}
		record[0] = byte(version)
		if _, err := unseal(keyInfo, record); !errors.Is(err, errChecksum) {
			t.Errorf("version %d without a checksum of its own: %v", version, err)
		}
	}
	i := sampleImage(t)
	raw, err := unsealed(i.tables[atInfo], keyInfo)
	if err != nil {
		t.Fatal(err)
	}
	raw = bytes.Clone(raw)
	raw[0]++
	if err := i.tables[atInfo].Put(keyInfo, seal(keyInfo, raw)); err != nil {
		t.Fatal(err)
	}
	value, err := i.encode(smallLimit)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decodeImage(value); !errs.Is(err, errs.BadDevice) {
		t.Errorf("a small one: got %v, want an error of kind bad device", err)
	}
}

// raise makes a record of a file one of the next version.
func raise(t *testing.T, path string, bucket, key []byte) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		in := tx.Bucket(bucket)
		raw, err := unseal(key, in.Get(key))
		if err != nil {
			return err
		}
		raw = bytes.Clone(raw)
		raw[0]++
		return in.Put(key, seal(key, raw))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}
