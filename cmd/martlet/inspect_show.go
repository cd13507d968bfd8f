package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"martlet/cmd/internal/node"
	"martlet/internal/backend"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/timestamp"
	"martlet/object/engine"
	"martlet/object/engine/record"
	"martlet/object/index"
)

// row prints what a line is about, and the rest.
func (p *page) row(title, format string, args ...any) {
	p.printf("%-11s %s\n", title, fmt.Sprintf(format, args...))
}

// harmless is text of a client, such that it does nothing to a terminal.
func harmless(text string) string {
	if quoted := strconv.Quote(text); quoted[1:len(quoted)-1] != strings.ReplaceAll(strings.ReplaceAll(text, `\`, `\\`), `"`, `\"`) {
		return quoted
	}
	return text
}

func (a *place) text(p *page) {
	p.row("device", "%s of cluster %q, in %s", harmless(a.Device), a.Cluster, harmless(a.Folder))
	if a.InUse {
		p.row("in use", "yes: this is what a crash now would leave")
	}
}

// problems prints what was found damaged beside what is said elsewhere.
func (a *place) problems(p *page) {
	for _, line := range a.Problems {
		p.row("problem", "%s", p.paint(yellow, harmless(line)))
	}
}

// nodeAnswer is what a node says of its devices' stores.
type nodeAnswer struct {
	said
	Address string             `json:"address"`
	Devices []node.DeviceStore `json:"devices"`
}

func (a *nodeAnswer) whole() bool {
	return !slices.ContainsFunc(a.Devices, func(d node.DeviceStore) bool { return d.Error != "" })
}

func (a *nodeAnswer) text(p *page) {
	rows := [][]cell{head("DEVICE", "OBJECTS>", "FRAGMENTS>", "BYTES>", "LOG>", "DEAD>", "SEGMENTS>", "UNWRITTEN>", "QUARANTINED>", "DISK>", "FREE>", "")}
	for _, d := range a.Devices {
		if d.Store == nil {
			rows = append(rows, []cell{left(d.Device)})
			continue
		}
		s := d.Store
		objects, fragments, bytes := int64(0), int64(0), int64(0)
		for _, of := range s.Policies {
			if bytes += of.Bytes; of.Policy.IsFragments() {
				fragments += of.Objects
			} else {
				objects += of.Objects
			}
		}
		rows = append(rows, []cell{
			left(d.Device), right(number(int(objects))), right(number(int(fragments))), right(inBytes(float64(bytes))), right(inBytes(float64(s.Log.Bytes))),
			right(inBytes(float64(s.Log.Dead))), right(number(len(s.Log.Segments))), right(number(s.Index.Changes)), right(number(s.Quarantined)),
			right(inBytes(float64(s.Disk.Total))), right(inBytes(float64(s.Disk.Available))), left(p.bar(s.Disk.Total-s.Disk.Available, s.Disk.Total)),
		})
	}
	p.table("", rows)
	for _, d := range a.Devices {
		if d.Error != "" {
			p.printf("%s\n", p.paint(yellow, d.Device+": "+d.Error))
		}
	}
}

// barWidth is how many characters a bar has.
const barWidth = 20

// bar draws how much of a whole something is.
func (p *page) bar(part, whole int64) string {
	n := 0
	if whole > 0 {
		n = int(min(1, max(0, float64(part)/float64(whole)))*barWidth + 0.5)
	}
	return strings.Repeat("#", n) + p.paint(dim, strings.Repeat(".", barWidth-n))
}

// deviceAnswer is what is on a device.
type deviceAnswer struct {
	place
	Rebuilt bool `json:"rebuilt,omitempty"` // the index was made again
	engine.Summary
}

func (a *deviceAnswer) whole() bool { return len(a.Problems) == 0 }

// mostSegments is how many segments are listed.
const mostSegments = 12

func (a *deviceAnswer) text(p *page) {
	a.place.text(p)
	if a.Rebuilt {
		p.row("rebuilt", "the index was made again from the log")
	}
	l, x := &a.Log, &a.Index
	p.row("log", "%s in %s: %s in force, %s dead", inBytes(float64(l.Bytes)), some(len(l.Segments), "segment"), inBytes(float64(l.Live)), inBytes(float64(l.Dead)))
	p.row("index", "%s in %s, %s on disk, %s in memory", some(int(x.Entries), "name"), some(x.Runs, "run"), inBytes(float64(x.FileBytes)), inBytes(float64(x.MemoryBytes)))
	p.row("unwritten", "%s changed since the index was written", some(x.Changes, "name"))
	p.row("quarantine", "%s", some(a.Quarantined, "part"))
	p.row("disk", "%s, %s free", inBytes(float64(a.Disk.Total)), inBytes(float64(a.Disk.Available)))
	a.problems(p)
	p.printf("\n")
	rows := [][]cell{head("POLICY>", "OBJECTS>", "BYTES>", "DIGEST")}
	for _, of := range a.Policies {
		rows = append(rows, []cell{right(policyText(of.Policy)), right(number(int(of.Objects))), right(inBytes(float64(of.Bytes))), left(of.Digest)})
	}
	p.table("", rows)
	a.segments(p)
}

// segments lists those that have the most dead.
func (a *deviceAnswer) segments(p *page) {
	list := slices.Clone(a.Log.Segments)
	if len(list) == 0 {
		return
	}
	if len(list) > mostSegments {
		dead := func(s engine.SegmentSummary) int64 { return s.Bytes - s.Live }
		slices.SortStableFunc(list, func(a, b engine.SegmentSummary) int { return cmp.Compare(dead(b), dead(a)) })
		list = list[:mostSegments]
		slices.SortFunc(list, func(a, b engine.SegmentSummary) int { return cmp.Compare(a.Number, b.Number) })
	}
	rows := [][]cell{head("SEGMENT", "BYTES>", "IN FORCE>", "DEAD>", "", "")}
	for _, s := range list {
		state := ""
		switch {
		case s.Compacted > 0 && s.Compacted == s.Bytes:
			state = "compacted, about to go"
		case s.Compacted > 0:
			state = "being compacted"
		case !s.Sealed:
			state = "appended to"
		}
		rows = append(rows, []cell{
			left(fmt.Sprintf("%016x", s.Number)), right(inBytes(float64(s.Bytes))), right(inBytes(float64(s.Live))), right(inBytes(float64(s.Bytes - s.Live))),
			left(p.bar(s.Live, s.Bytes)), left(state),
		})
	}
	p.printf("\n")
	p.table("", rows)
	if more := len(a.Log.Segments) - len(list); more > 0 {
		p.printf("%s\n", p.paint(dim, fmt.Sprintf("(%s more, with less that is dead; --json lists them)", some(more, "segment"))))
	}
}

// objectAnswer is what is stored of an object.
type objectAnswer struct {
	place
	Searched bool // the whole log was

	at     engine.Location
	name   name.Path // as asked for; none where a hash was
	wanted string    // fingerprint of the cluster
	found  *engine.Inspection

	fragments []heldFragment // of the object, that are on the device
}

// allFound reports whether all that was to be read was whole.
func (a *objectAnswer) allFound() bool {
	return a.found.Whole() && !slices.ContainsFunc(a.fragments, func(f heldFragment) bool { return !f.found.Whole() })
}

func (a *objectAnswer) whole() bool {
	lost := a.found.Entry.Kind == index.Lost || a.found.Entry.MetaLost
	return !lost && a.found.Whole() && len(a.found.Damage) == 0 && len(a.Problems) == 0 &&
		!slices.ContainsFunc(a.fragments, func(f heldFragment) bool { return !f.whole() })
}

// said of an entry.
var states = map[index.Kind]string{
	index.Absent: "nothing", index.Waiting: "metadata", index.Data: "object", index.Tombstone: "deleted", index.Lost: "lost", index.Gone: "dropped",
}

// stateText says what that means.
func (a *objectAnswer) stateText() string {
	e := &a.found.Entry
	switch e.Kind {
	case index.Absent:
		return "nothing: the device has nothing of it"
	case index.Waiting:
		return "metadata, whose data has not come"
	case index.Data:
		where := "in the log"
		if e.Blob {
			where = "in a file of its own"
		}
		if text := codedText(a.found); text != "" {
			return text + ", " + where
		}
		return fmt.Sprintf("object of %s, %s", someBytes(e.Length), where)
	case index.Tombstone:
		return "deleted"
	case index.Lost:
		return "lost: its newest version was damaged, and has not been replaced"
	}
	return "dropped here on purpose: others have it"
}

func someBytes(n int64) string { return some(int(n), "byte") }

// path is the name, as asked for or as the records say.
func (a *objectAnswer) path() name.Path {
	if a.name != (name.Path{}) {
		return a.name
	}
	for _, r := range a.found.Records {
		if r.Head.Object.Name != (name.Path{}) {
			return r.Head.Object.Name
		}
	}
	return name.Path{}
}

func stamp(t timestamp.T) string {
	return fmt.Sprintf("%s  %s", t, t.Time().UTC().Format("2006-01-02 15:04:05.00000 MST"))
}

func (a *objectAnswer) text(p *page) {
	a.place.text(p)
	if path := a.path(); path != (name.Path{}) {
		p.row("object", "%s", harmless(strings.TrimPrefix(path.String(), "/")))
	}
	p.row("hash", "%s", a.at.Hash)
	p.row("policy", "%s", policyText(a.at.Policy))
	p.row("state", "%s", a.stateText())
	e := &a.found.Entry
	if e.Kind != index.Absent && e.Kind != index.Gone {
		p.row("time", "%s", stamp(timestamp.Max(e.Times.Data, timestamp.Max(e.Times.ContentType, e.Times.Meta))))
	}
	if e.Expires > 0 {
		p.row("expires", "%d  %s", e.Expires, time.Unix(int64(e.Expires), 0).UTC().Format("2006-01-02 15:04:05 MST"))
	}
	if e.MetaLost {
		p.row("metadata", "%s", p.paint(yellow, "some of it was damaged, and has not been replaced"))
	}
	if e.Dead > 0 {
		p.row("dead", "%s of it in the log that is in force no more", some(int(e.Dead), "record"))
	}
	for _, file := range a.found.Quarantined {
		p.row("quarantine", "%s", file)
	}
	a.problems(p)
	a.list(p)
	a.fragmentTable(p)
	for i := range a.found.Records {
		p.record(&a.found.Records[i])
	}
	if len(a.found.Damage) > 0 {
		p.printf("\n")
	}
	for _, d := range a.found.Damage {
		p.printf("%s\n", p.paint(yellow, "the log can't be read, and may have had records of it: "+regionText(d)))
	}
}

// policyText says of which policy something is, and whether it is of its fragments.
func policyText(p policy.Index) string {
	if p.IsFragments() {
		return "fragments of " + p.Objects().String()
	}
	return p.String()
}

func regionText(d engine.Region) string {
	switch {
	case d.Err != nil:
		return fmt.Sprintf("segment %016x: %v", d.From.Segment, d.Err)
	default:
		return fmt.Sprintf("%s to %s", d.From, d.To)
	}
}

// list is a table of the records.
func (a *objectAnswer) list(p *page) {
	if len(a.found.Records) == 0 {
		return
	}
	p.printf("\n")
	rows := [][]cell{head("RECORD", "BYTES>", "KIND", "TIME", "IN FORCE", "WHOLE")}
	for _, r := range a.found.Records {
		whole := left("yes")
		if r.Err != nil || r.File != nil && r.File.Err != nil && (r.Part != "" || !errors.Is(r.File.Err, fs.ErrNotExist)) {
			whole = left("no").in(yellow)
		}
		kind, time := r.Kind.String(), timeOf(&r.Head).String()
		if r.Kind == 0 {
			kind, time = "?", "?"
		}
		rows = append(rows, []cell{
			left(r.Place.Position().String()), right(number(int(r.Place.Size))), left(kind), left(time), left(cmp.Or(parts[r.Part], "no")), whole,
		})
	}
	p.table("", rows)
}

// parts say which part of an object a record is, that is in force.
var parts = map[string]string{"data": "data", "meta": "metadata", "mark": "mark"}

// timeOf is the latest time in the head of a record.
func timeOf(h *record.Head) timestamp.T {
	o := &h.Object
	return timestamp.Max(o.Time, timestamp.Max(o.ContentTypeTime, o.MetaTime))
}

// record prints what a record says.
func (p *page) record(r *engine.Found) {
	p.printf("\n%s\n", p.paint(bold, r.Place.Position().String()))
	row := func(title, format string, args ...any) {
		p.printf("  %-19s %s\n", harmless(title), harmless(fmt.Sprintf(format, args...)))
	}
	if r.Err != nil {
		row("not whole", "%v", r.Err)
	}
	h := &r.Head
	if h.Kind == 0 {
		return
	}
	o := &h.Object
	if o.Name != (name.Path{}) {
		row("name", "%s", strings.TrimPrefix(o.Name.String(), "/"))
	}
	for _, t := range []struct {
		title string
		at    timestamp.T
	}{{"time", o.Time}, {"content type's", o.ContentTypeTime}, {"metadata's time", o.MetaTime}} {
		if !t.at.IsZero() {
			row(t.title, "%s", stamp(t.at))
		}
	}
	if h.Kind == record.Data || h.Kind == record.Blob {
		row("length", "%s", number(int(o.Length)))
		if o.MD5 != [16]byte{} { // of a fragment nobody has made one
			row("MD5", "%x", o.MD5)
		}
		row("CRC32C", "%08x", o.CRC)
	}
	if h.Lost != 0 {
		row("lost", "%s: %s", strings.Join(lostText(h.Lost), ", "), h.Reason)
	}
	if o.ContentType != "" {
		row("Content-Type", "%s", o.ContentType)
	}
	for _, f := range append(slices.Clone(o.System), o.Meta...) {
		row(f.Name, "%s", f.Value)
	}
	if f := r.File; f != nil {
		row("file", "%s", f.Path)
		switch {
		case f.Err != nil && r.Part == "" && errors.Is(f.Err, fs.ErrNotExist):
			row("", "removed, as it is in force no more")
		case errors.Is(f.Err, fs.ErrNotExist):
			row("", "it is missing")
		case f.Err != nil:
			row("", "not whole: %v", f.Err)
		case f.Read:
			row("", "%s, read as a whole", someBytes(f.Size))
		default:
			row("", "%s, of which the beginning was read", someBytes(f.Size))
		}
	}
}

func lostText(l record.Lost) (words []string) {
	if l&record.LostData != 0 {
		words = append(words, "data")
	}
	if l&record.LostMeta != 0 {
		words = append(words, "metadata")
	}
	return words
}

// What inspect object prints as JSON.
type (
	objectJSON struct {
		place
		Account   string       `json:"account,omitempty"`
		Container string       `json:"container,omitempty"`
		Object    string       `json:"object,omitempty"`
		Hash      string       `json:"hash"`
		Policy    policy.Index `json:"policy_index"`
		State     string       `json:"state"`
		Whole     bool         `json:"whole"`
		Searched  bool         `json:"searched"` // the whole log was
		Entry     *entryJSON   `json:"entry,omitempty"`
		Records   []recordJSON `json:"records"`

		Coded       *codedJSON     `json:"coded,omitempty"`     // its data is in fragments
		Fragment    *fragmentJSON  `json:"fragment,omitempty"`  // it is one
		Fragments   []fragmentJSON `json:"fragments,omitempty"` // that the device has of it
		Damage      []regionJSON   `json:"damage,omitempty"`
		Quarantined []string       `json:"quarantined,omitempty"`
	}
	entryJSON struct {
		timesJSON
		Tie      string `json:"tie"`
		Length   int64  `json:"length"`
		Dead     uint32 `json:"dead"`
		Blob     bool   `json:"blob"`
		MetaLost bool   `json:"metadata_lost"`
		Expires  uint32 `json:"expires,omitempty"` // second since 1970
	}
	timesJSON struct {
		Time        string `json:"time,omitempty"`
		ContentType string `json:"content_type_time,omitempty"`
		Meta        string `json:"metadata_time,omitempty"`
	}
	recordJSON struct {
		Segment uint64 `json:"segment"`
		Offset  int64  `json:"offset"`
		Bytes   int64  `json:"bytes"`
		Kind    string `json:"kind,omitempty"`
		InForce bool   `json:"in_force"`
		Part    string `json:"part,omitempty"`
		Error   string `json:"error,omitempty"`

		timesJSON
		Account   string      `json:"account,omitempty"`
		Container string      `json:"container,omitempty"`
		Object    string      `json:"object,omitempty"`
		Length    *int64      `json:"length,omitempty"`
		MD5       string      `json:"md5,omitempty"`
		CRC       string      `json:"crc32c,omitempty"`
		Type      string      `json:"content_type,omitempty"`
		System    []fieldJSON `json:"system,omitempty"`
		Meta      []fieldJSON `json:"metadata,omitempty"`
		Lost      []string    `json:"lost,omitempty"`
		Reason    string      `json:"reason,omitempty"`
		File      *fileJSON   `json:"file,omitempty"`
	}
	fieldJSON struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	fileJSON struct {
		Path  string `json:"path"`
		Bytes int64  `json:"bytes"`
		Read  bool   `json:"read"` // as a whole
		Error string `json:"error,omitempty"`
	}
	regionJSON struct {
		From  string `json:"from"`
		To    string `json:"to,omitempty"`
		Error string `json:"error,omitempty"`
	}
)

// MarshalJSON implements json.Marshaler.
func (a *objectAnswer) MarshalJSON() ([]byte, error) {
	path := a.path()
	v := objectJSON{
		place: a.place, Account: path.Account, Container: path.Container, Object: path.Object,
		Hash: a.at.Hash.String(), Policy: a.at.Policy, State: states[a.found.Entry.Kind], Whole: a.whole(), Searched: a.Searched,
		Records: []recordJSON{}, Quarantined: a.found.Quarantined,
	}
	if e := &a.found.Entry; e.Kind != index.Absent {
		v.Entry = &entryJSON{
			timesJSON: timesOf(e.Times.Data, e.Times.ContentType, e.Times.Meta), Tie: fmt.Sprintf("%016x", e.Tie),
			Length: e.Length, Dead: e.Dead, Blob: e.Blob, MetaLost: e.MetaLost, Expires: e.Expires,
		}
	}
	for i := range a.found.Records {
		v.Records = append(v.Records, jsonOf(&a.found.Records[i]))
	}
	v.Coded = codedJSONOf(a.found)
	if one := fragmentJSONOf(a.at, a.found); a.at.Policy.IsFragments() {
		v.Fragment = &one
	}
	for i := range a.fragments {
		v.Fragments = append(v.Fragments, fragmentJSONOf(a.fragments[i].at, &a.fragments[i].found))
	}
	for _, d := range a.found.Damage {
		one := regionJSON{From: d.From.String(), Error: textOf(d.Err)}
		if d.Err == nil {
			one.To = d.To.String()
		}
		v.Damage = append(v.Damage, one)
	}
	return json.Marshal(v)
}

func jsonOf(r *engine.Found) recordJSON {
	h := &r.Head
	o := &h.Object
	v := recordJSON{
		Segment: r.Place.Segment, Offset: r.Place.Offset, Bytes: r.Place.Size, InForce: r.Part != "", Part: parts[r.Part], Error: textOf(r.Err),
		timesJSON: timesOf(o.Time, o.ContentTypeTime, o.MetaTime),
		Account:   o.Name.Account, Container: o.Name.Container, Object: o.Name.Object, Type: o.ContentType,
		System: fieldsOf(o.System), Meta: fieldsOf(o.Meta), Lost: lostText(h.Lost), Reason: h.Reason,
	}
	if r.Kind != 0 {
		v.Kind = r.Kind.String()
	}
	if h.Kind == record.Data || h.Kind == record.Blob {
		v.Length, v.MD5, v.CRC = &o.Length, fmt.Sprintf("%x", o.MD5), fmt.Sprintf("%08x", o.CRC)
	}
	if f := r.File; f != nil {
		v.File = &fileJSON{f.Path, f.Size, f.Read, textOf(f.Err)}
	}
	return v
}

func timesOf(data, contentType, meta timestamp.T) timesJSON {
	text := func(t timestamp.T) string {
		if t.IsZero() {
			return ""
		}
		return t.String()
	}
	return timesJSON{text(data), text(contentType), text(meta)}
}

func fieldsOf(h backend.Header) (list []fieldJSON) {
	for _, f := range h {
		list = append(list, fieldJSON{f.Name, f.Value})
	}
	return list
}

func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
