package cluster

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"martlet/cmd/internal/config"
	"martlet/internal/device"
	"martlet/internal/name"
	"martlet/ring/whole"
)

// Grow makes one storage node more, and returns its number. The rings are left as they are:
// nothing is on the node before they are told of it, with `martlet ring`.
//
// The manifest, which says how many nodes there are, is written last: a folder that Grow was
// stopped in has as many as before, and the next Grow makes the same node again. Nobody may
// be running that node.
func (f *Folder) Grow() (n int, err error) {
	grown := f.Options
	grown.Nodes++
	if err := grown.Check(); err != nil {
		return 0, err
	}
	n = grown.Nodes
	of, err := config.LoadStorage(f.StorageFile(1))
	if err != nil {
		return 0, err
	}
	hasher, err := name.NewHasher(of.Cluster.HashPathPrefix, of.Cluster.HashPathSuffix)
	if err != nil {
		return 0, err
	}
	if err := f.makeDevicesOf(n, device.Owner{Cluster: of.Cluster.Name, Fingerprint: hasher.Fingerprint()}); err != nil {
		return 0, err
	}
	text, err := grown.storageConfig(n, of.Cluster.HashPathSuffix)
	if err != nil {
		return 0, err
	}
	if err := os.Remove(f.StorageFile(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	if err := writeSynced(f.StorageFile(n), text); err != nil {
		return 0, err
	}
	if text, err = grown.manifest(); err != nil {
		return 0, err
	}
	err = whole.Replace(whole.OS, filepath.Join(f.Dir, etcDir, manifestFile), func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
	if err != nil {
		return 0, err
	}
	f.Options = grown
	return n, nil
}
