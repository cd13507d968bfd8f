package test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A device that is fenced is emptied by one command, on a running node, while clients go on: not where it alone has
// something, unless that is forced, and not where nothing is fenced. Others bring back all that belongs there, and
// what it alone had stays aside.
func TestReadmitAsEmpty(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.quickly(t)
	c.onlyPassesOnDemand(t)
	c.start(t)
	tok := token(t, c.url())
	as(t, tok, "PUT", c.url()+"/v1/AUTH_test/devices", nil, http.StatusCreated)
	objects := contents{}
	objects.add(t, c, tok, "before", 20)
	c.replicate(t)
	c.storage[0].signal(t, syscall.SIGTERM)
	c.storage[0].wait(t, 20*time.Second)
	d1 := filepath.Join(c.dir, "storage1", "d1")
	if err := os.WriteFile(filepath.Join(d1, "replication", "steps"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.startStorage(t, 0)
	c.await(t, c.storage[0], "http://"+c.network+".1.1:6209/healthcheck")
	readmit := func(want int, says string, flags ...string) {
		t.Helper()
		code, stdout, stderr := martlet(t, append([]string{"device", "readmit", "--config", c.file("storage1.toml")}, flags...)...)
		if code != want || !strings.Contains(stdout+stderr, says) {
			t.Fatalf("readmit %v: exit status %d\n%s%s\nwant %d and %q", flags, code, stdout, stderr, want, says)
		}
	}
	readmit(1, "d1  all is fenced")
	readmit(1, "nothing of d2 is fenced", "--as-empty", "--device", "d2")
	readmit(2, "--as-empty is for one device", "--as-empty")
	readmit(2, "--force is for --as-empty", "--force")

	// An object that is on this device alone, and what clients write meanwhile.
	c.wantOn(t, "PUT", objectPort, "/devices/lone", "lone", http.StatusCreated)
	objects.add(t, c, tok, "fenced", 10)
	readmit(1, "d1 has 1 object in a state that no other device has", "--as-empty", "--device", "d1")
	if list, err := filepath.Glob(filepath.Join(d1, "set-aside-*")); len(list) > 0 || err != nil {
		t.Fatalf("though it was refused there is %v, %v", list, err)
	}
	readmit(0, "d1 is empty; what it held is in "+d1+"/set-aside-", "--as-empty", "--device", "d1", "--force")
	readmit(0, "d1  nothing is fenced")
	objects.check(t, c, tok)
	objects.add(t, c, tok, "after", 10)
	c.replicate(t)
	c.replicate(t) // what is young is looked at again
	objects.check(t, c, tok)
	for kind, file := range map[string]string{"objects": "object.ring.gz", "containers": "container.ring.gz", "accounts": "account.ring.gz"} {
		if err := c.displaced(t, kind, file); err != nil {
			t.Error(err)
		}
	}
	objects.held(t, c)
	c.wantOn(t, "GET", objectPort, "/devices/lone", "", http.StatusNotFound)
	aside, err := filepath.Glob(filepath.Join(d1, "set-aside-*"))
	if err != nil || len(aside) != 1 {
		t.Fatal(aside, err)
	}
	code, stdout, stderr := martlet(t, "inspect", "object", aside[0], "AUTH_test", "devices", "lone", "--config", c.file("storage1.toml"))
	if code != 0 || !strings.Contains(stdout, "lone") {
		t.Errorf("inspect of what was set aside: exit status %d\n%s%s", code, stdout, stderr)
	}
	c.stop(t, syscall.SIGTERM)
}
