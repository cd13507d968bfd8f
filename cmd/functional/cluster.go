package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// cluster is a `martlet dev` that runs.
type cluster struct {
	address string
	cmd     *exec.Cmd
	stopped chan error
}

// withinDev is how long the cluster may take to be ready, or to end.
const withinDev = 30 * time.Second

// startCluster makes a cluster below a folder and returns when it is ready. It
// has what some tests ask for: two storage policies, accounts of services, SHA-1 for temporary URLs, accounts in
// the names of hosts, and a look at objects that have expired.
func startCluster(ctx context.Context, binary, dir string) (*cluster, error) {
	network, err := freeNetwork()
	if err != nil {
		return nil, err
	}
	c := &cluster{address: network + ".0.1:8080", stopped: make(chan error, 1)}
	dev := filepath.Join(dir, "dev")
	made := exec.CommandContext(ctx, binary, "dev", "init", "--dir", dev, "--listen", c.address, "--network", network)
	if out, err := made.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("martlet dev init: %w\n%s", err, out)
	}
	if err := configure(filepath.Join(dev, "etc")); err != nil {
		return nil, err
	}
	c.cmd = exec.Command(binary, "dev", "--dir", dev) //nolint:noctx // stop ends it, so that it ends in order
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.cmd.Stderr = os.Stderr
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	ready := make(chan bool, 1)
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if strings.HasPrefix(lines.Text(), "ready ") {
				ready <- true
			}
		}
		c.stopped <- c.cmd.Wait()
	}()
	select {
	case <-ready:
		return c, nil
	case err := <-c.stopped:
		return nil, fmt.Errorf("martlet dev ended: %w", errors.Join(err, errors.New("it was not ready")))
	case <-time.After(withinDev):
		return nil, errors.Join(errors.New("martlet dev is not ready"), c.stop())
	}
}

// stop ends the cluster and waits for it.
func (c *cluster) stop() error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("martlet dev ended by itself: %w", err)
	}
	select {
	case err := <-c.stopped:
		return err
	case <-time.After(withinDev):
		_ = c.cmd.Process.Kill() // it may end just now
		return fmt.Errorf("martlet dev did not end within %v", withinDev)
	}
}

const policies = `
[[cluster.policies]]
index = 0
name = "Policy-0"
default = true

[[cluster.policies]]
index = 1
name = "silver"
`

const services = `[auth]
reseller_prefixes = ["AUTH", "SERVICE"]
require_group = { SERVICE = "service" }
`

const digests = `
[proxy.tempurl]
allowed_digests = ["sha1", "sha256", "sha512"]
`

const domains = `
[proxy.domain_remap]
storage_domain = ["` + storageDomain + `"]
`

// storageDomain is what hosts of accounts end with.
const storageDomain = "example.net"

const expired = `[proxy]
allow_open_expired = true
`

// What has expired is looked at by tests that take their time.
const unreaped = `
[expirer]
delay = "1h"
`

// configure adds to the files of a cluster what the tests want.
func configure(etc string) error {
	nodes, err := filepath.Glob(filepath.Join(etc, "storage*.toml"))
	if err != nil {
		return err
	}
	more := map[string]string{filepath.Join(etc, "proxy.toml"): policies + digests + domains}
	for _, n := range nodes {
		more[n] = policies + unreaped
	}
	for file, text := range more {
		was, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		was = bytes.Replace(was, []byte("[auth]\n"), []byte(services), 1)
		was = bytes.Replace(was, []byte("[proxy]\n"), []byte(expired), 1)
		if err := os.WriteFile(file, append(was, text...), 0o600); err != nil {
			return err
		}
	}
	ring, err := os.ReadFile(filepath.Join(etc, "rings", "object.ring.gz"))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(etc, "rings", "object-1.ring.gz"), ring, 0o600)
}

// freeNetwork finds a loopback network that nothing listens on.
func freeNetwork() (string, error) {
	first := rand.IntN(200)
	for i := range 200 {
		n := fmt.Sprintf("127.%d", 20+(first+i*7)%200)
		if free(n+".0.1:8080") && free(n+".0.1:6209") && free(n+".1.1:6200") {
			return n, nil
		}
	}
	return "", errors.New("no loopback network is free")
}

func free(address string) bool {
	l, err := net.Listen("tcp", address) //nolint:noctx // it takes no time
	return err == nil && l.Close() == nil
}

// testConfig is what the suite has to know of the cluster: the users that every
// development cluster has.
func testConfig(address string) string {
	return `[func_test]
auth_uri = http://` + address + `/auth/v1.0
account = test
username = tester
password = testing
account2 = test2
username2 = tester2
password2 = testing2
username3 = tester3
password3 = testing3
account5 = test5
username5 = tester5
password5 = testing5
service_prefix = SERVICE
account6 = admin
username6 = admin
password6 = admin
collate = C
storage_domain = ` + storageDomain + `
`
}
