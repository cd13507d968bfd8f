// Package dnstest is a name server for tests: one that says what it is told to, on
// loopback, over UDP and TCP.
package dnstest

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// A Says makes the answers to a question, of the header of one that is good and has no
// content: each is sent, in order. over is "udp" or "tcp".
type Says func(over string, q dnsmessage.Question, good dnsmessage.Header) []dnsmessage.Message

// Start runs a server on a port of 127.0.0.1 until the test ends, and returns its address.
func Start(t testing.TB, says Says) string {
	t.Helper()
	var (
		udp net.PacketConn
		tcp net.Listener
		err error
	)
	for range 20 { // until the same port is free for both
		if udp, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil { //nolint:noctx // it takes no time
			break
		}
		if tcp, err = net.Listen("tcp", udp.LocalAddr().String()); err == nil { //nolint:noctx // it takes no time
			break
		}
		_ = udp.Close() // nothing was sent
	}
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() { serveUDP(t, udp, says) })
	all.Go(func() { serveTCP(t, tcp, says) })
	t.Cleanup(func() {
		if err := errors.Join(udp.Close(), tcp.Close()); err != nil {
			t.Error(err)
		}
		all.Wait()
	})
	return udp.LocalAddr().String()
}

// Names says which name each of the names is another name of, for ten minutes.
func Names(names map[string]string) Says {
	return func(_ string, q dnsmessage.Question, good dnsmessage.Header) []dnsmessage.Message {
		target := names[strings.TrimSuffix(q.Name.String(), ".")]
		if target == "" {
			good.RCode = dnsmessage.RCodeNameError
			return []dnsmessage.Message{{Header: good, Questions: []dnsmessage.Question{q}}}
		}
		return []dnsmessage.Message{{Header: good, Questions: []dnsmessage.Question{q}, Answers: []dnsmessage.Resource{CNAME(q.Name.String(), target+".", 600)}}}
	}
}

// CNAME is a record. Names have a dot at their end.
func CNAME(name, target string, ttl uint32) dnsmessage.Resource {
	return dnsmessage.Resource{
		Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeCNAME, Class: dnsmessage.ClassINET, TTL: ttl},
		Body:   &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(target)},
	}
}

// answers are those to a query, packed.
func answers(t testing.TB, over string, query []byte, says Says) [][]byte {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil || len(m.Questions) != 1 {
		t.Errorf("the query is %x: %v", query, err)
		return nil
	}
	var list [][]byte
	for _, a := range says(over, m.Questions[0], dnsmessage.Header{ID: m.ID, Response: true, RecursionDesired: m.RecursionDesired, RecursionAvailable: true}) {
		b, err := a.Pack()
		if err != nil {
			t.Errorf("the answer is %v: %v", a, err)
			return nil
		}
		list = append(list, b)
	}
	return list
}

func serveUDP(t testing.TB, conn net.PacketConn, says Says) {
	b := make([]byte, 4096)
	for {
		n, from, err := conn.ReadFrom(b)
		if err != nil {
			return // it is closed
		}
		for _, a := range answers(t, "udp", b[:n], says) {
			if _, err := conn.WriteTo(a, from); err != nil {
				t.Error(err)
			}
		}
	}
}

func serveTCP(t testing.TB, l net.Listener, says Says) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return // it is closed
		}
		var size [2]byte
		if _, err := io.ReadFull(conn, size[:]); err == nil {
			query := make([]byte, binary.BigEndian.Uint16(size[:]))
			if _, err := io.ReadFull(conn, query); err != nil {
				t.Error(err)
			}
			for _, a := range answers(t, "tcp", query, says) {
				if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(a))), a...)); err != nil {
					t.Error(err)
				}
			}
		}
		_ = conn.Close() // the answer is out, or was not wanted
	}
}
