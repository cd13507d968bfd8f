package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"martlet/ring"
	"martlet/ring/builder"
)

// bench is a folder with rings in it, and martlet run in it.
type ringBench struct {
	t   *testing.T
	dir string
}

func newBench(t *testing.T) *ringBench {
	t.Helper()
	dir := t.TempDir()
	t.Chdir(dir)
	return &ringBench{t, dir}
}

// run runs `martlet ring` with the words of a line, and wants an exit status.
func (r *ringBench) run(status int, line string, more ...string) (stdout, stderr string) {
	r.t.Helper()
	var out, err bytes.Buffer
	args := append(append([]string{"ring"}, strings.Fields(line)...), more...)
	if code := run(args, &out, &err); code != status {
		r.t.Fatalf("%s: exit status %d, want %d\n%s%s", strings.Join(args, " "), code, status, out.String(), err.String())
	}
	if status == exitError && (out.Len() > 0 || err.Len() == 0) {
		r.t.Errorf("%s: an error, with %q on the standard output and %q on the standard error", strings.Join(args, " "), out.String(), err.String())
	}
	return out.String(), err.String()
}

// asJSON runs a line with --json and reads what it prints.
func (r *ringBench) asJSON(status int, line string) map[string]any {
	r.t.Helper()
	out, _ := r.run(status, line+" --json")
	var v map[string]any
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		r.t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return v
}

func (r *ringBench) want(what, got string, parts ...string) {
	r.t.Helper()
	for _, p := range parts {
		if !strings.Contains(got, p) {
			r.t.Errorf("%s: %q is not in\n%s", what, p, got)
		}
	}
}

// files is everything in the folder.
func (r *ringBench) files() map[string]string {
	r.t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(r.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		all[path] = string(text)
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return all
}

// untouched runs f and wants every file as it was.
func (r *ringBench) untouched(what string, f func()) {
	r.t.Helper()
	before := r.files()
	f()
	after := r.files()
	for path, text := range before {
		if after[path] != text {
			r.t.Errorf("%s: %s has changed", what, path)
		}
		delete(after, path)
	}
	for path := range after {
		r.t.Errorf("%s: %s has come", what, path)
	}
}

// four makes object.builder with four zones of a node with two disks each.
func (r *ringBench) four() {
	r.t.Helper()
	r.run(0, "create object.builder --part-power 8 --replicas 3 --min-part-hours 1")
	var devices []string
	for z := 1; z <= 4; z++ {
		for _, d := range []string{"sdb", "sdc"} {
			devices = append(devices, fmt.Sprintf("r1z%d-10.0.0.%d:6200R10.1.0.%d:6203/%s 100", z, z, z, d))
		}
	}
	r.run(0, "add object.builder "+strings.Join(devices, " "))
}

func (r *ringBench) builder(path string) *builder.Builder {
	r.t.Helper()
	b, err := builder.Load(path)
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

func (r *ringBench) ring(path string) *ring.Ring {
	r.t.Helper()
	x, err := ring.Load(path)
	if err != nil {
		r.t.Fatal(err)
	}
	return x
}

func TestRingFromCreateToRing(t *testing.T) {
	r := newBench(t)
	out, _ := r.run(0, "create object.builder --part-power 8 --replicas 3 --min-part-hours 1 --overload 10%")
	r.want("create", out, "object.builder: made, with 256 partitions of 3 replicas")
	out, stderr := r.run(0, "add object.builder z1-10.0.0.1:6200/sdb 100 r1z2-[FE80::2]:6200R[fe80::3]:6203/sdc_meta 50.5")
	r.want("add", out, "d0r1z1-10.0.0.1:6200/sdb weight 100 is added", "d1r1z2-[fe80::2]:6200R[fe80::3]:6203/sdc_meta weight 50.5 is added")
	r.want("add", stderr, "martlet: note: z1-10.0.0.1:6200/sdb names no region, and is put into region 1")
	out, stderr = r.run(0, "add object.builder --zone 3 --ip Storage3.Example --port 6200 --device sdd --weight 100 --meta", "new disk")
	r.want("add", out, "d2r1z3-storage3.example:6200/sdd_new disk weight 100 is added")
	r.want("add", stderr, "no --region is given")
	out, _ = r.run(0, "show object.builder")
	r.want("show", out, "version 4", "256 partitions (part power 8) of 3 replicas; 3 devices on 3 nodes in 3 zones of 1 region",
		"not balanced yet, overload 0.1", "object.ring.gz: not there; rebalance writes it", "└ storage3.example", "new disk")
	r.untouched("a dry run", func() {
		out, _ := r.run(0, "rebalance object.builder --dry-run")
		r.want("dry run", out, "768 replicas would be assigned; nothing is written", "to copy      768 replicas", "256 partitions of 256 short of replicas in their places: 256 of 3")
	})
	out, _ = r.run(0, "rebalance object.builder --seed 7")
	r.want("rebalance", out, "object.builder: 768 replicas assigned", "saved version 5, wrote object.ring.gz")
	made := r.ring("object.ring.gz")
	if made.Version() != 5 || made.Partitions() != 256 || made.Replicas() != 3 {
		t.Errorf("version %d, %d partitions, %v replicas", made.Version(), made.Partitions(), made.Replicas())
	}
	out, _ = r.run(0, "show object.builder")
	r.want("show", out, "object.ring.gz: version 5, as the builder has it", "min_part_hours 1: every partition may move")
	if backups, err := os.ReadDir("backups"); err != nil || len(backups) != 3 {
		t.Errorf("backups %v, %v", backups, err)
	}
}

// The same seed gives the same bytes.
func TestRingSeeds(t *testing.T) {
	r := newBench(t)
	r.four()
	text, err := os.ReadFile("object.builder")
	if err := errors.Join(err, os.WriteFile("again.builder", text, 0o644)); err != nil {
		t.Fatal(err)
	}
	r.run(0, "rebalance object.builder --seed 9")
	r.run(0, "rebalance again.builder --seed 9")
	files := r.files()
	for _, end := range []string{".builder", ".ring.gz"} {
		if files[filepath.Join(r.dir, "object"+end)] != files[filepath.Join(r.dir, "again"+end)] {
			t.Errorf("two %s of one seed differ", end)
		}
	}
}

// Whatever is wrong is said, and nothing is written: no file, and not a part of one.
func TestRingRefuses(t *testing.T) {
	r := newBench(t)
	r.four()
	r.run(0, "rebalance object.builder")
	r.run(0, "create empty.builder --part-power 4 --replicas 3 --min-part-hours 1")
	text, err := os.ReadFile("object.builder")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"notes.txt":       "by hand",
		"nothing.builder": "",
		"newer.builder":   strings.Replace(string(text), `"format_version": 2`, `"format_version": 99`, 1),
		"damaged.builder": strings.Replace(string(text), `"weight": 100`, `"weight": 900`, 1),
		"short.builder":   string(text[:len(text)/2]),
		"swift.builder":   "\x80\x02}q\x00.",
		"broken.ring.gz":  "\x1f\x8b\x08\x00",
	} {
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const sdx = "r1z1-10.0.0.1:6200/sdx"
	for name, tt := range map[string]struct{ line, want string }{
		"create, there already":        {"create object.builder --part-power 8 --replicas 3 --min-part-hours 1", "object.builder: is there already, and was not touched"},
		"create, no part power":        {"create new.builder --replicas 3 --min-part-hours 1", "--part-power is missing"},
		"create, part power":           {"create new.builder --part-power 40 --replicas 3 --min-part-hours 1", "part power 40 is not within 1 and 32"},
		"create, replicas":             {"create new.builder --part-power 8 --replicas 0.5 --min-part-hours 1", "0.5 replicas are not within 1 and"},
		"create, hours":                {"create new.builder --part-power 8 --replicas 3 --min-part-hours -1", "min_part_hours -1 is not within"},
		"create, overload":             {"create new.builder --part-power 8 --replicas 3 --min-part-hours 1 --overload much", `overload "much" is not a number`},
		"create, no folder":            {"create none/new.builder --part-power 8 --replicas 3 --min-part-hours 1", "write none/new.builder: no such file or directory"},
		"add, no file":                 {"add none.builder " + sdx + " 1", "none.builder: there is no such file; `martlet ring create` makes one"},
		"add, ring file":               {"add object.ring.gz " + sdx + " 1", "object.ring.gz: it is a ring file, not a builder"},
		"add, of Swift":                {"add swift.builder " + sdx + " 1", "swift.builder: it is a builder file of Swift"},
		"add, newer":                   {"add newer.builder " + sdx + " 1", "of a newer release: its format_version is 99"},
		"add, damaged":                 {"add damaged.builder " + sdx + " 1", "damaged builder file: its checksum is"},
		"add, cut short":               {"add short.builder " + sdx + " 1", "damaged builder file"},
		"add, no weight":               {"add object.builder " + sdx, "each DEVICE needs a WEIGHT"},
		"add, nothing":                 {"add object.builder", "each DEVICE needs a WEIGHT"},
		"add, second is wrong":         {"add object.builder " + sdx + " 1 r1z1-10.0.0.300:6200/sdy 1", `the address "10.0.0.300" is neither an IP address nor a host name`},
		"add, any address":             {"add object.builder r1z1-0.0.0.0:6200/sdx 1", "the address 0.0.0.0 is not one of a machine"},
		"add, any address behind R":    {"add object.builder r1z1-10.0.0.1:6200R[::]:1/sdx 1", "the address :: is not one of a machine"},
		"add, multicast":               {"add object.builder --zone 1 --ip 224.0.0.1 --port 6200 --weight 1 --device sdx", "the address 224.0.0.1 is not one of a machine"},
		"set-info, broadcast":          {"set-info object.builder d0 255.255.255.255:6200", "the address 255.255.255.255 is not one of a machine"},
		"set-info, flag":               {"set-info object.builder d0 --change-replication-ip ::", "the address :: is not one of a machine"},
		"create, name of a ring":       {"create new.ring.gz --part-power 8 --replicas 3 --min-part-hours 1", "new.ring.gz: is the name of a ring file"},
		"import, name of a ring":       {"import object.ring.gz new.ring.gz", "new.ring.gz: is the name of a ring file"},
		"import, a builder":            {"import object.builder new.builder", "object.builder: it is no ring file, and looks like a builder"},
		"diff, empty builder":          {"diff object.ring.gz nothing.builder", "nothing.builder: damaged builder file"},
		"write-ring, no folder":        {"write-ring object.builder none/x.ring.gz", "write none/x.ring.gz: no such file or directory"},
		"add, second weight":           {"add object.builder " + sdx + " 1 r1z1-10.0.0.3:6200/sdy lots", `r1z1-10.0.0.3:6200/sdy: weight "lots" is not a number`},
		"add, negative weight":         {"add object.builder " + sdx + " -5", "weight -5 is negative"},
		"add, negative behind --":      {"add object.builder -- " + sdx + " -5", "weight -5 is negative"},
		"add, NaN":                     {"add object.builder " + sdx + " NaN", "weight NaN is not a number"},
		"add, infinite":                {"add object.builder " + sdx + " Inf", "weight Inf is not a finite number"},
		"add, there already":           {"add object.builder " + sdx + " 1 r1z9-10.0.0.1:6200/sdb 1", "10.0.0.1:6200/sdb is there already, as device 0"},
		"add, twice":                   {"add object.builder " + sdx + " 1 " + sdx + " 1", "10.0.0.1:6200/sdx is there already, as device 8"},
		"add, flags and arguments":     {"add object.builder " + sdx + " 1 --zone 1", "not by both"},
		"add, flag missing":            {"add object.builder --zone 1 --ip 10.0.0.1 --port 6200 --weight 1", "--device is missing"},
		"add, flag wrong":              {"add object.builder --zone 1 --ip 10.0.0.x_ --port 6200 --weight 1 --device sdx", "--ip: "},
		"add, no port":                 {"add object.builder --zone 1 --ip 10.0.0.1 --port 0 --weight 1 --device sdx", "port 0"},
		"add, name that is a path":     {"add object.builder r1z1-10.0.0.1:6200/.. 1", `device name ".."`},
		"remove, unknown":              {"remove object.builder d0 d77", `no device matches "d77"`},
		"remove, several":              {"remove object.builder r1z1", "\"r1z1\" matches 2 devices; with --yes all of them are meant:\nmartlet:   d0r1z1-10.0.0.1:6200R10.1.0.1:6203/sdb\nmartlet:   d1"},
		"remove, no search":            {"remove object.builder", "it takes a SEARCH for each"},
		"remove, unreadable":           {"remove object.builder d0x", `"x" is no part of d<id>`},
		"set-weight, unknown":          {"set-weight object.builder d0 5 d77 5", `no device matches "d77"`},
		"set-weight, negative":         {"set-weight object.builder d0 -2.5", "weight -2.5 is negative"},
		"set-weight, too small":        {"set-weight object.builder d0 1 d1 1e-9", "d1r1z1-10.0.0.1:6200R10.1.0.1:6203/sdc: bad device: weight 1e-09"},
		"set-weight, no weight":        {"set-weight object.builder d0 5 d1", "it takes a SEARCH and a WEIGHT for each"},
		"set-weight, both":             {"set-weight object.builder d0 5 --zone 1", "by flags or by arguments, not by both"},
		"set-info, duplicate":          {"set-info object.builder d0 10.0.0.2:6200", "10.0.0.2:6200/sdb is there already, as device 2"},
		"set-info, several to one":     {"set-info object.builder r1z1 /sdz --yes", "10.0.0.1:6200/sdz is there already"},
		"set-info, unreadable":         {"set-info object.builder d0 10.0.0.2:x", "the address has no port"},
		"set-info, id":                 {"set-info object.builder d0 d1", "is no part of"},
		"set-replicas, none":           {"set-replicas object.builder 0", "0 replicas are not within 1 and 256"},
		"set-replicas, NaN":            {"set-replicas object.builder NaN", "NaN replicas"},
		"set-replicas, word":           {"set-replicas object.builder many", `replicas "many" is not a number`},
		"set-overload, negative":       {"set-overload object.builder -0.1", "-0.1 is negative"},
		"set-min-part-hours, fraction": {"set-min-part-hours object.builder 1.5", `hours "1.5" is not a whole number`},
		"rebalance, too few devices":   {"rebalance empty.builder", "empty.builder: too few devices: 3 replicas need 3 devices with weight, there are 0"},
		"rebalance, no file":           {"rebalance none.builder", "none.builder: there is no such file"},
		"rebalance, damaged":           {"rebalance damaged.builder", "damaged builder file"},
		"rebalance, only dry":          {"rebalance object.builder --rate 5MB", "--rate is for --dry-run"},
		"rebalance, steps only dry":    {"rebalance object.builder --steps 2", "--steps is for --dry-run"},
		"rebalance, seed":              {"rebalance object.builder --seed -1", "invalid argument"},
		"dry run, two sizes":           {"rebalance object.builder --dry-run --stored 5GB --bytes-per-partition 5MB", "either --bytes-per-partition or --stored"},
		"dry run, no size":             {"rebalance object.builder --dry-run --rate 5MB", "--rate needs --bytes-per-partition, --stored or --measure"},
		"dry run, bad size":            {"rebalance object.builder --dry-run --stored 5XB", `"5XB" is not a size`},
		"dry run, nothing new":         {"rebalance object.builder --dry-run --steps 3", "every device with weight holds something already"},
		"dry run, no steps":            {"rebalance object.builder --dry-run --steps 0", "--steps 0 is not within"},
		"show, ring file":              {"show object.ring.gz", "it is a ring file, not a builder"},
		"show, level":                  {"show object.builder --level disk", `--level "disk" is none of`},
		"validate, not balanced":       {"validate empty.builder", "empty.builder: not balanced yet: it has no ring"},
		"search, none":                 {"search object.builder r9", `no device matches "r9"`},
		"search, nothing":              {"search object.builder", "it takes a SEARCH for each"},
		"list-parts, none":             {"list-parts object.builder --device sdz", "no device matches what the flags say"},
		"list-parts, not balanced":     {"list-parts empty.builder d0", `no device matches "d0"`},
		"dispersion, not balanced":     {"dispersion empty.builder", "empty.builder: not balanced yet"},
		"dispersion, tier":             {"dispersion object.builder --tier rack", `--tier "rack" is none of`},
		"write-ring, not balanced":     {"write-ring empty.builder", "empty.builder: not balanced yet; `martlet ring rebalance` makes its first ring"},
		"import, no ring":              {"import none.ring.gz new.builder", "none.ring.gz: there is no such ring file"},
		"import, broken":               {"import broken.ring.gz new.builder", "damaged ring file"},
		"import, there already":        {"import object.ring.gz empty.builder", "empty.builder: is there already, and was not touched"},
		"diff, no file":                {"diff object.ring.gz none.ring.gz", "none.ring.gz: there is no such file"},
		"diff, not balanced":           {"diff object.ring.gz empty.builder", "empty.builder: not balanced yet"},
		"part power, not said":         {"increase-part-power object.builder", "either --cluster or --force-offline is needed"},
		"part power, both":             {"increase-part-power object.builder --cluster x --force-offline", "either --cluster or --force-offline is needed"},
		"part power, nobody to ask":    {"increase-part-power object.builder --cluster proxy.toml", "the part power was not changed: "},
		"compose, builder first":       {"compose object.builder empty.builder", "object.builder: is a builder; the ring to be written comes first"},
		"compose, not balanced":        {"compose all.ring.gz object.builder empty.builder", "component 2: not balanced yet"},
		"compose, same regions":        {"compose all.ring.gz object.builder object.builder", "region 1 is in components 1 and 2"},
		"write-ring, itself":           {"write-ring object.builder object.builder", "object.builder: is there and is a builder file"},
		"write-ring, builder":          {"write-ring object.builder empty.builder --force", "empty.builder: is there and is a builder file"},
		"write-ring, damaged builder":  {"write-ring object.builder short.builder", "short.builder: is there and is a builder file"},
		"write-ring, of Swift":         {"write-ring object.builder swift.builder", "swift.builder: is there and is a builder file"},
		"write-ring, folder":           {"write-ring object.builder .", ".: is there and is not a regular file"},
		"compose, damaged builder":     {"compose short.builder object.builder", "short.builder: is there and is a builder file"},
		"show, svg builder":            {"show object.builder --svg object.builder", "object.builder: is there and is a builder file"},
		"show, svg ring":               {"show object.builder --svg object.ring.gz", "object.ring.gz: is there and is a ring file"},
		"show, svg other":              {"show object.builder --svg notes.txt", "notes.txt: is there and is no picture"},
		"show, svg folder":             {"show object.builder --svg .", ".: is there and is not a regular file"},
		"dry run, svg builder":         {"rebalance object.builder --dry-run --svg empty.builder", "empty.builder: is there and is a builder file"},
		"dry run, svg ring":            {"rebalance object.builder --dry-run --svg object.ring.gz", "object.ring.gz: is there and is a ring file"},
		"diff, svg builder":            {"diff object.ring.gz object.builder --svg object.builder", "object.builder: is there and is a builder file"},
		"diff, svg ring":               {"diff object.ring.gz object.builder --svg object.ring.gz", "object.ring.gz: is there and is a ring file"},
		"no such verb":                 {"rebalnce object.builder", "unknown command"},
	} {
		r.untouched(name, func() {
			_, stderr := r.run(exitError, tt.line)
			r.want(name, stderr, "martlet: ", tt.want)
		})
	}
}

// What the notation could not write, or a terminal would obey, gets into no builder.
func TestRingRefusesTexts(t *testing.T) {
	r := newBench(t)
	r.four()
	const flags = "add object.builder --region 1 --zone 1 --ip 10.0.0.1 --port 6200 --weight 1"
	for name, tt := range map[string]struct {
		line string
		more []string
		want string
	}{
		"create, no name":        {"create --part-power 8 --replicas 3 --min-part-hours 1", []string{""}, "the builder file has no name"},
		"add, name with _":       {flags, []string{"--device", "sd_x"}, `device name "sd_x" has a "_" in it`},
		"set-info, name with _":  {"set-info object.builder d0", []string{"--change-device", "sd_x"}, `device name "sd_x" has a "_" in it`},
		"add, name":              {flags, []string{"--device", "sd\nx"}, `device name "sd\nx" has a control character, '\n', at byte 2`},
		"add, meta":              {flags, []string{"--device", "sdx", "--meta", "a\x1b[31m"}, `"a\x1b[31m", has a control character, '\x1b', at byte 1`},
		"add, meta in notation":  {"add object.builder", []string{"r1z1-10.0.0.1:6200/sdx_a\tb", "1"}, `"a\tb", has a control character, '\t', at byte 1`},
		"set-info, meta":         {"set-info object.builder d0", []string{"--change-meta", "\x7f"}, `has a control character, '\x7f', at byte 0`},
		"set-info, meta, as one": {"set-info object.builder d0", []string{"_a\nb"}, `has a control character, '\n', at byte 1`},
		"set-info, name, as one": {"set-info object.builder d0", []string{"/sd\rx"}, `has a control character, '\r', at byte 2`},
	} {
		r.untouched(name, func() {
			_, stderr := r.run(exitError, tt.line, tt.more...)
			r.want(name, stderr, "martlet: ", tt.want)
		})
	}
	r.run(0, "set-info object.builder d0", "_Gerät 7_b")
}

func TestRingBusyAndConflict(t *testing.T) {
	r := newBench(t)
	r.four()
	f, err := builder.Open("object.builder")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"add object.builder r1z1-10.0.0.1:6200/sdx 1", "rebalance object.builder", "remove object.builder d0", "set-overload object.builder 1",
		"increase-part-power object.builder --force-offline", "write-ring object.builder",
	} {
		r.untouched(line, func() {
			_, stderr := r.run(exitError, line)
			r.want(line, stderr, "in use by another process; nothing was changed")
		})
	}
	r.run(0, "show object.builder") // looking needs no lock
	// By hand, under the lock: what another one would have saved is not lost.
	text, err := os.ReadFile("object.builder")
	if err := errors.Join(err, os.WriteFile("object.builder", append(text, ' '), 0o644)); err != nil {
		t.Fatal(err)
	}
	if err := f.SetOverload(1); err != nil {
		t.Fatal(err)
	}
	if err := f.Save(); !errors.Is(err, builder.ErrConflict) {
		t.Errorf("save: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// A rebalance that has nothing to do, may do nothing yet, or would do little, writes
// nothing and says why, with exit status 1.
func TestRingRebalanceThatDoesNothing(t *testing.T) {
	r := newBench(t)
	r.four()
	r.run(0, "rebalance object.builder")
	r.untouched("again", func() {
		_, stderr := r.run(exitWarning, "rebalance object.builder")
		r.want("again", stderr, "martlet: nothing to do: every device has what it should, and object.ring.gz is up to date")
		_, stderr = r.run(exitWarning, "rebalance object.builder --dry-run")
		r.want("dry run", stderr, "nothing to do")
	})
	// Only the clock is in the way.
	r.run(0, "set-weight object.builder d0 1 d1 1")
	r.run(0, "rebalance object.builder")
	r.run(0, "set-weight object.builder d0 100 d1 100")
	r.run(0, "rebalance object.builder")
	r.untouched("locked", func() {
		_, stderr := r.run(exitWarning, "rebalance object.builder")
		r.want("locked", stderr, "nothing can move yet", "for min_part_hours (1); the next partition may move in ")
		a := r.asJSON(exitWarning, "rebalance object.builder")
		if next, _ := a["next_seconds"].(float64); a["saved"] != false || next < 3500 || next > 3600 || a["waiting"] != a["locked"] {
			t.Errorf("%v", a)
		}
	})
	r.run(0, "pretend-min-part-hours-passed object.builder")
	out, _ := r.run(0, "rebalance object.builder")
	r.want("passed", out, "replicas moved", "saved version")
	// The ring alone is behind.
	r.run(0, "set-info object.builder d0 _shiny")
	out, _ = r.run(0, "rebalance object.builder")
	r.want("behind", out, "nothing has to move", "wrote object.ring.gz")
	if err := os.Remove("object.ring.gz"); err != nil {
		t.Fatal(err)
	}
	out, _ = r.run(0, "rebalance object.builder")
	r.want("missing", out, "wrote object.ring.gz")
}

// A ring file that is behind or missing is written whatever else waits, or is too
// little to be done; validate names it.
func TestRingFileIsBroughtUpToDate(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(r *ringBench)
		state string
	}{
		"missing": {func(r *ringBench) {
			if err := os.Remove("object.ring.gz"); err != nil {
				r.t.Fatal(err)
			}
		}, "object.ring.gz is missing"},
		"behind": {func(r *ringBench) { r.run(0, "set-info object.builder d0 _shiny") }, "object.ring.gz is behind"},
	} {
		t.Run(name+", all waits", func(t *testing.T) {
			r := newBench(t)
			r.four()
			r.run(0, "rebalance object.builder")
			r.run(0, "set-weight object.builder d0 1 d1 1")
			r.run(0, "rebalance object.builder")
			r.run(0, "set-weight object.builder d0 100 d1 100")
			r.run(0, "rebalance object.builder")
			tt.spoil(r)
			_, stderr := r.run(exitWarning, "validate object.builder")
			r.want("validate", stderr, tt.state)
			out, stderr := r.run(exitWarning, "rebalance object.builder")
			r.want("rebalance", out, "nothing can move yet", "wrote object.ring.gz")
			r.want("rebalance", stderr, "nothing can move yet: ", "for min_part_hours (1)")
			r.run(0, "diff object.ring.gz object.builder")
			r.run(0, "validate object.builder")
		})
	}
	t.Run("behind, for little", func(t *testing.T) {
		r := newBench(t)
		r.run(0, "create a.builder --part-power 10 --replicas 3 --min-part-hours 0")
		r.run(0, "add a.builder r1z1-10.0.0.1:1/a 100 r1z1-10.0.0.1:1/b 100 r1z2-10.0.0.2:1/a 100 r1z2-10.0.0.2:1/b 100 r1z3-10.0.0.3:1/a 99 r1z3-10.0.0.3:1/b 98")
		r.run(exitWarning, "rebalance a.builder")
		// The ring of an earlier rebalance, with the devices of now.
		old := r.ring("a.ring.gz")
		rows := old.Rows()
		for _, row := range rows {
			slices.Reverse(row)
		}
		var devices []*ring.Device
		for d := range old.Devices() {
			devices = append(devices, d)
		}
		spoilt, err := ring.New(ring.Data{Devices: devices, PartPower: old.PartPower(), Version: old.Version() - 1, Rows: rows})
		if err := errors.Join(err, spoilt.Save("a.ring.gz")); err != nil {
			t.Fatal(err)
		}
		r.run(0, "set-overload a.builder 1%")
		before := r.files()[filepath.Join(r.dir, "a.builder")]
		out, stderr := r.run(exitWarning, "rebalance a.builder")
		r.want("little", stderr, "nothing was saved: ", "a.ring.gz was behind, and is version ")
		r.want("little", out, "nothing saved, wrote a.ring.gz: version ")
		r.run(0, "diff a.ring.gz a.builder")
		if r.files()[filepath.Join(r.dir, "a.builder")] != before {
			t.Error("the builder was saved")
		}
	})
}

// A builder that moves little though no device has changed: here for the overload.
func TestRingRebalanceForLittle(t *testing.T) {
	r := newBench(t)
	r.run(0, "create a.builder --part-power 10 --replicas 3 --min-part-hours 0")
	r.run(0, "add a.builder r1z1-10.0.0.1:1/a 100 r1z1-10.0.0.1:1/b 100 r1z2-10.0.0.2:1/a 100 r1z2-10.0.0.2:1/b 100 r1z3-10.0.0.3:1/a 99 r1z3-10.0.0.3:1/b 98")
	_, stderr := r.run(exitWarning, "rebalance a.builder")
	r.want("first", stderr, "dispersion is 0.", "an overload of 0.0", "would cure it, it is 0")
	r.run(0, "set-overload a.builder 1%")
	r.untouched("little", func() {
		out, stderr := r.run(exitWarning, "rebalance a.builder")
		r.want("little", stderr, "nothing was saved: ", " would move, for a balance of ", "--force does it")
		if out != "nothing saved\n" {
			t.Errorf("little: %s", out)
		}
		_, stderr = r.run(exitWarning, "rebalance a.builder --dry-run")
		r.want("little, dry", stderr, "rebalance would save it only with --force")
	})
	out, _ := r.run(0, "rebalance a.builder --force")
	r.want("forced", out, "saved version", "dispersion 0.33 → 0.0")
}

// An exit status of 1 is of a rebalance that was saved with a warning, and of one that
// was not: what is printed tells them apart.
func TestRingRebalanceTellsWhatIsSaved(t *testing.T) {
	for name, tt := range map[string]struct {
		before []string
		last   string
		saved  bool
		ring   any
	}{
		"saved, with a warning": {nil, "saved version 7, wrote a.ring.gz", true, "a.ring.gz"},
		"nothing to do":         {[]string{"rebalance a.builder"}, "nothing saved", false, nil},
		"little":                {[]string{"rebalance a.builder", "set-overload a.builder 1%"}, "nothing saved", false, nil},
	} {
		for _, flag := range []string{"", " --json"} {
			t.Run(name+flag, func(t *testing.T) {
				r := newBench(t)
				r.run(0, "create a.builder --part-power 10 --replicas 3 --min-part-hours 0")
				r.run(0, "add a.builder r1z1-10.0.0.1:1/a 100 r1z1-10.0.0.1:1/b 100 r1z2-10.0.0.2:1/a 100 r1z2-10.0.0.2:1/b 100 r1z3-10.0.0.3:1/a 99 r1z3-10.0.0.3:1/b 98")
				for _, line := range tt.before {
					var out, errs bytes.Buffer
					if code := run(append([]string{"ring"}, strings.Fields(line)...), &out, &errs); code == exitError {
						t.Fatalf("%s: %s", line, errs.String())
					}
				}
				if flag != "" {
					a := r.asJSON(exitWarning, "rebalance a.builder")
					if warnings, _ := a["warnings"].([]any); a["saved"] != tt.saved || a["ring"] != tt.ring || len(warnings) == 0 {
						t.Errorf("saved %v, ring %v, warnings %v", a["saved"], a["ring"], warnings)
					}
					return
				}
				out, stderr := r.run(exitWarning, "rebalance a.builder")
				if lines := strings.Split(strings.TrimSpace(out), "\n"); lines[len(lines)-1] != tt.last || stderr == "" {
					t.Errorf("the last line is %q, want %q, and on the standard error %q", lines[len(lines)-1], tt.last, stderr)
				}
			})
		}
	}
}

// With fewer devices than replicas nobody has a target: that is said, and no 0 shown.
func TestRingTooFewDevices(t *testing.T) {
	r := newBench(t)
	r.run(0, "create a.builder --part-power 6 --replicas 3 --min-part-hours 0")
	_, stderr := r.run(0, "show a.builder")
	r.want("no devices", stderr, "note: a.builder has no devices yet")
	r.run(0, "add a.builder r1z1-10.0.0.1:1/a 100 r1z1-10.0.0.1:1/b 100")
	for _, verb := range []string{"show a.builder", "search a.builder r1"} {
		out, stderr := r.run(exitWarning, verb)
		r.want(verb, stderr, "a.builder: too few devices: 3 replicas need 3 devices with weight, there are 2: no device has a target")
		if n := strings.Count(out, " -"); n < 2 {
			t.Errorf("%s: no dashes in the place of targets\n%s", verb, out)
		}
	}
	if w, _ := r.asJSON(exitWarning, "show a.builder")["warnings"].([]any); len(w) != 1 {
		t.Errorf("warnings %v", w)
	}
	r.run(0, "add a.builder r1z1-10.0.0.1:1/c 100")
	r.run(0, "show a.builder")
}

// A ring that another builder made, and is newer, is not replaced.
func TestRingNewerThanBuilder(t *testing.T) {
	r := newBench(t)
	r.four()
	old, err := os.ReadFile("object.builder")
	if err != nil {
		t.Fatal(err)
	}
	r.run(0, "rebalance object.builder")
	for range 5 {
		r.run(0, "pretend-min-part-hours-passed object.builder")
	}
	r.run(0, "write-ring object.builder")
	if err := os.WriteFile("object.builder", old, 0o644); err != nil {
		t.Fatal(err)
	}
	r.untouched("older builder", func() {
		_, stderr := r.run(exitError, "rebalance object.builder")
		r.want("older builder", stderr, "object.ring.gz is of version 14, newer than 9", "--force writes all the same")
	})
	out, _ := r.run(0, "show object.builder")
	r.want("show", out, "newer than the builder")
	r.run(0, "rebalance object.builder --force")
	if v := r.ring("object.ring.gz").Version(); v != 9 {
		t.Errorf("version %d", v)
	}
}

// What removing devices of several zones at once leaves of partitions is told, and not
// done unasked where it is nothing.
func TestRingRemovedInSeveralZones(t *testing.T) {
	for name, tt := range map[string]struct {
		removed   string
		none, one bool
	}{
		"a disk":             {"d0", false, false},
		"a zone":             {"z1", false, false},
		"disks of two zones": {"d0 d2", false, true},
		"disks of three":     {"d0 d2 d4", true, true},
		"four of four":       {"d1 d3 d4 d6", true, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newBench(t)
			r.four()
			r.run(0, "rebalance object.builder")
			rows, removed := r.ring("object.ring.gz").Rows(), map[uint32]bool{}
			out, _ := r.run(0, "remove object.builder --yes "+tt.removed)
			for d := range r.builder("object.builder").Removed() {
				removed[uint32(d.ID)] = true
			}
			count := map[int]int{}
			for p := range rows[0] {
				stay := 0
				for _, row := range rows {
					if !removed[row[p]] {
						stay++
					}
				}
				count[stay]++
			}
			if (count[0] > 0) != tt.none || (count[1] > 0) != tt.one {
				t.Fatalf("partitions by replicas that stay: %v\n%s", count, out)
			}
			status := 0
			if tt.none || tt.one {
				status = exitWarning
			}
			none, one := some(count[0], "partition")+" keep", some(count[1], "partition")+" keep"
			r.untouched("not forced", func() {
				out, stderr := r.run(status, "rebalance object.builder --dry-run")
				switch {
				case tt.none:
					r.want("dry run", stderr, none, "rebalance does it only with --force")
					r.want("dry run", out, number(3*count[0])+" from devices that are gone, with no other replica to read")
					_, stderr = r.run(exitError, "rebalance object.builder")
					r.want("rebalance", stderr, none, "--force does it")
				default:
					r.want("dry run", out, "from devices that are gone, read from other replicas\n")
				}
			})
			a := r.asJSON(status, "rebalance object.builder --force")
			if a["keep_none"] != float64(count[0]) || a["keep_one"] != float64(count[1]) || a["saved"] != true {
				t.Errorf("want %v: %v", count, a)
			}
			for want, wanted := range map[string]bool{none: tt.none, one: tt.one} {
				if got := strings.Contains(fmt.Sprint(a["warnings"]), want); got != wanted {
					t.Errorf("warnings %v: %q is there: %v, want %v", a["warnings"], want, got, wanted)
				}
			}
		})
	}
}

// A ring of the same version that says something else is not replaced, nor a composed
// one by its components in another order.
func TestRingOfTheSameVersion(t *testing.T) {
	r := newBench(t)
	r.four()
	made, err := os.ReadFile("object.builder")
	if err := errors.Join(err, os.WriteFile("other.builder", made, 0o644)); err != nil {
		t.Fatal(err)
	}
	r.run(0, "create far.builder --part-power 8 --replicas 3 --min-part-hours 1")
	r.run(0, "add far.builder r2z1-10.2.0.1:6200/sdb 1 r2z2-10.2.0.2:6200/sdb 1 r2z3-10.2.0.3:6200/sdb 1")
	r.run(0, "rebalance far.builder")
	r.run(0, "rebalance object.builder --seed 1")
	r.run(0, "rebalance other.builder --seed 2")
	r.run(0, "compose all.ring.gz object.builder far.builder")
	r.run(0, "compose all.ring.gz object.builder far.builder") // it is the same
	r.run(0, "write-ring object.builder")
	refused := func(line, want string) {
		r.untouched(line, func() {
			_, stderr := r.run(exitError, line)
			r.want(line, stderr, want, "--force writes all the same")
		})
	}
	const another = "is of version 9 too, and says something else"
	refused("write-ring other.builder object.ring.gz", "object.ring.gz "+another)
	refused("compose all.ring.gz other.builder far.builder", "all.ring.gz is of version ")
	refused("compose all.ring.gz far.builder object.builder", "all.ring.gz is of version ")
	r.run(0, "set-info far.builder d0 _new")
	refused("compose all.ring.gz far.builder object.builder", "all.ring.gz has component 2 before component 1")
	r.run(0, "compose all.ring.gz object.builder far.builder")
	r.run(0, "compose all.ring.gz far.builder object.builder --force")

	r.run(0, "write-ring other.builder object.ring.gz --force")
	refused("rebalance object.builder", "object.ring.gz "+another)
	out, _ := r.run(0, "show object.builder")
	r.want("show", out, "version 9, but not the builder's")
	var stdout, stderr bytes.Buffer
	if code := run([]string{"ring", "validate", "object.builder"}, &stdout, &stderr); code != exitError || !strings.Contains(stderr.String(), "made from another builder") {
		t.Errorf("validate: exit status %d\n%s%s", code, stdout.String(), stderr.String())
	}
	r.run(0, "rebalance object.builder --force")
	r.run(0, "validate object.builder")
}

func TestRingDevices(t *testing.T) {
	r := newBench(t)
	r.four()
	r.run(0, "rebalance object.builder")
	out, _ := r.run(0, "search object.builder z1 /sdc")
	r.want("search", out, "10.0.0.1:6200  10.1.0.1:6203  sdb")
	if n := strings.Count(out, "\n"); n != 1+5 {
		t.Errorf("search: %d lines\n%s", n, out)
	}
	out, _ = r.run(0, "search object.builder --replication-ip 10.1.0.2 --device sdb")
	if n := strings.Count(out, "\n"); n != 2 {
		t.Errorf("search: %d lines\n%s", n, out)
	}
	out, _ = r.run(0, "list-parts object.builder z1")
	if n := strings.Count(out, "\n"); n != 1+r.heldBy("z1") {
		t.Errorf("list-parts: %d lines", n)
	}
	out, _ = r.run(0, "set-weight object.builder d0 50 R10.1.0.2 60 --yes")
	r.want("set-weight", out, "d0r1z1-10.0.0.1:6200R10.1.0.1:6203/sdb has weight 50, had 100", "d3r1z2-10.0.0.2:6200R10.1.0.2:6203/sdc has weight 60, had 100")
	out, _ = r.run(0, "set-weight object.builder --zone 3 --device sdc 70")
	r.want("set-weight", out, "d5r1z3-10.0.0.3:6200R10.1.0.3:6203/sdc has weight 70")
	out, _ = r.run(0, "set-info object.builder d5 r2z7-storage5.example:6300R10.1.0.9:6303/nvme0_fast d6 _slow")
	r.want("set-info", out, "is r2z7-storage5.example:6300R10.1.0.9:6303/nvme0_fast now", "/sdb_slow now")
	out, _ = r.run(0, "set-info object.builder --id 5 --change-zone 8 --change-meta=")
	r.want("set-info", out, "is r2z8-storage5.example:6300R10.1.0.9:6303/nvme0 now")
	out, stderr := r.run(0, "write-ring object.builder")
	r.want("write-ring", out, "wrote object.ring.gz: version 16, 256 partitions, 3 replicas, 8 devices")
	if stderr != "" {
		t.Errorf("write-ring: %s", stderr)
	}
	out, _ = r.run(0, "remove object.builder d7 z1 --yes")
	r.want("remove", out, "d7r1z4-10.0.0.4:6200R10.1.0.4:6203/sdc is removed", "d1r1z1-10.0.0.1:6200R10.1.0.1:6203/sdc is removed")
	_, stderr = r.run(exitError, "set-weight object.builder d7 5")
	r.want("removed", stderr, "is removed already, and goes with the next rebalance")
	out, stderr = r.run(0, "write-ring object.builder other.ring.gz")
	r.want("write-ring", out+stderr, "wrote other.ring.gz", "device 7 is removed, but in this ring until a rebalance")
	out, _ = r.run(0, "show object.builder")
	r.want("show", out, "removed", "version 16, without the changes since")
	_, stderr = r.run(exitWarning, "validate object.builder")
	r.want("validate", stderr, "device 7 is removed, and holds", "object.ring.gz is behind: version 16")
	if a := r.asJSON(exitWarning, "rebalance object.builder"); fmt.Sprint(a["removed"]) != "[0 1 7]" {
		t.Errorf("removed %v", a["removed"])
	}
}

// heldBy is how many partitions have a replica on the devices of a zone.
func (r *ringBench) heldBy(search string) int {
	r.t.Helper()
	v := r.asJSON(0, "list-parts object.builder "+search)
	list, _ := v["partitions"].([]any)
	return len(list)
}

func TestRingSettings(t *testing.T) {
	r := newBench(t)
	r.four()
	r.run(0, "rebalance object.builder")
	for line, want := range map[string]string{
		"set-replicas object.builder 3.25":                   "3.25 replicas from the next rebalance on, were 3",
		"set-overload object.builder 10%":                    "overload 0.1, was 0",
		"set-min-part-hours object.builder 24":               "min_part_hours 24, was 1",
		"pretend-min-part-hours-passed object.builder":       "every partition may move at the next rebalance",
		"increase-part-power object.builder --force-offline": "part power 9, 512 partitions, no replica on another device; wrote object.ring.gz",
	} {
		out, _ := r.run(0, line)
		r.want(line, out, "object.builder: "+want)
	}
	b := r.builder("object.builder")
	if b.Replicas() != 3.25 || b.Overload() != 0.1 || b.MinPartHours() != 24 || b.PartPower() != 9 {
		t.Errorf("replicas %v, overload %v, hours %d, part power %d", b.Replicas(), b.Overload(), b.MinPartHours(), b.PartPower())
	}
	if got := r.ring("object.ring.gz"); got.PartPower() != 9 || got.Replicas() != 3 {
		t.Errorf("ring of part power %d, %v replicas", got.PartPower(), got.Replicas())
	}
	_, stderr := r.run(0, "validate object.builder")
	r.want("validate", stderr, "1,536 replicas are assigned, 3.25 replicas of each partition are 1,664: a rebalance is due")
	out, _ := r.run(0, "rebalance object.builder")
	r.want("rebalance", out, "128 replicas assigned")
}

func TestRingDiffImportCompose(t *testing.T) {
	r := newBench(t)
	r.four()
	r.run(0, "rebalance object.builder")
	before, err := os.ReadFile("object.ring.gz")
	if err := errors.Join(err, os.WriteFile("before.ring.gz", before, 0o644)); err != nil {
		t.Fatal(err)
	}
	out, _ := r.run(0, "diff before.ring.gz object.builder")
	r.want("diff", out, "before.ring.gz and object.builder are the same")
	r.run(0, "add object.builder r1z5-10.0.0.5:6200/sdb 100")
	r.run(0, "set-weight object.builder d1 90")
	r.run(0, "set-info object.builder d0 10.0.0.77:6200")
	r.run(0, "remove object.builder d2")
	moved := r.asJSON(0, "rebalance object.builder")["moved"]
	out, stderr := r.run(exitWarning, "diff before.ring.gz object.ring.gz --bytes-per-partition 1GB --rate 10MB --svg diff.svg")
	r.want("diff", out, "d0r1z1-10.0.0.1:6200R10.1.0.1:6203/sdb is d0r1z1-10.0.0.77:6200R10.1.0.1:6203/sdb now",
		"d1r1z1-10.0.0.1:6200R10.1.0.1:6203/sdc: weight 90, was 100", "added", "removed", "to copy ", " GB", "time ")
	if stderr != "" {
		t.Errorf("diff: %s", stderr)
	}
	wellFormed(t, "diff.svg")
	d := r.asJSON(exitWarning, "diff before.ring.gz object.ring.gz")
	if c, _ := d["change"].(map[string]any); d["same"] != false || c["moved"] != moved {
		t.Errorf("the rebalance moved %v, diff says %v", moved, c["moved"])
	}

	out, stderr = r.run(0, "import object.ring.gz again.builder --min-part-hours 5")
	r.want("import", out+stderr, "again.builder: made from object.ring.gz", "the overload is 0")
	r.run(0, "diff object.builder again.builder")
	if b := r.builder("again.builder"); b.MinPartHours() != 5 || b.Version() != r.builder("object.builder").Version() {
		t.Errorf("hours %d, version %d", b.MinPartHours(), b.Version())
	}

	r.run(0, "create far.builder --part-power 8 --replicas 2 --min-part-hours 1")
	r.run(0, "add far.builder r2z1-10.2.0.1:6200/sdb 1 r2z2-10.2.0.2:6200/sdb 1 r2z3-10.2.0.3:6200/sdb 1")
	r.run(0, "rebalance far.builder")
	out, _ = r.run(0, "compose all.ring.gz object.builder far.builder")
	r.want("compose", out, "wrote all.ring.gz: version ", "256 partitions, 5 replicas, 11 devices")
	if got := r.ring("all.ring.gz").ReplicaCount(); got != 5 {
		t.Errorf("%d replicas", got)
	}
}

// A ring from elsewhere may have names that no device can be given here: what is printed
// of each finds it.
func TestRingFindsWhatItPrints(t *testing.T) {
	r := newBench(t)
	names := []string{"sd_x", "sd_x_y", "_", "sd"}
	data := ring.Data{PartPower: 1, Rows: [][]uint32{{0, 1}, {2, 3}}}
	for id, name := range names {
		data.Devices = append(data.Devices, &ring.Device{ID: id, Region: 1, Zone: id, IP: "Storage-R1.Example", Port: 6200, Name: name, Weight: 1, Meta: "x_y"})
	}
	made, err := ring.New(data)
	if err := errors.Join(err, made.Save("swift.ring.gz")); err != nil {
		t.Fatal(err)
	}
	r.run(0, "import swift.ring.gz object.builder")
	for id, name := range names {
		devices, _ := r.asJSON(0, fmt.Sprintf("search object.builder d%d", id))["devices"].([]any)
		printed, _ := devices[0].(map[string]any)["notation"].(string)
		found, _ := r.asJSON(0, "search object.builder "+printed)["devices"].([]any)
		if len(found) != 1 || !strings.Contains(printed, name) {
			t.Errorf("%q of a device named %q finds %d", printed, name, len(found))
		}
		out, _ := r.run(0, "set-weight object.builder "+printed+" 2")
		r.want("set-weight", out, printed+" has weight 2, had 1")
	}
	if found, _ := r.asJSON(0, "search object.builder /sd_x_y")["devices"].([]any); len(found) != 3 {
		t.Errorf("/sd_x_y finds %d devices, want those named sd, sd_x and sd_x_y", len(found))
	}
}

// What is damaged is found: here a partition with two replicas on one device, as rings
// of other tools may have.
func TestRingValidate(t *testing.T) {
	r := newBench(t)
	devices := []*ring.Device{
		{ID: 0, Region: 1, Zone: 1, IP: "10.0.0.1", Port: 1, Name: "a", Weight: 1},
		{ID: 1, Region: 1, Zone: 2, IP: "10.0.0.2", Port: 1, Name: "a", Weight: 1},
	}
	bad, err := ring.New(ring.Data{Devices: devices, PartPower: 1, Rows: [][]uint32{{0, 1}, {1, 1}}})
	if err := errors.Join(err, bad.Save("bad.ring.gz")); err != nil {
		t.Fatal(err)
	}
	r.run(0, "import bad.ring.gz bad.builder")
	_, stderr := r.run(0, "show bad.builder")
	if stderr != "" {
		t.Errorf("show: %s", stderr)
	}
	var out, errs bytes.Buffer
	if code := run([]string{"ring", "validate", "bad.builder"}, &out, &errs); code != exitError || !strings.Contains(errs.String(), "martlet: bad.builder: partition 1 has two replicas on device 1") {
		t.Errorf("exit status %d\n%s%s", code, out.String(), errs.String())
	}
	r.four()
	r.run(0, "rebalance object.builder")
	stdout, _ := r.run(0, "validate object.builder")
	r.want("validate", stdout, "object.builder: version 9 is valid")
}

func TestRingPlan(t *testing.T) {
	r := newBench(t)
	r.four()
	r.run(0, "rebalance object.builder")
	r.run(0, "add object.builder r1z5-10.0.0.5:6200/sdb 100 r1z5-10.0.0.5:6200/sdc 100")
	r.untouched("plan", func() {
		out, _ := r.run(0, "rebalance object.builder --dry-run --steps 4 --bytes-per-partition 1GB --rate 10MB --capacity 200GB")
		r.want("plan", out, "a plan that brings 2 devices in over 4 rebalances", "in all ", "all at once it would be ",
			"martlet ring set-weight object.builder d8 25 d9 25\n  martlet ring rebalance object.builder\n", "d8 100 d9 100", " %")
		p := r.asJSON(0, "rebalance object.builder --dry-run --steps 4")
		steps, _ := p["steps"].([]any)
		sum := 0.0
		for _, s := range steps {
			moved, _ := s.(map[string]any)["moved"].(float64)
			sum += moved
		}
		if once, _ := p["copied_at_once"].(float64); len(steps) < 4 || sum != p["copied"] || sum < once || sum > 1.1*once {
			t.Errorf("%d steps that move %v, at once %v", len(steps), sum, once)
		}
	})
	// The plan is what happens when its commands are run.
	p := r.asJSON(0, "rebalance object.builder --dry-run --steps 2")
	first, _ := p["steps"].([]any)[0].(map[string]any)
	r.run(0, "set-weight object.builder d8 50 d9 50")
	if a := r.asJSON(0, "rebalance object.builder"); a["moved"] != first["moved"] {
		t.Errorf("planned %v, moved %v", first["moved"], a["moved"])
	}
}

// A dry run tells what the rebalance then does.
func TestRingDryRunIsTrue(t *testing.T) {
	r := newBench(t)
	r.four()
	r.run(0, "rebalance object.builder")
	r.run(0, "add object.builder r1z5-10.0.0.5:6200/sdb 300")
	r.run(0, "remove object.builder d3")
	dry := r.asJSON(0, "rebalance object.builder --dry-run --seed 3 --svg dry.svg")
	wellFormed(t, "dry.svg")
	done := r.asJSON(0, "rebalance object.builder --seed 3")
	for _, key := range []string{"moved", "assigned", "waiting", "before", "after", "removed", "required_overload"} {
		if fmt.Sprint(dry[key]) != fmt.Sprint(done[key]) {
			t.Errorf("%s: dry %v, done %v", key, dry[key], done[key])
		}
	}
	if dry["saved"] != false || dry["dry_run"] != true || done["saved"] != true {
		t.Errorf("dry %v, done %v", dry["saved"], done["saved"])
	}
}

func wellFormed(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for d := xml.NewDecoder(bytes.NewReader(text)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
}

// Every verb answers in JSON, with the builder it is about.
func TestRingJSON(t *testing.T) {
	r := newBench(t)
	for _, tt := range []struct {
		status int
		line   string
		keys   string
	}{
		{0, "create object.builder --part-power 6 --replicas 2 --min-part-hours 1", "builder version part_power replicas min_part_hours overload"},
		{0, "add object.builder z1-10.0.0.1:1/a 1 z2-10.0.0.2:1/a 1 z3-10.0.0.3:1/a 1", "builder version devices notes"},
		{0, "rebalance object.builder --dry-run", "builder dry_run change rebalances moved assigned waiting after"},
		{0, "rebalance object.builder", "builder version saved ring moved assigned removed waiting locked next_seconds after overload required_overload"},
		{1, "rebalance object.builder", "warnings saved"},
		{0, "show object.builder --svg show.svg", "builder version part_power partitions replicas devices balance dispersion ring locked regions zones nodes"},
		{0, "validate object.builder", "builder version valid problems"},
		{0, "search object.builder z1", "builder devices"},
		{0, "list-parts object.builder z1", "builder devices partitions"},
		{0, "dispersion object.builder", "builder dispersion balance overload required_overload tiers"},
		{0, "set-weight object.builder d0 2", "builder version devices was"},
		{0, "set-info object.builder d0 _x", "builder version devices was"},
		{0, "set-replicas object.builder 2.5", "builder version replicas"},
		{0, "set-overload object.builder 0.5", "builder version overload"},
		{0, "set-min-part-hours object.builder 2", "builder version min_part_hours"},
		{0, "pretend-min-part-hours-passed object.builder", "builder version"},
		{0, "increase-part-power object.builder --force-offline", "builder version part_power ring"},
		{0, "write-ring object.builder other.ring.gz", "ring version part_power replicas devices"},
		{1, "diff object.ring.gz object.builder", "from to same change"},
		{0, "import object.ring.gz new.builder", "builder version"},
		{0, "compose all.ring.gz new.builder", "ring version components"},
		{0, "remove object.builder d2", "builder version devices"},
	} {
		if tt.line == "diff object.ring.gz object.builder" {
			r.run(0, "set-info object.builder d1 _y")
		}
		v := r.asJSON(tt.status, tt.line)
		for _, key := range strings.Fields(tt.keys) {
			if _, ok := v[key]; !ok {
				t.Errorf("%s: no %q in %v", tt.line, key, v)
			}
		}
	}
	wellFormed(t, "show.svg")
}

// Completion offers builder files, then the devices in them.
func TestRingCompletion(t *testing.T) {
	r := newBench(t)
	r.four()
	var out, errs bytes.Buffer
	if code := run([]string{"__complete", "ring", "remove", "object.builder", ""}, &out, &errs); code != 0 || !strings.Contains(out.String(), "d0\t10.0.0.1:6200/sdb\n") {
		t.Errorf("devices: %d\n%s", code, out.String())
	}
	out.Reset()
	if code := run([]string{"__complete", "ring", "show", ""}, &out, &errs); code != 0 || !strings.HasPrefix(out.String(), "builder\n:8\n") {
		t.Errorf("files: %d\n%s", code, out.String())
	}
	out.Reset()
	if code := run([]string{"completion", "bash"}, &out, &errs); code != 0 || !strings.Contains(out.String(), "__complete") {
		t.Errorf("script: %d\n%.200s", code, out.String())
	}
}

// Lines for people have no colour where they are not for a terminal.
func TestRingNoColour(t *testing.T) {
	r := newBench(t)
	r.four()
	if out, _ := r.run(0, "show object.builder"); strings.Contains(out, "\x1b") {
		t.Errorf("%q", out)
	}
	p := &page{colour: true}
	p.table("", [][]cell{{left("a").in(bold), right("b")}, {left("ccc"), right("dd").in(yellow)}})
	if want := "\x1b[1ma\x1b[0m     b\nccc  \x1b[33mdd\x1b[0m\n"; p.String() != want {
		t.Errorf("%q, want %q", p.String(), want)
	}
}

func TestNumbersForPeople(t *testing.T) {
	for got, want := range map[string]string{
		number(0): "0", number(-1234567): "-1,234,567", number(999): "999", some(1, "device"): "1 device", some(2000, "device"): "2,000 devices",
		inBytes(0): "0 B", inBytes(999): "999 B", inBytes(1500): "1.5 kB", inBytes(999.6e3): "1.0 MB", inBytes(250e12): "250 TB",
		lasting(59 * time.Second): "59s", lasting(61 * time.Second): "1m 01s", lasting(25 * time.Hour): "25h 00m", lasting(50 * time.Hour): "2d 2h",
		short(1.50, 6): "1.5", short(100, 2): "100", short(-0.0001, 2): "0", fixed(-0.001): "0.00", roundUp(0.1001): "0.101",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
