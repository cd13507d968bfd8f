package httpapi

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// What net/http refuses by itself has a transaction id like any answer, which the
// log knows, and no answer of a handler is changed.
func TestRequestsThatCannotBeRead(t *testing.T) {
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	// An object that looks like an answer, in pieces that begin with one.
	body := strings.Repeat("HTTP/1.1 200 OK\r\nX: y\r\n\r\n"+strings.Repeat("z", 5000), 3)
	log := &syncBuffer{}
	ids := 0
	ctx, cancel := context.WithCancel(t.Context())
	s := &Server{
		Name: "test", Listener: l, Log: slog.New(slog.NewTextHandler(log, nil)), NewID: func() string { ids++; return "tx" + strconv.Itoa(ids) },
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			rc := http.NewResponseController(w)
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			for i := range 3 {
				_ = rc.Flush()
				_, _ = io.WriteString(w, body[i*len(body)/3:(i+1)*len(body)/3])
			}
		}),
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	want := map[string]int{
		"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n":                  400,
		"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: ten\r\n\r\n":                 400,
		"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n":    501,
		"GET / HTTP/1.1\r\nHost: h\r\nX-Object-Meta-\xe2\x98\x83: v\r\n\r\n":       400,
		"GET / HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("y", 300<<10) + "\r\n": 431,
		"GET / HTTP/3.1\r\nHost: h\r\n\r\n":                                        505,
		"PUT / HTTP/1.1\r\nHost: h\r\nExpect: wonders\r\n\r\n":                     417,
		"nonsense\r\n\r\n": 400,
	}
	for text, code := range want {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		in := bufio.NewReader(c)
		for range 2 {
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			if err != nil || string(got) != body || resp.Header["X-Trans-Id"] != nil {
				t.Errorf("a handler's answer: %d bytes, %v, %v, want its %d bytes as they are", len(got), err, resp.Header, len(body))
			}
		}
		go func() { _, _ = io.WriteString(c, text) }() // more than is read, perhaps
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("%.60q: %v", text, err)
		}
		id := resp.Header.Get("X-Trans-Id")
		if resp.StatusCode != code || id == "" || resp.Header.Get("X-Openstack-Request-Id") != id || !strings.Contains(log.String(), "trans_id="+id+" ") {
			t.Errorf("%.60q: got %s, %v, want %d, and an id that the log has:\n%s", text, resp.Status, resp.Header, code, log)
		}
		_ = c.Close()
	}
	if ids != len(want) {
		t.Errorf("%d ids were made, want %d", ids, len(want))
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run returned %v", err)
	}
}
