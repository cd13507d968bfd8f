package check

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"martlet/cmd/internal/check/history"
	"martlet/cmd/internal/check/model"
	"martlet/cmd/internal/check/nemesis"
	made "martlet/cmd/internal/cluster"
	"martlet/cmd/internal/node"
)

// startCluster runs three nodes and a proxy, whose URL it returns.
func startCluster(t *testing.T) string {
	t.Helper()
	network := ""
	for range 100 {
		n := fmt.Sprintf("127.%d", 230+rand.IntN(20))
		if l, err := net.Listen("tcp", n+".1.1:6200"); err == nil {
			_ = l.Close()
			network = n
			break
		}
	}
	f, err := made.Make(t.TempDir(), made.Options{
		Nodes: 3, Devices: 1, Replicas: 3, PartPower: 4, Proxies: 1, Listen: network + ".0.1:0", Network: network, Brisk: true,
	}, func(string) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	c, err := f.Open(node.Options{Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Version: "test"}, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return "http://" + c.Address()
}

// fake is a cluster that is broken by nobody, and says what the test wants.
type fake struct {
	url    string
	lacks  string
	broke  [][]string // by one call after the other
	begin  error
	begins []nemesis.Fault
	ends   []nemesis.Fault
}

func (f *fake) Endpoints() []string { return []string{f.url} }
func (f *fake) Shape() nemesis.Shape {
	return nemesis.Shape{Nodes: 4, Devices: 1, Proxies: 1, Bears: 1}
}
func (f *fake) Offers() []nemesis.Offer {
	return []nemesis.Offer{{Kind: nemesis.Kill}, {Kind: nemesis.Pause}, {Kind: nemesis.Power, Why: "no disks"}}
}

func (f *fake) Begin(_ context.Context, fault nemesis.Fault) (string, error) {
	f.begins = append(f.begins, fault)
	return "noted", f.begin
}

func (f *fake) End(_ context.Context, fault nemesis.Fault) error {
	f.ends = append(f.ends, fault)
	return nil
}
func (f *fake) Heal(context.Context) error            { return nil }
func (f *fake) Whole(context.Context) (string, error) { return f.lacks, nil }
func (f *fake) Broke() (now []string) {
	if len(f.broke) > 0 {
		now, f.broke = f.broke[0], f.broke[1:]
	}
	return now
}

// down is the error of a process that does not come up.
type down struct{}

func (down) Error() string { return "storage1 does not answer" }
func (down) Down() bool    { return true }

// lies answers a PUT with success, and keeps it to itself.
func lies(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodPut {
		return false
	}
	sum := md5.New()
	if _, err := io.Copy(sum, r.Body); err == nil {
		w.Header().Set("Etag", hex.EncodeToString(sum.Sum(nil)))
		w.WriteHeader(http.StatusCreated)
	}
	return true
}

// writesNothing takes no write.
func writesNothing(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return false
	}
	w.WriteHeader(http.StatusServiceUnavailable)
	return true
}

// before stands before a proxy, and lets another one answer requests of objects where it wants to.
func before(t *testing.T, endpoint string, answer func(http.ResponseWriter, *http.Request) bool) string {
	t.Helper()
	to, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	p := &httputil.ReverseProxy{ErrorLog: log.New(io.Discard, "", 0), Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Count(r.URL.Path, "/") > 3 && answer(w, r) {
			return
		}
		p.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// TestRun: a check of a good cluster keeps, of whatever is wrong it says so by the right rule, and what it writes can be read.
func TestRun(t *testing.T) {
	endpoint := startCluster(t)
	for name, tt := range map[string]struct {
		answers func(http.ResponseWriter, *http.Request) bool // of objects, in place of the cluster
		fake    fake
		verdict Verdict
		rules   []string // one of these
	}{
		"kept":      {verdict: Kept},
		"lies":      {answers: lies, verdict: Broken, rules: []string{model.False, model.Stale, model.Lost, model.Listing, model.Count}},
		"converges": {fake: fake{lacks: "an object has one copy"}, verdict: Broken, rules: []string{Converges}},
		"runs":      {fake: fake{broke: [][]string{{"storage1 ended by itself\nand more"}}}, verdict: Broken, rules: []string{Runs}},
		"ends late": {fake: fake{broke: [][]string{nil, {"proxy tells of a panic"}}}, verdict: Broken, rules: []string{Runs}},
		"no writes": {answers: writesNothing, verdict: Incomplete},
		"starts":    {fake: fake{begin: down{}}, verdict: Broken, rules: []string{Starts}},
		"machine":   {fake: fake{begin: os.ErrPermission}, verdict: Incomplete},
	} {
		t.Run(name, func(t *testing.T) {
			c := tt.fake
			if c.url = endpoint; tt.answers != nil {
				c.url = before(t, endpoint, tt.answers)
			}
			o := Defaults()
			o.Dir, o.Seed, o.Duration, o.Work, o.Every, o.Patience, o.Bound = t.TempDir(), 5, time.Second, 600*time.Millisecond, 100*time.Millisecond, 0, 300*time.Millisecond
			if name == "kept" || name == "ends late" || name == "no writes" {
				o.Bound = 30 * time.Second
			}
			o.Workload.Clients, o.Workload.Names, o.Workload.Largest, o.Workload.Prefix = 4, 4, 64<<10, "c"+name+"-"
			var lines []string
			o.Say = func(line string) { lines = append(lines, line) }
			report, err := Run(t.Context(), &c, o)
			if (err == nil) != (tt.verdict != Incomplete) {
				t.Fatal(err)
			}
			if report.Verdict != tt.verdict || len(report.Violations) > 0 != (tt.verdict == Broken) {
				t.Fatalf("verdict %s, violations %+v", report.Verdict, report.Violations)
			}
			if tt.verdict == Broken && !slices.Contains(tt.rules, report.Violations[0].Rule) {
				t.Errorf("broken is %+v, want one of %v", report.Violations[0], tt.rules)
			}
			if want := "verdict: " + string(tt.verdict); !strings.HasPrefix(lines[len(lines)-1], want) || lines[len(lines)-1] != report.Last() {
				t.Errorf("the last line is %q", lines[len(lines)-1])
			}
			files(t, o.Dir, report)
			if name == "kept" && (report.FaultsSum == 0 || len(c.begins) != report.FaultsSum || len(c.ends) != report.FaultsSum) {
				t.Errorf("%d faults in the report, %d began, %d ended", report.FaultsSum, len(c.begins), len(c.ends))
			}
			if text := report.Text(); !strings.Contains(text, "power: no disks") {
				t.Errorf("nothing is said of what was not offered:\n%s", text)
			}
		})
	}
}

// files reads what a check wrote.
func files(t *testing.T, dir string, report *Report) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, ReportFile))
	if err != nil {
		t.Fatal(err)
	}
	var same Report
	if err := json.Unmarshal(text, &same); err != nil || same.Last() != report.Last() {
		t.Errorf("the report says %q, %v", same.Last(), err)
	}
	names := []string{HistoryFile}
	for _, v := range report.Violations {
		if v.File != "" {
			names = append(names, v.File)
		}
	}
	for _, name := range names {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		_, rounds, err := history.Read(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range rounds {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLittle: where too little was seen a check does not say that promises were kept.
func TestLittle(t *testing.T) {
	for name, tt := range map[string]struct {
		ops    map[string]int64
		seen   int
		faults int
		broken bool
		want   string // of the error; "" is none
	}{
		"all is well":       {map[string]int64{"put acked": 5, "get acked": 5}, 5, 1, true, ""},
		"just enough":       {map[string]int64{"put acked": 1, "put unknown": 9, "list acked": 1, "head unknown": 9}, 1, 0, false, ""},
		"nothing was done":  {nil, 0, 0, false, "of 0 writes 0"},
		"no write":          {map[string]int64{"get acked": 5}, 5, 0, false, "of 0 writes 0"},
		"writes unknown":    {map[string]int64{"post acked": 1, "delete unknown": 5, "copy refused": 5, "get acked": 5}, 5, 0, false, "of 11 writes 1"},
		"reads unknown":     {map[string]int64{"put acked": 5, "range unknown": 7, "list acked": 4}, 1, 0, false, "of 11 reads 1"},
		"nothing is broken": {map[string]int64{"put acked": 5, "get acked": 5}, 5, 0, true, "nothing was broken"},
	} {
		r := Report{Ops: tt.ops, FaultsSum: tt.faults, Rounds: []*Round{{Reads: model.Counts{Reads: tt.seen}}}}
		if err := r.little(tt.broken); (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}
