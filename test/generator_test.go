package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// benched is what a result has, as far as tests look at it.
type benched struct {
	Interrupted bool `json:"interrupted"`
	Rounds      []struct {
		Operations []struct {
			Kind     string
			OK       int64
			Errors   int64
			Wrong    int64
			Statuses map[string]int64
			Latency  struct{ P50, Max float64 } `json:"latency_us"`
		}
		Servers struct {
			CPU       float64 `json:"us_per_operation"`
			Anonymous int64   `json:"peak_anonymous_bytes"`
		}
		Generator struct {
			CPU float64 `json:"us_per_operation"`
		}
	}
}

func readBenched(t *testing.T, name string) (b benched) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &b); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return b
}

// TestGenerator: martlet bench measures a cluster with each of its operations, verifies what it reads, says what the cluster used, and
// leaves nothing.
func TestGenerator(t *testing.T) {
	n := network(t)
	base := "http://" + n + ".0.1:8080"
	dir := t.TempDir()
	dev, _ := startDev(t, "--dir", filepath.Join(dir, "dev"), "--network", n, "--listen", n+".0.1:8080", "--devices", "1")
	account := []string{"--auth", base + "/auth/v1.0", "--user", "test:tester", "--key", "testing"}
	bench := func(operation string, more ...string) *process {
		args := append([]string{"bench", operation, "--concurrency", "4", "--size", "0:1,1KiB-300KiB:9", "--ops", "40", "--verify"}, account...)
		return start(t, append(args, more...)...)
	}
	left := func() {
		t.Helper()
		r := request(t, "GET", base+"/v1/AUTH_test?prefix=martlet-bench-", nil)
		r.Header.Set("X-Auth-Token", token(t, base))
		if a := do(t, r); a.StatusCode != http.StatusNoContent {
			t.Errorf("containers are left: %s, %s", a.Status, a.body)
		}
	}
	for _, operation := range []string{"put", "get", "head", "delete", "list", "mixed"} {
		file, page := filepath.Join(dir, operation+".json"), filepath.Join(dir, operation+".html")
		more := []string{"--json", file, "--html", page, "--rounds", "2", "--servers", strconv.Itoa(dev.pid()), "--containers", "2"}
		if operation != "put" {
			more = append(more, "--objects", "30")
		}
		if operation != "delete" {
			more = append(more, "--warmup", "0")
		}
		p := bench(operation, more...)
		if code := p.wait(t, time.Minute); code != 0 || !strings.Contains(p.out.String(), "p99.9") {
			t.Fatalf("%s: exit status %d\n%s%s", operation, code, p.out.String(), p.err.String())
		}
		b := readBenched(t, file)
		if len(b.Rounds) != 2 || b.Interrupted {
			t.Fatalf("%s: %+v", operation, b)
		}
		for _, r := range b.Rounds {
			done := int64(0)
			for _, o := range r.Operations {
				done += o.OK
				if o.Errors > 0 || o.Latency.P50 <= 0 || o.Latency.Max < o.Latency.P50 {
					t.Errorf("%s: %+v", operation, o)
				}
			}
			if want := map[string]int64{"delete": 30}[operation]; done != 40 && done != want || r.Generator.CPU <= 0 || r.Servers.Anonymous <= 0 {
				t.Errorf("%s: %d done, %+v", operation, done, r)
			}
		}
		if text, err := os.ReadFile(page); err != nil || !bytes.Contains(text, []byte("<svg")) {
			t.Errorf("%s: the page: %v", operation, err)
		}
	}
	left()
	code, stdout, stderr := martlet(t, "bench", "compare", filepath.Join(dir, "get.json"), filepath.Join(dir, "get.json"))
	if code != 0 || !strings.Contains(stdout, "same") {
		t.Errorf("compare: exit status %d\n%s%s", code, stdout, stderr)
	}

	// A server that changes one bit of one body in seven is found out.
	var reads atomic.Int64
	liar := behind(t, base, func(resp *http.Response) error {
		if resp.Request.Method != http.MethodGet || strings.Count(resp.Request.URL.Path, "/") < 4 || reads.Add(1)%7 != 0 {
			return nil
		}
		body, err := io.ReadAll(resp.Body)
		if err == nil && len(body) > 0 {
			body[len(body)/3] ^= 4
		}
		resp.Body = io.NopCloser(bytes.NewReader(body))
		return err
	})
	file := filepath.Join(dir, "lies.json")
	p := bench("get", "--objects", "30", "--warmup", "0", "--size", "1KiB-300KiB", "--endpoint", liar, "--json", file)
	if code := p.wait(t, time.Minute); code != 1 || !strings.Contains(p.err.String(), "what came was not what was put") {
		t.Errorf("of a server that lies: exit status %d\n%s%s", code, p.out.String(), p.err.String())
	}
	if o := readBenched(t, file).Rounds[0].Operations[0]; o.Wrong != 40/7 || o.OK != 40-40/7 {
		t.Errorf("of a server that lies: %+v", o)
	}

	// Interrupted, it says what there is until then, and takes away what it has made.
	reads.Store(0)
	counts := behind(t, base, func(resp *http.Response) error {
		if resp.Request.Method == http.MethodGet {
			reads.Add(1)
		}
		return nil
	})
	file = filepath.Join(dir, "interrupted.json")
	p = bench("get", "--objects", "30", "--ops", "0", "--duration", "1h", "--warmup", "0", "--json", file, "--endpoint", counts)
	poll(t, time.Minute, "requests", func() error {
		if n := reads.Load(); n < 50 {
			return fmt.Errorf("%d of them", n)
		}
		return nil
	})
	p.signal(t, syscall.SIGINT)
	if code := p.wait(t, time.Minute); code != 1 || !strings.Contains(p.err.String(), "interrupted") {
		t.Errorf("interrupted: exit status %d\n%s%s", code, p.out.String(), p.err.String())
	}
	if b := readBenched(t, file); !b.Interrupted || b.Rounds[0].Operations[0].OK < 40 {
		t.Errorf("interrupted: %+v", b)
	}
	left()
}

// behind is a host that passes everything on, and changes what comes back.
func behind(t *testing.T, to string, change func(*http.Response) error) string {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(u)
	proxy.ModifyResponse = change
	s := httptest.NewServer(proxy)
	t.Cleanup(s.Close)
	return s.URL
}
