package test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// files returns the paths of every file in the nodes' device folders.
func (c *cluster) files(t *testing.T) []string {
	t.Helper()
	var all []string
	for n := 1; n <= c.nodes; n++ {
		err := filepath.WalkDir(filepath.Join(c.dir, fmt.Sprintf("storage%d", n)), func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // gone since its folder was read
			}
			if err == nil && d.Type().IsRegular() {
				all = append(all, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// unnamed returns the files without a name that a process holds open below the
// cluster's folder: they take room until they are closed.
func (c *cluster) unnamed(t *testing.T, p *process) []string {
	t.Helper()
	dir := filepath.Join("/proc", strconv.Itoa(p.pid()), "fd")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		to, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err == nil && strings.HasPrefix(to, c.dir) && strings.HasSuffix(to, "(deleted)") {
			all = append(all, to)
		}
	}
	return all
}

// A client that goes away in the middle of a PUT leaves no object, no temporary
// file and no open one.
func TestClientGoesAway(t *testing.T) {
	c := newCluster(t)
	c.start(t)
	tok := token(t, c.url())
	base := c.url() + "/v1/AUTH_test/gone"
	as(t, tok, "PUT", base, nil, http.StatusCreated)
	as(t, tok, "PUT", base+"/kept", strings.NewReader("kept"), http.StatusCreated)
	before := c.files(t)

	part := bytes.Repeat([]byte("half of it "), 300_000) // 3.3 MB
	for name, tt := range map[string]struct {
		header string
		body   func(w io.Writer) error
	}{
		"length": {
			fmt.Sprintf("Content-Length: %d", 4*len(part)),
			func(w io.Writer) error { _, err := w.Write(part); return err },
		},
		"chunked": {
			"Transfer-Encoding: chunked",
			func(w io.Writer) error { _, err := fmt.Fprintf(w, "%x\r\n%s\r\n", len(part), part); return err },
		},
		"small": {
			"Content-Length: 100",
			func(w io.Writer) error { _, err := io.WriteString(w, "ten bytes."); return err },
		},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", c.address())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := fmt.Fprintf(conn, "PUT /v1/AUTH_test/gone/%s HTTP/1.1\r\nHost: %s\r\nX-Auth-Token: %s\r\n%s\r\n\r\n",
				name, c.address(), tok, tt.header); err != nil {
				t.Fatal(err)
			}
			if err := tt.body(conn); err != nil {
				t.Fatal(err)
			}
			if len(part) > 0 && name != "small" {
				poll(t, 10*time.Second, "the storage nodes write", func() error {
					for _, p := range c.storage {
						if len(c.unnamed(t, p)) > 0 {
							return nil
						}
					}
					return errors.New("no node has an unnamed file open")
				})
			}
			conn.Close()
			poll(t, 20*time.Second, "it is cleaned up", func() error {
				for _, p := range c.storage {
					if open := c.unnamed(t, p); len(open) > 0 {
						return fmt.Errorf("%s holds %v", p.name, open)
					}
				}
				return nil
			})
			as(t, tok, "GET", base+"/"+name, nil, http.StatusNotFound)
		})
	}
	if got := string(as(t, tok, "GET", base, nil, http.StatusOK).body); got != "kept\n" {
		t.Errorf("the container lists %q, want only what is whole", got)
	}
	if after := c.files(t); !slices.Equal(after, before) {
		t.Errorf("files on the devices:\n%s\nwant those from before:\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
	}
}

// The first signal lets requests end, the second does not.
func TestSignals(t *testing.T) {
	c := newCluster(t)
	c.start(t)
	tok := token(t, c.url())
	as(t, tok, "PUT", c.url()+"/v1/AUTH_test/slow", nil, http.StatusCreated)

	slow := func(t *testing.T, name string) (conn net.Conn, end func() (*http.Response, error)) {
		conn, err := net.Dial("tcp", c.address())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if _, err := fmt.Fprintf(conn, "PUT /v1/AUTH_test/slow/%s HTTP/1.1\r\nHost: %s\r\nX-Auth-Token: %s\r\n"+
			"Content-Length: 10\r\nExpect: 100-continue\r\n\r\n", name, c.address(), tok); err != nil {
			t.Fatal(err)
		}
		in := bufio.NewReader(conn)
		// The answer to Expect shows that the request is under way.
		if line, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 100") {
			t.Fatalf("%q, %v, want 100 Continue", line, err)
		}
		if _, err := in.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		return conn, func() (*http.Response, error) {
			if _, err := io.WriteString(conn, "ten bytes."); err != nil {
				return nil, err
			}
			return http.ReadResponse(in, nil)
		}
	}
	refused := func() error {
		if free(c.address()) { // nobody listens any more
			return nil
		}
		return errors.New("it still listens")
	}

	_, end := slow(t, "first")
	c.proxy.signal(t, syscall.SIGTERM)
	poll(t, 5*time.Second, "the proxy stops accepting", refused)
	resp, err := end()
	if err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatalf("a request that was under way at SIGTERM: %v, %v, want 201", resp, err)
	}
	resp.Body.Close()
	if code := c.proxy.wait(t, 10*time.Second); code != 0 {
		t.Errorf("exit status %d after SIGTERM, want 0", code)
	}

	c.proxy = start(t, "proxy", "--config", c.file("proxy.toml"))
	c.await(t, c.proxy, c.url()+"/healthcheck")
	slow(t, "second")
	c.proxy.signal(t, syscall.SIGINT)
	poll(t, 5*time.Second, "the proxy stops accepting", refused)
	if c.proxy.ended() {
		t.Fatal("the proxy ended with a request under way")
	}
	c.proxy.signal(t, syscall.SIGINT)
	if code := c.proxy.wait(t, 2*time.Second); code != -1 {
		t.Errorf("exit status %d after the second SIGINT, want an end by signal", code)
	}
}

// What listens where answers only what belongs there, and says so in its metrics.
func TestListeners(t *testing.T) {
	c := newCluster(t)
	c.start(t)
	tok := token(t, c.url())
	as(t, tok, "PUT", c.url()+"/v1/AUTH_test/c", nil, http.StatusCreated)
	as(t, tok, "PUT", c.url()+"/v1/AUTH_test/c/o", strings.NewReader("o"), http.StatusCreated)

	for what, want := range map[string]int{
		"HEAD http://" + c.network + ".1.1:6200/d1/0/a/c/o": http.StatusNotFound,         // the object server: no such object
		"HEAD http://" + c.network + ".2.1:6203/d1/0/a/c/o": http.StatusMethodNotAllowed, // replication: not its verb
		"GET http://" + c.network + ".2.1:6203/d1/0/a/c/o":  http.StatusForbidden,        // of fragments, for nodes
	} {
		method, url, _ := strings.Cut(what, " ")
		if a := do(t, request(t, method, url, nil)); a.StatusCode != want {
			t.Errorf("%s: %s, want %d", what, a.Status, want)
		}
	}
	counted := func(url, line string) bool {
		return bytes.Contains(do(t, request(t, "GET", url, nil)).body, []byte("\n"+line+"\n"))
	}
	if line := `martlet_requests_total{method="PUT",server="proxy",status="201"} 2`; !counted("http://"+c.network+".0.1:6209/metrics", line) {
		t.Errorf("the proxy's metrics have no line %s", line)
	}
	poll(t, 5*time.Second, "three object servers count the PUT", func() error {
		n := 0
		for i := 1; i <= c.nodes; i++ {
			if counted(fmt.Sprintf("http://%s.1.%d:6209/metrics", c.network, i), `martlet_requests_total{method="PUT",server="object",status="201"} 1`) {
				n++
			}
		}
		if n != 3 {
			return fmt.Errorf("%d did", n)
		}
		return nil
	})
}
