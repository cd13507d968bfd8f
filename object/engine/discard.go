package engine

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/object/index"
)

// reasonSuffix ends the name of the file that says why something is in quarantine.
const reasonSuffix = ".reason"

// Discard is Engine.Discard.
func (s *store) Discard(ctx context.Context, before time.Time) (n int, err error) {
	const op errs.Op = "engine.discard"
	d, err := s.openFor(ctx, op, Location{})
	if err != nil {
		return 0, err
	}
	top := d.root + quarantineFolder
	folders, err := d.list(top)
	for _, f := range folders {
		p, ours := policyOfFolder(f.Name)
		if err != nil || !f.Dir || !ours {
			continue
		}
		var some int
		some, err = d.discardIn(ctx, top+"/"+f.Name, p, before)
		n += some
	}
	if n > 0 {
		d.cfg.Log.Info("what was in quarantine for long enough is removed", slog.String("device", d.root), slog.Int("parts", n), slog.Time("before", before))
	}
	return n, s.wrap(op, Location{}, err)
}

// policyOfFolder returns of which policy a folder of the quarantine has objects, or fragments; ours is false where it has other things.
func policyOfFolder(folder string) (p policy.Index, ours bool) {
	text, ours := strings.CutPrefix(folder, "objects")
	if !ours || text == "" {
		return 0, ours
	}
	p, err := policy.ParseIndex(strings.TrimPrefix(text, "-"))
	return p, err == nil && p.Suffix() == text
}

// discardIn removes what is due in one folder, and returns how many things that are. What was damaged goes first, durably, and then the
// reasons for it: what is left of it after a crash has one still, and so is found and counted.
func (d *disk) discardIn(ctx context.Context, dir string, p policy.Index, before time.Time) (n int, err error) {
	files, err := d.list(dir)
	if err != nil {
		return 0, err
	}
	there := make(map[string]bool, len(files))
	for _, f := range files {
		there[f.Name] = !f.Dir
	}
	var due []string // without the suffix
	for _, f := range files {
		if err := aborted(ctx); err != nil {
			return 0, err
		}
		file, ok := strings.CutSuffix(f.Name, reasonSuffix)
		if !ok || f.Dir {
			continue
		}
		gone, err := d.discardOne(dir, file, there[file], p, before)
		if err != nil {
			return 0, err
		}
		if gone {
			due = append(due, file)
		}
	}
	if len(due) == 0 {
		return 0, nil
	}
	if err := d.names.Sync(dir); err != nil {
		return 0, err
	}
	for _, file := range due {
		if err := d.cfg.FS.Remove(dir + "/" + file + reasonSuffix); err != nil && !notThere(err) {
			return n, err
		}
		n++
	}
	return n, d.names.Sync(dir)
}

// discardOne removes what was damaged, where that is there and due, and reports whether its reason may go as well.
func (d *disk) discardOne(dir, file string, there bool, p policy.Index, before time.Time) (gone bool, err error) {
	text, _, _ := strings.Cut(file, ".")
	hash, err := name.ParseHash(text)
	if err != nil {
		return false, nil // it is not ours
	}
	info, err := d.cfg.FS.Stat(dir + "/" + file + reasonSuffix)
	if notThere(err) || err == nil && !info.ModTime.Before(before) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	at := Location{p, hash}
	defer d.lock(hash).Unlock() // so that it does not become lost meanwhile
	e, err := d.get(at)
	if err != nil || e.Kind == index.Lost || e.MetaLost {
		return false, err // as far as the device knows there is no other copy
	}
	if !there {
		return true, nil
	}
	if err := d.cfg.FS.Remove(dir + "/" + file); err != nil && !notThere(err) {
		return false, err
	}
	return true, nil
}
