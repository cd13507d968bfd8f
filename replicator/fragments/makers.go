package fragments

import "sync"

// makers do things beside each other, no more than a number at one time. Each of them goes on with the next thing: a goroutine for each
// thing would grow its stack anew each time, as what stores something calls deeply.
type makers struct {
	next chan func()
	all  sync.WaitGroup

	mu   sync.Mutex
	idle int // that may be begun; guarded by mu
}

func newMakers(most int) *makers { return &makers{next: make(chan func()), idle: most} }

// do has a thing done. It returns when that is begun: all of them may be at work.
func (m *makers) do(thing func()) {
	select {
	case m.next <- thing:
		return
	default:
	}
	if m.begin() {
		m.all.Go(func() {
			for thing := thing; thing != nil; thing = <-m.next {
				thing()
			}
		})
		return
	}
	m.next <- thing
}

// begin reports whether there may be one more of them.
func (m *makers) begin() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.idle == 0 {
		return false
	}
	m.idle--
	return true
}

// end returns when all things are done, of which no more may come.
func (m *makers) end() {
	close(m.next)
	m.all.Wait()
}
