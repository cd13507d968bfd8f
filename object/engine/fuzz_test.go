package engine

import (
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"martlet/internal/errs"
	"martlet/internal/seglog"
	"martlet/object/engine/record"
)

// Whatever the bytes of a segment have become, and whatever a record says, an index can be
// made anew or is refused: nothing panics, hangs, or is read that was not written.
func FuzzRebuild(f *testing.F) {
	base := aHistory(f, 1, 40)
	if err := base.e.Close(); err != nil {
		f.Fatal(err)
	}
	segment := func() string {
		all := filesBelow(f, base.fs, "/log", map[string]int64{})
		var names []string
		for name, size := range all {
			if name[len(name)-4:] == ".seg" && size > 10_000 {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return names[0]
	}()
	f.Add(uint16(4100), []byte{1, 2, 3}, byte(0), []byte{})
	f.Add(uint16(4096), make([]byte, 3000), byte(0), []byte{})
	f.Add(uint16(0), make([]byte, 4096), byte(0), []byte{})
	for _, h := range []record.Head{
		{Kind: record.Compacted, Segment: 1, To: 1 << 20, Last: true}, {Kind: record.Purge}, {Kind: record.Tombstone},
		{Kind: record.Meta}, {Kind: record.Blob, File: 7}, {Kind: record.Quarantine, Lost: record.LostData | record.LostMeta},
	} {
		b, err := h.Append(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint16(0), []byte{}, byte(h.Kind), b)
	}
	f.Fuzz(func(t *testing.T, off uint16, patch []byte, kind byte, head []byte) {
		disk := base.fs.AfterCrash(whole)
		if len(patch) > 0 {
			file, err := disk.OpenFile(segment, os.O_RDWR)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := file.WriteAt(patch, int64(off)); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(file.Sync(), file.Close()); err != nil {
				t.Fatal(err)
			}
		}
		if kind > 0 {
			cfg := seglog.Defaults()
			cfg.FS, cfg.Folder, cfg.SegmentSize = disk, "/log", 1<<16
			l, err := seglog.Open(cfg)
			if err != nil {
				return // refused
			}
			if kind <= seglog.MaxKind && len(head) < 10_000 {
				if _, err := l.Append(&seglog.Record{Kind: kind, Key: worldName(0).Hash, Head: head}, nil); err != nil {
					t.Fatal(err)
				}
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
		w := base.copyOf(disk)
		if err := withoutIndex(w.cfg); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			for l := range w.facts {
				s, body, err := get(w.e, l)
				if err == nil && kind == 0 && sum(body) != s.MD5 {
					t.Fatalf("%v reads as %d bytes, not those of %s", l, len(body), show(s))
				}
				if err != nil && errs.KindOf(err) == errs.Other {
					t.Fatalf("%v: %v, of no kind", l, err)
				}
			}
			for _, p := range []int{0, 1} {
				for _, err := range w.e.Walk(ctx, worldName(p).Policy, worldName(0).Hash, lastHash()) {
					if err != nil && errs.KindOf(err) == errs.Other {
						t.Fatal(err)
					}
				}
			}
			_ = w.e.Scrub(ctx, time.Now().Add(time.Hour), nil)
			_ = compactSome(ctx, w.e, ts(30), always)
			_ = w.e.Sweep(ctx)
		}
	})
}
