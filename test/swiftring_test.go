package test

import (
	"bufio"
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"martlet/internal/name"
	"martlet/ring"
	"martlet/ring/builder"
)

// Debian's, which knows its packages, whatever python3 comes first in the path.
const debianPython = "/usr/bin/python3"

//go:embed swiftring.py
var swiftRing string

// swiftTask is what swiftring.py is told.
type swiftTask struct {
	Ring     string      `json:"ring"`
	Prefix   string      `json:"prefix"`
	Suffix   string      `json:"suffix"`
	Handoffs int         `json:"handoffs"` // how many of a name are compared
	Names    int         `json:"names"`    // how many there are
	Whole    int         `json:"whole"`    // of how many all handoffs are
	Make     string      `json:"make"`     // "build" or "scatter" the ring first, or empty
	Power    int         `json:"part_power"`
	Replicas float64     `json:"replicas"`
	Steps    []swiftStep `json:"steps"`
}

// swiftStep is what is done before a rebalance.
type swiftStep struct {
	Add      []*ring.Device `json:"add"`
	Remove   []int          `json:"remove"`
	Replicas float64        `json:"replicas"`
}

// shape makes the devices of a cluster: of each region, zone and node as many as
// there are of the next.
func shape(regions, zones, nodes, disks int) []*ring.Device {
	list := make([]*ring.Device, regions*zones*nodes*disks)
	for i := range list {
		disk, node, zone, region := i%disks, i/disks%nodes, i/disks/nodes%zones, i/disks/nodes/zones
		ip := fmt.Sprintf("10.%d.%d.%d", region, zone, node)
		list[i] = &ring.Device{
			ID: i, Region: region + 1, Zone: zone, IP: ip, Port: 6200, ReplicationIP: "10.200" + ip[4:], ReplicationPort: 6300,
			Name: fmt.Sprintf("sd%d", disk), Weight: float64(1000 * (1 + i%3)), Meta: fmt.Sprintf("Gestell %d, übrig <&>", i),
		}
	}
	return list
}

// ours builds a ring with our builder.
func ours(b *builder.Builder, err error) func(devices []*ring.Device) (*ring.Ring, error) {
	return func(devices []*ring.Device) (*ring.Ring, error) {
		if err != nil {
			return nil, err
		}
		for _, d := range devices {
			if _, err := b.Add(*d); err != nil {
				return nil, err
			}
		}
		if _, err := b.Rebalance(builder.Options{Seed: 1}); err != nil {
			return nil, err
		}
		return b.Ring()
	}
}

// scattered is a ring whose partitions are anywhere on some of the devices, with holes
// in the list of devices and a short last row.
func scattered(power, replicas int, last float64) func(devices []*ring.Device) (*ring.Ring, error) {
	return func(devices []*ring.Device) (*ring.Ring, error) {
		list := slices.Clone(devices)
		var ids []uint32
		for i := range list {
			switch i % 7 {
			case 3:
				list[i] = nil
			case 5: // a device that holds nothing
			default:
				ids = append(ids, uint32(i))
			}
		}
		chance := rand.New(rand.NewPCG(1, 2))
		rows := make([][]uint32, replicas)
		for i := range rows {
			n := 1 << power
			if i == replicas-1 {
				n = int(last * float64(n))
			}
			rows[i] = make([]uint32, n)
			for p := range rows[i] {
				rows[i][p] = ids[chance.IntN(len(ids))]
			}
		}
		return ring.New(ring.Data{Devices: list, PartPower: power, Version: 12, Rows: rows})
	}
}

// TestRingsOfOursInSwift: rings that are built and written here load in Swift, and
// it finds what we find.
func TestRingsOfOursInSwift(t *testing.T) {
	t.Parallel()
	swift := startSwift(t)
	const names = 100_000
	rings := map[string]struct {
		devices []*ring.Device
		make    func([]*ring.Device) (*ring.Ring, error)
	}{
		"one disk":                          {shape(1, 1, 1, 1), ours(builder.New(4, 1, 1))},
		"one node":                          {shape(1, 1, 1, 12), ours(builder.New(8, 3, 1))},
		"a zone of nodes":                   {shape(1, 1, 8, 3), ours(builder.New(10, 3, 1))},
		"zones":                             {shape(1, 4, 3, 4), ours(builder.New(12, 3, 1))},
		"regions":                           {shape(3, 2, 2, 5), ours(builder.New(14, 4, 1))},
		"steps of one":                      {shape(2, 3, 3, 4), ours(builder.New(16, 3, 1))},
		"steps of two":                      {shape(2, 3, 4, 6), ours(builder.New(17, 3, 1))},
		"steps of two, 3.25 replicas":       {shape(3, 3, 5, 8), scattered(17, 4, 0.25)},
		"holes, 1.001 replicas":             {shape(2, 2, 2, 9), scattered(11, 2, 0.001)},
		"more devices than partitions, 5.5": {shape(4, 5, 4, 10), scattered(7, 6, 0.5)},
	}
	for title, tt := range rings {
		t.Run(title, func(t *testing.T) {
			r, err := tt.make(tt.devices)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "object.ring.gz")
			if err := r.Save(path); err != nil {
				t.Fatal(err)
			}
			swift.compare(t, swiftTask{Ring: path, Names: names / len(rings)})
		})
	}
}

// TestRingsOfSwiftsHere: rings that Swift's builder makes and writes load here, and we
// find what Swift finds.
func TestRingsOfSwiftsHere(t *testing.T) {
	t.Parallel()
	swift := startSwift(t)
	const names = 100_000
	one := func(power int, replicas float64, devices []*ring.Device) swiftTask {
		return swiftTask{Make: "build", Power: power, Replicas: replicas, Steps: []swiftStep{{Add: devices, Replicas: replicas}}}
	}
	grown := one(10, 2, shape(1, 3, 2, 3))
	more := shape(2, 3, 3, 3)[27:]
	for _, d := range more {
		d.ID += 10 // leaves a hole
	}
	grown.Steps = append(grown.Steps,
		swiftStep{Add: more, Replicas: 2},
		swiftStep{Remove: []int{0, 5, 6, 40}, Replicas: 2.5},
		swiftStep{Replicas: 3},
	)
	steps := one(17, 3.25, shape(2, 3, 4, 6))
	steps.Make = "scatter"
	tasks := map[string]swiftTask{
		"one disk":                    one(3, 1, shape(1, 1, 1, 1)),
		"one node":                    one(8, 3, shape(1, 1, 1, 12)),
		"zones":                       one(11, 3, shape(1, 4, 3, 4)),
		"regions, 3.25 replicas":      one(12, 3.25, shape(3, 2, 3, 4)),
		"grown, shrunk and refilled":  grown,
		"2^14 partitions":             one(14, 3, shape(2, 2, 2, 2)),
		"steps of two, 3.25 replicas": steps,
	}
	for title, task := range tasks {
		t.Run(title, func(t *testing.T) {
			task.Ring = filepath.Join(t.TempDir(), "object.ring.gz")
			task.Names = names / len(tasks)
			swift.compare(t, task)
		})
	}
}

// swiftProcess is Swift's code that waits for tasks.
type swiftProcess struct {
	in        io.WriteCloser
	out       *bufio.Reader
	complaint *bytes.Buffer
	kill      func() error
	wait      func() error
}

func startSwift(t *testing.T) *swiftProcess {
	t.Helper()
	cmd := exec.Command(debianPython, "-c", swiftRing)
	s := &swiftProcess{complaint: new(bytes.Buffer)}
	cmd.Stderr = s.complaint
	var err error
	if s.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("no Python to run Swift with, `make clients` installs Debian's python3-swift: %v", err)
	}
	s.out = bufio.NewReaderSize(out, 1<<16)
	s.kill = cmd.Process.Kill
	s.wait = sync.OnceValue(cmd.Wait)
	stuck := time.AfterFunc(4*time.Minute, func() { _ = s.kill() }) // it may have ended
	t.Cleanup(func() {
		stuck.Stop()
		_ = s.in.Close() // which ends it, if it has not ended
		if err := s.wait(); err != nil && !t.Failed() {
			t.Errorf("Swift: %v\n%s", err, s.complaint)
		}
	})
	if hello, err := s.out.ReadString('\n'); err != nil || hello != "hello\n" {
		_ = s.kill()
		t.Fatalf("no Swift to compare with, `make clients` installs Debian's python3-swift: %q, %v, %v\n%s",
			hello, err, s.wait(), s.complaint)
	}
	return s
}

// compare has Swift make the ring of the task, if it is to, and look up names in it.
// We must find the same in the file. After a failure there is no other task.
func (s *swiftProcess) compare(t *testing.T, task swiftTask) {
	t.Helper()
	task.Prefix, task.Suffix, task.Handoffs, task.Whole = "prä", "fix and more", 7, 100
	hasher, err := name.NewHasher(task.Prefix, task.Suffix)
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan error, 1)
	go func() { asked <- ask(s.in, task) }()
	failed := compareAnswers(s.out, task, hasher)
	if failed != nil {
		_ = s.kill() // so that nobody waits for it
	}
	if err := <-asked; failed != nil || err != nil {
		t.Fatalf("%v\n%v, %v\n%s", failed, err, s.wait(), s.complaint)
	}
}

func ask(to io.Writer, task swiftTask) error {
	w := bufio.NewWriterSize(to, 1<<16)
	enc := json.NewEncoder(w)
	if err := enc.Encode(task); err != nil {
		return err
	}
	for i := range task.Names {
		p := pathOf(i)
		list := []string{p.Account, p.Container, p.Object}
		for list[len(list)-1] == "" {
			list = list[:len(list)-1]
		}
		if err := enc.Encode(list); err != nil {
			return err
		}
	}
	return w.Flush()
}

// pathOf is the name with a number: accounts, containers and objects, some of them
// with characters that are more than a byte, or that URLs and paths would make something of.
func pathOf(i int) name.Path {
	p := name.Path{Account: fmt.Sprintf("AUTH_%d", i)}
	if i%10 > 0 {
		p.Container = fmt.Sprintf("Bücher %d", i)
	}
	if i%10 > 1 {
		p.Object = fmt.Sprintf("%d/%%41//ö🙂\n%d.jpg", i%7, i)
	}
	return p
}

func compareAnswers(answers *bufio.Reader, task swiftTask, hasher name.Hasher) error {
	line, err := answers.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("Swift didn't load the ring: %w", err)
	}
	var about struct {
		Partitions int            `json:"partitions"`
		Replicas   float64        `json:"replicas"`
		Version    int64          `json:"version"`
		Devices    []*ring.Device `json:"devices"`
	}
	if err := json.Unmarshal(line, &about); err != nil {
		return err
	}
	r, err := ring.Load(task.Ring)
	if err != nil {
		return err
	}
	if r.Partitions() != about.Partitions || r.Replicas() != about.Replicas || r.Version() != about.Version {
		return fmt.Errorf("%d partitions, %v replicas, version %d; Swift says %d, %v, %d",
			r.Partitions(), r.Replicas(), r.Version(), about.Partitions, about.Replicas, about.Version)
	}
	devices := slices.Collect(r.Devices())
	if len(devices) != len(about.Devices) {
		return fmt.Errorf("%d devices, Swift says %d", len(devices), len(about.Devices))
	}
	for i, d := range devices {
		if got, want := fields(d), fields(about.Devices[i]); got != want {
			return fmt.Errorf("device %s, Swift says %s", got, want)
		}
	}

	var primaries []*ring.Device
	var got []byte
	for i := range task.Names {
		p := r.Partition(hasher.Hash(pathOf(i)))
		primaries = r.AppendPrimaries(primaries[:0], p)
		got = strconv.AppendUint(got[:0], uint64(p), 10)
		got = appendIDs(append(got, ' '), primaries)
		var handoffs []*ring.Device
		for d := range r.Handoffs(p) {
			if i >= task.Whole && len(handoffs) == task.Handoffs {
				break
			}
			handoffs = append(handoffs, d)
		}
		got = append(appendIDs(append(got, ' '), handoffs), '\n')
		want, err := answers.ReadSlice('\n')
		if err != nil {
			return fmt.Errorf("after %d names: %w", i, err)
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("%v: partition, primaries and handoffs %s, Swift says %s", pathOf(i), got, want)
		}
	}
	return nil
}

// fields is all that a file says of a device.
func fields(d *ring.Device) string {
	text, err := json.Marshal(d)
	return strings.TrimSpace(fmt.Sprint(string(text), err))
}

func appendIDs(b []byte, list []*ring.Device) []byte {
	for i, d := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(d.ID), 10)
	}
	return b
}
