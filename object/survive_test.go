//go:build !race

package object

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"martlet/internal/backend"
	"martlet/internal/timestamp"
	"martlet/internal/vfs"
	"martlet/object/pending"
)

// What was there before is to be read until the commit that replaces it is durable, and a commit that was
// answered stays, whatever call fails and whenever power is lost. So is a version.
func TestCommitsSurviveFaultsAndCrashes(t *testing.T) {
	to := []string{"X-Container-Host", "n1:1", "X-Container-Device", "sda", "X-Container-Partition", "7"}
	for _, asVersion := range []bool{false, true} {
		for n, fired := 0, true; fired; n++ {
			disk := vfs.NewMem()
			if err := errors.Join(disk.Mkdir("/d1"), disk.SyncDir("/")); err != nil {
				t.Fatal(err)
			}
			faulty := vfs.FailAt(disk, n+1) // the first call is that of the set of devices
			r := newRigOn(t, skipMkdir{faulty}, "")
			r.status = map[string]int{"n1:1": 503}
			extra := ofCoded(to...)
			if asVersion {
				extra = append(extra, backend.NewVersion, "true")
			}
			acked := 0 // the size of the last that was answered
			var at timestamp.T
			for i, size := range []int{5, 70_000, 80_000} {
				var a answer
				if i == 0 {
					a = r.put(stamp(10), "whole", extra...)
				} else {
					a = r.put(stamp(10+i), "", append([]string{backend.CodedWrite, commitText(byte(i), int64(size))}, extra...)...)
				}
				if a.err == nil && a.status == 201 {
					acked, at = size, parsed(t, stamp(10+i))
				}
			}
			fired = faulty.Fired()
			for seed := range uint64(4) {
				after := newRigOn(t, skipMkdir{disk.AfterCrash(seed)}, "")
				head, get := after.call("HEAD", ofCoded()...), after.call("GET", ofCoded()...)
				ok := head.status == 404 && acked == 0
				switch head.length {
				case 5:
					ok = acked <= 5 && get.body == "whole"
				case 70_000:
					ok = acked <= 70_000 && get.body == "" && get.header.Get(backend.CodedWrite) == commitText(1, 70_000)
				case 80_000:
					ok = get.body == "" && get.header.Get(backend.CodedWrite) == commitText(2, 80_000)
				}
				if !ok || head.err != nil || get.err != nil {
					t.Fatalf("fault %d, seed %d: of %d bytes was acknowledged, found %d, %d, %q, %v, %v, %v", n, seed, acked, head.status, head.length, get.body, get.header, head.err, get.err)
				}
				told := func(u pending.Update) bool { return !u.Data.Before(at) }
				if q := after.queued(); acked > 0 && !slices.ContainsFunc(q, told) {
					t.Fatalf("fault %d, seed %d: of %d bytes was acknowledged, queued is %+v", n, seed, acked, q)
				}
			}
		}
	}
}

// A fragment that was answered with 201 is there after a crash, whatever call fails; one that was not
// is there whole, or nothing is; and what was dropped stays so.
func TestFragmentsSurviveFaultsAndCrashes(t *testing.T) {
	for name, size := range map[string]int{"records": 9_000, "files": 1_200_000} {
		t.Run(name, func(t *testing.T) {
			all := archives(t, 1, strings.Repeat("0123456789", size/10))
			for n, fired := 0, true; fired; n++ {
				fired = fragmentsAfterFault(t, n, all)
			}
		})
	}
}
