package formpost

import (
	"bytes"
	"io"
	"mime/multipart"
	"strings"
	"testing"
	"testing/iotest"

	"martlet/internal/errs"
)

// Whatever a body is, reading it ends, with parts that are within their bounds or an
// error of a kind that is a 4xx.
func FuzzParts(f *testing.F) {
	for _, seed := range []string{usual("http://h") + file("a", "1", "Content-Type: a/b") + end, "", end, "--" + boundary + "\r\n\r\n", file("a\"; filename*=UTF-8''%e2%98%83", "x")} {
		f.Add([]byte(seed), boundary, false)
		f.Add([]byte(strings.ReplaceAll(seed, "\r", "")), boundary, true)
	}
	f.Fuzz(func(t *testing.T, body []byte, boundary string, slow bool) {
		if len(body) > 1<<20 || len(boundary) > maxBound {
			return
		}
		var from io.Reader = bytes.NewReader(body)
		if slow {
			from = iotest.OneByteReader(from)
		}
		p := newParts(from, boundary)
		for n := 0; ; n++ {
			if n > len(body) {
				t.Fatal("there are more parts than bytes")
			}
			got, err := p.next()
			if err == nil && got != nil && got.file == "" {
				var value string
				if value, err = got.text(); len(value) > maxValue {
					t.Errorf("a field of %d bytes", len(value))
				}
			} else if err == nil && got != nil {
				_, err = io.Copy(io.Discard, got.limit(10))
			}
			if err != nil && errs.KindOf(err) != errs.Invalid {
				t.Errorf("%v is of another kind", err)
			}
			if err != nil || got == nil {
				return
			}
		}
	})
}

// What is written as a form is read as it was, however the bytes come.
func FuzzWhole(f *testing.F) {
	f.Add("a field", "value", "a file.txt", []byte("--x\r\n--x--\r\n\r\n"), true)
	f.Fuzz(func(t *testing.T, n, value, filename string, data []byte, slow bool) {
		var form bytes.Buffer
		w := multipart.NewWriter(&form)
		if w.SetBoundary("x") != nil || bytes.Contains(data, []byte("\n--x")) || bytes.HasPrefix(data, []byte("--x")) || strings.Contains(value, "--x") {
			return
		}
		if len(n)+len(filename) > maxHead/8 || len(value) > maxValue {
			return // they may be longer as they are written
		}
		if w.WriteField(n, value) != nil {
			return
		}
		to, err := w.CreateFormFile("f", filename)
		if err != nil {
			return
		}
		if _, err := to.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		var from io.Reader = &form
		if slow {
			from = iotest.OneByteReader(from)
		}
		p := newParts(from, "x")
		first, err := p.next()
		if err != nil {
			if errs.KindOf(err) != errs.Invalid {
				t.Errorf("the field: %v", err)
			}
			return // a name that no header can have
		}
		if got, err := first.text(); err == nil && got != strings.TrimRight(value, "\r\n") {
			t.Errorf("the field is %q, want %q", got, value)
		}
		second, err := p.next()
		if err != nil {
			if errs.KindOf(err) != errs.Invalid {
				t.Errorf("the file: %v", err)
			}
			return
		}
		if got, err := io.ReadAll(second); err != nil || !bytes.Equal(got, data) {
			t.Errorf("the file is %q, %v, want %q", got, err, data)
		}
		if last, err := p.next(); last != nil || err != nil {
			t.Errorf("the end is %v, %v", last, err)
		}
	})
}
