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
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// steady is clients that write and read without a pause, and what went wrong for them.
type steady struct {
	all    sync.WaitGroup
	stop   chan struct{}
	done   atomic.Int64
	failed chan error
}

// startSteady starts clients, each with connections of its own that it keeps.
func startSteady(t *testing.T, url, tok string, clients int) *steady {
	t.Helper()
	s := &steady{stop: make(chan struct{}), failed: make(chan error, 100)}
	for i := range clients {
		s.all.Go(func() {
			client := &http.Client{Transport: &http.Transport{}, Timeout: 30 * time.Second}
			defer client.CloseIdleConnections()
			for n := 0; ; n++ {
				select {
				case <-s.stop:
					return
				default:
				}
				at, body := fmt.Sprintf("%s/v1/AUTH_test/c/o%d-%d", url, i, n%10), bytes.Repeat([]byte{byte(n)}, 100+n*37%20000)
				if err := errors.Join(oneRequest(client, "PUT", at, tok, body), oneRequest(client, "GET", at, tok, nil)); err != nil {
					select {
					case s.failed <- err:
					default:
					}
				}
				s.done.Add(2)
			}
		})
	}
	return s
}

// oneRequest makes one, which must be done at once and right.
func oneRequest(client *http.Client, method, url, tok string, body []byte) error {
	var send io.Reader
	if body != nil {
		send = bytes.NewReader(body)
	}
	r, err := http.NewRequest(method, url, send)
	if err != nil {
		return err
	}
	r.Header.Set("X-Auth-Token", tok)
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	// A node that was away for a write may be read before it has it: what was written before, but whole.
	whole := method != "GET" || len(got) > 0 && bytes.Count(got, got[:1]) == len(got)
	if err != nil || resp.StatusCode/100 != 2 || !whole {
		return fmt.Errorf("%s %s: %s, %d bytes, %w", method, url, resp.Status, len(got), err)
	}
	return nil
}

// more waits until so many more requests were made.
func (s *steady) more(t *testing.T, n int64) {
	t.Helper()
	want := s.done.Load() + n
	poll(t, 60*time.Second, "the clients go on", func() error {
		if got := s.done.Load(); got < want {
			return fmt.Errorf("%d of %d requests", got, want)
		}
		return nil
	})
}

// end stops the clients and returns how many requests they made.
func (s *steady) end(t *testing.T) int64 {
	t.Helper()
	close(s.stop)
	s.all.Wait()
	close(s.failed)
	for err := range s.failed {
		t.Errorf("a request failed: %v", err)
	}
	return s.done.Load()
}

// logged counts the lines of a log that match.
func logged(t *testing.T, file, pattern string) [][]string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(pattern).FindAllStringSubmatch(string(text), -1)
}

// Every process of a cluster is started again, one after the other, while clients are at work: no request fails, and an
// upload that began before the proxy was exchanged ends well.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.start(t)
	tok := token(t, c.url())
	as(t, tok, "PUT", c.url()+"/v1/AUTH_test/c", nil, http.StatusCreated)
	s := startSteady(t, c.url(), tok, 4)
	s.more(t, 50)

	pipe, long := io.Pipe()
	uploaded := make(chan error, 1)
	go func() {
		r := request(t, "PUT", c.url()+"/v1/AUTH_test/c/long", pipe)
		r.Header.Set("X-Auth-Token", tok)
		resp, err := http.DefaultClient.Do(r)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode != http.StatusCreated {
				err = errors.New(resp.Status)
			}
		}
		uploaded <- err
	}()
	if _, err := io.WriteString(long, strings.Repeat("before", 100_000)); err != nil {
		t.Fatal(err)
	}

	// A proxy hands its sockets to another process.
	log := c.dir + "/log/proxy.log"
	const handed = `msg="handed over" to_process=(\d+)`
	t.Cleanup(func() {
		for _, line := range logged(t, log, handed) {
			if pid, err := strconv.Atoi(line[1]); err == nil {
				_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
			}
		}
	})
	old := c.proxy.pid()
	c.proxy.signal(t, syscall.SIGUSR2)
	poll(t, 60*time.Second, "the proxy hands over", func() error {
		if len(logged(t, log, handed)) != 1 {
			return errors.New("nothing of it in the log")
		}
		return nil
	})
	s.more(t, 50)
	if _, err := io.WriteString(long, strings.Repeat("after", 100_000)); err != nil {
		t.Fatal(err)
	}
	long.Close()
	if err := <-uploaded; err != nil {
		t.Errorf("the upload that began before: %v", err)
	}
	poll(t, 60*time.Second, "the old proxy ends", func() error {
		if err := syscall.Kill(old, 0); !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("it is there: %w", err)
		}
		return nil
	})

	// A storage node becomes the new program in place.
	for n := range c.nodes {
		log := fmt.Sprintf("%s/log/storage%d.log", c.dir, n+1)
		c.storage[n].signal(t, syscall.SIGUSR2)
		poll(t, 60*time.Second, "the storage node is started again", func() error {
			if lines := logged(t, log, `msg=listening server=object`); len(lines) != 2 {
				return fmt.Errorf("it has listened %d times", len(lines))
			}
			return nil
		})
		c.await(t, c.storage[n], fmt.Sprintf("http://%s.1.%d:6209/healthcheck", c.network, n+1))
		s.more(t, 20)
	}
	if n := s.end(t); n < 100 {
		t.Errorf("only %d requests were made", n)
	}
	if a := as(t, tok, "HEAD", c.url()+"/v1/AUTH_test/c/long", nil, http.StatusOK); a.ContentLength != 1_100_000 {
		t.Errorf("the upload has %d bytes", a.ContentLength)
	}

	// A configuration that makes no sense ends nothing.
	file := c.file("storage1.toml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append([]byte("nonsense = true\n"), text...), 0o600); err != nil {
		t.Fatal(err)
	}
	c.storage[0].signal(t, syscall.SIGUSR2)
	poll(t, 60*time.Second, "the refusal is logged", func() error {
		if len(logged(t, c.dir+"/log/storage1.log", `starting again failed; this process goes on.*nonsense`)) != 1 {
			return errors.New("nothing of it in the log")
		}
		return nil
	})
	as(t, tok, "GET", c.url()+"/v1/AUTH_test/c/o0-0", nil, http.StatusOK)
	if c.storage[0].ended() {
		t.Error("the storage node has ended")
	}
}
