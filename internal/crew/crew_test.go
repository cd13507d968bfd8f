package crew

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// All that is begun runs, at one time where all of it is wanted at one time, and in turn on one goroutine where it is not.
func TestGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c Crew
		const together = 3 * maxIdle
		var ran atomic.Int32
		all := make(chan struct{})
		for range together {
			c.Go(func() {
				if ran.Add(1) == together {
					close(all)
				}
				<-all // which is never closed where one waits for another to end
			})
		}
		synctest.Wait()
		if n := ran.Load(); n != together {
			t.Fatalf("%d ran of %d", n, together)
		}
		if n := len(c.idle); n != maxIdle {
			t.Errorf("%d goroutines stay, want %d", n, maxIdle)
		}
		for range 10 {
			c.Go(func() { ran.Add(1) })
			synctest.Wait()
		}
		if n, idle := ran.Load(), len(c.idle); n != together+10 || idle != maxIdle {
			t.Errorf("%d ran of %d, and %d goroutines stay, want %d", n, together+10, idle, maxIdle)
		}
		c.Close() // synctest fails where a goroutine is left
	})
}

// What is under way when a crew is closed is waited for, and may begin more.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c Crew
		hold := make(chan struct{})
		var ended atomic.Int32
		c.Go(func() {
			<-hold
			c.Go(func() { ended.Add(1) })
			ended.Add(1)
		})
		var closing sync.WaitGroup
		closing.Go(func() {
			c.Close()
			if n := ended.Load(); n != 2 {
				t.Errorf("%d of 2 have ended when it is closed", n)
			}
		})
		synctest.Wait()
		close(hold)
		closing.Wait()
	})
}
