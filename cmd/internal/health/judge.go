package health

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"martlet/cmd/internal/config"
	"martlet/cmd/internal/node"
)

// Level says how bad something is.
type Level int

// The levels. A note is nothing to act on.
const (
	Fine Level = iota
	Note
	Warning
	Critical
)

// String returns the level as reports have it.
func (l Level) String() string { return [...]string{"ok", "note", "warning", "critical"}[l] }

// MarshalText implements encoding.TextMarshaler.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// Limits are from when on what is measured is worth a warning, or critical.
type Limits struct {
	WarnSkew, CritSkew               time.Duration // of clocks, from that in the middle of all
	WarnFull, CritFull               float64       // percent of a device
	WarnReplication, CritReplication time.Duration // since a pass over a kind of data on a device has ended
	WarnQueue                        int64         // things in a queue of a node
	WarnQueueAge, CritQueueAge       time.Duration // for which something waits in it
	WarnQuarantined                  int64         // damaged things that a device keeps aside
}

// DefaultLimits are those of the alerts in deploy/prometheus, where there is one.
func DefaultLimits() Limits {
	return Limits{
		WarnSkew: time.Second, CritSkew: 30 * time.Second, WarnFull: 90, CritFull: 97,
		WarnReplication: time.Hour, CritReplication: 24 * time.Hour,
		WarnQueue: 100_000, WarnQueueAge: time.Hour, CritQueueAge: 24 * time.Hour, WarnQuarantined: 1,
	}
}

// Check says what is wrong with the limits, naming the flag.
func (l Limits) Check() error {
	for _, one := range []struct {
		flag       string
		warn, crit float64
	}{
		{"skew", l.WarnSkew.Seconds(), l.CritSkew.Seconds()}, {"full", l.WarnFull, l.CritFull},
		{"replication", l.WarnReplication.Seconds(), l.CritReplication.Seconds()}, {"queue-age", l.WarnQueueAge.Seconds(), l.CritQueueAge.Seconds()},
	} {
		if one.warn <= 0 || one.crit < one.warn {
			return fmt.Errorf("--warn-%s must be above 0, and --crit-%s not below it", one.flag, one.flag)
		}
	}
	if l.WarnQueue <= 0 || l.WarnQuarantined <= 0 {
		return errors.New("--warn-queue and --warn-quarantined must be above 0")
	}
	return nil
}

// What findings are about.
const (
	AboutNode        = "node"
	AboutVersion     = "version"
	AboutRing        = "ring"
	AboutConfig      = "config"
	AboutClock       = "clock"
	AboutDevice      = "device"
	AboutReplication = "replication"
	AboutRebuild     = "rebuild"
	AboutQueue       = "queue"
	AboutQuarantine  = "quarantine"
	AboutWork        = "work"
)

// order is that in which findings of one level are told.
var order = []string{
	AboutNode, AboutDevice, AboutRing, AboutConfig, AboutClock, AboutReplication, AboutRebuild, AboutQueue, AboutQuarantine, AboutWork, AboutVersion,
}

// A Finding is something of one kind that is wrong, in as many places as it is.
type Finding struct {
	Level Level  `json:"level"`
	About string `json:"about"`
	Text  string `json:"text"`
	Where []Spot `json:"where"`

	key string // findings that have it in common are one
}

// Spot is a place where something is wrong.
type Spot struct {
	Place  string `json:"place"`            // a process, or a device as "process/device"
	Detail string `json:"detail,omitempty"` // what is to be said of just that place
}

// Process is how one is, in a few words.
type Process struct {
	Name      string             `json:"name"` // as findings have it
	Role      string             `json:"role"`
	Addresses []string           `json:"addresses"` // under which it was asked
	Level     Level              `json:"level"`     // of the worst that was found of it
	Reachable bool               `json:"reachable"`
	Error     string             `json:"error,omitempty"` // why not
	Version   string             `json:"version,omitempty"`
	Uptime    float64            `json:"uptime_seconds"`
	Offset    float64            `json:"clock_offset_seconds"` // from the clock of who asked; it may be wrong by Within
	Within    float64            `json:"clock_offset_within_seconds"`
	Skew      float64            `json:"clock_skew_seconds"` // from the clock in the middle
	Checksum  string             `json:"config_checksum,omitempty"`
	Config    config.Alike       `json:"config,omitempty"`
	Rings     []node.RingInUse   `json:"rings,omitempty"`
	Off       []string           `json:"off,omitempty"`
	Devices   []DeviceSummary    `json:"devices,omitempty"`
	Queues    []node.QueueStatus `json:"queues,omitempty"`
}

// DeviceSummary is a device of a process, and how much of it is used.
type DeviceSummary struct {
	node.DeviceStatus
	UsedPercent float64 `json:"used_percent"`
	Replicated  float64 `json:"replicated_seconds_ago"` // when the oldest of its last passes ended; -1 where it has had none, or there is none
}

// Report is what there is to say of a cluster.
type Report struct {
	Format    int       `json:"format"` // 1; fields may come, and keep what they mean
	Cluster   string    `json:"cluster"`
	Time      time.Time `json:"time"`
	Level     Level     `json:"level"`
	Summary   string    `json:"summary"` // one line
	Findings  []Finding `json:"findings"`
	Processes []Process `json:"processes"` // those with the worst first
}

// judge is a report that is being made.
type judge struct {
	own     *Own
	all     []Answer
	names   []string
	limits  Limits
	now     time.Time
	report  *Report
	skews   []time.Duration // of those that answered
	byLevel map[string]Level
}

// Judge says how a cluster is whose processes have answered so at a time.
func Judge(own *Own, answers []Answer, limits Limits, now time.Time) *Report {
	j := &judge{own: own, all: answers, names: names(answers), limits: limits, now: now, byLevel: map[string]Level{}}
	j.report = &Report{Format: 1, Cluster: own.Cluster, Time: now, Findings: []Finding{}, Processes: []Process{}}
	j.clocks()
	j.versions()
	j.rings()
	j.config()
	for i := range j.all {
		j.process(i)
	}
	j.finish()
	return j.report
}

// found adds something that is wrong at a place of a process; -1 is the machine of who asks.
func (j *judge) found(l Level, about, key, text string, process int, device, detail string) {
	place := "this machine"
	if process >= 0 {
		place = j.names[process]
		j.byLevel[place] = max(j.byLevel[place], l)
	}
	if device != "" {
		place += "/" + device
	}
	key = about + "\x00" + cmp.Or(key, text)
	i := slices.IndexFunc(j.report.Findings, func(f Finding) bool { return f.key == key && f.Level == l })
	if i < 0 {
		i = len(j.report.Findings)
		j.report.Findings = append(j.report.Findings, Finding{Level: l, About: about, Text: text, key: key})
	}
	f := &j.report.Findings[i]
	f.Where = append(f.Where, Spot{place, detail})
}

// of returns the level of a measure; Fine below both limits.
func of[T cmp.Ordered](value, warn, crit T) Level {
	switch {
	case value >= crit:
		return Critical
	case value >= warn:
		return Warning
	}
	return Fine
}

// clocks compares them with the one in the middle. Of two nobody can say which is wrong: they are compared with the one
// of this machine.
func (j *judge) clocks() {
	var offsets []time.Duration
	for _, a := range j.all {
		if a.Status != nil {
			offsets = append(offsets, a.Offset)
		}
	}
	middle := time.Duration(0)
	if len(offsets) > 2 {
		middle = median(offsets)
	}
	j.skews = make([]time.Duration, len(j.all))
	for i, a := range j.all {
		if a.Status == nil {
			continue
		}
		j.skews[i] = a.Offset - middle
		sure := max(0, j.skews[i].Abs()-a.Within)
		if l := of(sure, j.limits.WarnSkew, j.limits.CritSkew); l != Fine {
			j.found(l, AboutClock, "", "the clock is wrong", i, "", signed(j.skews[i]))
		}
	}
	if l := of(middle.Abs(), j.limits.WarnSkew, j.limits.CritSkew); l != Fine {
		j.found(Note, AboutClock, "here", "the clock of who asks is wrong", -1, "", signed(-middle))
	}
}

func (j *judge) versions() {
	var all []string
	for _, a := range j.all {
		if a.Status != nil {
			all = append(all, a.Status.Version)
		}
	}
	usual := most(all, "")
	for i, a := range j.all {
		if a.Status != nil && a.Status.Version != usual {
			j.found(Warning, AboutVersion, "", "another version than "+usual+", which most run", i, "", a.Status.Version)
		}
	}
}

// rings compares what processes go by with the newest there is, and with each other.
func (j *judge) rings() {
	for _, own := range j.own.Rings {
		newest := own.Version
		for _, a := range j.all {
			if r := ringOf(a, own.Ring); r != nil {
				newest = max(newest, r.Version)
			}
		}
		var digests []string
		mine := ""
		if own.Version == newest {
			mine = own.Digest
		}
		for _, a := range j.all {
			if r := ringOf(a, own.Ring); r != nil && r.Version == newest {
				digests = append(digests, r.Digest)
			}
		}
		if len(digests) == 0 {
			digests = []string{mine}
		}
		right := most(digests, mine)
		j.ring(own.Ring, newest, right, -1, &own)
		for i, a := range j.all {
			if r := ringOf(a, own.Ring); r != nil {
				j.ring(own.Ring, newest, right, i, r)
			}
		}
	}
}

// ring judges one ring of one process.
func (j *judge) ring(name string, newest int64, digest string, process int, r *node.RingInUse) {
	detail := fmt.Sprintf("version %d", r.Version)
	switch {
	case r.Version < newest:
		j.found(Warning, AboutRing, "", fmt.Sprintf("%s: older than version %d, which others have", name, newest), process, "", detail)
	case r.Digest != digest:
		j.found(Critical, AboutRing, "", fmt.Sprintf("%s: version %d says something else than elsewhere", name, newest), process, "", "")
	}
	if r.Error != "" {
		j.found(Warning, AboutRing, name+" refused", name+": the file that is there is not taken: "+r.Error, process, "", "")
	}
}

func ringOf(a Answer, name string) *node.RingInUse {
	if a.Status == nil {
		return nil
	}
	for i := range a.Status.Rings {
		if a.Status.Rings[i].Ring == name {
			return &a.Status.Rings[i]
		}
	}
	return nil
}

// grave are the settings that, where they differ, have data be looked for in the wrong place, or not be served.
var grave = []string{config.AlikeName, config.AlikeHash, config.AlikePolicies}

// config compares what must be alike, as far as processes have it.
func (j *judge) config() {
	keys := map[string]bool{}
	for _, a := range j.all {
		if a.Status != nil {
			for key := range a.Status.Config {
				keys[key] = true
			}
		}
	}
	for key := range keys {
		own, has := j.own.Alike[key]
		var values []string
		for _, a := range j.all {
			if a.Status != nil && a.Status.Config[key] != "" {
				values = append(values, a.Status.Config[key])
			}
		}
		usual := most(values, own)
		level := Warning
		if slices.Contains(grave, key) {
			level = Critical
		}
		text := key + " is not what most have"
		if has && own != usual {
			j.found(level, AboutConfig, "", text, -1, "", j.own.File+": "+own)
		}
		for i, a := range j.all {
			if a.Status != nil && a.Status.Config[key] != "" && a.Status.Config[key] != usual {
				j.found(level, AboutConfig, "", text, i, "", a.Status.Config[key])
			}
		}
	}
}

// signed writes a difference of clocks.
func signed(d time.Duration) string {
	text := short(d.Abs())
	if d < 0 {
		return "-" + text
	}
	return "+" + text
}

// short writes a span of time in one or two units.
func short(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%.1f ms", d.Seconds()*1e3)
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%.0f min", d.Minutes())
	case d < 48*time.Hour:
		return fmt.Sprintf("%.0f h", d.Hours())
	}
	return fmt.Sprintf("%.0f d", d.Hours()/24)
}
