package clusterkey

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"

	"martlet/internal/backend"
	"martlet/internal/errs"
)

// What one sends who has the key arrives as it was sent, whatever its size, and so does the
// answer; what is of the connection does not.
func TestThrough(t *testing.T) {
	w := newWorld(t, source(t, one), source(t, two, one))
	for _, n := range []int{0, 1, macSize, blockSize - 1, blockSize, blockSize + 1, blockSize + macSize, 3*blockSize + 77} {
		w.served = nil
		answer := strings.Repeat("a", n)
		w.handler = func(context.Context, *backend.Request) (*backend.Response, error) {
			return &backend.Response{Status: 200, Header: backend.Header{{Name: "X-Backend-Node", Value: "n"}}, Length: int64(n), Body: io.NopCloser(iotest.HalfReader(strings.NewReader(answer)))}, nil
		}
		r := push(n)
		want, _ := io.ReadAll(r.Body)
		r.Body = bytes.NewReader(want)
		resp, err := w.sender.Do(t.Context(), here, r)
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		got, err := read(resp)
		if err != nil || got != answer || resp.Status != 200 || resp.Length != int64(n) || len(resp.Header) != 1 || resp.Header.Get("X-Backend-Node") != "n" {
			t.Errorf("%d bytes: the answer is %d of %d bytes, %+v, %v", n, resp.Status, len(got), resp.Header, err)
		}
		s := w.served[0]
		if s.err != nil || s.body != string(want) || s.Length != int64(n) || s.Path != r.Path || s.Query != r.Query || !slices.Equal(s.Header, r.Header) {
			t.Errorf("%d bytes: served was %+v of %d bytes, %v", n, s.Request, len(s.body), s.err)
		}
	}
	// A refusal of the handler's is signed, too.
	w.handler = func(context.Context, *backend.Request) (*backend.Response, error) {
		return nil, errs.Refuse(errs.Stale, "what is there is newer")
	}
	resp, err := w.sender.Do(t.Context(), here, push(10))
	if err != nil || resp.Status != 409 {
		t.Fatalf("a refusal: %+v, %v", resp, err)
	}
	if text, err := read(resp); text != "what is there is newer" || err != nil {
		t.Errorf("a refusal: %q, %v", text, err)
	}
	w.handler = func(context.Context, *backend.Request) (*backend.Response, error) {
		return &backend.Response{Status: 204, Length: 9, Body: io.NopCloser(strings.NewReader("not sent!"))}, nil
	}
	w.answer = func(r *backend.Response) { r.Length, r.Body = 0, nil }
	if resp, err := w.sender.Do(t.Context(), here, push(0)); err != nil || resp.Status != 204 {
		t.Errorf("without content: %+v, %v", resp, err)
	}
	if len(w.refused) > 0 {
		t.Errorf("refused was %v", w.refused)
	}
}

// Whatever is changed in a request, it is refused before any handler sees it, or, of its body,
// before a handler reads what was changed; it is counted, and answered with 403.
func TestRequestIsChanged(t *testing.T) {
	flip := func(at int) func(*backend.Request) {
		return func(r *backend.Request) {
			b, _ := io.ReadAll(r.Body)
			b[at] ^= 1
			r.Body = bytes.NewReader(b)
		}
	}
	set := func(name, value string) func(*backend.Request) {
		return func(r *backend.Request) { r.Header.Set(name, value) }
	}
	const size = 2*blockSize + 100
	for what, tt := range map[string]struct {
		change func(*backend.Request)
		why    string
		body   int // that the handler has read before, -1 where it was not called
	}{
		"not signed":            {func(r *backend.Request) { r.Header.Del(Header) }, "unsigned", -1},
		"signed twice":          {func(r *backend.Request) { r.Header.Add(Header, r.Header.Get(Header)) }, "unreadable", -1},
		"signed with nothing":   {set(Header, ""), "unreadable", -1},
		"signed with something": {set(Header, "1 2 3"), "unreadable", -1},
		"another key": {func(r *backend.Request) {
			r.Header.Set(Header, strings.Replace(r.Header.Get(Header), source(t, one).Keys().IDs()[0], "00000000", 1))
		}, "key", -1},
		"another MAC": {func(r *backend.Request) { v := r.Header.Get(Header); r.Header.Set(Header, v[:len(v)-4]+"0123") }, "signature", -1},
		"another address": {func(r *backend.Request) {
			r.Header.Set(Header, strings.Replace(r.Header.Get(Header), here, "10.0.0.2:6203", 1))
		}, "signature", -1},
		"another time":   {func(r *backend.Request) { r.Header.Set(Header, strings.Replace(r.Header.Get(Header), " 18", " 19", 1)) }, "signature", -1},
		"another method": {func(r *backend.Request) { r.Method = "POST" }, "signature", -1},
		"another path":   {func(r *backend.Request) { r.Path = "/d2/5/a/c/o%20x" }, "signature", -1},
		"the path in other words": {
			func(r *backend.Request) { r.Path = "/d1/5/a/c/o x" }, "signature", -1,
		},
		"another query":       {func(r *backend.Request) { r.Query = "from=2" }, "signature", -1},
		"no query":            {func(r *backend.Request) { r.Path, r.Query = r.Path+"?"+r.Query, "" }, "signature", -1},
		"another time stamp":  {set("X-Timestamp", "2.5"), "signature", -1},
		"a field more":        {set("X-Object-Meta-A", "1"), "signature", -1},
		"a field less":        {func(r *backend.Request) { r.Header.Del("X-Backend-Kind") }, "signature", -1},
		"fields in a new way": {func(r *backend.Request) { r.Header.Del("X-Object-Meta-B"); r.Header.Add("X-Object-Meta-B", "2, 3") }, "signature", -1},
		"values exchanged": {
			func(r *backend.Request) {
				r.Header.Del("X-Object-Meta-B")
				r.Header.Add("X-Object-Meta-B", "3")
				r.Header.Add("X-Object-Meta-B", "2")
			}, "signature", -1,
		},
		"cut to one block": {
			func(r *backend.Request) {
				r.Body, r.Length = io.LimitReader(r.Body, blockSize+macSize), blockSize+macSize
			}, "signature", -1,
		},
		"no length":                {func(r *backend.Request) { r.Length = -1 }, "body", -1},
		"a length that none has":   {func(r *backend.Request) { r.Length = blockSize + macSize + 5 }, "body", -1},
		"the body's first byte":    {flip(0), "body", 0},
		"a byte of the 2nd block":  {flip(blockSize + macSize), "body", blockSize},
		"the MAC of the 2nd block": {flip(2*blockSize + 2*macSize - 1), "body", blockSize},
		"the body's last byte":     {flip(2*blockSize + 2*macSize + 99), "body", 2 * blockSize},
		"blocks exchanged": {func(r *backend.Request) {
			b, _ := io.ReadAll(r.Body)
			const n = blockSize + macSize
			r.Body = bytes.NewReader(slices.Concat(b[n:2*n], b[:n], b[2*n:]))
		}, "body", 0},
		"something behind it": {func(r *backend.Request) { r.Body = io.MultiReader(r.Body, strings.NewReader("x")) }, "body", size},
	} {
		w := newWorld(t, source(t, one), source(t, one))
		w.request = tt.change
		resp, err := w.sender.Do(t.Context(), here, push(size))
		// What is wrong with the body shows when the request is known to be a peer's, who may know.
		if told := resp != nil && resp.Status == 403; told != (tt.body >= 0) || err != nil && !errs.Is(err, errs.Unavailable) || told == (err != nil) {
			t.Errorf("%s: the sender is told %+v, %v", what, resp, err)
		}
		if !slices.Equal(w.refused, []string{tt.why}) {
			t.Errorf("%s: refused for %v, want %s", what, w.refused, tt.why)
		}
		read := -1
		if len(w.served) > 0 {
			if read = len(w.served[0].body); !errs.Is(w.served[0].err, errs.Forbidden) {
				t.Errorf("%s: the handler reads the body to its end, or %v", what, w.served[0].err)
			}
		}
		if read != tt.body {
			t.Errorf("%s: the handler has read %d bytes, want %d", what, read, tt.body)
		}
	}
}

// A body that breaks off is not whole for the handler.
func TestBodyBreaksOff(t *testing.T) {
	for _, at := range []int{0, 1, blockSize, blockSize + macSize, blockSize + macSize + 1} {
		w := newWorld(t, source(t, one), source(t, one))
		w.request = func(r *backend.Request) { r.Body = io.LimitReader(r.Body, int64(at)) }
		_, _ = w.sender.Do(t.Context(), here, push(2*blockSize))
		if s := w.served[0]; !errors.Is(s.err, io.ErrUnexpectedEOF) || len(s.body)%blockSize != 0 {
			t.Errorf("after %d bytes: %d bytes, %v", at, len(s.body), s.err)
		}
	}
}

// An answer that is not just the one of a peer to this request is an error, and no byte of a
// body that was changed is handed out.
func TestAnswerIsChanged(t *testing.T) {
	w := newWorld(t, source(t, one), source(t, one))
	w.handler = func(context.Context, *backend.Request) (*backend.Response, error) {
		return &backend.Response{
			Status: 409, Header: backend.Header{{Name: "X-Backend-Primary", Value: "false"}}, Length: 2 * blockSize, Body: io.NopCloser(bytes.NewReader(make([]byte, 2*blockSize))),
		}, nil
	}
	var earlier *backend.Response
	w.answer = func(r *backend.Response) {
		b, _ := io.ReadAll(r.Body)
		copied := *r
		copied.Header = slices.Clone(r.Header)
		copied.Body = io.NopCloser(bytes.NewReader(b))
		earlier = &copied
		r.Body = io.NopCloser(bytes.NewReader(b))
	}
	if _, err := w.sender.Do(t.Context(), here, push(1)); err != nil {
		t.Fatal(err)
	}
	flip := func(at int) func(*backend.Response) {
		return func(r *backend.Response) {
			b, _ := io.ReadAll(r.Body)
			b[at] ^= 1
			r.Body = io.NopCloser(bytes.NewReader(b))
		}
	}
	for what, tt := range map[string]struct {
		change func(*backend.Response)
		body   int // that was read before; -1 where there is no answer
	}{
		"success instead":       {func(r *backend.Response) { r.Status = 201 }, -1},
		"not signed":            {func(r *backend.Response) { r.Header.Del(Header) }, -1},
		"signed twice":          {func(r *backend.Response) { r.Header.Add(Header, r.Header.Get(Header)) }, -1},
		"signed with something": {func(r *backend.Response) { r.Header.Set(Header, "1 x") }, -1},
		"a key nobody has":      {func(r *backend.Response) { r.Header.Set(Header, "1 00000000"+r.Header.Get(Header)[10:]) }, -1},
		"another header":        {func(r *backend.Response) { r.Header.Set("X-Backend-Primary", "true") }, -1},
		"a field more":          {func(r *backend.Response) { r.Header.Set("X-Backend-Node", "n") }, -1},
		"no body":               {func(r *backend.Response) { r.Length, r.Body = 0, nil }, -1},
		"a shorter body":        {func(r *backend.Response) { r.Length = blockSize + macSize }, -1},
		"of unknown length":     {func(r *backend.Response) { r.Length = -1 }, -1},
		"of an earlier request": {func(r *backend.Response) { *r = *earlier }, -1},
		"the body's first byte": {flip(0), 0},
		"the body's last byte":  {flip(2*blockSize + macSize - 1), blockSize},
		"a body that breaks": {func(r *backend.Response) {
			r.Body = io.NopCloser(io.LimitReader(r.Body, blockSize+macSize+7))
		}, blockSize},
	} {
		w.answer = tt.change
		resp, err := w.sender.Do(t.Context(), here, push(1))
		n := -1
		if err == nil {
			var text string
			text, err = read(resp)
			n = len(text)
		}
		if n != tt.body || err == nil || n < 0 && !errs.Is(err, errs.Unavailable) {
			t.Errorf("%s: %d bytes are read, %v, want %d", what, n, err, tt.body)
		}
	}
}

// A request is served once, and not long after it was signed, nor when it was meant for
// somebody else.
func TestServedOnce(t *testing.T) {
	w := newWorld(t, source(t, one), source(t, one))
	do := func(what, want string) {
		t.Helper()
		w.refused = nil
		resp, err := w.sender.Do(t.Context(), here, push(10))
		if got := strings.Join(w.refused, ","); got != want || (err == nil) != (want == "") || resp == nil == (want == "") {
			t.Errorf("%s: refused for %q, %v, want %q", what, got, err, want)
		}
	}
	again := func(what string, on wireful, want string) {
		t.Helper()
		w.refused = nil
		before := len(w.served)
		if _, err := w.deliver(t.Context(), on); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(w.refused, ","); got != want || len(w.served) != before {
			t.Errorf("%s: refused for %q, want %q; served is %v", what, got, want, len(w.served) != before)
		}
	}
	do("at first", "")
	first := w.last
	again("a repetition", first, "replay")
	w.now = w.now.Add(59 * time.Second)
	again("a late one", first, "replay")
	w.now = w.now.Add(2 * time.Second)
	again("a later one", first, "clock")
	w.ahead = 59 * time.Second
	do("a clock that is ahead", "")
	ahead := w.last
	w.now = w.now.Add(118 * time.Second)
	again("its repetition", ahead, "replay")
	w.ahead = 61 * time.Second
	do("a clock that is too far ahead", "clock")
	w.ahead = -59 * time.Second
	do("a clock that is behind", "")
	w.ahead = -61 * time.Second
	do("a clock that is too far behind", "clock")
	w.ahead = 0

	w.refused = nil
	if _, err := w.sender.Do(t.Context(), "10.0.0.2:6203", push(1)); err == nil || !slices.Equal(w.refused, []string{"address"}) {
		t.Errorf("for somebody else: %v, %v", w.refused, err)
	}
	do("before a restart", "")
	before := w.last
	w.now = w.now.Add(time.Second)
	w.guard = NewGuard(w.guard.Config, w.guard.next)
	again("after a restart", before, "restart")
	do("a new one after a restart", "")
}

// However much a stranger sends, the log has a line of it now and then, with how many there were; one of another reason
// is told at once, and all are counted.
func TestStrangersDoNotFillTheLog(t *testing.T) {
	w := newWorld(t, source(t, two), source(t, one))
	var log bytes.Buffer
	w.guard.Log = slog.New(slog.NewTextHandler(&log, nil))
	send := func(n int, change func(*backend.Request), want ...string) {
		t.Helper()
		log.Reset()
		w.request = change
		for range n {
			if _, err := w.sender.Do(t.Context(), here, push(1)); err == nil {
				t.Error("it was served")
			}
		}
		if got := log.String(); strings.Count(got, "\n") != len(want) || slices.ContainsFunc(want, func(text string) bool { return !strings.Contains(got, text) }) {
			t.Errorf("the log has %q, want %q", got, want)
		}
	}
	unsigned := func(r *backend.Request) { r.Header = nil }
	send(1000, nil, "peer=10.0.0.9:1234 method=PUT path=/d1/5/a/c/o%20x refused=1 err=")
	send(100, unsigned, "refused=1 ")
	w.now = w.now.Add(tellEvery - 1)
	send(10, nil)
	w.now = w.now.Add(1)
	send(10, nil, "refused=1010 ")
	w.now = w.now.Add(tellEvery)
	send(2, nil, "refused=10 ")
	send(2, unsigned, "refused=100 ")
	if len(w.refused) != 1124 {
		t.Errorf("counted were %d", len(w.refused))
	}
}

// What is kept in mind is bounded, and what is not known any more is refused.
func TestSeenIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1000, 0)
		began := now
		s := newSeen(time.Minute, 20, began)
		now = now.Add(time.Hour)
		type request struct {
			at    time.Time
			nonce [nonceSize]byte
		}
		var taken []request
		for n := range rapid.IntRange(1, 200).Draw(t, "requests") {
			now = now.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "seconds")) * time.Second)
			r := request{now.Add(time.Duration(rapid.IntRange(-60, 60).Draw(t, "skew")) * time.Second), [nonceSize]byte{byte(n), byte(n >> 8)}}
			if s.take(r.at, r.nonce, now, now.Sub(began)) == nil {
				taken = append(taken, r)
			}
			for _, old := range taken {
				if s.take(old.at, old.nonce, now, now.Sub(began)) == nil {
					t.Fatalf("what is of %v is taken again at %v", old.at, now)
				}
			}
			count := 0
			for _, span := range s.spans {
				count += len(span.nonces)
			}
			if count != s.count || count > 20 {
				t.Fatalf("%d are kept in mind, it says %d, want at most 20", count, s.count)
			}
		}
	})
	now := time.Unix(1000, 0)
	began := now
	s := newSeen(time.Minute, maxSeen, began)
	for n := range 1000 { // in step, none is refused however many come
		now = now.Add(time.Second / 10)
		if err := s.take(now, [nonceSize]byte{byte(n), byte(n >> 8)}, now, now.Sub(began)); err != nil {
			t.Fatal(err)
		}
	}
}

// A key is replaced without a moment in which nodes don't understand each other: first it is
// believed everywhere, then it signs, then the old one goes.
func TestRotation(t *testing.T) {
	for what, tt := range map[string]struct {
		sender, guard []string
		ok            bool
	}{
		"one":                           {[]string{one}, []string{one}, true},
		"the guard believes another":    {[]string{one}, []string{one, two}, true},
		"the sender believes another":   {[]string{one, two}, []string{one}, true},
		"the sender signs with the new": {[]string{two, one}, []string{one, two}, true},
		"both sign with the new":        {[]string{two, one}, []string{two, one}, true},
		"the old one is gone here":      {[]string{two}, []string{two, one}, true},
		"the old one is gone there":     {[]string{two, one}, []string{two}, true},
		"a step was left out":           {[]string{two}, []string{one}, false},
		"another cluster":               {[]string{three}, []string{one, two}, false},
	} {
		w := newWorld(t, source(t, tt.sender...), source(t, tt.guard...))
		if _, err := w.sender.Do(t.Context(), here, push(100)); (err == nil) != tt.ok {
			t.Errorf("%s: %v, want success %v", what, err, tt.ok)
		}
	}
}

// A file is read again when it has changed, and one that is wrong changes nothing.
func TestSource(t *testing.T) {
	s := source(t, "# a comment", "", one)
	first := s.Keys().String()
	for _, tt := range []struct {
		what     string
		lines    []string
		mode     os.FileMode
		reloaded bool
		err      string
	}{
		{"nothing new", []string{"# a comment", "", one}, 0o600, false, ""},
		{"two", []string{two, one}, 0o600, true, ""},
		{"too short", []string{"short"}, 0o600, false, "line 1: a key has from 32"},
		{"too long", []string{strings.Repeat("x", maxKey+1)}, 0o600, false, "line 1: a key has from 32"},
		{"a space in it", []string{one, two + " x"}, 0o600, false, "line 2: a key is of printable"},
		{"twice", []string{one, "", one}, 0o600, false, "line 3: the key is there twice"},
		{"none", []string{"# nothing"}, 0o600, false, "no key"},
		{"too many", strings.Fields(strings.Repeat(one+" ", maxKeys+1)), 0o600, false, "twice"},
		{"too large", []string{one, strings.Repeat("#", maxFile)}, 0o600, false, "more than"},
		{"to be read by others", []string{three}, 0o640, false, "mode 0640"},
		{"to be written by others", []string{three}, 0o602, false, "mode 0602"},
		{"right again", []string{three}, 0o400, true, ""},
	} {
		if err := os.Chmod(s.path, 0o600); err != nil {
			t.Fatal(err)
		}
		before := s.Keys()
		write(t, s.path, tt.lines...)
		if err := os.Chmod(s.path, tt.mode); err != nil {
			t.Fatal(err)
		}
		reloaded, err := s.Check()
		if reloaded != tt.reloaded || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %v, %v, want %v, %q", tt.what, reloaded, err, tt.reloaded, tt.err)
		}
		if err != nil {
			for _, line := range tt.lines {
				if line != "" && !strings.HasPrefix(line, "#") && strings.Contains(err.Error(), line) {
					t.Errorf("%s: the error shows the key: %v", tt.what, err)
				}
			}
		}
		if (s.Keys() != before) != tt.reloaded {
			t.Errorf("%s: the keys in use have changed: %v", tt.what, s.Keys() != before)
		}
	}
	if s.Keys().String() == first || strings.Contains(s.Keys().String(), three) {
		t.Errorf("the keys are named %s", s.Keys())
	}
	if err := os.Remove(s.path); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Check(); err == nil {
		t.Error("a file that is gone is no error")
	}
	if _, err := Open(filepath.Dir(s.path)); err == nil {
		t.Error("a folder is taken for a file")
	}
	if k, err := Parse(NewFile()); err != nil || len(k.IDs()) != 1 {
		t.Errorf("a new file: %v, %v", k, err)
	}
}

// The format on the wire is what the package's text says: what was signed by this version is
// understood by later ones.
func TestGolden(t *testing.T) {
	k := newKey([]byte(one))
	s := signature{key: k.id, time: time.UnixMicro(1_800_000_000_123_456), to: here}
	for i := range s.nonce {
		s.nonce[i] = byte(i)
	}
	r := push(0)
	s.mac = k.request(&s, r, 5)
	m := k.answer(&s.mac, &backend.Response{Status: 201, Header: backend.Header{{Name: "X-Backend-Node", Value: "n"}}}, 3)
	b := k.blockMAC(&s.mac, 1, []byte("block"))
	got := fmt.Sprintf("%s\n%s\n%x\n", s.String(), answered(k.id, &m), b)
	want, err := os.ReadFile("testdata/v1.golden")
	if err != nil || got != string(want) {
		t.Errorf("%v; written is\n%s, want\n%s", err, got, want)
	}
}

// What refuses to be read again, or is not as long as it says, is an error, and nothing is sent
// as if it were whole.
func TestSeal(t *testing.T) {
	k := newKey([]byte(one))
	body := bytes.Repeat([]byte("body"), blockSize/2)
	r := k.seal(mac{}, bytes.NewReader(body), int64(len(body)))
	first, err := io.ReadAll(r)
	if err != nil || int64(len(first)) != sealedLength(int64(len(body))) {
		t.Fatalf("%d bytes, %v", len(first), err)
	}
	sk := r.(io.Seeker)
	if _, err := sk.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if at, err := sk.Seek(0, io.SeekCurrent); at != 0 || err != nil {
		t.Errorf("at %d, %v", at, err)
	}
	if second, err := io.ReadAll(r); err != nil || !bytes.Equal(first, second) {
		t.Errorf("read again it is %d bytes, %v", len(second), err)
	}
	if _, err := sk.Seek(5, io.SeekStart); err == nil {
		t.Error("it goes to somewhere in between")
	}
	if b, err := io.ReadAll(k.seal(mac{}, bytes.NewReader(body), int64(len(body)+1))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a body that is shorter: %d bytes, %v", len(b), err)
	}
	if _, ok := k.seal(mac{}, io.LimitReader(bytes.NewReader(body), 5), 5).(io.Seeker); ok {
		t.Error("what can't be read again says that it can")
	}
}

func TestLengths(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(0, 1<<40).Draw(t, "n")
		if got, ok := openedLength(sealedLength(n)); !ok || got != n {
			t.Fatalf("%d bytes are %d on the wire, and that is %d, %v", n, sealedLength(n), got, ok)
		}
		if opened, ok := openedLength(n); ok && sealedLength(opened) != n {
			t.Fatalf("%d on the wire is %d bytes, and that is %d", n, opened, sealedLength(opened))
		}
	})
}

// A node without a key does not take what is signed for what it looks like.
func TestWithout(t *testing.T) {
	called := 0
	h := Without(backend.HandlerFunc(func(context.Context, *backend.Request) (*backend.Response, error) { called++; return nil, nil }))
	if _, err := h.Serve(t.Context(), &backend.Request{Header: backend.Header{{Name: "x-backend-signature", Value: "1"}}}); !errs.Is(err, errs.Forbidden) || called != 0 {
		t.Errorf("what is signed: %v, called %d times", err, called)
	}
	if _, err := h.Serve(t.Context(), &backend.Request{}); err != nil || called != 1 {
		t.Errorf("what is not: %v, called %d times", err, called)
	}
}

func FuzzSignature(f *testing.F) {
	s := signature{key: "0123abcd", time: time.UnixMicro(1_800_000_000_000_000), to: here}
	f.Add(s.String())
	f.Add(answered("0123abcd", &mac{}))
	f.Add("")
	f.Add("1 0123abcd 1 00 x 00")
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := parseSignature(text); err == nil && s.String() != text {
			t.Errorf("%q is read as %q", text, s.String())
		}
		if key, m, err := parseAnswered(text); err == nil && answered(key, &m) != text {
			t.Errorf("%q is read as %q", text, answered(key, &m))
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add(NewFile())
	f.Add([]byte(one + "\n" + one))
	f.Fuzz(func(t *testing.T, b []byte) {
		if k, err := Parse(b); err == nil && (len(k.IDs()) == 0 || len(k.IDs()) > maxKeys) {
			t.Errorf("%q has %d keys", b, len(k.IDs()))
		}
	})
}

// What signing costs, both ways and both sides: of a small push, and of a large one.
func BenchmarkSigned(b *testing.B) {
	for what, n := range map[string]int{"empty": 0, "4KiB": 4 << 10, "1MiB": 1 << 20, "16MiB": 16 << 20} {
		for _, on := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/signed=%v", what, on), func(b *testing.B) {
				keys := source(b, one)
				sink := backend.HandlerFunc(func(_ context.Context, r *backend.Request) (*backend.Response, error) {
					if r.Body != nil {
						if _, err := io.Copy(io.Discard, r.Body); err != nil {
							return nil, err
						}
					}
					return &backend.Response{Status: 201, Header: backend.Header{{Name: "X-Backend-Node", Value: "n"}}}, nil
				})
				guard := backend.Handler(NewGuard(Config{Keys: keys, Skew: time.Minute, Self: func(string, int) bool { return true }}, sink))
				if !on {
					guard = sink
				}
				wire := next(func(ctx context.Context, r *backend.Request) (*backend.Response, error) { return guard.Serve(ctx, r) })
				sender := Next(&Sender{Keys: keys, Next: wire})
				if !on {
					sender = wire
				}
				body := make([]byte, n)
				r := push(0)
				r.Length = int64(n)
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for b.Loop() {
					r.Body = bytes.NewReader(body)
					if _, err := sender.Do(b.Context(), here, r); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

type next func(ctx context.Context, r *backend.Request) (*backend.Response, error)

func (n next) Do(ctx context.Context, _ string, r *backend.Request) (*backend.Response, error) {
	return n(ctx, r)
}
