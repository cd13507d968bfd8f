package bed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"martlet/deploy/lab/internal/netns"
	"martlet/deploy/lab/internal/proc"
)

// command is what runs on a node, nothing on the client's.
func (l *Lab) command(n *Node) []string {
	etc := filepath.Join(l.dir, clusterDir, "etc")
	switch n.Kind {
	case Storage:
		return []string{l.Martlet, "storage", "--config", filepath.Join(etc, n.Name+".toml")}
	case Proxy:
		name := n.Name
		if n.Number == 1 {
			name = "proxy" // as dev init calls the first
		}
		return []string{l.Martlet, "proxy", "--config", filepath.Join(etc, name+".toml")}
	case Balancer:
		return []string{"haproxy", "-db", "-f", filepath.Join(l.dir, balanceDir, "haproxy.cfg")}
	case Monitor:
		return []string{
			"prometheus", "--config.file=" + filepath.Join(l.dir, watchDir, "prometheus.yml"),
			"--storage.tsdb.path=" + filepath.Join(l.dir, watchDir, "data"), "--storage.tsdb.retention.time=1d",
			fmt.Sprintf("--web.listen-address=%s:%d", l.Options.address(Management, monitorNumber), watchPort),
		}
	}
	return nil
}

// health is where the node's process says that it is up.
func (n *Node) health() string {
	address, path := fmt.Sprintf("%s:%d", n.Legs[0].Address, clientPort), "/healthcheck"
	switch n.Kind {
	case Storage:
		address = fmt.Sprintf("%s:%d", n.Legs[0].Address, adminPort)
	case Monitor:
		address, path = fmt.Sprintf("%s:%d", n.Legs[0].Address, watchPort), "/-/ready"
	}
	return "http://" + address + path
}

// healthy asks the process, from its own node, so that it does not matter which of its legs are cut.
func (n *Node) healthy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, n.health(), nil)
	if err != nil {
		return err
	}
	transport := &http.Transport{DialContext: netns.Dial(n.Namespace.Name), DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return errors.Join(err, resp.Body.Close())
	}
	if resp.StatusCode != http.StatusOK {
		return errors.Join(fmt.Errorf("%s: %s", n.health(), resp.Status), resp.Body.Close())
	}
	return resp.Body.Close()
}

// startUp is how long a process may take until it answers.
const startUp = time.Minute

// launch starts the node's process, if it is not there, and does not wait for it.
func (l *Lab) launch(ctx context.Context, n *Node) (started bool, err error) {
	command := l.command(n)
	state, err := n.state()
	if err != nil || state != proc.Gone || command == nil {
		return false, n.of(err)
	}
	p, err := proc.Start(ctx, n.Namespace.Name, l.out(n), command[0], command[1:]...)
	if err != nil {
		return false, n.of(err)
	}
	n.Process = &p
	return true, l.save()
}

// out is the file of what the node's process says.
func (l *Lab) out(n *Node) string { return filepath.Join(l.dir, outDir, n.Name+".out") }

// await waits until the node's process answers, or has ended.
func (l *Lab) await(ctx context.Context, n *Node) error {
	var gone error
	err := until(ctx, startUp, func() error {
		state, err := n.state()
		if err == nil && state == proc.Gone {
			gone = fmt.Errorf("its process has ended: %s", l.lastWords(n))
			return nil
		}
		return errors.Join(err, n.healthy(ctx))
	})
	return errors.Join(err, gone)
}

// lastWords is the end of what the node's process has said.
func (l *Lab) lastWords(n *Node) string {
	text, err := os.ReadFile(l.out(n))
	if err != nil {
		return err.Error()
	}
	words := strings.TrimSpace(string(text[max(0, len(text)-2000):]))
	if words == "" {
		return "it said nothing; its log is in " + filepath.Join(l.dir, clusterDir, "log")
	}
	return words
}

// configure writes what the balancer and Prometheus are told.
func (l *Lab) configure() error {
	var servers strings.Builder
	for _, n := range l.Nodes {
		if n.Kind == Proxy {
			fmt.Fprintf(&servers, "    server %s %s:%d\n", n.Name, n.Legs[0].Address, clientPort)
		}
	}
	at := l.Options.address(Management, balancerNumber)
	balancer := fmt.Sprintf(`# haproxy of the lab: any proxy does for any request.
global
    maxconn 4096

defaults
    mode http
    timeout connect 2s
    timeout client 60s
    timeout server 60s
    timeout http-keep-alive 10s
    option redispatch
    retries 3

frontend clients
    bind %s:%d
    default_backend proxies

backend proxies
    balance roundrobin
    option httpchk GET /healthcheck
    default-server check inter 500ms fall 2 rise 1
%s
frontend metrics
    bind %s:%d
    http-request use-service prometheus-exporter if { path /metrics }
`, at, clientPort, servers.String(), at, metricsPort)
	prometheus := fmt.Sprintf(`# Prometheus of the lab. Nodes that are added later come into targets.json.
global:
  scrape_interval: 5s

scrape_configs:
  - job_name: martlet
    file_sd_configs:
      - files: [%q]
        refresh_interval: 10s
`, filepath.Join(l.dir, watchDir, "targets.json"))
	for name, text := range map[string]string{
		filepath.Join(balanceDir, "haproxy.cfg"): balancer, filepath.Join(watchDir, "prometheus.yml"): prometheus,
	} {
		if err := os.WriteFile(filepath.Join(l.dir, name), []byte(text), 0o640); err != nil {
			return err
		}
	}
	return l.targets()
}

// targets tells Prometheus of all that is to be scraped.
func (l *Lab) targets() error {
	type group struct {
		Targets []string          `json:"targets"`
		Labels  map[string]string `json:"labels"`
	}
	var all []group
	for _, n := range l.Nodes {
		port := map[Kind]int{Storage: adminPort, Proxy: adminPort, Balancer: metricsPort, Monitor: watchPort}[n.Kind]
		if port != 0 {
			all = append(all, group{[]string{fmt.Sprintf("%s:%d", n.Legs[0].Address, port)}, map[string]string{"node": n.Name, "kind": string(n.Kind)}})
		}
	}
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	// Prometheus may read it at any time, and makes do with what it had if it is torn.
	return os.WriteFile(filepath.Join(l.dir, watchDir, "targets.json"), text, 0o640)
}
