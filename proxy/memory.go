package proxy

import (
	"io/fs"
	"math"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
)

// memory is how much this process may use, in bytes: the machine's, or less where
// GOMEMLIMIT or its control groups say so; 0 where that can't be told.
func memory() int64 {
	limit := min(debug.SetMemoryLimit(-1), groupLimit(os.DirFS("/"))) // the first only asks
	var info syscall.Sysinfo_t
	if syscall.Sysinfo(&info) != nil {
		return 0
	}
	return min(limit, int64(info.Totalram)*int64(info.Unit))
}

// groupLimit is the least that one of this process's control groups, of either
// version, lets it use; math.MaxInt64 where none does. In a container the groups may
// have other names than the process is told: the one on top is its own then.
func groupLimit(root fs.FS) int64 {
	least := int64(math.MaxInt64)
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return least
	}
	for line := range strings.Lines(string(groups)) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3) // number:controllers:path
		if len(parts) != 3 {
			continue
		}
		folder, file := "sys/fs/cgroup", "memory.max"
		if parts[1] != "" {
			if parts[1] != "memory" {
				continue
			}
			folder, file = folder+"/memory", "memory.limit_in_bytes"
		}
		for at := path.Clean("/" + parts[2]); ; at = path.Dir(at) {
			text, err := fs.ReadFile(root, path.Join(folder, at, file))
			if n, numErr := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && numErr == nil && n > 0 {
				least = min(least, n) // else there is no such group, or it says "max"
			}
			if at == "/" {
				break
			}
		}
	}
	return least
}

// files is how many files and connections this process may have open; 0 where that
// can't be told.
func files() int64 {
	var r syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r) != nil {
		return 0
	}
	return int64(min(r.Cur, math.MaxInt32))
}
