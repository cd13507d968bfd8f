package direct

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"martlet/internal/backend"
	"martlet/internal/errs"
)

func open(t *testing.T, c *Client, addr string) *Stream {
	t.Helper()
	s, err := c.Open(t.Context(), addr, &backend.Request{Method: "PUT", Path: "/d/1/a/c/o", Length: -1,
		Trailer: backend.Header{{Name: backend.CommitETag}, {Name: backend.CommitCRC}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Abort)
	return s
}

func TestStreamWithTrailer(t *testing.T) {
	addr := webServer(t, func(w http.ResponseWriter, r *http.Request) {
		announced := len(r.Trailer)
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("server: %v", err)
		}
		w.WriteHeader(201)
		_, _ = fmt.Fprint(w, string(body), " ", announced, " ", r.Trailer.Get(backend.CommitETag), " ", r.Trailer.Get(backend.CommitCRC), " ", r.Trailer.Get("X-More"))
	})
	c := client(t, Config{})
	large := strings.Repeat("0123456789abcdef", 1<<16)
	for _, parts := range [][]string{nil, {"hello"}, {"hel", "", "lo"}, {large, "x", large}} {
		s := open(t, c, addr)
		for _, p := range parts {
			if n, err := s.Write([]byte(p)); n != len(p) || err != nil {
				t.Fatalf("Write of %d gave %d, %v", len(p), n, err)
			}
		}
		resp, err := s.Commit(backend.Header{{Name: backend.CommitETag, Value: "abc"}, {Name: backend.CommitCRC, Value: "012"}, {Name: "X-More", Value: "m"}})
		if err != nil {
			t.Fatal(err)
		}
		s.Abort() // does nothing
		body, err := slurp(resp)
		if want := strings.Join(parts, "") + " 2 abc 012 m"; resp.Status != 201 || body != want || err != nil {
			t.Errorf("got %d, %.50q, %v, want %.50q", resp.Status, body, err, want)
		}
		if _, err := s.Write([]byte("x")); !errs.Is(err, errs.Unavailable) {
			t.Errorf("Write after Commit gave %v", err)
		}
		if _, err := s.Commit(nil); err == nil {
			t.Error("Commit after Commit gave no error")
		}
		s.Abort()
	}
	if n := len(c.pool.known(addr).idle); n != 1 {
		t.Errorf("%d connections are kept, want the one that served all", n)
	}
}

func TestStreamAborted(t *testing.T) {
	saw := make(chan error, 1)
	addr := webServer(t, func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		saw <- err
	})
	c := client(t, Config{})
	for _, text := range []string{"", "hello"} {
		s := open(t, c, addr)
		if _, err := s.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		s.Abort()
		s.Abort()
		if err := <-saw; err == nil {
			t.Errorf("after %q the node took the body for whole", text)
		}
		if _, err := s.Commit(nil); err == nil {
			t.Error("Commit after Abort gave no error")
		}
		if _, err := s.Response(); err == nil {
			t.Error("Response after Abort gave no error")
		}
	}
}

func TestStreamTrailerRefused(t *testing.T) {
	saw := make(chan error, 1)
	addr := webServer(t, func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		saw <- err
	})
	s := open(t, client(t, Config{}), addr)
	if _, err := s.Commit(backend.Header{{Name: "A", Value: "b\r\n\r\nGET /evil HTTP/1.1"}}); !errs.Is(err, errs.Invalid) {
		t.Errorf("Commit gave %v, want an invalid request", err)
	}
	s.Abort()
	if err := <-saw; err == nil {
		t.Error("the node took the body for whole")
	}
}

const full = "HTTP/1.1 507 Full\r\nContent-Length: 4\r\n\r\nfull"

// writeUntil writes until the stream gives an error, in many more blocks than
// sockets can hold.
func writeUntil(s *Stream, size int) error {
	block := make([]byte, size)
	for range 1<<30/size + 1 {
		if _, err := s.Write(block); err != nil {
			return err
		}
	}
	return nil
}

func TestStreamAnsweredEarly(t *testing.T) {
	for name, stuck := range map[string]bool{"the node reads on": false, "the node reads no more": true} {
		t.Run(name, func(t *testing.T) {
			stop := make(chan struct{})
			srv := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
				request(r)
				_, _ = io.CopyN(io.Discard, r, 100000)
				_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
				_, _ = io.CopyN(io.Discard, r, 100000)
				_, _ = io.WriteString(c, full)
				if stuck {
					<-stop
				} else {
					_, _ = io.Copy(io.Discard, r)
				}
			})
			t.Cleanup(func() { close(stop) })
			s := open(t, client(t, Config{}), srv.addr)
			if _, err := s.Response(); !errs.Is(err, errs.Invalid) {
				t.Errorf("Response before there was one: %v", err)
			}
			if err := writeUntil(s, 1<<20); err != ErrAnswered {
				t.Fatalf("Write gave %v, want ErrAnswered", err)
			}
			if _, err := s.Write([]byte("x")); err != ErrAnswered {
				t.Fatalf("the next Write gave %v, want ErrAnswered", err)
			}
			resp, err := s.Response()
			if err != nil || resp.Status != 507 {
				t.Fatalf("Response gave %v, %v", resp, err)
			}
			if body, err := slurp(resp); body != "full" || err != nil {
				t.Errorf("body %q, %v", body, err)
			}
			if h := s.client.pool.known(srv.addr); len(h.idle) != 0 {
				t.Error("the connection is kept, with half a body on it")
			}
			if _, err := s.Response(); err == nil {
				t.Error("a second Response gave no error")
			}
		})
	}
}

func TestStreamAnsweredBeforeCommit(t *testing.T) {
	for status, good := range map[string]bool{"507 Full": true, "201 Created": false} {
		srv := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
			request(r)
			_, _ = io.WriteString(c, "HTTP/1.1 "+status+"\r\nContent-Length: 0\r\n\r\n")
			_, _ = io.Copy(io.Discard, r)
		})
		s := open(t, client(t, Config{}), srv.addr)
		until(t, "the answer is there", func() bool { return s.c.peek() == spoke })
		resp, err := s.Commit(nil)
		if good && (err != nil || resp.Status != 507) {
			t.Errorf("%s before Commit gave %v, %v, want the answer", status, resp, err)
		}
		if !good && !errors.Is(err, ErrProtocol) {
			t.Errorf("%s before Commit gave %v, %v, want an error", status, resp, err)
		}
	}
}

func TestStreamOnNodeThatGoesAway(t *testing.T) {
	srv := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
		request(r)
		_, _ = io.CopyN(io.Discard, r, 1<<20)
	})
	s := open(t, client(t, Config{}), srv.addr)
	if err := writeUntil(s, 1<<16); !errs.Is(err, errs.Unavailable) {
		t.Errorf("Write gave %v, want unavailable", err)
	}
	if _, err := s.Commit(nil); !errs.Is(err, errs.Unavailable) {
		t.Errorf("Commit gave %v, want unavailable", err)
	}
}

func TestStreamBeginsAgainOnNewConnection(t *testing.T) {
	srv := script(t, func(n int, c net.Conn, r *bufio.Reader) {
		if n == 1 {
			request(r)
			_, _ = io.WriteString(c, ok(""))
			request(r) // the stream's head, after which the node goes away
			return
		}
		req, err := http.ReadRequest(r)
		if err != nil {
			t.Error(err)
			return
		}
		body, err := io.ReadAll(req.Body)
		if string(body) != "hello" || err != nil {
			t.Errorf("server got %q, %v", body, err)
		}
		_, _ = io.WriteString(c, ok(""))
	})
	c := client(t, Config{})
	mustFetch(t, c, srv.addr, get(), 200, "")
	s := open(t, c, srv.addr)
	until(t, "the kept connection is closed", func() bool { return s.c.peek() == closed })
	if _, err := s.Write([]byte("hello")); err != nil {
		t.Fatalf("Write gave %v", err)
	}
	if resp, err := s.Commit(nil); err != nil || resp.Status != 200 {
		t.Errorf("Commit gave %v, %v", resp, err)
	}
	if n := srv.conns.Load(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

func TestAbortInterruptsWrite(t *testing.T) {
	stop := make(chan struct{})
	srv := script(t, func(int, net.Conn, *bufio.Reader) { <-stop })
	t.Cleanup(func() { close(stop) })
	s := open(t, client(t, Config{}), srv.addr)
	done := make(chan error)
	go func() { done <- writeUntil(s, 1<<20) }()
	s.Abort()
	if err := <-done; !errs.Is(err, errs.Unavailable) {
		t.Errorf("Write gave %v, want unavailable", err)
	}
}

func TestCancelInterrupts(t *testing.T) {
	stop := make(chan struct{})
	seen := make(chan struct{}, 10)
	srv := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
		line, _ := r.ReadString('\n')
		if strings.HasPrefix(line, "GET /half") {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
		}
		seen <- struct{}{}
		<-stop
	})
	t.Cleanup(func() { close(stop) })
	c := client(t, Config{})
	for name, call := range map[string]func(ctx context.Context, cancel func()) error{
		"before": func(ctx context.Context, cancel func()) error {
			cancel()
			_, err := c.Do(ctx, srv.addr, get())
			return err
		},
		"waiting for the answer": func(ctx context.Context, cancel func()) error {
			go func() { <-seen; cancel() }()
			_, err := c.Do(ctx, srv.addr, get())
			return err
		},
		"in the body": func(ctx context.Context, cancel func()) error {
			resp, err := c.Do(ctx, srv.addr, &backend.Request{Method: "GET", Path: "/half"})
			if err != nil {
				return err
			}
			defer func() { _ = resp.Body.Close() }()
			if _, err := io.ReadFull(resp.Body, make([]byte, 5)); err != nil {
				t.Error(err)
			}
			go cancel()
			_, err = resp.Body.Read(make([]byte, 5))
			return err
		},
		"sending": func(ctx context.Context, cancel func()) error {
			go func() { <-seen; cancel() }()
			_, err := c.Do(ctx, srv.addr, &backend.Request{Method: "PUT", Path: "/", Length: 1 << 40, Body: new(zeros)})
			return err
		},
		"streaming": func(ctx context.Context, cancel func()) error {
			s, err := c.Open(ctx, srv.addr, &backend.Request{Method: "PUT", Path: "/"})
			if err != nil {
				return err
			}
			defer s.Abort()
			go cancel()
			return writeUntil(s, 1<<20)
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			for len(seen) > 0 {
				<-seen
			}
			if err := call(ctx, cancel); !errors.Is(err, context.Canceled) || !errs.Is(err, errs.Aborted) {
				t.Errorf("gave %v, want that it was cancelled", err)
			}
			if h := c.pool.known(srv.addr); h != nil && len(h.idle) != 0 {
				t.Error("the connection is kept")
			}
		})
	}
}

func TestCloseInterruptsRead(t *testing.T) {
	stop := make(chan struct{})
	srv := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
		request(r)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
		<-stop
	})
	t.Cleanup(func() { close(stop) })
	c := client(t, Config{})
	resp, err := c.Do(t.Context(), srv.addr, get())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		_, err := io.ReadAll(resp.Body)
		done <- err
	}()
	b := resp.Body.(*body)
	until(t, "the read waits", func() bool { return b.state.Load() == reading })
	_ = resp.Body.Close()
	if err := <-done; err == nil {
		t.Error("Read gave no error")
	}
	if _, err := resp.Body.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Read after Close gave %v", err)
	}
}
