package cnamelookup

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// DNS asks name servers, each over UDP, and over TCP where an answer does not fit. What
// the standard library has follows CNAMEs to their end, and tells of neither those between
// nor of how long they hold.
type DNS struct {
	servers []string
	timeout time.Duration // for one answer
}

// rounds is how many times each server is asked.
const rounds = 2

// NewDNS returns a resolver that asks the servers of a configuration, or else those that
// the file resolv, such as /etc/resolv.conf, names; or else one on this machine.
func NewDNS(cfg Config, resolv string) *DNS {
	d := &DNS{timeout: 2 * time.Second}
	list := cfg.Nameservers
	if len(list) == 0 {
		list = nameservers(resolv)
	}
	for _, n := range list {
		if a, err := address(n); err == nil {
			d.servers = append(d.servers, a.String())
		}
	}
	if len(d.servers) == 0 {
		d.servers = []string{"127.0.0.1:53"}
	}
	return d
}

// nameservers are those that a file names, which may not be there.
func nameservers(file string) (list []string) {
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }() // it was only read
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if words := strings.Fields(lines.Text()); len(words) > 1 && words[0] == "nameserver" {
			list = append(list, words[1])
		}
	}
	return list
}

// CNAME implements Resolver.
func (d *DNS) CNAME(ctx context.Context, domain string) (target string, ttl time.Duration, err error) {
	id := uint16(rand.Uint32()) // which nobody can foresee, as little as the port
	query, question, ok := ask(id, domain)
	if !ok {
		return "", 0, nil
	}
	var all []error
	for range rounds {
		for _, server := range d.servers {
			reply, err := d.exchange(ctx, "udp", server, query, id, question)
			if errors.Is(err, errTruncated) {
				reply, err = d.exchange(ctx, "tcp", server, query, id, question)
			}
			if err == nil {
				return reply.target, reply.ttl, nil
			}
			all = append(all, fmt.Errorf("%s: %w", server, err))
			if ctx.Err() != nil {
				return "", 0, errors.Join(all...)
			}
		}
	}
	return "", 0, errors.Join(all...)
}

// ask is a question for the CNAME of a domain. It is false where that is no name that the
// DNS could have.
func ask(id uint16, domain string) (query []byte, question dnsmessage.Question, ok bool) {
	n, err := dnsmessage.NewName(domain + ".")
	if err != nil {
		return nil, question, false
	}
	question = dnsmessage.Question{Name: n, Type: dnsmessage.TypeCNAME, Class: dnsmessage.ClassINET}
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: id, RecursionDesired: true}, Questions: []dnsmessage.Question{question}}
	query, err = m.Pack()
	return query, question, err == nil
}

// reply is what a server says; no target is that there is no CNAME.
type reply struct {
	target string
	ttl    time.Duration
}

var (
	errTruncated = errors.New("the answer does not fit")
	errOther     = errors.New("the answer is to another question")
)

// exchange asks a server over one network.
func (d *DNS) exchange(ctx context.Context, network, server string, query []byte, id uint16, question dnsmessage.Question) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, network, server)
	if err != nil {
		return reply{}, err
	}
	defer func() { _ = conn.Close() }() // nothing is lost with it
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if network == "tcp" {
		query = append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)
	}
	if _, err := conn.Write(query); err != nil {
		return reply{}, err
	}
	for {
		b, err := receive(conn, network)
		if err != nil {
			return reply{}, err
		}
		got, err := read(b, id, question)
		if errors.Is(err, errOther) && network == "udp" {
			continue // it is not from whom was asked
		}
		return got, err
	}
}

// receive reads a message.
func receive(conn net.Conn, network string) ([]byte, error) {
	if network == "udp" {
		b := make([]byte, 4096)
		n, err := conn.Read(b)
		return b[:n], err
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(conn, b)
	return b, err
}

// read reads an answer to a question.
func read(b []byte, id uint16, question dnsmessage.Question) (reply, error) {
	var p dnsmessage.Parser
	h, err := p.Start(b)
	if err != nil || h.ID != id || !h.Response {
		return reply{}, errOther
	}
	asked, err := p.Question()
	if err != nil || asked.Type != question.Type || asked.Class != question.Class || !same(asked.Name, question.Name) {
		return reply{}, errOther
	}
	switch {
	case h.Truncated:
		return reply{}, errTruncated
	case h.RCode == dnsmessage.RCodeNameError:
		return reply{}, nil
	case h.RCode != dnsmessage.RCodeSuccess:
		return reply{}, fmt.Errorf("the server says %s", h.RCode)
	}
	if err := p.SkipAllQuestions(); err != nil {
		return reply{}, err
	}
	for {
		a, err := p.AnswerHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			return reply{}, nil
		}
		if err != nil {
			return reply{}, err
		}
		if a.Type != dnsmessage.TypeCNAME || !same(a.Name, question.Name) {
			if err := p.SkipAnswer(); err != nil {
				return reply{}, err
			}
			continue
		}
		r, err := p.CNAMEResource()
		return reply{strings.TrimSuffix(r.CNAME.String(), "."), time.Duration(a.TTL) * time.Second}, err
	}
}

// same reports whether two names are, which have no case.
func same(a, b dnsmessage.Name) bool { return strings.EqualFold(a.String(), b.String()) }
