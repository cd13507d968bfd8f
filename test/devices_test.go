package test

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// quickly has the nodes of a cluster look at their devices all the time.
func (c *cluster) quickly(t *testing.T) {
	t.Helper()
	for n := 1; n <= c.nodes; n++ {
		name := c.file(fmt.Sprintf("storage%d.toml", n))
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.Replace(string(text), "[storage]\n", "[storage]\ndevice_check_interval = \"50ms\"\n", 1)
		if err := os.WriteFile(name, []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// up polls until node 1 says of its device d1 whether it can be used.
func (c *cluster) up(t *testing.T, want bool) {
	t.Helper()
	c.isUp(t, 1, "d1", want)
}

// isUp polls until a node says of a device whether it can be used.
func (c *cluster) isUp(t *testing.T, node int, device string, want bool) {
	t.Helper()
	line := fmt.Sprintf("\nmartlet_device_up{device=%q} %d\n", device, map[bool]int{true: 1}[want])
	poll(t, 20*time.Second, fmt.Sprintf("device %s of node %d is up: %v", device, node, want), func() error {
		a := do(t, request(t, "GET", fmt.Sprintf("http://%s.1.%d:6209/metrics", c.network, node), nil))
		if !strings.Contains(string(a.body), line) {
			return errors.New("/metrics says otherwise")
		}
		return nil
	})
}

// The ports of a storage node.
const (
	objectPort    = 6200
	containerPort = 6201
	accountPort   = 6202
)

// onDevice sends a request to device d1 of node 1, as a proxy does, and returns the
// answer.
func (c *cluster) onDevice(t *testing.T, method string, port int, path, body string) answer {
	t.Helper()
	r := request(t, method, fmt.Sprintf("http://%s.1.1:%d/d1/0/AUTH_test%s", c.network, port, path), strings.NewReader(body))
	now := time.Now()
	r.Header.Set("X-Timestamp", fmt.Sprintf("%010d.%05d", now.Unix(), now.Nanosecond()/10_000))
	sum := md5.Sum([]byte(body))
	r.Header.Set("Content-Type", "text/plain")
	r.Header.Set("X-Backend-Commit-Etag", hex.EncodeToString(sum[:]))
	r.Header.Set("X-Backend-Commit-Crc32c", fmt.Sprintf("%08x", crc32.Checksum([]byte(body), crc32.MakeTable(crc32.Castagnoli))))
	r.Header.Set("X-Size", fmt.Sprint(len(body)))
	r.Header.Set("X-Etag", hex.EncodeToString(sum[:]))
	r.Header.Set("X-Content-Type", "text/plain")
	return do(t, r)
}

// wantOn wants a status of onDevice.
func (c *cluster) wantOn(t *testing.T, method string, port int, path, body string, want int) {
	t.Helper()
	if a := c.onDevice(t, method, port, path, body); a.StatusCode != want {
		t.Errorf("%s %s on the device's port %d: %s, want %d\n%s", method, path, port, a.Status, want, a.body)
	}
}

// refused wants 507 for everything from the device.
func (c *cluster) refused(t *testing.T) {
	t.Helper()
	for _, port := range []int{objectPort, containerPort, accountPort} {
		path := map[int]string{objectPort: "/c/o", containerPort: "/c", accountPort: ""}[port]
		for _, method := range []string{"GET", "HEAD", "PUT", "POST", "DELETE"} {
			c.wantOn(t, method, port, path, "", http.StatusInsufficientStorage)
		}
	}
}

// contents are names in the container /devices, and what each object has.
type contents map[string]string

// add stores n objects through the proxy: none may fail.
func (o contents) add(t *testing.T, c *cluster, tok, prefix string, n int) {
	t.Helper()
	for i := range n {
		name := fmt.Sprintf("%s%02d", prefix, i)
		o[name] = strings.Repeat(name+" ", 100)
		as(t, tok, "PUT", c.url()+"/v1/AUTH_test/devices/"+name, strings.NewReader(o[name]), http.StatusCreated)
	}
}

// check reads every object through the proxy.
func (o contents) check(t *testing.T, c *cluster, tok string) {
	t.Helper()
	for name, want := range o {
		if got := string(as(t, tok, "GET", c.url()+"/v1/AUTH_test/devices/"+name, nil, http.StatusOK).body); got != want {
			t.Errorf("%s has %d bytes, want %d others", name, len(got), len(want))
		}
	}
}

// held are the objects that the device has itself.
func (o contents) held(t *testing.T, c *cluster) (names []string) {
	t.Helper()
	for name, want := range o {
		switch a := c.onDevice(t, "GET", objectPort, "/devices/"+name, ""); {
		case a.StatusCode == http.StatusOK && string(a.body) == want:
			names = append(names, name)
		case a.StatusCode != http.StatusNotFound:
			t.Errorf("%s on the device: %s of %d bytes", name, a.Status, len(a.body))
		}
	}
	if len(names) == 0 {
		t.Error("the device holds none of the objects")
	}
	return names
}

// nothing wants an empty folder.
func nothing(t *testing.T, folder string) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && path != folder {
			t.Errorf("%s was written into the empty mount point", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// onDisk returns a cluster, running, whose first device is a disk of its own.
func onDisk(t *testing.T, mount func(t *testing.T, folder string)) (c *cluster, folder string) {
	t.Helper()
	c = &cluster{dir: filepath.Join(t.TempDir(), "cluster"), network: network(t), nodes: 4, daemon: program{path: binary}}
	folder = filepath.Join(c.dir, "storage1", "d1")
	mount(t, folder)
	c.init(t)
	c.quickly(t)
	c.onlyPassesOnDemand(t) // what is put on the device itself may be there as on a handoff, which a pass would take home
	c.start(t)
	c.up(t, true)
	return c, folder
}

// A disk that is taken off answers 507 and nothing is written where it was; one
// that fails does, too. Put back, it serves what it had.
func TestDeviceComesBack(t *testing.T) {
	var d *disk
	c, folder := onDisk(t, func(t *testing.T, folder string) { d = newDisk(t, folder) })
	tok := token(t, c.url())
	as(t, tok, "PUT", c.url()+"/v1/AUTH_test/devices", nil, http.StatusCreated)
	all := contents{}
	all.add(t, c, tok, "before", 40)
	had := all.held(t, c)

	// Off under the node's feet, which has it open.
	if err := unix.Unmount(folder, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	d.mounted = false
	c.onDevice(t, "PUT", containerPort, "/meanwhile", "") // it makes folders; it succeeds if it comes before the check
	all.add(t, c, tok, "meanwhile", 10)
	nothing(t, folder)
	c.up(t, false)
	c.refused(t)
	all.add(t, c, tok, "without", 40)
	all.check(t, c, tok)
	code, _, stderr := martlet(t, "device", "init", "--config", c.file("storage2.toml"), "--all")
	if code != 0 {
		t.Errorf("device init over the devices of a running node: exit status %d\n%s", code, stderr)
	}
	nothing(t, folder)

	d.mount(t)
	c.up(t, true)
	for _, name := range had {
		if a := c.onDevice(t, "GET", objectPort, "/devices/"+name, ""); a.StatusCode != http.StatusOK || string(a.body) != all[name] {
			t.Errorf("%s, which the device had: %s of %d bytes", name, a.Status, len(a.body))
		}
	}
	all.add(t, c, tok, "again", 20)

	// A disk that fails: every write is EIO. The node lets go of it.
	if err := cut([]*disk{d}); err != nil {
		t.Fatal(err)
	}
	all.add(t, c, tok, "failing", 10)
	c.up(t, false)
	c.refused(t)
	all.add(t, c, tok, "failed", 10)
	d.again(t)
	c.up(t, true)
	all.add(t, c, tok, "mended", 10)
	all.check(t, c, tok)
	all.held(t, c)
	for _, p := range c.storage {
		if p.ended() {
			t.Errorf("%s ended", p.name)
		}
	}
}

// An empty disk is no device before device init says so, and the running node
// takes it then.
func TestDeviceReplaced(t *testing.T) {
	c := newCluster(t)
	c.quickly(t)
	folder := filepath.Join(c.dir, "storage1", "d1")
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(folder, 0o750); err != nil {
		t.Fatal(err)
	}
	c.start(t)
	c.up(t, false)
	c.refused(t)
	nothing(t, folder)
	log, err := os.ReadFile(filepath.Join(c.dir, "log", "storage1.log"))
	command := "martlet device init --config " + c.file("storage1.toml") + " --device d1"
	if err != nil || bytes.Count(log, []byte(command)) != 1 {
		t.Errorf("the log, %v, does not tell once to run %s:\n%s", err, command, log)
	}
	code, stdout, stderr := martlet(t, strings.Fields(command)[1:]...)
	if code != 0 || !strings.Contains(stdout, "is device d1 now") {
		t.Fatalf("%s: exit status %d\n%s%s", command, code, stdout, stderr)
	}
	c.up(t, true)
	tok := token(t, c.url())
	as(t, tok, "PUT", c.url()+"/v1/AUTH_test/devices", nil, http.StatusCreated)
	all := contents{}
	all.add(t, c, tok, "o", 40)
	all.held(t, c)
	for args, want := range map[string]string{
		"device init --config " + c.file("storage1.toml"):                  "either --device or --all",
		"device init --config " + c.file("storage1.toml") + " --device d9": `no device "d9"`,
		"device init --all": "--config",
		"device init --all --device d1 --config " + c.file("storage1.toml"):      "either --device or --all",
		"device init --adopt --all extra --config " + c.file("storage1.toml"):    "extra",
		"device init --all --config " + filepath.Join(c.dir, "etc", "none.toml"): "none.toml",
	} {
		if code, _, stderr := martlet(t, strings.Fields(args)...); code != 2 || !strings.Contains(stderr, want) {
			t.Errorf("martlet %s: exit status %d, want 2 and %s\n%s", args, code, want, stderr)
		}
	}
}

// A full disk takes no data and lets deletes of objects through, also when there is not a
// byte left; the cluster goes on without it.
func TestDeviceFull(t *testing.T) {
	const size = 64 << 20
	c, folder := onDisk(t, func(t *testing.T, folder string) {
		if os.Geteuid() != 0 || os.Getenv(apartMark) == "" {
			t.Fatal("a full disk is a file system of its own: run this test as root, with the right to mount (CAP_SYS_ADMIN)")
		}
		if err := errors.Join(os.MkdirAll(folder, 0o750), unix.Mount("none", folder, "tmpfs", 0, fmt.Sprintf("size=%d", size))); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(folder, unix.MNT_DETACH); err != nil {
				t.Errorf("unmount: %v", err)
			}
		})
	})
	tok := token(t, c.url())
	as(t, tok, "PUT", c.url()+"/v1/AUTH_test/devices", nil, http.StatusCreated)
	all := contents{}
	all.add(t, c, tok, "before", 40)
	c.onDevice(t, "PUT", accountPort, "", "") // it may or may not be there already
	c.wantOn(t, "PUT", containerPort, "/full", "", http.StatusCreated)
	c.wantOn(t, "PUT", containerPort, "/full/o", "o", http.StatusCreated)
	c.wantOn(t, "PUT", objectPort, "/full/o", "o", http.StatusCreated)

	ballast := filepath.Join(folder, "ballast")
	fill := func(leave int64) {
		t.Helper()
		var st unix.Statfs_t
		if err := unix.Statfs(folder, &st); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(ballast, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(make([]byte, max(0, int64(st.Bavail)*st.Bsize-leave))); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	fill(size / 200) // half of the reserve
	c.wantOn(t, "PUT", objectPort, "/full/p", "p", http.StatusInsufficientStorage)
	c.wantOn(t, "PUT", containerPort, "/full/p", "p", http.StatusInsufficientStorage)
	c.wantOn(t, "PUT", containerPort, "/more", "", http.StatusInsufficientStorage)
	c.wantOn(t, "POST", containerPort, "/full", "", http.StatusInsufficientStorage)
	c.wantOn(t, "POST", accountPort, "", "", http.StatusInsufficientStorage)
	c.wantOn(t, "GET", objectPort, "/full/o", "", http.StatusOK)
	c.wantOn(t, "DELETE", objectPort, "/full/o", "", http.StatusNoContent)
	c.wantOn(t, "DELETE", containerPort, "/full/o", "", http.StatusNoContent)
	c.wantOn(t, "DELETE", containerPort, "/full", "", http.StatusNoContent)
	all.add(t, c, tok, "reserve", 40)

	fill(0)
	c.wantOn(t, "DELETE", objectPort, "/full/q", "", http.StatusNotFound) // room for that is kept in the log
	c.wantOn(t, "PUT", objectPort, "/full/q", "q", http.StatusInsufficientStorage)
	all.add(t, c, tok, "full", 40)
	for name := range all {
		if strings.HasPrefix(name, "before") {
			as(t, tok, "DELETE", c.url()+"/v1/AUTH_test/devices/"+name, nil, http.StatusNoContent)
			delete(all, name)
		}
	}
	all.check(t, c, tok)
	c.up(t, true)

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	c.wantOn(t, "PUT", objectPort, "/full/q", "q", http.StatusCreated)
	c.wantOn(t, "PUT", containerPort, "/more", "", http.StatusCreated)
	all.check(t, c, tok)
}
