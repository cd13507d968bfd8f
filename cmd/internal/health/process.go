package health

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"martlet/cmd/internal/config"
	"martlet/cmd/internal/node"
)

// process judges what one has said of itself.
func (j *judge) process(i int) {
	a := &j.all[i]
	p := Process{Name: j.names[i], Role: a.Role, Addresses: a.Addresses}
	defer func() { j.report.Processes = append(j.report.Processes, p) }()
	if a.Status == nil {
		p.Error = a.Err.Error()
		var strange *strangeError
		if errors.As(a.Err, &strange) {
			j.found(Warning, AboutNode, "", p.Error, i, "", "")
			return
		}
		j.found(Critical, AboutNode, "", "does not answer: "+p.Error, i, "", "")
		return
	}
	st := a.Status
	p.Reachable, p.Version, p.Uptime, p.Rings, p.Config, p.Checksum = true, st.Version, st.Uptime, st.Rings, st.Config, st.Config.Checksum()
	p.Offset, p.Within, p.Skew, p.Queues, p.Off = a.Offset.Seconds(), a.Within.Seconds(), j.skews[i].Seconds(), st.Queues, st.Off
	if st.Role != a.Role {
		j.found(Critical, AboutNode, "role", "something else answers there", i, "", "a "+st.Role)
	}
	for _, d := range st.Devices {
		p.Devices = append(p.Devices, j.device(i, &d))
	}
	for _, name := range a.Devices {
		if !slices.ContainsFunc(st.Devices, func(d node.DeviceStatus) bool { return d.Device == name }) {
			j.found(Critical, AboutDevice, "", "rings name it, and the configuration of its node does not", i, name, "")
		}
	}
	j.queues(i, st)
	for _, off := range st.Off {
		level := Note
		if slices.Contains(neededWork, off) {
			level = Warning
		}
		j.found(level, AboutWork, "", "["+off+"] is switched off", i, "", "")
	}
}

// neededWork is what a node should not be without for long.
var neededWork = []string{"replication", "replicator", "updater", "expirer", "reconciler", "store.compaction"}

// device judges one.
func (j *judge) device(i int, d *node.DeviceStatus) DeviceSummary {
	s := DeviceSummary{DeviceStatus: *d, Replicated: -1}
	found := func(l Level, about, key, text, detail string) {
		if l != Fine {
			j.found(l, about, key, text, i, d.Device, detail)
		}
	}
	if !slices.Contains(j.all[i].Devices, d.Device) {
		found(Note, AboutDevice, "", "no ring names it", "")
	}
	if !d.Mounted {
		since := ""
		if !d.Since.IsZero() {
			since = "for " + short(j.all[i].Status.Time.Sub(d.Since))
		}
		found(Critical, AboutDevice, "", "out of use: "+d.Error, since)
		return s
	}
	switch {
	case d.Error != "":
		found(Critical, AboutDevice, "", "can't be looked at: "+d.Error, "")
	case d.Loading:
		found(Warning, AboutDevice, "", "is still loading its index", "")
	}
	if d.Outages > 0 && !d.Since.IsZero() {
		found(Note, AboutDevice, "outage", "was out of use, and is back", fmt.Sprintf("%d times, last %s ago", d.Outages, short(j.all[i].Status.Time.Sub(d.Since))))
	}
	if d.Size > 0 {
		s.UsedPercent = 100 * float64(d.Size-d.Avail) / float64(d.Size)
		found(of(s.UsedPercent, j.limits.WarnFull, j.limits.CritFull), AboutDevice, "full", "is nearly full", fmt.Sprintf("%.0f%%", s.UsedPercent))
	}
	switch {
	case d.Fenced < 0:
		found(Critical, AboutReplication, "fenced", "is fenced: it was away for too long", "all of it")
	case d.Fenced > 0:
		found(Critical, AboutReplication, "fenced", "is fenced: it was away for too long", fmt.Sprintf("%d partitions", d.Fenced))
	}
	j.quarantine(d, found)
	s.Replicated = j.passes(i, d, found)
	return s
}

func (j *judge) quarantine(d *node.DeviceStatus, found func(l Level, about, key, text, detail string)) {
	sum := int64(0)
	var what []string
	for _, folder := range slices.Sorted(maps.Keys(d.Quarantined)) {
		sum += d.Quarantined[folder]
		what = append(what, fmt.Sprintf("%d %s", d.Quarantined[folder], folder))
	}
	if sum > 0 {
		level := Note
		if sum >= j.limits.WarnQuarantined {
			level = Warning
		}
		found(level, AboutQuarantine, "quarantine", "has damaged data in quarantine", strings.Join(what, ", "))
	}
}

// passes judges the replication of a device, and returns how many seconds ago the oldest of its last passes ended.
func (j *judge) passes(i int, d *node.DeviceStatus, found func(l Level, about, key, text, detail string)) (ago float64) {
	st := j.all[i].Status
	if d.Paused != "" {
		found(Warning, AboutReplication, "paused", "replication is paused", strings.TrimPrefix(d.Paused, "replication of the device is paused "))
	}
	if d.ToGet.Objects > 0 {
		detail := fmt.Sprintf("%d fragments", d.ToGet.Objects)
		if d.ToGet.ETASeconds != nil {
			detail += ", " + short(time.Duration(*d.ToGet.ETASeconds*float64(time.Second)))
		}
		found(Warning, AboutRebuild, "rebuild", "fragments are being made again", detail)
	}
	if d.ToSend.Objects > 0 {
		found(Note, AboutRebuild, "send", "others lack what it has", fmt.Sprintf("%d objects", d.ToSend.Objects))
	}
	if slices.Contains(st.Off, "replicator") || slices.Contains(st.Off, "replication") || len(d.Passes) == 0 {
		return -1
	}
	ago = 0
	oldest, never := "", false
	for _, p := range d.Passes {
		age := st.Uptime
		if !p.Ended.IsZero() {
			age = max(0, st.Time.Sub(p.Ended).Seconds())
		}
		if oldest == "" || age > ago {
			ago, oldest, never = age, p.Kind, p.Ended.IsZero()
		}
		if p.Failed > 0 {
			text := "the last pass could not confirm everything"
			peer := hostOf(strings.Split(p.Peer+"/", "/")[0])
			if p.Peer != "" {
				text += " with " + peer
			}
			found(Warning, AboutReplication, "failed "+peer, text+": "+p.Why, p.Kind)
		}
	}
	age := time.Duration(ago * float64(time.Second))
	text, detail := "no pass has ended for long", oldest+" "+short(age)
	if never {
		text, ago = "no pass has ended since it was started", -1
	}
	found(of(age, j.limits.WarnReplication, j.limits.CritReplication), AboutReplication, "", text, detail)
	return ago
}

// queueText is what waits in a queue.
var queueText = map[string]string{
	node.QueueUpdates: "rows wait to be told to containers", node.QueueExpired: "objects are past their end and still there",
	node.QueueMisplaced: "containers have objects in the place of another policy", node.QueueReaped: "deleted accounts still have something in them",
}

func (j *judge) queues(i int, st *node.Status) {
	for _, q := range st.Queues {
		if q.Length == 0 {
			continue
		}
		age := time.Duration(q.Age * float64(time.Second))
		level := of(age, j.limits.WarnQueueAge, j.limits.CritQueueAge)
		if q.Length >= j.limits.WarnQueue || q.Queue == node.QueueReaped {
			level = max(level, Warning)
		}
		if level == Fine {
			continue
		}
		text := queueText[q.Queue]
		if text == "" {
			text = q.Queue + " has something left"
		}
		j.found(level, AboutQueue, q.Queue, text, i, "", fmt.Sprintf("%d, %s", q.Length, short(age)))
	}
}

// finish puts the worst first, and says all in a line.
func (j *judge) finish() {
	r := j.report
	for i := range r.Findings {
		f := &r.Findings[i]
		slices.SortStableFunc(f.Where, func(a, b Spot) int { return strings.Compare(a.Place, b.Place) })
		f.Where = slices.Compact(f.Where)
		r.Level = max(r.Level, f.Level)
	}
	if r.Level == Note {
		r.Level = Fine
	}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		if a.Level != b.Level {
			return int(b.Level - a.Level)
		}
		if c := slices.Index(order, a.About) - slices.Index(order, b.About); c != 0 {
			return c
		}
		return strings.Compare(a.Text, b.Text)
	})
	for i := range r.Processes {
		r.Processes[i].Level = j.byLevel[r.Processes[i].Name]
	}
	slices.SortStableFunc(r.Processes, func(a, b Process) int { return int(b.Level - a.Level) })
	r.Summary = j.summary()
}

// summary is what counts, in one line.
func (j *judge) summary() string {
	r := j.report
	if r.Level == Fine {
		fullest, devices := 0.0, 0
		for _, p := range r.Processes {
			devices += len(p.Devices)
			for _, d := range p.Devices {
				fullest = max(fullest, d.UsedPercent)
			}
		}
		return fmt.Sprintf("OK: %s and %s answer, %s in use, the fullest is %.0f%% full", count(Nodes(j.all, config.KindStorage), "storage node", "storage nodes"),
			count(Nodes(j.all, config.KindProxy), "proxy", "proxies"), count(devices, "device", "devices"), fullest)
	}
	var parts []string
	more := 0
	for _, f := range r.Findings {
		switch {
		case f.Level < Warning:
		case len(parts) < 3 && (f.Level == r.Level || len(parts) == 0):
			where := f.Where[0].Place
			if n := len(f.Where) - 1; n > 0 {
				where += fmt.Sprintf(" and %d more", n)
			}
			parts = append(parts, where+": "+f.Text)
		default:
			more++
		}
	}
	text := strings.ToUpper(r.Level.String()) + ": " + strings.Join(parts, "; ")
	if more > 0 {
		text += fmt.Sprintf("; and %s", count(more, "thing more", "things more"))
	}
	return text
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
