package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"martlet/cmd/internal/node"
	"martlet/replicator"
)

// watchPass says on a terminal how far a pass is, which the node is asked every second, until end is called.
func watchPass(ctx context.Context, file, device string, out io.Writer) (end func()) {
	p := newProgress(out)
	if p == nil {
		return func() {}
	}
	p.say("%s", passText(nil))
	ctx, cancel := context.WithCancel(ctx)
	var asking sync.WaitGroup
	asking.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			var report []replicator.PaceReport
			if askReplicator(ctx, file, http.MethodGet, node.PacePath, deviceQuery(device), &report) == nil {
				p.update(passText(report))
			}
		}
	})
	return func() {
		cancel()
		asking.Wait()
		p.end()
	}
}

// passText says what some devices have still to get, and when the last of them will have it.
func passText(report []replicator.PaceReport) string {
	var sum replicator.ToGet
	last, known := 0.0, true
	for i := range report {
		get := &report[i].ToGet
		sum.Objects += get.Objects
		sum.Bytes += get.Bytes
		if get.ETASeconds == nil {
			known = false
		} else {
			last = max(last, *get.ETASeconds)
		}
	}
	if sum.Objects == 0 {
		return "a pass is under way"
	}
	if known {
		sum.ETASeconds = &last
	}
	return "a pass is under way: " + toGetText(&sum)
}

// toGetText says what is to be got.
func toGetText(get *replicator.ToGet) string {
	text := fmt.Sprintf("%s to get, %s bytes", some(int(get.Objects), "fragment"), number(int(get.Bytes)))
	if get.ETASeconds == nil {
		return text + ", nobody knows when"
	}
	return text + ", in about " + seconds(*get.ETASeconds)
}
