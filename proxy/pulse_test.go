package proxy

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// noting is a device that notes when it was sent something.
type noting struct {
	bytes.Buffer
	at   []time.Duration
	from time.Time
	err  error
}

func (n *noting) Write(p []byte) (int, error) {
	n.at = append(n.at, time.Since(n.from))
	if n.err != nil {
		return 0, n.err
	}
	return n.Buffer.Write(p)
}

// A device that waits for the next chunk hears something all the time, for as long as there is
// anything to be sent, and gets the bytes as they are.
func TestPulse(t *testing.T) {
	for _, size := range []int{1, pulseTail - 1, pulseTail, 3 * pulseTail} {
		synctest.Test(t, func(t *testing.T) {
			to, queue := &noting{from: time.Now()}, make(chan *chunk, 1)
			out := &pulsing{to: to, every: pulseEvery}
			first, second := randomBytes(size), randomBytes(10)
			if err := out.write(first); err != nil {
				t.Fatal(err)
			}
			const silent = 10 * time.Minute
			go func() {
				<-time.After(silent)
				c := newChunk()
				c.n = copy(c.buf, second)
				queue <- c
			}()
			c, err := out.next(queue)
			if err != nil {
				t.Fatal(err)
			}
			defer c.release()
			if err := errors.Join(out.write(c.data()), out.flush()); err != nil {
				t.Fatal(err)
			}
			close(queue)
			if end, err := out.next(queue); end != nil || err != nil {
				t.Errorf("at the end: %v, %v", end, err)
			}
			if want := append(first, second...); !bytes.Equal(to.Bytes(), want) {
				t.Errorf("%d bytes: %d came, want %d as they are", size, to.Len(), len(want))
			}
			var last time.Duration
			for _, at := range to.at {
				if quiet := at - last; quiet > pulseEvery && size > 100*10 {
					t.Errorf("%d bytes: silent for %v", size, quiet)
				}
				last = at
			}
		})
	}
}

// A device that is gone, or has answered, is noticed while the next chunk is waited for.
func TestPulseToADeviceThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to := &noting{from: time.Now()}
		out := &pulsing{to: to, every: pulseEvery}
		if err := out.write(randomBytes(100)); err != nil {
			t.Fatal(err)
		}
		to.err = errors.New("gone")
		if _, err := out.next(make(chan *chunk)); !errors.Is(err, to.err) {
			t.Errorf("got %v", err)
		}
	})
}
