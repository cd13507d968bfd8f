package report

import (
	"cmp"
	"context"
	"io"
	"strings"
	"time"

	"martlet/proxy/chain"
)

// separator stands between the white space and the report.
const separator = "\r\n\r\n"

// Beat says how the white space begins.
type Beat struct {
	AtOnce bool   // the first of it comes at once, else after a period
	First  string // what stands for the first of it; "" is white space, too
}

// First is what the white space before a report of a content type begins with:
// nothing may stand before the declaration of XML.
func First(contentType string) string {
	if strings.HasSuffix(contentType, "/xml") {
		return `<?xml version="1.0" encoding="UTF-8"?>` + "\n"
	}
	return blank
}

const blank = " "

// Heartbeat returns a body that is white space while work goes on, and then its
// report; without any white space the report stands alone. Closing the body ends
// the context of the work, and waits for it. A panic of the work breaks the body
// off.
func Heartbeat(ctx context.Context, every time.Duration, beat Beat, work func(context.Context) string) io.ReadCloser {
	ctx, cancel := context.WithCancel(ctx)
	b := &beating{cancel: cancel, done: make(chan outcome, 1), over: make(chan struct{}), ticker: time.NewTicker(every), beat: beat.AtOnce, first: cmp.Or(beat.First, blank)}
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
	first  string // of the white space
	beat   bool   // white space is due at once
	begun  bool   // some was sent
	rest   string // what is to be read before more is waited for
	err    error  // the end of the body
}

// Read waits for the next beat or the report.
func (b *beating) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if b.rest == "" {
		b.wait()
	}
	if b.rest == "" {
		return 0, b.err
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// wait finds out what comes next.
func (b *beating) wait() {
	switch {
	case b.err != nil:
		return
	case b.beat:
		b.beat = false
		b.sign()
		return
	}
	select {
	case out := <-b.done:
		if b.err = out.err; b.err != nil {
			return
		}
		b.err, b.rest = io.EOF, out.report
		if b.begun {
			b.rest = separator + b.rest
		}
	case <-b.ticker.C:
		b.sign()
	}
}

// sign is a sign of life.
func (b *beating) sign() {
	b.rest = blank
	if !b.begun {
		b.begun, b.rest = true, b.first
	}
}

// Close ends the work where it goes on.
func (b *beating) Close() error {
	b.cancel()
	b.ticker.Stop()
	<-b.over
	return nil
}
