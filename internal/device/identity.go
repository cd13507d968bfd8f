package device

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"strings"
	"time"

	"martlet/internal/vfs"
)

// IdentityFile is the name of the file in a device's folder that says whose it
// is: a line of JSON, and a line with the CRC32C of the first, its end included.
const IdentityFile = ".martlet-device"

// identityFormat is the version of the file that is written here.
const identityFormat = 1

// maxIdentity bounds the file, in bytes.
const maxIdentity = 4096

// Identity says whose a device is.
type Identity struct {
	Format      int       `json:"format"`
	Cluster     string    `json:"cluster"`     // the cluster's name
	Device      string    `json:"device"`      // its name in the ring
	ID          string    `json:"id"`          // 32 hexadecimal digits, another for each device that was ever made
	Fingerprint string    `json:"fingerprint"` // of the hash prefix and suffix: name.Hasher.Fingerprint
	Made        time.Time `json:"made"`
}

// Owner is what a device has to belong to.
type Owner struct {
	Cluster     string // name
	Fingerprint string // of the hash prefix and suffix
}

// Why a folder is not the device that is wanted.
var (
	// ErrNoIdentity means that there is no identity file: nothing is mounted at
	// the folder, or what is there was never made a device.
	ErrNoIdentity = errors.New("there is no " + IdentityFile + " in it: the disk is not mounted, or was never initialized")

	// ErrDamaged means that the identity file is not whole.
	ErrDamaged = errors.New(IdentityFile + " is damaged")

	// ErrForeign means that the device is another one, or another cluster's.
	ErrForeign = errors.New("it is not the device that is wanted")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// NewIdentity returns the identity of a device that is made now.
func NewIdentity(o Owner, device string) Identity {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails, its contract says
	return Identity{
		Format: identityFormat, Cluster: o.Cluster, Device: device, ID: hex.EncodeToString(id[:]),
		Fingerprint: o.Fingerprint, Made: time.Now().UTC().Truncate(time.Second),
	}
}

// Check returns why it is not that of a device of an owner, wrapping ErrForeign.
func (i *Identity) Check(o Owner, device string) error {
	switch {
	case i.Cluster != o.Cluster:
		return fmt.Errorf("%w: it is of cluster %q, this is %q", ErrForeign, i.Cluster, o.Cluster)
	case i.Fingerprint != o.Fingerprint:
		return fmt.Errorf("%w: it was made with another hash prefix or suffix (fingerprint %s, this cluster's is %s)", ErrForeign, i.Fingerprint, o.Fingerprint)
	case i.Device != device:
		return fmt.Errorf("%w: it is device %q, here belongs %q", ErrForeign, i.Device, device)
	}
	return nil
}

func (i *Identity) encode() ([]byte, error) { return sealed(i) }

// sealed is a line of JSON, and one with its checksum.
func sealed(what any) ([]byte, error) {
	line, err := json.Marshal(what)
	if err != nil {
		return nil, err
	}
	line = append(line, '\n')
	return fmt.Appendf(line, "crc32c %08x\n", crc32.Checksum(line, castagnoli)), nil
}

// checked returns the line that sealed has made, and whether its checksum fits.
func checked(b []byte) (line []byte, ok bool) {
	end := bytes.IndexByte(b, '\n') + 1
	return b[:end], string(b[end:]) == fmt.Sprintf("crc32c %08x\n", crc32.Checksum(b[:end], castagnoli))
}

// parseIdentity reads the content of an identity file. Errors wrap ErrDamaged, but
// for a version that is not known here.
func parseIdentity(b []byte) (Identity, error) {
	line, ok := checked(b)
	if !ok {
		return Identity{}, fmt.Errorf("%w: its checksum does not fit", ErrDamaged)
	}
	var i Identity
	if err := json.Unmarshal(line, &i); err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if i.Format != identityFormat {
		return Identity{}, fmt.Errorf("%s is of format %d, this version knows only %d", IdentityFile, i.Format, identityFormat)
	}
	if id, err := hex.DecodeString(i.ID); err != nil || len(id) != 16 || i.Device == "" {
		return Identity{}, fmt.Errorf("%w: it lacks what every identity has", ErrDamaged)
	}
	return i, nil
}

// ReadIdentity reads the identity of the device in a folder. The error wraps
// ErrNoIdentity or ErrDamaged where that is what is wrong.
func ReadIdentity(disk vfs.FS, folder string) (Identity, error) {
	b, err := readSmall(disk, folder+"/"+IdentityFile)
	if errors.Is(err, fs.ErrNotExist) {
		return Identity{}, ErrNoIdentity
	}
	if err != nil {
		return Identity{}, err
	}
	return parseIdentity(b)
}

// readSmall reads a file of at most maxIdentity bytes.
func readSmall(disk vfs.FS, file string) ([]byte, error) {
	f, err := disk.Open(file)
	if err != nil {
		return nil, err
	}
	b := make([]byte, maxIdentity)
	n, err := f.ReadAt(b, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b[:n], errors.Join(err, f.Close())
}

// writeIdentity gives a folder its identity, where it has none. When it returns
// nil the file is whole, has its name, and both are on stable storage; after a
// crash in between there is all of it or nothing.
func writeIdentity(disk vfs.FS, folder string, i Identity) error {
	text, err := i.encode()
	if err != nil {
		return err
	}
	return writeNew(disk, folder, IdentityFile, text)
}

// writeNew makes a file that is not there. When it returns nil it is whole, has its name, and both are on stable
// storage; after a crash in between there is all of it or nothing.
func writeNew(disk vfs.FS, folder, file string, text []byte) error {
	if len(text) > maxIdentity {
		return fmt.Errorf("the names of cluster and device are too long: %d bytes", len(text))
	}
	f, err := disk.CreateUnnamed(folder)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(text, 0); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = disk.Link(f, folder+"/"+file)
	}
	if err == nil {
		err = disk.SyncDir(folder)
	}
	return errors.Join(err, f.Close())
}

// Init makes the folder of a disk a device, and returns its identity. One that is
// that device already stays as it is, and fresh is false; one that is another is
// refused. A folder with anything in it and no identity is refused unless adopt
// says that what is there is this device's. The folder itself is never made: it is
// where the disk is mounted.
//
// When Init returns nil the identity is on stable storage.
func Init(folder string, o Owner, device string, adopt bool) (i Identity, fresh bool, err error) {
	root, err := vfs.OpenRoot(folder)
	if err != nil {
		return Identity{}, false, folderError(err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	return initialize(root, folder, o, device, adopt)
}

func initialize(disk Mount, folder string, o Owner, device string, adopt bool) (Identity, bool, error) {
	i, err := ReadIdentity(disk, folder)
	if err == nil {
		if err = i.Check(o, device); err == nil {
			err = disk.SyncDir(folder) // whoever made it may have been killed before it did
		}
		return i, false, err
	}
	if !errors.Is(err, ErrNoIdentity) {
		return i, false, err
	}
	if err := disk.Lock(); err != nil {
		return i, false, lockError(err)
	}
	list, err := disk.ReadDir(folder)
	if err != nil {
		return i, false, err
	}
	if what := firstThing(list); what != "" && !adopt {
		return i, false, fmt.Errorf("it is not empty: it has %q and no identity; --adopt makes what is there this device's", what)
	}
	i = NewIdentity(o, device)
	return i, true, writeIdentity(disk, folder, i)
}

// firstThing returns a name that keeps a folder from being empty: not what a new
// file system has, nor what a crash of an Init has left.
func firstThing(list []vfs.Entry) string {
	for _, e := range list {
		if e.Name != "lost+found" && !strings.HasPrefix(e.Name, vfs.TempPrefix) {
			return e.Name
		}
	}
	return ""
}
