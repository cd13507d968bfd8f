package test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// cost is what requests have cost all processes of a cluster together, or what one may cost.
type cost struct {
	allocs float64 // of memory
	calls  float64 // of the kernel, to read and to write: sockets and files; what is spliced is not among them
	syncs  float64 // of disks
	kib    float64 // written to files
}

func (c cost) less(other cost) cost {
	return cost{c.allocs - other.allocs, c.calls - other.calls, c.syncs - other.syncs, c.kib - other.kib}
}

func (c cost) over(n float64) cost { return cost{c.allocs / n, c.calls / n, c.syncs / n, c.kib / n} }

func (c cost) String() string {
	return fmt.Sprintf("%.0f allocations, %.1f calls, %.2f syncs, %.1f KiB written", c.allocs, c.calls, c.syncs, c.kib)
}

var metricLine = regexp.MustCompile(`(?m)^(go_memstats_mallocs_total|martlet_device_syncs_total|martlet_device_moved_bytes_total)(\{[^}]*\})? (\S+)$`)

// spent returns what all has cost until now.
func (c *cluster) spent(t *testing.T) (sum cost) {
	t.Helper()
	admins := map[*process]string{c.proxy: c.network + ".0.1:6209"}
	for n, p := range c.storage {
		admins[p] = fmt.Sprintf("%s.1.%d:6209", c.network, n+1)
	}
	for p, admin := range admins {
		for _, m := range metricLine.FindAllSubmatch(as(t, "", "GET", "http://"+admin+"/metrics", nil, 200).body, -1) {
			x, err := strconv.ParseFloat(string(m[3]), 64)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case string(m[1]) == "go_memstats_mallocs_total":
				sum.allocs += x
			case string(m[1]) == "martlet_device_syncs_total":
				sum.syncs += x
			case bytes.Contains(m[2], []byte(`way="written"`)):
				sum.kib += x / 1024
			}
		}
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", p.pid()))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			what, n, _ := strings.Cut(strings.TrimSpace(line), ": ")
			if what == "syscr" || what == "syscw" {
				x, err := strconv.ParseFloat(n, 64)
				if err != nil {
					t.Fatal(err)
				}
				sum.calls += x
			}
		}
	}
	return sum
}

// quiet has a cluster do nothing that nobody asks for.
func (c *cluster) quiet(t *testing.T) {
	t.Helper()
	for n := range c.nodes {
		name := c.file(fmt.Sprintf("storage%d.toml", n+1))
		text, err := os.ReadFile(name)
		if err == nil {
			text = regexp.MustCompile(`(?m)^interval = .*$`).ReplaceAll(text, []byte(`interval = "1h"`))
			err = os.WriteFile(name, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Requests cost no more than they did: one client sends them one after the other, so that nobody shares a sync with
// anybody. The rows of listings are told in the background, and count. Processes do other things meanwhile, so that the least of
// some rounds is taken. What a request may cost is about a tenth above what was seen, and a quarter for allocations, which pools make vary.
func TestCostOfRequests(t *testing.T) {
	t.Parallel()
	const n, rounds = 60, 3
	const reads = 5 // times as many: there is less of each to see
	c := newCluster(t)
	c.quiet(t)
	c.start(t)
	auth := token(t, c.url())
	base := c.url() + "/v1/AUTH_test/cost"
	as(t, auth, "PUT", base, nil, 201)

	body := func(kib int) string { return strings.Repeat("0123456789abcdef", kib*64) }
	send := func(method, name, body string, want int) func(i int) {
		return func(i int) {
			var b io.Reader = http.NoBody
			if body != "" {
				b = strings.NewReader(body)
			}
			as(t, auth, method, base+fmt.Sprintf(name, i), b, want)
		}
	}
	listed := func(names func(round int) int) func(int) {
		return func(round int) {
			poll(t, 30*time.Second, "all rows", func() error {
				if got := as(t, auth, "HEAD", base, nil, 204).Header.Get("X-Container-Object-Count"); got != strconv.Itoa(names(round)) {
					return errors.New("the container says that it has " + got)
				}
				return nil
			})
		}
	}
	all := func(before int) func(int) {
		return listed(func(round int) int { return before*rounds*n + (round+1)*n })
	}

	for _, tt := range []struct {
		what string
		do   func(i int)
		end  func(round int) // waits for what goes on behind; nil for reads
		most cost
	}{
		{"PUT of 4 KiB", send("PUT", "/small%d", body(4), 201), all(0), cost{345, 42, 6.6, 14.5}},
		{"PUT of 64 KiB", send("PUT", "/middle%d", body(64), 201), all(1), cost{345, 46, 6.6, 213}},
		{"PUT of 1 MiB", send("PUT", "/large%d", body(1024), 201), all(2), cost{950, 119, 15.5, 3400}},
		{"GET of 4 KiB", send("GET", "/small%d", "", 200), nil, cost{100, 13.5, 0.2, 0.5}},
		{"GET of 64 KiB", send("GET", "/middle%d", "", 200), nil, cost{115, 16, 0.2, 0.5}},
		{"GET of 1 MiB", send("GET", "/large%d", "", 200), nil, cost{115, 28, 0.2, 0.5}},
		{"HEAD", send("HEAD", "/small%d", "", 200), nil, cost{100, 13.7, 0.2, 0.5}},
		{"POST", send("POST", "/small%d", "", 202), func(int) {}, cost{600, 57.5, 6.6, 1.1}},
		{"listing of 100", send("GET", "?limit=100&marker=m%d", "", 200), nil, cost{780, 14.5, 0.2, 0.5}},
		{"DELETE", send("DELETE", "/small%d", "", 204), listed(func(round int) int { return (3*rounds - round - 1) * n }), cost{350, 47, 6.6, 1.1}},
	} {
		var got cost
		for round := range rounds {
			look := c.spent(t) // what it costs to look
			before := c.spent(t)
			look = before.less(look)
			times := 1
			if tt.end == nil {
				times = reads
			}
			for i := range n * times {
				tt.do(round*n + i%n)
			}
			if tt.end != nil {
				tt.end(round)
			}
			now := c.spent(t).less(before).less(look).over(float64(n * times))
			if round == 0 {
				got = now
			}
			got = cost{min(got.allocs, now.allocs), min(got.calls, now.calls), min(got.syncs, now.syncs), min(got.kib, now.kib)}
		}
		t.Logf("%s: %v", tt.what, got)
		if m := tt.most; got.allocs > m.allocs || got.calls > m.calls || got.syncs > m.syncs || got.kib > m.kib {
			t.Errorf("%s costs %v; at most %v were wanted", tt.what, got, m)
		}
	}
}
