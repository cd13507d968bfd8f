package engine

import (
	"bytes"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"martlet/internal/errs"
	"martlet/internal/vfs"
	"martlet/object/engine/blob"
)

// sick is a file system whose blobs can't be read from an offset on, and which counts the
// switches to direct mode.
type sick struct {
	vfs.FS
	from   int64 // 0 for none
	direct atomic.Int64
}

type sickFile struct {
	vfs.File
	fs *sick
}

func (s *sick) Open(name string) (vfs.File, error) {
	f, err := s.FS.Open(name)
	if err != nil || !strings.Contains(name, blobFolder) {
		return f, err
	}
	return &sickFile{f, s}, nil
}

func (f *sickFile) SetDirect(on bool) error {
	f.fs.direct.Add(1)
	return f.File.SetDirect(on)
}

func (f *sickFile) ReadAt(p []byte, off int64) (int, error) {
	if f.fs.from > 0 && off+int64(len(p)) > f.fs.from {
		return 0, syscall.EIO
	}
	return f.File.ReadAt(p, off)
}

// What is larger than KeepCache is read around the page cache, what is smaller is not.
// Damage far into either puts it into quarantine, a disk that can't be read does not.
func TestLargeObjectsAreReadDirectly(t *testing.T) {
	const size, keep = 4 << 20, 3 << 20
	for name, tt := range map[string]struct {
		size   int64
		from   int64 // what can't be read
		flip   int64
		want   errs.Kind
		direct bool
	}{
		"small":          {size: keep, direct: false},
		"large":          {size: size, direct: true},
		"large, damaged": {size: size, flip: 3<<20 + 5, want: errs.Corrupt, direct: true},
		"large, EIO":     {size: size, from: 3 << 20, want: errs.BadDevice, direct: true},
		"small, EIO":     {size: keep, from: 2 << 20, want: errs.BadDevice, direct: false},
	} {
		disk := vfs.NewMem()
		fs := &sick{FS: disk, from: tt.from}
		cfg := Defaults()
		cfg.FS, cfg.Buffers, cfg.SegmentSize, cfg.Depth, cfg.KeepCache = fs, blob.NewGuarded(32<<20), 1<<20, 12, keep
		e := New("/", cfg)
		data := bytes.Repeat([]byte("0123456"), int(tt.size)/7+1)[:tt.size]
		if err := put(e, at(1), ts(1), data, "x", Terms{}); err != nil {
			t.Fatal(err)
		}
		if tt.flip > 0 {
			file, _ := where(t, e, at(1), partData)
			flip(t, disk, file, tt.flip)
		}
		_, got, err := get(e, at(1))
		if kind := errs.KindOf(err); kind != tt.want || !bytes.HasPrefix(data, got) || err == nil && len(got) != len(data) {
			t.Errorf("%s: %d bytes, %v, want kind %v", name, len(got), err, tt.want)
		}
		if tt.want != errs.Other && len(got) < 1<<20 {
			t.Errorf("%s: only %d bytes came of those that are whole", name, len(got))
		}
		if direct := fs.direct.Load() > 0; direct != tt.direct {
			t.Errorf("%s: direct mode: %t, want %t", name, direct, tt.direct)
		}
		s, err := e.Stat(ctx, at(1))
		if lost := s.Kind == Lost; err != nil || lost != (tt.want == errs.Corrupt) {
			t.Errorf("%s: afterwards: %s, %v", name, show(s), err)
		}
	}
}
