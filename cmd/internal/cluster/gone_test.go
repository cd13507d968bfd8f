package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
)

// cut is a body that breaks off, though more was announced.
type cut struct{ io.Reader }

var errCut = errors.New("the client goes away")

func (c cut) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if err == io.EOF {
		err = errCut
	}
	return n, err
}

// Clients go away in the middle of what they send and of what they are sent, while others go on: what those get is what was
// stored, to the last byte, and so is what is there afterwards. The nodes' memory is such that whoever uses some that
// is not his any more ends the test.
func TestClientsThatGoAway(t *testing.T) {
	const workers, rounds, size = 4, 8, 700_000
	p := startProbe(t)
	send := func(method, object string, body io.Reader, length int) (*http.Response, error) {
		r, err := http.NewRequestWithContext(t.Context(), method, p.url+"/c/"+object, body)
		if err != nil {
			t.Fatal(err)
		}
		r.ContentLength = int64(length)
		r.Header.Set("X-Auth-Token", p.token)
		return p.client.Do(r)
	}
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			object, random := fmt.Sprint("o", w), rand.New(rand.NewPCG(1, uint64(w)))
			body := make([]byte, size)
			for round := range rounds {
				for i := range body {
					body[i] = byte(i>>9) ^ byte(w<<4|round)
				}
				length := size - random.IntN(size/2)
				if w == 0 {
					length = 5000 // it has no file
				}
				resp, err := send("PUT", object, bytes.NewReader(body[:length]), length)
				if err != nil || resp.StatusCode != 201 {
					t.Errorf("%s: %v, %v", object, resp, err)
					return
				}
				resp.Body.Close()
				if resp, err := send("PUT", object, cut{bytes.NewReader(make([]byte, random.IntN(size)))}, size); err == nil {
					t.Errorf("%s: a body that broke off was answered with %s", object, resp.Status)
					resp.Body.Close()
				}
				if resp, err = send("GET", object, nil, 0); err != nil {
					t.Error(err)
					return
				}
				_, _ = io.CopyN(io.Discard, resp.Body, random.Int64N(int64(length)))
				resp.Body.Close() // in the middle of it
				if resp, err = send("GET", object, nil, 0); err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || !bytes.Equal(got, body[:length]) {
					t.Errorf("%s: %d bytes came, which are not the %d that were stored: %v", object, len(got), length, err)
				}
			}
		})
	}
	all.Wait()
}
