package chain

import (
	"fmt"
	"iter"
	"runtime/debug"
	"sync"

	"martlet/internal/errs"
)

// Survive calls f and returns its panic, if it panics, as an error with the stack.
// A goroutine of a feature's own needs it: what stands around every request
// recovers only in the request's.
func Survive(f func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errs.E(errs.Op("chain.panic"), fmt.Errorf("%v\n%s", p, debug.Stack()))
		}
	}()
	f()
	return nil
}

// Each calls f for each of the values, so many at a time, in about their order,
// and returns when all have been. A panic in f is one of Each itself, once those
// that are under way are over; the rest is not begun then.
func Each[T any](workers int, values iter.Seq[T], f func(T)) {
	var (
		all    sync.WaitGroup
		once   sync.Once
		broken error // set by once
	)
	turn, stop := make(chan T), make(chan struct{})
	do := func(f func()) {
		if err := Survive(f); err != nil {
			once.Do(func() { broken = err; close(stop) })
		}
	}
	for range max(1, workers) {
		all.Go(func() {
			for v := range turn {
				do(func() { f(v) })
			}
		})
	}
	do(func() {
		for v := range values {
			select {
			case turn <- v:
			case <-stop:
				return
			}
		}
	})
	close(turn)
	all.Wait()
	if broken != nil {
		panic(broken)
	}
}
