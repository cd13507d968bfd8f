package rowbatch

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"

	"martlet/internal/backend"
)

var update = flag.Bool("update", false, "write the golden files anew")

func sample() (Batch, []Result) {
	return Batch{Wait: 450 * time.Millisecond, Updates: []Update{
			{"PUT", "/sda/77/AUTH_t/c/o%20p", backend.Header{
				{Name: "X-Timestamp", Value: "1700000000.00000"}, {Name: "X-Size", Value: "5"},
				{Name: "X-Content-Type", Value: "text/plain; a=\xff"}, {Name: "X-Trans-Id", Value: "tx1"},
			}},
			{"DELETE", "/sdb/0/a/c/o", backend.Header{{Name: "X-Timestamp", Value: "1700000001.00000"}, {Name: "X-Empty"}}},
		}}, []Result{
			{Status: 201},
			{Status: 503, Late: true, Text: "not done in time"},
		}
}

// The bytes of a version never change: nodes of different ages speak them.
func TestGolden(t *testing.T) {
	b, results := sample()
	req, err := b.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	ans, err := AppendResults(nil, results)
	if err != nil {
		t.Fatal(err)
	}
	for file, got := range map[string][]byte{"testdata/request.golden": req, "testdata/answer.golden": ans} {
		if *update {
			if err := os.WriteFile(file, got, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %q, want %q, %v", file, got, want, err)
		}
	}
}

func drawUpdate(t *rapid.T) Update {
	u := Update{
		Method: rapid.SampledFrom([]string{"PUT", "DELETE"}).Draw(t, "method"),
		Path:   "/" + rapid.StringMatching(`[!-"$->@-~]{0,20}`).Draw(t, "path"),
		Header: backend.Header{},
	}
	for range rapid.IntRange(0, 4).Draw(t, "fields") {
		u.Header = append(u.Header, backend.Field{
			Name:  rapid.StringMatching(`[A-Za-z0-9-]{1,9}`).Draw(t, "name"),
			Value: strings.Trim(rapid.StringMatching("[\t -~\u00e9]{0,9}").Draw(t, "value"), " \t"),
		})
	}
	return u
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Batch{Wait: time.Duration(rapid.Uint32().Draw(t, "wait")) * time.Millisecond}
		var results []Result
		for range rapid.IntRange(1, 9).Draw(t, "n") {
			want.Updates = append(want.Updates, drawUpdate(t))
			results = append(results, Result{
				rapid.IntRange(200, 599).Draw(t, "status"), rapid.Bool().Draw(t, "late"), rapid.StringN(0, 20, maxText).Draw(t, "text"),
			})
		}
		req, err := want.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Parse(req); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v came back as %+v, %v", want, got, err)
		}
		ans, err := AppendResults(nil, results)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParseResults(ans, len(results)); err != nil || !slices.Equal(got, results) {
			t.Fatalf("%+v came back as %+v, %v", results, got, err)
		}
		for _, b := range [][]byte{req, ans} {
			i := rapid.IntRange(0, len(b)-1).Draw(t, "at")
			garbled := slices.Clone(b)
			garbled[i] ^= byte(1 + rapid.IntRange(0, 254).Draw(t, "by"))
			for _, broken := range [][]byte{b[:i], append(slices.Clone(b), 0), garbled} {
				if _, err := Parse(broken); !errors.Is(err, ErrFormat) {
					t.Fatalf("a broken request is taken: %v", err)
				}
				if _, err := ParseResults(broken, len(results)); !errors.Is(err, ErrFormat) {
					t.Fatalf("a broken answer is taken: %v", err)
				}
			}
		}
	})
}

// What a server would refuse in a request of its own, or could read as more than
// one, is neither sent nor taken.
func TestRefused(t *testing.T) {
	long := strings.Repeat("x", 1<<16-1)
	many := make(backend.Header, maxFields+1)
	for i := range many {
		many[i].Name = "X"
	}
	for what, u := range map[string]Update{
		"method":        {Method: "POST", Path: "/d/1/a/c/o"},
		"no path":       {Method: "PUT"},
		"relative path": {Method: "PUT", Path: "d/1/a/c/o"},
		"query":         {Method: "PUT", Path: "/d/1/a/c/o?x"},
		"space":         {Method: "PUT", Path: "/d/1/a/c/o x"},
		"no name":       {Method: "PUT", Path: "/d", Header: backend.Header{{Value: "v"}}},
		"name":          {Method: "PUT", Path: "/d", Header: backend.Header{{Name: "X Y"}}},
		"line break":    {Method: "PUT", Path: "/d", Header: backend.Header{{Name: "X", Value: "a\r\nY: b"}}},
		"control":       {Method: "PUT", Path: "/d", Header: backend.Header{{Name: "X", Value: "\x01"}}},
		"space around":  {Method: "PUT", Path: "/d", Header: backend.Header{{Name: "X", Value: " a"}}},
		"fields":        {Method: "PUT", Path: "/d", Header: many},
		"size":          {Method: "PUT", Path: "/d", Header: backend.Header{{Name: "X", Value: long}}},
	} {
		if u.fits() {
			t.Errorf("%s: it fits", what)
		}
		if b, err := (&Batch{Updates: []Update{u}}).Append(nil); !errors.Is(err, ErrFormat) || len(b) > 0 {
			t.Errorf("%s: %d bytes, %v", what, len(b), err)
		}
		if u.Method == "POST" || u.size() > maxUpdate || len(u.Header) > maxFields {
			continue // these have no encoding
		}
		b := sum(u.append(append([]byte("MRB\x01q\x00\x00\x00\x00"), 0, 1)))
		if _, err := Parse(b); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: it is taken, %v", what, err)
		}
	}
	for what, b := range map[string]Batch{
		"none":          {},
		"many":          {Updates: make([]Update, MaxUpdates+1)},
		"negative wait": {Wait: -time.Second, Updates: []Update{{Method: "PUT", Path: "/d"}}},
		"long wait":     {Wait: 60 * 24 * time.Hour, Updates: []Update{{Method: "PUT", Path: "/d"}}},
	} {
		if _, err := b.Append(nil); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, list := range map[string][]Result{
		"many":   make([]Result, MaxUpdates+1),
		"status": {{Status: 100}},
	} {
		if _, err := AppendResults(nil, list); !errors.Is(err, ErrFormat) {
			t.Errorf("results, %s: %v", what, err)
		}
	}
	cut, err := AppendResults(nil, []Result{{Status: 400, Text: long}})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := ParseResults(cut, 1); err != nil || r[0].Text != long[:maxText] {
		t.Errorf("a long text: %v, %v", r, err)
	}
	if _, err := ParseResults(cut, 2); !errors.Is(err, ErrFormat) {
		t.Errorf("one result for two updates: %v", err)
	}
}

func TestRead(t *testing.T) {
	text := bytes.Repeat([]byte{7}, 10_000)
	for _, length := range []int64{int64(len(text)), -1} {
		got, err := Read(iotest.HalfReader(bytes.NewReader(text)), length)
		if err != nil || !bytes.Equal(got, text) {
			t.Errorf("length %d: %d bytes, %v", length, len(got), err)
		}
	}
	broken := errors.New("broken")
	for what, c := range map[string]struct {
		body   io.Reader
		length int64
		want   error
	}{
		"none":      {nil, 0, ErrFormat},
		"announced": {strings.NewReader(""), MaxBytes + 1, ErrFormat},
		"too much":  {bytes.NewReader(make([]byte, MaxBytes+1)), -1, ErrFormat},
		"broken":    {iotest.ErrReader(broken), -1, broken},
	} {
		if _, err := Read(c.body, c.length); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	b, _ := sample()
	req, err := b.Append(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(req[:len(req)-sumSize])
	f.Add([]byte("MRB\x01q"))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = sum(b) // else nothing gets past it
		r, err := Parse(b)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		if again, err := r.Append(nil); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%q is %+v, which is %q, %v", b, r, again, err)
		}
	})
}

func FuzzParseResults(f *testing.F) {
	_, results := sample()
	ans, err := AppendResults(nil, results)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(ans[:len(ans)-sumSize], 2)
	f.Add([]byte("MRB\x01a"), 0)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		b = sum(b)
		list, err := ParseResults(b, n)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		if again, err := AppendResults(nil, list); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%q is %+v, which is %q, %v", b, list, again, err)
		}
	})
}
