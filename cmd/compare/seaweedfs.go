package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"martlet/cmd/internal/bench/swift"
)

// seaweedNodes are the processes that keep its files, as many as Swift's and Martlet's nodes.
const seaweedNodes = 4

// seaweedRules are those of a filer for all buckets: three copies, each of which is synced before it is acknowledged.
// Without the rule nothing is.
const seaweedRules = `{"version": 2, "locations": [{"locationPrefix": "/buckets/", "replication": "002", "fsync": true}]}`

// startSeaweedFS has SeaweedFS as a process for each server: one that assigns volumes, four that keep them, and one for
// names, with the S3 API in it. What the last one notes in its own database (LevelDB) is not synced.
func startSeaweedFS(ctx context.Context, o *options, dir, network string) (*store, error) {
	program, err := find("-seaweedfs", o.seaweedfs)
	if err != nil {
		return nil, err
	}
	const key, secret = "compare", "comparecompare"
	identities := filepath.Join(dir, "s3.json")
	who := fmt.Sprintf(`{"identities": [{"name": "compare", "credentials": [{"accessKey": %q, "secretKey": %q}], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}`, key, secret)
	if err := os.WriteFile(identities, []byte(who), 0o600); err != nil {
		return nil, err
	}
	front := network + ".0.1"
	s := &store{credentials: swift.Credentials{URL: "http://" + front + ":8333", User: key, Key: secret, S3: &swift.S3{Region: "us-east-1"}}}
	begin := func(name, what string, args ...string) error {
		home := filepath.Join(dir, name)
		if err := os.Mkdir(home, 0o755); err != nil {
			return err
		}
		args = append([]string{"-logtostderr=true", "-v=0", what}, args...)
		return s.begin(home, name, []string{"HOME=" + home}, program, args...)
	}
	master := front + ":9333"
	if err := begin("master", "master", "-ip", front, "-port", "9333", "-mdir", ".", "-peers", "none", "-defaultReplication", "002",
		"-volumeSizeLimitMB", "1024", "-telemetry=false"); err != nil {
		return s, err
	}
	for i := 1; i <= seaweedNodes; i++ {
		if err := begin("volume-"+strconv.Itoa(i), "volume", "-ip", fmt.Sprintf("%s.1.%d", network, i), "-port", "8080", "-dir", ".", "-max", "1000",
			"-master", master, "-rack", "rack", "-dataCenter", "dc"); err != nil {
			return s, err
		}
	}
	sockets, err := os.MkdirTemp("", "compare-") // a name of a socket has room for a hundred bytes
	if err != nil {
		return s, err
	}
	s.folders = append(s.folders, sockets)
	if err := begin("filer", "filer", "-ip", front, "-port", "8888", "-master", master, "-defaultStoreDir", ".", "-defaultReplicaPlacement", "002",
		"-localSocket", filepath.Join(sockets, "filer"), "-s3", "-s3.port", "8333", "-s3.config", identities, "-s3.localSocket", filepath.Join(sockets, "s3")); err != nil {
		return s, err
	}
	return s, seaweedRule(ctx, "http://"+front+":8888/etc/seaweedfs/filer.conf")
}

// seaweedRule gives a filer its rules, as soon as it takes them.
func seaweedRule(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for {
		err := put(ctx, url, seaweedRules)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("its rules were not taken within %v", readyWithin), err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func put(ctx context.Context, url, body string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = a.Body.Close() }() // it is read
	said, err := io.ReadAll(io.LimitReader(a.Body, 1000))
	if a.StatusCode/100 != 2 {
		return fmt.Errorf("PUT %s: %s: %s", url, a.Status, said)
	}
	return err
}
