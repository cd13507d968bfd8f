package ringpush

import (
	"fmt"
	"os"
	"strings"

	"martlet/internal/vfs"
)

// bootID is another one in each machine, and after each start of it; containers of a machine have the same.
const bootID = "/proc/sys/kernel/random/boot_id"

// folderID tells a folder from all others, also of other machines; "" where that can't be said.
func folderID(path string) string {
	boot, err := os.ReadFile(bootID)
	if err != nil {
		return ""
	}
	at, err := vfs.OS.Stat(path)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%s/%x/%x", strings.TrimSpace(string(boot)), at.Dev, at.Ino)
}
