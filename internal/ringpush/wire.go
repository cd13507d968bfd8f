package ringpush

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"martlet/ring"
)

// Path is where a process tells of its rings, to GET, and below which it takes new ones, to PUT.
// It is no path of data on a storage node, also where a device has that name: those have more parts.
const Path = "/rings"

// The fields of a PUT.
const (
	// ProcessHeader has the Process of the Report that the sender goes by, so that a ring gets to
	// that process, and to no other that is behind the same address.
	ProcessHeader = "X-Backend-Ring-Process"
	// ChecksumHeader has the SHA-256 of the body, in hexadecimal.
	ChecksumHeader = "X-Backend-Ring-Checksum"
)

// The kinds of processes.
const (
	Storage = "storage"
	Proxy   = "proxy"
)

// MaxReport bounds a Report and a Taken on the wire, in bytes.
const MaxReport = 64 << 20

// Running is a ring that a process has in use.
type Running struct {
	Version   int64   `json:"version"`
	Digest    string  `json:"digest"` // ring.Ring.Digest: of all but version and next part power
	PartPower int     `json:"part_power"`
	Next      int     `json:"next_part_power,omitempty"`
	Replicas  float64 `json:"replicas"`
}

// Of says of a ring what a process says that has it in use. It reads the whole ring.
func Of(r *ring.Ring) Running {
	next, _ := r.NextPartPower() // 0 where there is none
	return Running{Version: r.Version(), Digest: r.Digest(), PartPower: r.PartPower(), Next: next, Replicas: r.Replicas()}
}

// Report is what a process says of itself and its rings.
type Report struct {
	Process string             `json:"process"` // is another one in each process, and after each start
	Kind    string             `json:"kind"`    // Storage or Proxy
	Version string             `json:"version"` // of the program
	Rings   map[string]Running `json:"rings"`   // by the names of their files, without the ending
	Nodes   []string           `json:"nodes"`   // host:port of all servers in those rings, in order

	// Unsynced names rings that are in use, and whose files a power cut may undo: they are to be
	// sent again.
	Unsynced []string `json:"unsynced,omitempty"`

	// Files says of rings that are in use what is wrong with their files: the next start would
	// not find what is in use. They are to be sent again as well.
	Files map[string]string `json:"files,omitempty"`

	// Folder is the same in all processes that have their ring files in one folder of one machine: a ring that one of them takes is
	// the others' as well. "" is not known.
	Folder string `json:"folder,omitempty"`
}

// Taken is the answer to a ring that was taken.
type Taken struct {
	Process string  `json:"process"`
	Running Running `json:"running"` // what is in use now
	Changed bool    `json:"changed"` // it is another one than before
}

// Checksum is what ChecksumHeader says of a body.
func Checksum(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// Is reports whether a path, as it was sent, is one of this package's.
func Is(path string) bool {
	name, ok := strings.CutPrefix(path, Path+"/")
	return path == Path || ok && !strings.Contains(name, "/")
}
