package replicator

import (
	"bytes"
	"math"
	"testing"
	"time"
)

// What comes evenly is told as that, whether in one stream or with each pass; after a while of
// nothing it is not known any more.
func TestAverage(t *testing.T) {
	began := time.Unix(1_000_000, 0)
	for what, tt := range map[string]struct {
		every, until time.Duration
		within       float64
	}{
		"a stream":       {100 * time.Millisecond, 30 * time.Second, .01},
		"by passes":      {10 * time.Second, 2 * time.Minute, .1},
		"for a long way": {time.Second, time.Hour, .01},
	} {
		var a average
		now := began
		for ; now.Sub(began) <= tt.until; now = now.Add(tt.every) {
			a.add(now, 1, 1000)
		}
		perSecond := 1 / tt.every.Seconds()
		bytes, objects, known := a.rate(now.Add(-tt.every))
		if !known || math.Abs(objects/perSecond-1) > tt.within || math.Abs(bytes/perSecond/1000-1) > tt.within {
			t.Errorf("%s: %v bytes, %v objects a second, %v, want %v objects of 1000 bytes", what, bytes, objects, known, perSecond)
		}
		if later, _, known := a.rate(now.Add(lately)); !known || later > bytes*.5 {
			t.Errorf("%s: when nothing has come for a while it is %v, %v, from %v", what, later, known, bytes)
		}
		if bytes, objects, known := a.rate(now.Add(idle + time.Second)); known || bytes != 0 || objects != 0 {
			t.Errorf("%s: when nothing comes any more it is %v, %v, %v", what, bytes, objects, known)
		}
	}
	var a average
	a.add(began, 1, 1000)
	if _, _, known := a.rate(began.Add(time.Second)); known {
		t.Error("after one object a rate is known")
	}
}

// A process that was started again goes on from what the one before has known; the time between
// them is none in which nothing came.
func TestAverageIsKept(t *testing.T) {
	began := time.Unix(1_000_000, 0)
	var a average
	for i := range 100 {
		a.add(began.Add(time.Duration(i)*time.Second), 1, 1000)
	}
	text, err := a.encode()
	if err != nil {
		t.Fatal(err)
	}
	was, _, _ := a.rate(a.At)
	for what, tt := range map[string]struct {
		after time.Duration
		known bool
	}{"soon": {5 * time.Minute, true}, "too late": {idle + time.Second, false}, "a clock that went back": {-time.Minute, false}} {
		now := a.At.Add(tt.after)
		b, err := parseAverage(text, now)
		got, _, known := b.rate(now)
		if err != nil || known != tt.known || known && got != was {
			t.Errorf("%s: %v, %v, %v, want %v, %v", what, got, known, err, was, tt.known)
		}
	}
	for i := range text {
		bad := bytes.Clone(text)
		bad[i] ^= 1
		if b, err := parseAverage(bad, a.At); err == nil {
			t.Errorf("with byte %d changed it is %+v, want an error", i, b)
		}
	}
}

func FuzzParseAverage(f *testing.F) {
	text, err := average{Seen: time.Unix(1, 0), At: time.Unix(1, 0), Bytes: 1, Seconds: 1}.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parseAverage(b, time.Unix(2, 0))
		if bytes, objects, _ := a.rate(time.Unix(2, 0)); err == nil && (math.IsNaN(bytes) || bytes < 0 || objects < 0) {
			t.Errorf("%q is %+v", b, a)
		}
	})
}
