package config

import (
	"errors"
	"fmt"
	"path/filepath"

	"martlet/internal/conf"
)

// WrongError is the error of every file that can't be used as it is: what is wrong
// is for whoever wrote the file to mend.
type WrongError struct{ Err error }

func (e WrongError) Error() string { return e.Err.Error() }
func (e WrongError) Unwrap() error { return e.Err }

func wrong(err error) error {
	if err == nil {
		return nil
	}
	return WrongError{err}
}

// LoadProxy reads and checks a proxy's file.
func LoadProxy(path string) (*Proxy, error) {
	c := DefaultProxy()
	if err := conf.Load(path, c); err != nil {
		return nil, wrong(err)
	}
	c.Path = path
	c.resolve()
	return c, wrong(c.Check())
}

// LoadStorage reads and checks a storage node's file.
func LoadStorage(path string) (*Storage, error) {
	c := DefaultStorage()
	if err := conf.Load(path, c); err != nil {
		return nil, wrong(err)
	}
	c.Path = path
	c.resolve()
	return c, wrong(c.Check())
}

// Kinds of files.
const (
	KindProxy   = "proxy"
	KindStorage = "storage"
)

// CheckFile reads and checks a file of either kind, told apart by its [proxy] or
// [storage] table, and returns which it is.
func CheckFile(path string) (kind string, err error) {
	var tables map[string]any
	if err := conf.Load(path, &tables); err != nil {
		return "", wrong(err)
	}
	_, proxy := tables[KindProxy]
	_, storage := tables[KindStorage]
	switch {
	case proxy && storage:
		return "", wrong(fmt.Errorf("%s: has both [proxy] and [storage]: one file is for one process", path))
	case proxy:
		_, err = LoadProxy(path)
		return KindProxy, err
	case storage:
		_, err = LoadStorage(path)
		return KindStorage, err
	}
	return "", wrong(fmt.Errorf("%s: has neither [proxy] nor [storage]", path))
}

func (c *Proxy) resolve() {
	dir := filepath.Dir(c.Path)
	within(dir, &c.Cluster.KeyFile)
	within(dir, &c.Rings.Folder)
	within(dir, &c.Log.File)
	within(dir, &c.Server.ContainerSync.File)
	within(dir, &c.Server.TLS.CertFile)
	within(dir, &c.Server.TLS.KeyFile)
}

func (c *Storage) resolve() {
	dir := filepath.Dir(c.Path)
	within(dir, &c.Cluster.KeyFile)
	within(dir, &c.Rings.Folder)
	within(dir, &c.Log.File)
	within(dir, &c.Server.Root)
	within(dir, &c.Sync.File)
}

func within(dir string, path *string) {
	if *path != "" && !filepath.IsAbs(*path) {
		*path = filepath.Join(dir, *path)
	}
}

// A checker keeps the first thing that is wrong with a file.
type checker struct {
	path string
	err  error
}

func (k *checker) fail(key string, value any, format string, args ...any) {
	if k.err == nil {
		if text, ok := value.(string); ok {
			value = fmt.Sprintf("%q", text)
		}
		k.err = conf.Invalid(k.path, key, value, fmt.Sprintf(format, args...))
	}
}

func (k *checker) failed() bool { return k.err != nil }

// wrap puts file and key before an error that names the value itself.
func (k *checker) wrap(key string, err error) {
	if err != nil && k.err == nil {
		k.err = fmt.Errorf("%s: key %q: %w", k.path, key, err)
	}
}

var errNoPath = errors.New("configuration was not read from a file")

func newChecker(path string) *checker {
	k := &checker{path: path}
	if path == "" {
		k.err = errNoPath
	}
	return k
}
