package main

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
)

// Swift as its documentation's all-in-one has it: four nodes of two devices, three replicas, tempauth. Its
// servers run without its replicators, updaters and auditors: what those would use is not counted.
const (
	swiftNodes   = 4
	swiftDevices = 2
)

//go:embed servers.py
var swiftPython string

// swiftHash and what follows are the files of a cluster.
var (
	swiftHash = template.Must(template.New("").Parse(`[swift-hash]
swift_hash_path_prefix = compare
swift_hash_path_suffix = compare

[storage-policy:0]
name = gold
default = yes
`))
	swiftServer = template.Must(template.New("").Parse(`[DEFAULT]
swift_dir = {{.Dir}}
devices = {{.Dir}}/node{{.Node}}
mount_check = false
bind_ip = {{.Network}}.1.{{.Node}}
bind_port = {{.Port}}
workers = 1
user = {{.User}}
log_level = ERROR
recon_cache_path = {{.Dir}}

[pipeline:main]
pipeline = {{.Server}}-server

[app:{{.Server}}-server]
use = egg:swift#{{.Server}}
log_requests = false
`))
	// The pipeline is that of Debian's file. It is as patient as clients are: on a busy machine what is late is no failure.
	swiftProxy = template.Must(template.New("").Parse(`[DEFAULT]
swift_dir = {{.Dir}}
bind_ip = {{.Network}}.0.1
bind_port = 8080
workers = 2
user = {{.User}}
log_level = ERROR

[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck proxy-logging cache listing_formats container_sync bulk tempurl ratelimit tempauth copy container-quotas account-quotas slo dlo versioned_writes symlink proxy-logging proxy-server

[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
conn_timeout = 5
node_timeout = 60

[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin

[filter:cache]
use = egg:swift#memcache
memcache_servers = {{.Network}}.0.1:11211
memcache_max_connections = 64
connect_timeout = 5
pool_timeout = 10
io_timeout = 10

[filter:proxy-logging]
use = egg:swift#proxy_logging
access_log_level = ERROR
{{range .Filters}}
[filter:{{.}}]
use = egg:swift#{{.Egg}}
{{end}}`))
)

// filter is one of the pipeline that is as it comes.
type filter string

// Egg is what it is called in the package.
func (f filter) Egg() string { return strings.ReplaceAll(string(f), "-", "_") }

var swiftFilters = []filter{"catch_errors", "gatekeeper", "healthcheck", "listing_formats", "container_sync", "bulk", "tempurl", "ratelimit", "copy",
	"container-quotas", "account-quotas", "slo", "dlo", "versioned_writes", "symlink"}

// swiftFile is what the files say.
type swiftFile struct {
	Dir, Network, User, Server string
	Node, Port                 int
	Filters                    []filter
}

func startSwift(ctx context.Context, o *options, dir, network string) (*store, error) {
	memcached, err := exec.LookPath(o.memcached)
	if err != nil {
		return nil, fmt.Errorf("-memcached: %w (apt-get install memcached)", err)
	}
	me, err := user.Current()
	if err != nil {
		return nil, err
	}
	script := filepath.Join(dir, "servers.py")
	if err := os.WriteFile(script, []byte(swiftPython), 0o600); err != nil {
		return nil, err
	}
	made := exec.CommandContext(ctx, o.python, script, "rings", dir, network, strconv.Itoa(swiftNodes), strconv.Itoa(swiftDevices))
	if out, err := made.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("rings of Swift: %w (apt-get install python3-swift)\n%s", err, out)
	}
	f := swiftFile{Dir: dir, Network: network, User: me.Username, Filters: swiftFilters}
	if err := f.write("swift.conf", swiftHash); err != nil {
		return nil, err
	}
	s := &store{credentials: testUser(network + ".0.1:8080")}
	args := []string{"-l", network + ".0.1", "-p", "11211", "-U", "0", "-m", "64", "-u", me.Username}
	if err := s.begin(dir, "memcached", nil, memcached, args...); err != nil {
		return s, err
	}
	for f.Node = 1; f.Node <= swiftNodes; f.Node++ {
		for d := range swiftDevices {
			if err := os.MkdirAll(filepath.Join(dir, "node"+strconv.Itoa(f.Node), "d"+strconv.Itoa(d+1)), 0o755); err != nil {
				return s, err
			}
		}
		for i, server := range []string{"object", "container", "account"} {
			f.Server, f.Port = server, 6200+i
			name := fmt.Sprintf("%s-%d", server, f.Node)
			if err := f.write(name+".conf", swiftServer); err != nil {
				return s, err
			}
			if err := s.begin(dir, name, nil, o.python, script, server, filepath.Join(dir, name+".conf")); err != nil {
				return s, err
			}
		}
	}
	if err := f.write("proxy.conf", swiftProxy); err != nil {
		return s, err
	}
	return s, s.begin(dir, "proxy", nil, o.python, script, "proxy", filepath.Join(dir, "proxy.conf"))
}

func (f *swiftFile) write(name string, t *template.Template) error {
	var text strings.Builder
	if err := t.Execute(&text, f); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(f.Dir, name), []byte(text.String()), 0o600)
}
