package ring

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// devices makes n devices on nodes of two, a zone per node.
func devices(n int) []*Device {
	list := make([]*Device, n)
	for i := range list {
		list[i] = &Device{
			ID: i, Region: 1, Zone: i / 2, IP: fmt.Sprintf("10.0.0.%d", i/2), Port: 6200,
			ReplicationIP: fmt.Sprintf("10.1.0.%d", i/2), ReplicationPort: 6300,
			Name: fmt.Sprintf("sd%d", i), Weight: 100,
		}
	}
	return list
}

// scatter makes rows over n devices, in no order to speak of.
func scatter(partPower, replicas, n int) [][]uint32 {
	rows := make([][]uint32, replicas)
	for r := range rows {
		rows[r] = make([]uint32, 1<<partPower)
		for p := range rows[r] {
			rows[r][p] = uint32((uint64(p)*2654435761>>7 + uint64(r)) % uint64(n))
		}
	}
	return rows
}

func mustNew(t testing.TB, data Data) *Ring {
	t.Helper()
	r, err := New(data)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func ids(list []*Device) string {
	var text []string
	for _, d := range list {
		text = append(text, fmt.Sprint(d.ID))
	}
	return strings.Join(text, ",")
}

func TestNewRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(d *Data)
		says  string
	}{
		"part power 0":          {func(d *Data) { d.PartPower = 0 }, "part power 0"},
		"part power 33":         {func(d *Data) { d.PartPower = 33 }, "part power 33"},
		"too many assignments":  {func(d *Data) { d.PartPower = 32 }, "exceeds"},
		"no rows":               {func(d *Data) { d.Rows = nil }, "0 replicas"},
		"too many rows":         {func(d *Data) { d.Rows = make([][]uint32, 257) }, "257 replicas"},
		"negative version":      {func(d *Data) { d.Version = -1 }, "version -1"},
		"first row short":       {func(d *Data) { d.Rows[0] = d.Rows[0][:3] }, "row 0 has 3 of 4"},
		"middle row short":      {func(d *Data) { d.Rows[1] = d.Rows[1][:3] }, "row 1 has 3 of 4"},
		"last row empty":        {func(d *Data) { d.Rows[2] = nil }, "row 2 has 0 of 4"},
		"row too long":          {func(d *Data) { d.Rows[2] = make([]uint32, 5) }, "row 2 has 5 of 4"},
		"only row short":        {func(d *Data) { d.Rows = [][]uint32{{0, 1}} }, "row 0 has 2 of 4"},
		"partition on a hole":   {func(d *Data) { d.Devices[1] = nil }, "on device 1, which is not there"},
		"partition on nothing":  {func(d *Data) { d.Rows[2][3] = 4 }, "replica 2 of partition 3 is on device 4"},
		"the mark for none":     {func(d *Data) { d.Rows[0][0] = 65535 }, "replica 0 of partition 0 is on device 65535"},
		"too many devices":      {func(d *Data) { d.Devices = make([]*Device, MaxDevices+1) }, "1048577 devices"},
		"id not its place":      {func(d *Data) { d.Devices[1].ID = 2 }, "device 2 stands at place 1"},
		"negative region":       {func(d *Data) { d.Devices[1].Region = -1 }, "region -1"},
		"negative zone":         {func(d *Data) { d.Devices[1].Zone = -1 }, "zone -1"},
		"no ip":                 {func(d *Data) { d.Devices[1].IP = "" }, `ip ""`},
		"ip with a path":        {func(d *Data) { d.Devices[1].IP = "10.0.0.1/x" }, "ip"},
		"port 0":                {func(d *Data) { d.Devices[1].Port = 0 }, "port 0"},
		"port 65536":            {func(d *Data) { d.Devices[1].Port = 65536 }, "port 65536"},
		"replication port":      {func(d *Data) { d.Devices[1].ReplicationPort = 65536 }, "replication_port 65536"},
		"replication ip":        {func(d *Data) { d.Devices[1].ReplicationIP = "a b" }, "replication_ip"},
		"no device name":        {func(d *Data) { d.Devices[1].Name = "" }, "device name"},
		"device name goes up":   {func(d *Data) { d.Devices[1].Name = ".." }, "device name"},
		"device name is a path": {func(d *Data) { d.Devices[1].Name = "a/b" }, "device name"},
		"negative weight":       {func(d *Data) { d.Devices[1].Weight = -1 }, "weight -1"},
		"weight not a number":   {func(d *Data) { d.Devices[1].Weight = math.NaN() }, "weight NaN"},
	} {
		t.Run(name, func(t *testing.T) {
			data := Data{Devices: devices(4), PartPower: 2, Rows: scatter(2, 3, 4)}
			tt.spoil(&data)
			_, err := New(data)
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want an ErrInvalid that says %q", err, tt.says)
			}
		})
	}
}

func TestNewCopies(t *testing.T) {
	data := Data{Devices: devices(4), PartPower: 2, Rows: scatter(2, 3, 4)}
	r := mustNew(t, data)
	want := ids(r.AppendPrimaries(nil, 1))
	for _, row := range data.Rows {
		clear(row)
	}
	for _, d := range data.Devices {
		d.IP = "changed"
	}
	got := r.AppendPrimaries(nil, 1)
	if ids(got) != want || got[0].IP == "changed" {
		t.Errorf("the ring changed with the data it was made from: %s, want %s", ids(got), want)
	}
}

func TestAddr(t *testing.T) {
	for name, tt := range map[string]struct {
		device            Device
		addr, replication string
	}{
		"both networks":       {Device{IP: "10.0.0.1", Port: 1, ReplicationIP: "10.1.0.1", ReplicationPort: 2}, "10.0.0.1:1", "10.1.0.1:2"},
		"one network":         {Device{IP: "10.0.0.1", Port: 1}, "10.0.0.1:1", "10.0.0.1:1"},
		"other port only":     {Device{IP: "10.0.0.1", Port: 1, ReplicationPort: 2}, "10.0.0.1:1", "10.0.0.1:2"},
		"other ip only":       {Device{IP: "10.0.0.1", Port: 1, ReplicationIP: "10.1.0.1"}, "10.0.0.1:1", "10.1.0.1:1"},
		"IPv6":                {Device{IP: "fd00::1", Port: 1}, "[fd00::1]:1", "[fd00::1]:1"},
		"IPv6, with brackets": {Device{IP: "[fd00::1]", Port: 1}, "[fd00::1]:1", "[fd00::1]:1"},
		"host name":           {Device{IP: "node-1.example", Port: 1}, "node-1.example:1", "node-1.example:1"},
	} {
		t.Run(name, func(t *testing.T) {
			d := tt.device
			d.Name = "sda"
			r := mustNew(t, Data{Devices: []*Device{&d}, PartPower: 1, Rows: [][]uint32{{0, 0}}})
			inRing := r.AppendPrimaries(nil, 0)[0]
			for _, d := range []*Device{&d, inRing} {
				if got := d.Addr(); got != tt.addr {
					t.Errorf("%+v: Addr %q, want %q", d, got, tt.addr)
				}
				if got := d.ReplicationAddr(); got != tt.replication {
					t.Errorf("%+v: ReplicationAddr %q, want %q", d, got, tt.replication)
				}
			}
			if n := testing.AllocsPerRun(10, func() { inRing.Addr(); inRing.ReplicationAddr() }); n != 0 {
				t.Errorf("%v allocations, want none", n)
			}
		})
	}
}

func TestShape(t *testing.T) {
	list := devices(6)
	list[2] = nil
	r := mustNew(t, Data{Devices: list, PartPower: 2, Version: 9, Rows: [][]uint32{{0, 1, 3, 4}, {1, 1, 4, 0}, {3, 1}}})
	if r.PartPower() != 2 || r.Partitions() != 4 || r.Replicas() != 2.5 || r.ReplicaCount() != 3 || r.Version() != 9 {
		t.Errorf("part power %d, partitions %d, replicas %v, count %d, version %d; want 2, 4, 2.5, 3, 9",
			r.PartPower(), r.Partitions(), r.Replicas(), r.ReplicaCount(), r.Version())
	}
	if got, want := ids(slices.Collect(r.Devices())), "0,1,3,4,5"; got != want {
		t.Errorf("devices %s, want %s", got, want)
	}
	for p, want := range []string{"0,1,3", "1", "3,4", "4,0", "", ""} {
		if got := ids(r.AppendPrimaries(nil, Partition(p))); got != want {
			t.Errorf("primaries of %d: %q, want %q", p, got, want)
		}
	}
	if got := r.AppendPrimaries(nil, math.MaxUint32); got != nil {
		t.Errorf("primaries of a partition out of range: %s", ids(got))
	}
	for d := range r.Handoffs(4) {
		t.Errorf("a partition out of range has handoff %d", d.ID)
	}
}

func TestAppendPrimariesKeepsWhatIsThere(t *testing.T) {
	r := mustNew(t, Data{Devices: devices(4), PartPower: 2, Rows: scatter(2, 3, 4)})
	alone := r.AppendPrimaries(nil, 1)
	room := make([]*Device, 0, 2*r.ReplicaCount())
	room = r.AppendPrimaries(room, 1)
	if n := testing.AllocsPerRun(10, func() { r.AppendPrimaries(room, 1) }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
	if got, want := ids(r.AppendPrimaries(room, 1)), ids(alone)+","+ids(alone); got != want {
		t.Errorf("appended twice: %s, want %s", got, want)
	}
}

func TestPartitionOfHash(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		power := rapid.IntRange(1, 16).Draw(t, "part power")
		r, err := New(Data{Devices: devices(2), PartPower: power, Rows: scatter(power, 1, 2)})
		if err != nil {
			t.Fatal(err)
		}
		hash := [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "hash"))
		p := r.Partition(hash)
		first, last := r.FirstHash(p), r.LastHash(p)
		if slices.Compare(first[:], hash[:]) > 0 || slices.Compare(hash[:], last[:]) > 0 {
			t.Fatalf("hash %x of partition %d is not within %x and %x", hash, p, first, last)
		}
		if r.Partition(first) != p || r.Partition(last) != p {
			t.Fatalf("bounds of partition %d belong to %d and %d", p, r.Partition(first), r.Partition(last))
		}
		if end := Partition(r.Partitions() - 1); p < end {
			next := r.FirstHash(p + 1)
			for i := 15; i >= 0; i-- { // count last up by one
				if last[i]++; last[i] != 0 {
					break
				}
			}
			if next != last {
				t.Fatalf("between partitions %d and %d: %x, want %x", p, p+1, next, last)
			}
		}
	})
}

// fleet is a ring of the size that figures are given for: 2^20 partitions of three
// replicas on 10,000 devices, in 5 regions of 40 zones of 5 nodes of 10. The replicas of
// a partition are in different regions, and otherwise anywhere.
func fleet(t testing.TB) *Ring {
	const regions, devices = 5, 10_000
	list := make([]*Device, devices)
	for i := range list {
		list[i] = &Device{
			ID: i, Region: i % regions, Zone: i / regions % 40, IP: fmt.Sprintf("10.0.%d.%d", i%200, i/200%5), Port: 6200,
			Name: fmt.Sprintf("sd%d", i/1000), Weight: 4000, Meta: "rack",
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	rows := make([][]uint32, 3)
	for i := range rows {
		rows[i] = make([]uint32, 1<<20)
	}
	for p := range rows[0] {
		first := rng.IntN(regions)
		for i := range rows {
			rows[i][p] = uint32(rng.IntN(devices/regions)*regions + (first+i)%regions)
		}
	}
	return mustNew(t, Data{Devices: list, PartPower: 20, Rows: rows})
}

func BenchmarkPrimaries(b *testing.B) {
	r := fleet(b)
	room := make([]*Device, 0, r.ReplicaCount())
	p := Partition(1)
	b.ReportAllocs()
	for b.Loop() {
		p = p*1664525 + 1013904223
		room = r.AppendPrimaries(room[:0], p>>12)
	}
}
