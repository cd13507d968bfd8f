package health

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"martlet/cmd/internal/config"
	"martlet/cmd/internal/node"
	"martlet/replicator"
)

var noon = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

// sound is a cluster of three storage nodes of two devices and a proxy with which nothing is wrong, and the operator's
// own files.
func sound() (*Own, []Answer) {
	rings := func() []node.RingInUse {
		return []node.RingInUse{{Ring: "account", Version: 4, Digest: "aa"}, {Ring: "container", Version: 4, Digest: "cc"}, {Ring: "object", Version: 4, Digest: "00"}}
	}
	alike := config.Alike{config.AlikeName: "c", config.AlikeHash: "1234", config.AlikePolicies: "0 gold default", config.AlikeMetaCount: "90"}
	own := &Own{File: "proxy.toml", Cluster: "c", Alike: alike, Rings: rings()}
	var all []Answer
	for n := 1; n <= 3; n++ {
		st := &node.Status{
			Process: fmt.Sprint("p", n), Role: config.KindStorage, Version: "v1", Time: noon, Uptime: 86400 * 30, Rings: rings(),
			Config: config.Alike{config.AlikeName: "c", config.AlikeHash: "1234", config.AlikePolicies: "0 gold default", config.AlikeMetaCount: "90", config.AlikeReclaim: "168h0m0s"},
			Queues: []node.QueueStatus{{Queue: node.QueueUpdates, Known: true}, {Queue: node.QueueExpired, Known: true}, {Queue: node.QueueReaped, Known: true}},
		}
		for _, name := range []string{"d1", "d2"} {
			d := node.DeviceStatus{DeviceUsage: node.DeviceUsage{Device: name, Mounted: true, Size: 1000, Used: 400, Avail: 600}, Quarantined: map[string]int64{}}
			for _, kind := range []string{"account", "container", "object"} {
				d.Passes = append(d.Passes, replicator.LastPass{Kind: kind, Ended: noon.Add(-time.Minute), Whole: noon.Add(-time.Minute)})
			}
			st.Devices = append(st.Devices, d)
		}
		all = append(all, Answer{Role: config.KindStorage, Addresses: []string{fmt.Sprintf("10.0.0.%d:6200", n)}, Devices: []string{"d1", "d2"}, Status: st})
	}
	st := &node.Status{Process: "p4", Role: config.KindProxy, Version: "v1", Time: noon, Uptime: 5, Rings: rings(), Config: alike}
	return own, append(all, Answer{Role: config.KindProxy, Addresses: []string{"10.0.0.9:6209"}, Status: st})
}

// Each kind of fault gives one line, of its level, at its place, and nothing else does; what is said of the cluster as a
// whole is the worst.
func TestEachFaultIsNamed(t *testing.T) {
	eta := 7200.0
	d := func(all []Answer) *node.DeviceStatus { return &all[1].Status.Devices[0] }
	for what, tt := range map[string]struct {
		change func(own *Own, all []Answer)
		level  Level
		about  string
		text   string
		where  string // places, and details in brackets
	}{
		"nothing":   {func(*Own, []Answer) {}, Fine, "", "", ""},
		"node down": {func(_ *Own, a []Answer) { a[1].Status, a[1].Err = nil, errors.New("connection refused") }, Critical, AboutNode, "does not answer: connection refused", "10.0.0.2"},
		"proxy down": {func(_ *Own, a []Answer) { a[3].Status, a[3].Err = nil, errors.New("no answer within 5s") }, Critical, AboutNode,
			"does not answer: no answer within 5s", "10.0.0.9"},
		"earlier version":    {func(_ *Own, a []Answer) { a[0].Status, a[0].Err = nil, &strangeError{404} }, Warning, AboutNode, "answers 404", "10.0.0.1"},
		"not a proxy":        {func(_ *Own, a []Answer) { a[3].Status.Role = config.KindStorage }, Critical, AboutNode, "something else answers there", "10.0.0.9 [a storage]"},
		"another version":    {func(_ *Own, a []Answer) { a[2].Status.Version = "v2" }, Warning, AboutVersion, "another version than v1", "10.0.0.3 [v2]"},
		"older ring":         {func(_ *Own, a []Answer) { a[0].Status.Rings[2].Version = 3 }, Warning, AboutRing, "object: older than version 4", "10.0.0.1 [version 3]"},
		"own ring is older":  {func(o *Own, _ []Answer) { o.Rings[0].Version = 3 }, Warning, AboutRing, "account: older than version 4", "this machine [version 3]"},
		"own ring is newer":  {func(o *Own, _ []Answer) { o.Rings[0].Version = 5 }, Warning, AboutRing, "account: older than version 5", "10.0.0.1 [version 4], 10.0.0.2 [version 4], 10.0.0.3 [version 4], 10.0.0.9 [version 4]"},
		"ring differs":       {func(_ *Own, a []Answer) { a[3].Status.Rings[1].Digest = "xx" }, Critical, AboutRing, "container: version 4 says something else", "10.0.0.9"},
		"own ring differs":   {func(o *Own, _ []Answer) { o.Rings[1].Digest = "xx" }, Critical, AboutRing, "container: version 4 says something else", "this machine"},
		"ring refused":       {func(_ *Own, a []Answer) { a[0].Status.Rings[0].Error = "damaged" }, Warning, AboutRing, "account: the file that is there is not taken: damaged", "10.0.0.1"},
		"hash path":          {func(_ *Own, a []Answer) { a[1].Status.Config[config.AlikeHash] = "99" }, Critical, AboutConfig, config.AlikeHash, "10.0.0.2 [99]"},
		"policies":           {func(_ *Own, a []Answer) { a[1].Status.Config[config.AlikePolicies] = "0 tin" }, Critical, AboutConfig, config.AlikePolicies, "10.0.0.2 [0 tin]"},
		"reclaim age":        {func(_ *Own, a []Answer) { a[1].Status.Config[config.AlikeReclaim] = "1h" }, Warning, AboutConfig, config.AlikeReclaim, "10.0.0.2 [1h]"},
		"own settings":       {func(o *Own, _ []Answer) { o.Alike = config.Alike{config.AlikeHash: "99"} }, Critical, AboutConfig, config.AlikeHash, "this machine [proxy.toml: 99]"},
		"a key of some only": {func(_ *Own, a []Answer) { a[1].Status.Config["new"] = "x" }, Fine, "", "", ""},
		"clock":              {func(_ *Own, a []Answer) { a[2].Offset = -2 * time.Second }, Warning, AboutClock, "the clock is wrong", "10.0.0.3 [-2 s]"},
		"clock, far":         {func(_ *Own, a []Answer) { a[2].Offset = time.Minute }, Critical, AboutClock, "the clock is wrong", "10.0.0.3 [+1 min]"},
		"clock, not certain": {func(_ *Own, a []Answer) { a[2].Offset, a[2].Within = 2*time.Second, 1500*time.Millisecond }, Fine, "", "", ""},
		"clock of who asks": {func(_ *Own, a []Answer) {
			for i := range a {
				a[i].Offset = time.Minute
			}
		}, Fine, AboutClock, "the clock of who asks is wrong", "this machine [-1 min]"},
		"not in the configuration": {func(_ *Own, a []Answer) { a[1].Devices = append(a[1].Devices, "d3") }, Critical, AboutDevice, "rings name it", "10.0.0.2/d3"},
		"not in a ring":            {func(_ *Own, a []Answer) { a[1].Devices = a[1].Devices[1:] }, Fine, AboutDevice, "no ring names it", "10.0.0.2/d1"},
		"unmounted": {func(_ *Own, a []Answer) {
			*d(a) = node.DeviceStatus{DeviceUsage: node.DeviceUsage{Device: "d1"}, Error: "its folder does not exist", Since: noon.Add(-3 * time.Hour), Outages: 1}
		}, Critical, AboutDevice, "out of use: its folder does not exist", "10.0.0.2/d1 [for 3 h]"},
		"hangs":              {func(_ *Own, a []Answer) { d(a).Error = "it does not answer" }, Critical, AboutDevice, "can't be looked at: it does not answer", "10.0.0.2/d1"},
		"loading":            {func(_ *Own, a []Answer) { d(a).Loading = true }, Warning, AboutDevice, "is still loading", "10.0.0.2/d1"},
		"was away":           {func(_ *Own, a []Answer) { d(a).Outages, d(a).Since = 2, noon.Add(-time.Hour) }, Fine, AboutDevice, "was out of use", "10.0.0.2/d1 [2 times, last 60 min ago]"},
		"nearly full":        {func(_ *Own, a []Answer) { d(a).Avail = 100 }, Warning, AboutDevice, "is nearly full", "10.0.0.2/d1 [90%]"},
		"full":               {func(_ *Own, a []Answer) { d(a).Avail = 10 }, Critical, AboutDevice, "is nearly full", "10.0.0.2/d1 [99%]"},
		"not quite full":     {func(_ *Own, a []Answer) { d(a).Avail = 101 }, Fine, "", "", ""},
		"fenced":             {func(_ *Own, a []Answer) { d(a).Fenced = 7 }, Critical, AboutReplication, "is fenced", "10.0.0.2/d1 [7 partitions]"},
		"all fenced":         {func(_ *Own, a []Answer) { d(a).Fenced = -1 }, Critical, AboutReplication, "is fenced", "10.0.0.2/d1 [all of it]"},
		"quarantine":         {func(_ *Own, a []Answer) { d(a).Quarantined["objects-1"] = 3 }, Warning, AboutQuarantine, "in quarantine", "10.0.0.2/d1 [3 objects-1]"},
		"paused":             {func(_ *Own, a []Answer) { d(a).Paused = "since noon" }, Warning, AboutReplication, "paused", "10.0.0.2/d1 [since noon]"},
		"replication late":   {func(_ *Own, a []Answer) { d(a).Passes[1].Ended = noon.Add(-3 * time.Hour) }, Warning, AboutReplication, "no pass has ended for long", "10.0.0.2/d1 [container 3 h]"},
		"replication stands": {func(_ *Own, a []Answer) { d(a).Passes[1].Ended = noon.Add(-72 * time.Hour) }, Critical, AboutReplication, "no pass has ended for long", "10.0.0.2/d1 [container 3 d]"},
		"never replicated": {func(_ *Own, a []Answer) {
			d(a).Passes[2].Ended = time.Time{}
			a[1].Status.Uptime = 7200
		}, Warning, AboutReplication, "no pass has ended since it was started", "10.0.0.2/d1 [object 2 h]"},
		"just begun": {func(_ *Own, a []Answer) {
			d(a).Passes[2].Ended = time.Time{}
			a[1].Status.Uptime = 7
		}, Fine, "", "", ""},
		"replication fails": {func(_ *Own, a []Answer) {
			p := &d(a).Passes[2]
			p.Failed, p.Peer, p.Why = 9, "10.0.2.3:6203/d1", "connection refused"
		}, Warning, AboutReplication, "could not confirm everything with 10.0.2.3: connection refused", "10.0.0.2/d1 [object]"},
		"rebuild": {func(_ *Own, a []Answer) { d(a).ToGet = replicator.ToGet{Objects: 12, ETASeconds: &eta} }, Warning, AboutRebuild,
			"fragments are being made again", "10.0.0.2/d1 [12 fragments, 2 h]"},
		"to send":        {func(_ *Own, a []Answer) { d(a).ToSend.Objects = 5 }, Fine, AboutRebuild, "others lack what it has", "10.0.0.2/d1 [5 objects]"},
		"queue":          {func(_ *Own, a []Answer) { a[0].Status.Queues[0].Length = 200_000 }, Warning, AboutQueue, "rows wait", "10.0.0.1 [200000, 0.0 ms]"},
		"queue is old":   {func(_ *Own, a []Answer) { a[0].Status.Queues[0].Length, a[0].Status.Queues[0].Age = 1, 7300 }, Warning, AboutQueue, "rows wait", "10.0.0.1 [1, 2 h]"},
		"queue is stale": {func(_ *Own, a []Answer) { a[0].Status.Queues[1].Length, a[0].Status.Queues[1].Age = 1, 1e6 }, Critical, AboutQueue, "past their end", "10.0.0.1 [1, 12 d]"},
		"queue moves":    {func(_ *Own, a []Answer) { a[0].Status.Queues[0].Length, a[0].Status.Queues[0].Age = 99, 30 }, Fine, "", "", ""},
		"reaper":         {func(_ *Own, a []Answer) { a[0].Status.Queues[2].Length = 1 }, Warning, AboutQueue, "deleted accounts", "10.0.0.1 [1, 0.0 ms]"},
		"switched off":   {func(_ *Own, a []Answer) { a[0].Status.Off = []string{"replicator"} }, Warning, AboutWork, "[replicator] is switched off", "10.0.0.1"},
		"not needed":     {func(_ *Own, a []Answer) { a[0].Status.Off = []string{"store.scrub"} }, Fine, AboutWork, "[store.scrub] is switched off", "10.0.0.1"},
	} {
		own, all := sound()
		tt.change(own, all)
		r := Judge(own, all, DefaultLimits(), noon)
		if r.Level != tt.level || !strings.HasPrefix(r.Summary, map[bool]string{true: "OK", false: strings.ToUpper(tt.level.String())}[tt.level == Fine]+": ") {
			t.Errorf("%s: %v, %q, want %v", what, r.Level, r.Summary, tt.level)
		}
		if tt.about == "" {
			if len(r.Findings) > 0 {
				t.Errorf("%s: %+v, want nothing", what, r.Findings)
			}
			continue
		}
		if len(r.Findings) != 1 {
			t.Errorf("%s: %+v, want one thing", what, r.Findings)
			continue
		}
		f := r.Findings[0]
		if f.Level != max(tt.level, Note) || f.About != tt.about || !strings.Contains(f.Text, tt.text) || places(f) != tt.where {
			t.Errorf("%s: %v %s %q at %s, want %v %s %q at %s", what, f.Level, f.About, f.Text, places(f), max(tt.level, Note), tt.about, tt.text, tt.where)
		}
		if worst := r.Processes[0]; tt.level != Fine && !strings.HasPrefix(tt.where, "this") && (worst.Level != tt.level || !strings.HasPrefix(tt.where, worst.Name)) {
			t.Errorf("%s: %s is first, with %v", what, worst.Name, worst.Level)
		}
	}
}

func places(f Finding) string {
	var all []string
	for _, s := range f.Where {
		text := s.Place
		if s.Detail != "" {
			text += " [" + s.Detail + "]"
		}
		all = append(all, text)
	}
	return strings.Join(all, ", ")
}

// One fault in many places is one line, and the worst is first.
func TestFindingsAreOne(t *testing.T) {
	own, all := sound()
	for i := range 3 {
		all[i].Status.Devices[1].Error, all[i].Status.Devices[1].Mounted = "it is read-only", false
		all[i].Status.Devices[0].Quarantined["objects"] = int64(i + 1)
	}
	all[3].Status, all[3].Err = nil, errors.New("connection refused")
	r := Judge(own, all, DefaultLimits(), noon)
	var got []string
	for _, f := range r.Findings {
		got = append(got, fmt.Sprintf("%s %d", f.About, len(f.Where)))
	}
	if want := []string{"node 1", "device 3", "quarantine 3"}; !slices.Equal(got, want) {
		t.Errorf("findings %q, want %q", got, want)
	}
	if want := "CRITICAL: 10.0.0.9: does not answer: connection refused; 10.0.0.1/d2 and 2 more: out of use: it is read-only; and 1 thing more"; r.Summary != want {
		t.Errorf("summary %q, want %q", r.Summary, want)
	}
	if r.Processes[3].Level != Critical {
		t.Errorf("%+v", r.Processes)
	}
}

// The shape of the JSON is for programs: names that are there stay.
func TestShape(t *testing.T) {
	own, all := sound()
	all[0].Status.Devices[0].Avail = 0
	b, err := json.Marshal(Judge(own, all, DefaultLimits(), noon))
	if err != nil {
		t.Fatal(err)
	}
	var r map[string]any
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	at := func(v any, path ...any) any {
		for _, step := range path {
			switch s := step.(type) {
			case string:
				v = v.(map[string]any)[s]
			case int:
				v = v.([]any)[s]
			}
		}
		return v
	}
	for _, tt := range []struct {
		path []any
		want any
	}{
		{[]any{"format"}, 1.0}, {[]any{"cluster"}, "c"}, {[]any{"time"}, "2026-11-29T12:00:00Z"}, {[]any{"level"}, "critical"},
		{[]any{"summary"}, "CRITICAL: 10.0.0.1/d1: is nearly full"},
		{[]any{"findings", 0, "level"}, "critical"}, {[]any{"findings", 0, "about"}, "device"}, {[]any{"findings", 0, "text"}, "is nearly full"},
		{[]any{"findings", 0, "where", 0, "place"}, "10.0.0.1/d1"}, {[]any{"findings", 0, "where", 0, "detail"}, "100%"},
		{[]any{"processes", 0, "name"}, "10.0.0.1"}, {[]any{"processes", 0, "role"}, "storage"}, {[]any{"processes", 0, "level"}, "critical"},
		{[]any{"processes", 0, "addresses", 0}, "10.0.0.1:6200"}, {[]any{"processes", 0, "reachable"}, true}, {[]any{"processes", 0, "version"}, "v1"},
		{[]any{"processes", 0, "uptime_seconds"}, 2592000.0}, {[]any{"processes", 0, "clock_skew_seconds"}, 0.0}, {[]any{"processes", 0, "clock_offset_seconds"}, 0.0},
		{[]any{"processes", 0, "clock_offset_within_seconds"}, 0.0}, {[]any{"processes", 0, "rings", 0, "ring"}, "account"},
		{[]any{"processes", 0, "rings", 0, "version"}, 4.0}, {[]any{"processes", 0, "rings", 0, "digest"}, "aa"}, {[]any{"processes", 0, "config", "cluster.name"}, "c"},
		{[]any{"processes", 0, "devices", 0, "device"}, "d1"}, {[]any{"processes", 0, "devices", 0, "mounted"}, true}, {[]any{"processes", 0, "devices", 0, "used_percent"}, 100.0},
		{[]any{"processes", 0, "devices", 0, "replicated_seconds_ago"}, 60.0}, {[]any{"processes", 0, "devices", 0, "fenced"}, 0.0},
		{[]any{"processes", 0, "devices", 0, "passes", 2, "kind"}, "object"}, {[]any{"processes", 0, "devices", 0, "passes", 2, "ended"}, "2026-11-29T11:59:00Z"},
		{[]any{"processes", 0, "queues", 0, "queue"}, "updater"}, {[]any{"processes", 0, "queues", 0, "length"}, 0.0}, {[]any{"processes", 0, "queues", 0, "age"}, 0.0},
		{[]any{"processes", 3, "role"}, "proxy"},
	} {
		if got := at(r, tt.path...); got != tt.want {
			t.Errorf("%v is %v, want %v", tt.path, got, tt.want)
		}
	}
}

// Limits that make no sense are named by their flags.
func TestLimits(t *testing.T) {
	for flag, change := range map[string]func(*Limits){
		"skew":        func(l *Limits) { l.CritSkew = l.WarnSkew - 1 },
		"full":        func(l *Limits) { l.WarnFull = 0 },
		"replication": func(l *Limits) { l.WarnReplication = -1 },
		"queue-age":   func(l *Limits) { l.CritQueueAge = 1 },
		"queue":       func(l *Limits) { l.WarnQueue = 0 },
		"quarantined": func(l *Limits) { l.WarnQuarantined = 0 },
	} {
		l := DefaultLimits()
		change(&l)
		if err := l.Check(); err == nil || !strings.Contains(err.Error(), "--warn-"+flag) {
			t.Errorf("%s: %v", flag, err)
		}
	}
	if err := DefaultLimits().Check(); err != nil {
		t.Error(err)
	}
}
