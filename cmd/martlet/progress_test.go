package main

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"
)

// What takes long is told every second, and the line goes at the end.
func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := beginProgress(&out)
		p.say("reading %s", "a file")
		time.Sleep(1500 * time.Millisecond) // in the bubble
		p.say("placing replicas")
		time.Sleep(3600 * time.Millisecond) // in the bubble
		p.say("writing")
		time.Sleep(time.Second) // in the bubble
		p.end()
		const line = "\r\x1b[K"
		if want := line + "placing replicas ... 3s" + line + "placing replicas ... 4s" + line + "writing ... 1s" + line; out.String() != want {
			t.Errorf("got %q, want %q", out.String(), want)
		}
	})
}

// What is soon done is not told.
func TestProgressIsQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := beginProgress(&out)
		p.say("reading")
		time.Sleep(1900 * time.Millisecond) // in the bubble
		p.end()
		if out.Len() > 0 {
			t.Errorf("got %q", out.String())
		}
		if p := newProgress(&out); p != nil {
			t.Error("progress where there is no terminal")
		}
		(*progress)(nil).say("nothing")
		(*progress)(nil).end()
	})
}
