// Package ring says where a partition's replicas belong.
//
// A ring maps the hash of a name to a partition, and a partition to the devices
// that hold its replicas (its primaries) and to those that stand in for them (its
// handoffs). It is made by a builder, kept in a file, and read by every process.
//
// The package promises that a [Ring] is immutable and valid: whatever [New], [Read]
// or [Load] accepts can be looked up in without an error, from any goroutine,
// without a lock. Files are Swift's *.ring.gz, format versions 1 and 2, and the order
// of primaries and handoffs is Swift's, so both can serve one cluster.
//
// It leaves to others: hashing names (which needs the cluster's secret), choosing
// where partitions go (package builder), and when to look for a newer file (the
// caller of [Source.Check]).
package ring

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
)

// Limits of what a ring may hold.
const (
	// MaxDevices is how many device ids there are, holes included. Files of format
	// version 1 hold fewer: see [MaxDevicesV1].
	MaxDevices = 1 << 20
	// MaxDevicesV1 is how many device ids a file of format version 1 has: they are 16
	// bits wide in it, and the highest is Swift's mark for "none".
	MaxDevicesV1 = 65535
	// MaxReplicas is how many rows a ring may have.
	MaxReplicas = 256
	// MaxAssignments bounds partitions times replicas, and so the memory that a
	// ring file can ask for (two or four bytes each).
	MaxAssignments = 1 << 27
	// MinPartPower and MaxPartPower bound the part power.
	MinPartPower = 1
	MaxPartPower = 32
)

// ErrInvalid is wrapped by errors that say a ring contradicts itself: a part power
// out of range, a row of the wrong length, a partition on a device that isn't there.
var ErrInvalid = errors.New("invalid ring")

// Partition is the number of a partition, from 0 to [Ring.Partitions]-1.
type Partition uint32

// Device is one line of the ring: a disk on a node. Those that a Ring hands out are
// shared and must not be changed.
type Device struct {
	ID              int     `json:"id"`               // its place in the ring's list of devices
	Region          int     `json:"region"`           // 0 or more
	Zone            int     `json:"zone"`             // 0 or more; zones of different regions are different
	IP              string  `json:"ip"`               // address or host name on the storage network
	Port            int     `json:"port"`             // 1 to 65535
	ReplicationIP   string  `json:"replication_ip"`   // on the replication network; empty means IP
	ReplicationPort int     `json:"replication_port"` // 0 means Port
	Name            string  `json:"device"`           // the folder the disk is mounted on, without a slash
	Weight          float64 `json:"weight"`           // its share, relative to the others; 0 wants nothing
	Meta            string  `json:"meta"`             // free text for people

	addr, replicationAddr string // set in the devices of a Ring
}

// Addr is where requests for the device go, "ip:port", with brackets around an IPv6
// address. On a device of a Ring it allocates nothing.
func (d *Device) Addr() string {
	if d.addr != "" {
		return d.addr
	}
	return hostPort(d.IP, d.Port)
}

// ReplicationAddr is where replication traffic for the device goes, "ip:port".
// What the ring doesn't say of the replication network is that of the storage
// network. On a device of a Ring it allocates nothing.
func (d *Device) ReplicationAddr() string {
	if d.replicationAddr != "" {
		return d.replicationAddr
	}
	ip, port := d.ReplicationIP, d.ReplicationPort
	if ip == "" {
		ip = d.IP
	}
	if port == 0 {
		port = d.Port
	}
	return hostPort(ip, port)
}

func hostPort(host string, port int) string {
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return net.JoinHostPort(host, strconv.Itoa(port))
}

// Validate says what of the device no ring could hold, wrapping [ErrInvalid]. Names
// and addresses become parts of URLs and paths, so their characters are bounded.
func (d *Device) Validate() error {
	bad := func(key string, value any) error {
		return fmt.Errorf("%w: device %d: %s %v", ErrInvalid, d.ID, key, value)
	}
	switch {
	case d.ID < 0 || d.ID >= MaxDevices:
		return bad("id", d.ID)
	case d.Region < 0 || d.Region > math.MaxInt32:
		return bad("region", d.Region)
	case d.Zone < 0 || d.Zone > math.MaxInt32:
		return bad("zone", d.Zone)
	case !validHost(d.IP):
		return bad("ip", strconv.Quote(d.IP))
	case d.Port < 1 || d.Port > 65535:
		return bad("port", d.Port)
	case d.ReplicationIP != "" && !validHost(d.ReplicationIP):
		return bad("replication_ip", strconv.Quote(d.ReplicationIP))
	case d.ReplicationPort < 0 || d.ReplicationPort > 65535:
		return bad("replication_port", d.ReplicationPort)
	case !validName(d.Name):
		return bad("device name", strconv.Quote(d.Name)+", which is no name for a folder without spaces")
	case math.IsNaN(d.Weight) || math.IsInf(d.Weight, 0) || d.Weight < 0:
		return bad("weight", d.Weight)
	}
	return nil
}

func validHost(s string) bool {
	return s != "" && len(s) <= 255 && !strings.ContainsFunc(s, func(c rune) bool {
		alnum := '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		return !alnum && !strings.ContainsRune(".:-_%[]", c)
	})
}

func validName(s string) bool {
	return s != "" && s != "." && s != ".." && len(s) <= 255 && !strings.ContainsFunc(s, func(c rune) bool {
		return c <= ' ' || c == '/' || c == 0x7f
	})
}

// Data is what a ring is made of.
type Data struct {
	// Devices by id. A nil entry is a hole, left by a device that was removed.
	Devices []*Device
	// PartPower is the binary logarithm of the number of partitions.
	PartPower int
	// Version counts the ring's changes; 0 if nobody counted.
	Version int64
	// NextPartPower is what Swift's tools note in a ring whose part power is being
	// raised: PartPower+1 before that has happened, PartPower after; 0 in others.
	NextPartPower int
	// Rows holds a row per replica, each with the device id of every partition.
	// The last row alone may be shorter: then the partitions beyond its end have a
	// replica less (a fractional replica count).
	Rows [][]uint32
}

// Ring is one immutable generation of a placement map, safe for concurrent use.
type Ring struct {
	devices       []*Device
	partPower     int
	nextPartPower int // 0 in a ring that says nothing of it
	version       int64
	rows          rows
	tiers         tiers
}

// rows is the device id of each partition, a row per replica. Only the last row may
// be shorter than there are partitions. A lookup is mostly waiting for memory, so ids
// are kept in 16 bits where all of the ring's fit.
type rows struct {
	narrow [][]uint16
	wide   [][]uint32 // nil where narrow is not
}

type deviceID interface{ uint16 | uint32 }

func (r *rows) count() int { return max(len(r.narrow), len(r.wide)) }

// length is how many partitions a row has.
func (r *rows) length(replica int) int {
	if r.narrow != nil {
		return len(r.narrow[replica])
	}
	return len(r.wide[replica])
}

// New makes a ring of copies of what data holds. An error wraps [ErrInvalid] and
// names what contradicts the rest.
func New(data Data) (*Ring, error) {
	table := rows{wide: data.Rows}
	if len(data.Devices) > MaxDevicesV1 {
		table.wide = make([][]uint32, len(data.Rows))
		for i, row := range data.Rows {
			table.wide[i] = slices.Clone(row)
		}
	}
	return build(data, table)
}

// build is New with the rows beside the data. It keeps them where their width is that
// of the ring, so nobody else may hold them then.
func build(data Data, table rows) (*Ring, error) {
	if err := checkShape(data, table); err != nil {
		return nil, err
	}
	devices, err := settleDevices(data.Devices)
	if err != nil {
		return nil, err
	}
	var assigned []bool
	if table.narrow != nil {
		assigned, err = assignments(devices, table.narrow)
	} else {
		assigned, err = assignments(devices, table.wide)
	}
	if err != nil {
		return nil, err
	}
	switch narrow := len(devices) <= MaxDevicesV1; {
	case narrow && table.narrow == nil:
		table = rows{narrow: converted[uint16](table.wide)}
	case !narrow && table.narrow != nil:
		table = rows{wide: converted[uint32](table.narrow)}
	}
	return &Ring{
		devices:       devices,
		partPower:     data.PartPower,
		nextPartPower: data.NextPartPower,
		version:       data.Version,
		rows:          table,
		tiers:         makeTiers(devices, assigned),
	}, nil
}

// assignments says which devices hold partitions.
func assignments[ID deviceID](devices []*Device, table [][]ID) ([]bool, error) {
	assigned := make([]bool, len(devices))
	for _, row := range table {
		for _, id := range row {
			if int64(id) >= int64(len(assigned)) {
				return nil, missingDevice(table, id)
			}
			assigned[id] = true
		}
	}
	for id, held := range assigned {
		if held && devices[id] == nil {
			return nil, missingDevice(table, ID(id))
		}
	}
	return assigned, nil
}

func converted[To, From deviceID](table [][]From) [][]To {
	to := make([][]To, len(table))
	for i, row := range table {
		to[i] = make([]To, len(row))
		for p, id := range row {
			to[i][p] = To(id)
		}
	}
	return to
}

func checkShape(data Data, table rows) error {
	count := table.count()
	if err := checkSize(data.PartPower, count); err != nil {
		return err
	}
	if data.Version < 0 {
		return fmt.Errorf("%w: version %d", ErrInvalid, data.Version)
	}
	if next := data.NextPartPower; next != 0 && next != data.PartPower && next != data.PartPower+1 {
		return fmt.Errorf("%w: next part power %d with a part power of %d", ErrInvalid, next, data.PartPower)
	}
	partitions := 1 << data.PartPower
	for i := range count {
		last := i > 0 && i == count-1
		n := table.length(i)
		if n == partitions || last && 0 < n && n < partitions {
			continue
		}
		return fmt.Errorf("%w: row %d has %d of %d partitions", ErrInvalid, i, n, partitions)
	}
	return nil
}

func checkSize(partPower, rows int) error {
	switch {
	case partPower < MinPartPower || partPower > MaxPartPower:
		return fmt.Errorf("%w: part power %d is not within %d and %d", ErrInvalid, partPower, MinPartPower, MaxPartPower)
	case rows < 1 || rows > MaxReplicas:
		return fmt.Errorf("%w: %d replicas are not within 1 and %d", ErrInvalid, rows, MaxReplicas)
	case int64(rows)<<partPower > MaxAssignments:
		return fmt.Errorf("%w: part power %d with %d replicas exceeds %d assignments", ErrInvalid, partPower, rows, MaxAssignments)
	}
	return nil
}

// settleDevices copies the devices, with what they leave out filled in.
func settleDevices(from []*Device) ([]*Device, error) {
	if len(from) > MaxDevices {
		return nil, fmt.Errorf("%w: %d devices, at most %d", ErrInvalid, len(from), MaxDevices)
	}
	devices := make([]*Device, len(from))
	for i, d := range from {
		if d == nil {
			continue
		}
		if d.ID != i {
			return nil, fmt.Errorf("%w: device %d stands at place %d", ErrInvalid, d.ID, i)
		}
		if err := d.Validate(); err != nil {
			return nil, err
		}
		own := *d
		if own.ReplicationIP == "" {
			own.ReplicationIP = own.IP
		}
		if own.ReplicationPort == 0 {
			own.ReplicationPort = own.Port
		}
		own.addr = hostPort(own.IP, own.Port)
		own.replicationAddr = own.addr
		if own.ReplicationIP != own.IP || own.ReplicationPort != own.Port {
			own.replicationAddr = hostPort(own.ReplicationIP, own.ReplicationPort)
		}
		devices[i] = &own
	}
	return devices, nil
}

func missingDevice[ID deviceID](table [][]ID, id ID) error {
	for replica, row := range table {
		if p := slices.Index(row, id); p >= 0 {
			return fmt.Errorf("%w: replica %d of partition %d is on device %d, which is not there", ErrInvalid, replica, p, id)
		}
	}
	return fmt.Errorf("%w: device %d is not there", ErrInvalid, id)
}

// PartPower is the binary logarithm of the number of partitions.
func (r *Ring) PartPower() int { return r.partPower }

// Partitions is the number of partitions.
func (r *Ring) Partitions() int { return 1 << r.partPower }

// NextPartPower is what the ring says of a part power that is being raised by Swift's
// tools (see [Data]), and whether it says anything. Nothing here depends on it.
func (r *Ring) NextPartPower() (power int, ok bool) { return r.nextPartPower, r.nextPartPower != 0 }

// Replicas is how many replicas a partition has on average.
func (r *Ring) Replicas() float64 {
	last := r.rows.count() - 1
	return float64(last) + float64(r.rows.length(last))/float64(r.Partitions())
}

// ReplicaCount is the most primaries a partition can have: Replicas, rounded up.
func (r *Ring) ReplicaCount() int { return r.rows.count() }

// Version counts the ring's changes. A ring that carries no version has 0.
func (r *Ring) Version() int64 { return r.version }

// Devices yields every device by rising id, those that hold nothing included.
func (r *Ring) Devices() iter.Seq[*Device] {
	return func(yield func(*Device) bool) {
		for _, d := range r.devices {
			if d != nil && !yield(d) {
				return
			}
		}
	}
}

// Partition is where a hash belongs: the top part-power bits of its first four bytes.
func (r *Ring) Partition(hash [16]byte) Partition {
	return Partition(binary.BigEndian.Uint32(hash[:4]) >> (32 - r.partPower))
}

// FirstHash is the lowest hash that belongs to a partition of the ring.
func (r *Ring) FirstHash(p Partition) (hash [16]byte) {
	binary.BigEndian.PutUint32(hash[:4], uint32(p)<<(32-r.partPower))
	return hash
}

// LastHash is the highest hash that belongs to a partition of the ring.
func (r *Ring) LastHash(p Partition) (hash [16]byte) {
	for i := range hash {
		hash[i] = 0xff
	}
	rest := uint32(1)<<(32-r.partPower) - 1
	binary.BigEndian.PutUint32(hash[:4], uint32(p)<<(32-r.partPower)|rest)
	return hash
}

// AppendPrimaries appends the devices that a partition's replicas belong on, in the
// order of the replicas, each device once. The place in what is appended is the
// index of the fragment that the device holds under erasure coding. It allocates
// nothing if dst has room for ReplicaCount more; a partition that the ring doesn't
// have appends nothing.
func (r *Ring) AppendPrimaries(dst []*Device, p Partition) []*Device {
	if r.rows.narrow != nil {
		return appendPrimaries(dst, r.devices, r.rows.narrow, p)
	}
	return appendPrimaries(dst, r.devices, r.rows.wide, p)
}

func appendPrimaries[ID deviceID](dst, devices []*Device, table [][]ID, p Partition) []*Device {
	first := len(dst)
next:
	for _, row := range table {
		if uint64(p) >= uint64(len(row)) {
			continue
		}
		d := devices[row[p]]
		for _, seen := range dst[first:] {
			if seen == d {
				continue next
			}
		}
		dst = append(dst, d)
	}
	return dst
}
