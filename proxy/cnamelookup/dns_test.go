package cnamelookup

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"martlet/proxy/cnamelookup/dnstest"
)

func TestDNS(t *testing.T) {
	type message = dnsmessage.Message
	one := func(good dnsmessage.Header, q dnsmessage.Question, answers ...dnsmessage.Resource) []message {
		return []message{{Header: good, Questions: []dnsmessage.Question{q}, Answers: answers}}
	}
	other := dnsmessage.Question{Name: dnsmessage.MustNewName("other.test."), Type: dnsmessage.TypeCNAME, Class: dnsmessage.ClassINET}
	address := dnsmessage.Resource{
		Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("c.example.com."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET, TTL: 1}, Body: &dnsmessage.AResource{},
	}
	for what, tt := range map[string]struct {
		domain string
		says   dnstest.Says
		target string
		ttl    time.Duration
		fails  bool
	}{
		"a name": {"www.a.test", func(_ string, q dnsmessage.Question, h dnsmessage.Header) []message {
			return one(h, q, dnstest.CNAME("www.a.test.", "c.example.com.", 77))
		}, "c.example.com", 77 * time.Second, false},
		"with what more it knows": {"www.a.test", func(_ string, q dnsmessage.Question, h dnsmessage.Header) []message {
			return one(h, q, address, dnstest.CNAME("c.example.com.", "d.example.com.", 1), dnstest.CNAME("WWW.a.test.", "c.example.com.", 77))
		}, "c.example.com", 77 * time.Second, false},
		"none": {"www.a.test", func(_ string, q dnsmessage.Question, h dnsmessage.Header) []message { return one(h, q) }, "", 0, false},
		"no such name": {"www.a.test", func(_ string, q dnsmessage.Question, h dnsmessage.Header) []message {
			h.RCode = dnsmessage.RCodeNameError
			return one(h, q)
		}, "", 0, false},
		"it has failed": {"www.a.test", func(_ string, q dnsmessage.Question, h dnsmessage.Header) []message {
			h.RCode = dnsmessage.RCodeServerFailure
			return one(h, q)
		}, "", 0, true},
		"too long for UDP": {"www.a.test", func(over string, q dnsmessage.Question, h dnsmessage.Header) []message {
			if h.Truncated = over == "udp"; h.Truncated {
				return one(h, q)
			}
			return one(h, q, dnstest.CNAME("www.a.test.", "c.example.com.", 77))
		}, "c.example.com", 77 * time.Second, false},
		"too long for anything": {"www.a.test", func(_ string, q dnsmessage.Question, h dnsmessage.Header) []message {
			h.Truncated = true
			return one(h, q)
		}, "", 0, true},
		"others' answers come first": {"www.a.test", func(_ string, q dnsmessage.Question, h dnsmessage.Header) []message {
			forged, query := h, h
			forged.ID++
			query.Response = false
			wrong := dnstest.CNAME("www.a.test.", "evil.example.com.", 77)
			return slices.Concat(one(forged, q, wrong), one(query, q, wrong), one(h, other, wrong), one(h, q, dnstest.CNAME("www.a.test.", "c.example.com.", 77)))
		}, "c.example.com", 77 * time.Second, false},
		"it says nothing":         {"www.a.test", func(string, dnsmessage.Question, dnsmessage.Header) []message { return nil }, "", 0, true},
		"no name of the DNS":      {"a..b", nil, "", 0, false},
		"a longer one than it is": {strings.Repeat("x", 64) + ".test", nil, "", 0, false},
	} {
		t.Run(what, func(t *testing.T) {
			d := &DNS{servers: []string{dnstest.Start(t, tt.says)}, timeout: 20 * time.Second}
			if what == "it says nothing" {
				d.timeout = 200 * time.Millisecond
			}
			target, ttl, err := d.CNAME(t.Context(), tt.domain)
			if target != tt.target || ttl != tt.ttl || (err != nil) != tt.fails {
				t.Errorf("got %q for %v, %v, want %q for %v", target, ttl, err, tt.target, tt.ttl)
			}
		})
	}
}

// The next server is asked where one doesn't answer, and none once the client has gone.
func TestServers(t *testing.T) {
	broken := dnstest.Start(t, func(_ string, q dnsmessage.Question, h dnsmessage.Header) []dnsmessage.Message {
		h.RCode = dnsmessage.RCodeRefused
		return []dnsmessage.Message{{Header: h, Questions: []dnsmessage.Question{q}}}
	})
	good := dnstest.Start(t, dnstest.Names(map[string]string{"www.a.test": "c.example.com"}))
	d := NewDNS(Config{Nameservers: []string{broken, good}}, "")
	if target, ttl, err := d.CNAME(t.Context(), "www.a.test"); target != "c.example.com" || ttl != 10*time.Minute || err != nil {
		t.Errorf("got %q, %v, %v", target, ttl, err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if target, _, err := d.CNAME(gone, "www.a.test"); err == nil {
		t.Errorf("got %q for who has gone", target)
	}
}

func TestWhichServers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, []byte("# of a machine\nsearch a.test\nnameserver 192.0.2.1\nnameserver\tfd00::1 # two\nnameserver nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, tt := range map[string]struct {
		list []string
		file string
		want []string
	}{
		"the operator's":  {[]string{"127.0.0.1", "[::1]:5353"}, file, []string{"127.0.0.1:53", "[::1]:5353"}},
		"the machine's":   {nil, file, []string{"192.0.2.1:53", "[fd00::1]:53"}},
		"no file":         {nil, file + "x", []string{"127.0.0.1:53"}},
		"an empty folder": {nil, filepath.Dir(file), []string{"127.0.0.1:53"}},
	} {
		if got := NewDNS(Config{Nameservers: tt.list}, tt.file).servers; !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, want %q", what, got, tt.want)
		}
	}
}

// Whatever an answer is, reading it ends, with a name that may be asked for in its turn or none.
func FuzzRead(f *testing.F) {
	_, q, ok := ask(1, "www.a.test")
	if !ok {
		f.Fatal("it is no name")
	}
	good, err := (&dnsmessage.Message{
		Header: dnsmessage.Header{ID: 1, Response: true}, Questions: []dnsmessage.Question{q}, Answers: []dnsmessage.Resource{dnstest.CNAME("www.a.test.", "c.example.com.", 77)},
	}).Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)-3])
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := read(b, 1, q)
		if got.ttl < 0 || err == nil && len(got.target) > 255 {
			t.Errorf("%x is %v, %v", b, got, err)
		}
	})
}
