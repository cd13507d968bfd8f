package push

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"martlet/internal/policy"
	"martlet/internal/ringpush"
	"martlet/ring"
)

const ending = ".ring.gz"

// A Ring is a ring file that is to be handed out.
type Ring struct {
	Name     string `json:"name"` // of the file, without its ending
	Path     string `json:"path"`
	Checksum string `json:"checksum"` // SHA-256 of the file
	ringpush.Running

	file []byte
	ring *ring.Ring
}

// Load reads ring files, and all those that are in folders, and refuses what is none, or has the
// name of none.
func Load(paths []string) (all []*Ring, err error) {
	for _, path := range paths {
		files := []string{path}
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			if files, err = filepath.Glob(filepath.Join(path, "*"+ending)); err != nil {
				return nil, err
			}
			if len(files) == 0 {
				return nil, fmt.Errorf("%s: there is no ring in it", path)
			}
		}
		for _, file := range files {
			r, err := load(file)
			if err != nil {
				return nil, err
			}
			if i := slices.IndexFunc(all, func(o *Ring) bool { return o.Name == r.Name }); i >= 0 {
				return nil, fmt.Errorf("%s and %s are both the %s ring", all[i].Path, path, r.Name)
			}
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b *Ring) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

func load(path string) (*Ring, error) {
	name, ok := strings.CutSuffix(filepath.Base(path), ending)
	if !ok || !known(name) {
		return nil, fmt.Errorf("%s: its name is not account%s, container%s, object%s or object-N%s, which says what it is the ring of", path, ending, ending, ending, ending)
	}
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() || info.Size() > ring.MaxFile {
		return nil, fmt.Errorf("%s: is no file of up to %d bytes", path, int64(ring.MaxFile))
	}
	file, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r, err := ring.Read(bytes.NewReader(file))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &Ring{Name: name, Path: path, Checksum: ringpush.Checksum(file), Running: ringpush.Of(r), file: file, ring: r}, nil
}

func known(name string) bool {
	if name == "account" || name == "container" || name == "object" {
		return true
	}
	text, ok := strings.CutPrefix(name, "object-")
	i, err := policy.ParseIndex(text)
	return ok && err == nil && "object"+i.Suffix() == name
}
