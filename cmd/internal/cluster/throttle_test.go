package cluster

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"martlet/internal/conf"
	"martlet/internal/throttle"
)

// statusOf sends a request and returns its status.
func (p *probe) statusOf(ctx context.Context, method, url string) (int, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return 0, err
	}
	r.Header.Set("X-Auth-Token", p.token)
	resp, err := p.client.Do(r)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

// One account asks for all that the cluster has. Another gets all that it asks for, and so does replication.
func TestANoisyAccount(t *testing.T) {
	p := startReaping(t) // whose token is good for all accounts
	loud, quiet := p.doom("AUTH_loud", 2, 2), p.doom("AUTH_quiet", 2, 2)
	for n, c := range p.configs {
		p.stop(n + 1)
		c.BackendRateLimit = throttle.Rates{Account: 1, AccountBuffer: conf.Duration(30 * time.Second)}
		p.start(n + 1)
	}
	p.startProxy()
	base := strings.TrimSuffix(p.url, "AUTH_test")
	const object = "/c0/o%201/%C3%BC"
	const clients, each = 8, 100
	var served, refused atomic.Int64
	var all sync.WaitGroup
	errs := make(chan error, clients)
	for range clients {
		all.Go(func() {
			for range each {
				switch status, err := p.statusOf(t.Context(), "GET", base+loud.account+object); {
				case err != nil:
					errs <- err
					return
				case status == 200:
					served.Add(1)
				case status == 503:
					refused.Add(1)
				default:
					errs <- errors.New("GET: " + strconv.Itoa(status))
					return
				}
			}
		})
	}
	const asked = 15 // less than what an account has in the buffers
	good := 0
	for range asked {
		status, err := p.statusOf(t.Context(), "GET", base+quiet.account+object)
		if err != nil {
			t.Fatal(err)
		}
		if status == 200 {
			good++
		}
	}
	p.pass(true)
	all.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	t.Logf("the noisy one: %d of %d served, %d refused; the quiet one: %d of %d", served.Load(), clients*each, refused.Load(), good, asked)
	if good != asked {
		t.Errorf("%d of the %d requests of the quiet account were served", good, asked)
	}
	if refused.Load() < clients*each/2 {
		t.Errorf("%d of the %d requests of the noisy account were refused", refused.Load(), clients*each)
	}
}
