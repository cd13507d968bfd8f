package report

import (
	"context"
	"io"
	"time"

	"martlet/proxy/chain"
)

// separator stands between the white space and the report.
const separator = "\r\n\r\n"

// Heartbeat returns a body that is white space while work goes on, and then its
// report. The first of it comes at once where atOnce says so, else after a period;
// without any the report stands alone. Closing the body ends the context of the
// work, and waits for it. A panic of the work breaks the body off.
func Heartbeat(ctx context.Context, every time.Duration, atOnce bool, work func(context.Context) string) io.ReadCloser {
	ctx, cancel := context.WithCancel(ctx)
	b := &beating{cancel: cancel, done: make(chan outcome, 1), over: make(chan struct{}), ticker: time.NewTicker(every), beat: atOnce}
	go func() {
		defer close(b.over)
		var out outcome
		out.err = chain.Survive(func() { out.report = work(ctx) })
		b.done <- out
	}()
	return b
}

// outcome is what came of the work: its report, or that it panicked.
type outcome struct {
	report string
	err    error
}

type beating struct {
	cancel context.CancelFunc
	done   chan outcome  // of the work
	over   chan struct{} // closed when the work has ended
	ticker *time.Ticker
	beat   bool   // white space is due at once
	begun  bool   // some was sent
	rest   string // of the report
	err    error  // there is none
	ended  bool   // the report is in rest
}

// Read waits for the next beat or the report.
func (b *beating) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if b.beat {
		b.beat, b.begun = false, true
		return copy(p, " "), nil
	}
	if !b.ended {
		select {
		case out := <-b.done:
			b.rest, b.err, b.ended = out.report, out.err, true
			if b.begun && b.err == nil {
				b.rest = separator + b.rest
			}
		case <-b.ticker.C:
			b.begun = true
			return copy(p, " "), nil
		}
	}
	if b.err != nil {
		return 0, b.err
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	if b.rest == "" && n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Close ends the work where it goes on.
func (b *beating) Close() error {
	b.cancel()
	b.ticker.Stop()
	<-b.over
	return nil
}
