package cluster

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// answer sends a client's request and returns the body of the answer.
func (p *probe) answer(method, url, body string, want int) (string, error) {
	r, err := http.NewRequestWithContext(p.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	r.Header.Set("X-Auth-Token", p.token)
	resp, err := p.client.Do(r)
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err == nil && resp.StatusCode != want {
		err = fmt.Errorf("%s %s: %s, want %d: %s", method, url, resp.Status, want, text)
	}
	return string(text), err
}

// Many clients write into one container and one of their own. What each of them has been
// told is done is what every replica of the listing says when he looks: each time, while
// the rows are in the log and while they are merged.
func TestListingsAreExact(t *testing.T) {
	p := startPatientProbe(t, time.Minute)
	const clients, rounds, looks = 16, 12, 3
	done := make(chan struct{})
	var other, all sync.WaitGroup
	other.Go(func() { // each change of the container merges the rows that wait
		for {
			select {
			case <-done:
				return
			default:
			}
			if _, err := p.answer("POST", p.url+"/c", "", 204); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for n := range clients {
		own := fmt.Sprintf("%s/own%d", p.url, n)
		p.want("PUT", own, nil, "", 201)
		all.Go(func() {
			if err := p.listingClient(n, own, rounds, looks); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	close(done)
	other.Wait()
	names := 0
	for n := range clients {
		names += strings.Count(fmt.Sprintln(p.listing(fmt.Sprintf("%s/own%d", p.url, n))), "object")
	}
	if got := strings.Count(p.listing(p.url+"/c"), "object"); got != names || names != clients*rounds*2/3 {
		t.Errorf("%d are listed in one container and %d in others, want %d", got, names, clients*rounds*2/3)
	}
}

func (p *probe) listing(url string) string {
	p.t.Helper()
	text, err := p.answer("GET", url, "", 200)
	if err != nil {
		p.t.Fatal(err)
	}
	return text
}

// listingClient is one of the clients: of three objects that he writes he deletes one.
func (p *probe) listingClient(n int, own string, rounds, looks int) error {
	for round := range rounds {
		object := fmt.Sprintf("object-%02d-%03d", n, round)
		for _, container := range []string{p.url + "/c", own} {
			if _, err := p.answer("PUT", container+"/"+object, "body", 201); err != nil {
				return err
			}
			for range looks { // another replica may answer each time
				if err := p.lists(container, object, true); err != nil {
					return err
				}
			}
			if round%3 > 0 {
				continue
			}
			if _, err := p.answer("DELETE", container+"/"+object, "", 204); err != nil {
				return err
			}
			for range looks {
				if err := p.lists(container, object, false); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// lists fails where a container lists an object that it should not, or does not list one
// that it should.
func (p *probe) lists(container, object string, want bool) error {
	text, err := p.answer("GET", container+"?prefix="+object, "", 200)
	if err != nil && strings.Contains(err.Error(), "204 ") {
		err = nil // there is nothing of that prefix
	}
	if err == nil && strings.Contains(text, object) != want {
		err = fmt.Errorf("%s lists %q, want %s there: %v", container, text, object, want)
	}
	return err
}
