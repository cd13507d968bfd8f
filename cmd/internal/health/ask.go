package health

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"martlet/cmd/internal/config"
	"martlet/cmd/internal/node"
)

// maxAnswer bounds what a process says, in bytes: some hundreds for each of its devices.
const maxAnswer = 16 << 20

// An Answer is what a process has said, or why it has not.
type Answer struct {
	Role      string   // config.KindStorage or config.KindProxy
	Addresses []string // under which it was asked, "host:port"; those of its servers that the rings name
	Devices   []string // that the rings have there
	Status    *node.Status
	Err       error // why there is none

	// Offset is by how much its clock is ahead of that of who asked, as far as that can be told: it may be wrong by
	// Within.
	Offset, Within time.Duration
}

// Asker asks processes.
type Asker struct {
	Client  *http.Client
	Timeout time.Duration // for each
	AtOnce  int           // how many are asked at one time
}

// Ask asks the servers that the rings name, and the proxies at their admin addresses, "host:port" or a URL. It returns
// when each has answered, or has been waited for twice for as long as one may take at the most: the servers of one host
// are mostly of one process, of which one is asked, and the others where it says nothing of them, or nothing at all.
func (a Asker) Ask(ctx context.Context, servers []Server, proxies []string) []Answer {
	var hosts [][]Server
	for _, s := range servers {
		i := slices.IndexFunc(hosts, func(h []Server) bool { return hostOf(h[0].Address) == hostOf(s.Address) })
		if i < 0 {
			hosts = append(hosts, []Server{s})
			continue
		}
		hosts[i] = append(hosts[i], s)
	}
	found := make([][]Answer, len(hosts)+len(proxies))
	turns := make(chan struct{}, max(1, a.AtOnce))
	var all sync.WaitGroup
	for i := range found {
		turns <- struct{}{}
		all.Go(func() {
			defer func() { <-turns }()
			if i < len(hosts) {
				found[i] = a.host(ctx, hosts[i])
				return
			}
			one := a.ask(ctx, proxies[i-len(hosts)])
			one.Role = config.KindProxy
			found[i] = []Answer{one}
		})
	}
	all.Wait()
	return merged(slices.Concat(found...))
}

// host asks the servers at one host.
func (a Asker) host(ctx context.Context, servers []Server) []Answer {
	first := a.server(ctx, servers[0])
	answers := []Answer{first}
	var more []Server
	for _, s := range servers[1:] {
		if first.Status != nil && slices.ContainsFunc(first.Status.Servers, func(at node.ServerAt) bool { return at.Address == s.Address }) {
			answers[0].add(s.Address, s.Devices)
			continue
		}
		more = append(more, s)
	}
	list := make([]Answer, len(more))
	var all sync.WaitGroup
	for i, s := range more {
		all.Go(func() { list[i] = a.server(ctx, s) })
	}
	all.Wait()
	return append(answers, list...)
}

func (a Asker) server(ctx context.Context, s Server) Answer {
	one := a.ask(ctx, s.Address)
	one.Role, one.Devices = config.KindStorage, slices.Clone(s.Devices)
	return one
}

// add adds what else a process is asked about.
func (a *Answer) add(address string, devices []string) {
	if !slices.Contains(a.Addresses, address) {
		a.Addresses = append(a.Addresses, address)
	}
	for _, d := range devices {
		if !slices.Contains(a.Devices, d) {
			a.Devices = append(a.Devices, d)
		}
	}
}

// merged puts together what one process has said under several addresses; of a host none of whose servers answers, for
// the same reason, one answer is left.
func merged(all []Answer) (list []Answer) {
	same := func(a, b Answer) bool {
		if a.Status != nil && b.Status != nil {
			return a.Status.Process == b.Status.Process
		}
		return a.Err != nil && b.Err != nil && a.Role == b.Role && hostOf(a.Addresses[0]) == hostOf(b.Addresses[0]) && a.Err.Error() == b.Err.Error()
	}
	for _, one := range all {
		i := slices.IndexFunc(list, func(a Answer) bool { return same(a, one) })
		if i < 0 {
			list = append(list, one)
			continue
		}
		for _, address := range one.Addresses {
			list[i].add(address, one.Devices)
		}
	}
	return list
}

// ask asks one process, and sets its clock against the own one: the question was on its way from when it was written to
// when it came, and the answer from when it went to its first byte. Where both took as long, the offset is right.
func (a Asker) ask(ctx context.Context, at string) (one Answer) {
	base, err := address(at)
	one.Addresses = []string{at}
	if err != nil {
		one.Err = err
		return one
	}
	one.Addresses[0] = base.Host
	ctx, stop := context.WithTimeout(ctx, a.Timeout)
	defer stop()
	var sent, came time.Time
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteRequest:         func(httptrace.WroteRequestInfo) { sent = time.Now() },
		GotFirstResponseByte: func() { came = time.Now() },
	})
	st, err := a.get(traced, base.String()+node.StatusPath)
	switch {
	case ctx.Err() != nil && err != nil:
		one.Err = fmt.Errorf("no answer within %v", a.Timeout)
	case err != nil:
		one.Err = err
	default:
		one.Status = st
		one.Offset = (st.Asked.Sub(sent.Round(0)) + st.Time.Sub(came.Round(0))) / 2
		one.Within = max(0, came.Sub(sent)-st.Time.Sub(st.Asked)) / 2
	}
	return one
}

// address reads where a process is asked: "host:port", or a URL of just that.
func address(text string) (*url.URL, error) {
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("%q is no address such as http://10.0.0.5:6209", text)
	}
	u.Path = ""
	return u, nil
}

// CheckProxy says what is wrong with where a proxy is to be asked.
func CheckProxy(text string) error {
	_, err := address(text)
	return err
}

func (a Asker) get(ctx context.Context, target string) (*node.Status, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	resp, err := a.Client.Do(r)
	if err != nil {
		return nil, plain(err)
	}
	defer func() { _ = resp.Body.Close() }() // it was only read from
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, errors.New("the answer broke off")
	case len(b) > maxAnswer:
		return nil, errors.New("the answer is too long")
	case resp.StatusCode != http.StatusOK:
		return nil, &strangeError{resp.StatusCode}
	}
	st := &node.Status{}
	if err := json.Unmarshal(b, st); err != nil || st.Process == "" {
		return nil, errors.New("what it answers is no status")
	}
	return st, nil
}

// strangeError is of somebody who answers and says nothing of itself.
type strangeError struct{ status int }

func (e *strangeError) Error() string {
	return fmt.Sprintf("answers %d: it is of an earlier version, or that is not where it tells", e.status)
}

// plain is what is wrong with a connection, without where it leads: that is said beside it.
func plain(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		var call interface{ Unwrap() error }
		if inner := op.Err; errors.As(inner, &call) && call.Unwrap() != nil {
			return call.Unwrap()
		}
		return op.Err
	}
	var asked *url.Error
	if errors.As(err, &asked) {
		return asked.Err
	}
	return err
}

// Nodes is how many answers there are of a role.
func Nodes(all []Answer, role string) (n int) {
	for _, a := range all {
		if a.Role == role {
			n++
		}
	}
	return n
}

// names is how processes are called: each is called: by its host, where no other has that.
func names(all []Answer) []string {
	hosts := map[string]int{}
	for _, a := range all {
		hosts[hostOf(a.Addresses[0])]++
	}
	list := make([]string, len(all))
	for i, a := range all {
		list[i] = a.Addresses[0]
		if host := hostOf(list[i]); hosts[host] == 1 {
			list[i] = host
		}
	}
	return list
}

// median is the one in the middle, of an even number the lower one.
func median(all []time.Duration) time.Duration {
	all = slices.Clone(all)
	slices.Sort(all)
	return all[(len(all)-1)/2]
}

// most is the value that most have, at a tie that of who asked, and then the least.
func most(values []string, own string) string {
	count := map[string]int{}
	for _, v := range values {
		count[v]++
	}
	best := ""
	for v, n := range count {
		switch c := cmp.Compare(n, count[best]); {
		case best == "", c > 0, c == 0 && (v == own || best != own && v < best):
			best = v
		}
	}
	return best
}
