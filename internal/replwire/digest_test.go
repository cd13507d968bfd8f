package replwire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"martlet/internal/backend"
	"martlet/internal/name"
	"martlet/internal/timestamp"
)

func drawQuestion(t *rapid.T) (q Question) {
	q.Before = rapid.SampledFrom([]timestamp.T{{}, at(7), at(8).WithOffset(9)}).Draw(t, "before")
	left := []name.Range{{}}
	for len(left) > 0 && len(q.Parts) < 40 {
		r := left[0]
		left = left[1:]
		if step := rapid.SampledFrom([]uint8{0, 0, 1, 3, 16}).Draw(t, "step"); step > 0 && r.Depth+step <= 64 {
			var parts []name.Range
			for p := range r.Parts(step) {
				if parts = append(parts, p); len(parts) == 4 {
					break
				}
			}
			left = append(parts, left...)
			continue
		}
		q.Parts = append(q.Parts, Extent{Range: r, Sum: Digest{rapid.Byte().Draw(t, "sum")}})
	}
	return q
}

// spoil returns encodings that must not be taken: cut short, with more behind, with a byte
// changed.
func spoil(t *rapid.T, b []byte) [][]byte {
	i := rapid.IntRange(0, len(b)-1).Draw(t, "at")
	garbled := slices.Clone(b)
	garbled[i] ^= byte(1 + rapid.IntRange(0, 254).Draw(t, "by"))
	return [][]byte{b[:i], append(slices.Clone(b), 0), garbled, nil}
}

func TestQuestionRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := drawQuestion(t)
		asked := q.Append(nil)
		got, err := ParseQuestion(asked)
		if err != nil || !reflect.DeepEqual(got, q) || len(asked) != q.Size() {
			t.Fatalf("%+v came back as %+v, %v, in %d bytes of %d", q, got, err, len(asked), q.Size())
		}
		for _, b := range spoil(t, asked) {
			if got, err := ParseQuestion(b); !errors.Is(err, ErrList) {
				t.Fatalf("a broken question is taken as %+v, %v", got, err)
			}
		}
		a := Answer{Answered: rapid.IntRange(1, len(q.Parts)).Draw(t, "answered"), Differ: []Difference{}}
		for i := range a.Answered {
			if rapid.Bool().Draw(t, "differs") {
				sum := q.Parts[i].Sum
				sum[15]++
				a.Differ = append(a.Differ, Difference{i, sum, int64(rapid.IntRange(0, 1<<40).Draw(t, "objects"))})
			}
		}
		b := a.Append(nil, asked, len(q.Parts))
		back, err := ParseAnswer(b, &q, asked)
		if err != nil || !reflect.DeepEqual(back, a) {
			t.Fatalf("%+v came back as %+v, %v", a, back, err)
		}
		for _, b := range spoil(t, b) {
			if got, err := ParseAnswer(b, &q, asked); !errors.Is(err, ErrList) {
				t.Fatalf("a broken answer is taken as %+v, %v", got, err)
			}
		}
		other := q
		other.Before = at(99)
		if got, err := ParseAnswer(b, &other, other.Append(nil)); !errors.Is(err, ErrList) {
			t.Fatalf("the answer to another question is taken as %+v, %v", got, err)
		}
	})
}

func extent(prefix uint64, depth uint8) Extent {
	return Extent{Range: name.Range{Prefix: prefix, Depth: depth}}
}

func TestBadQuestions(t *testing.T) {
	encode := func(parts ...Extent) []byte { return (&Question{Parts: parts}).Append(nil) }
	for what, b := range map[string][]byte{
		"about nothing":      encode(),
		"out of order":       encode(extent(1<<63, 1), extent(0, 1)),
		"twice":              encode(extent(0, 1), extent(0, 1)),
		"a part of the last": encode(extent(0, 1), extent(1<<60, 4)),
		"around the last":    encode(extent(0, 4), extent(0, 1)),
		"65 bits":            encode(extent(0, 65)),
		"behind its depth":   encode(extent(1, 63)),
		"all and more":       encode(extent(0, 0), extent(1<<63, 1)),
		"goes on":            goesOn(encode(extent(0, 1))),
		"another kind":       AppendResults(nil, []Result{{Status: 200}}),
		"time out of range":  timed(encode(extent(0, 1)), 1<<63),
		"too many":           encode(make([]Extent, MaxParts+1)...),
	} {
		if q, err := ParseQuestion(b); !errors.Is(err, ErrList) {
			t.Errorf("%s: taken as %+v, %v", what, q, err)
		}
	}
	q := Question{Parts: []Extent{extent(0, 1), extent(1<<63, 1)}}
	q.Parts[0].Sum[0] = 1
	asked := q.Append(nil)
	for what, a := range map[string]Answer{
		"answers nothing":         {},
		"answers more than asked": {Answered: 3},
		"behind what it answers":  {Answered: 1, Differ: []Difference{{1, Digest{2}, 0}}},
		"out of order":            {Answered: 2, Differ: []Difference{{1, Digest{2}, 0}, {0, Digest{2}, 0}}},
		"twice":                   {Answered: 2, Differ: []Difference{{1, Digest{2}, 0}, {1, Digest{2}, 0}}},
		"equal":                   {Answered: 2, Differ: []Difference{{0, Digest{1}, 0}}},
		"fewer than none":         {Answered: 2, Differ: []Difference{{0, Digest{}, -1}}},
	} {
		if got, err := ParseAnswer(a.Append(nil, asked, 2), &q, asked); !errors.Is(err, ErrList) {
			t.Errorf("an answer that %s: taken as %+v, %v", what, got, err)
		}
	}
	if full := (Question{Parts: make([]Extent, MaxParts)}); full.Size() > MaxList || headSize+answerHead+MaxParts*differenceSize+tailSize > MaxList {
		t.Errorf("a question of %d parts has %d bytes, or its answer is too long", MaxParts, full.Size())
	}
}

// resealed is a list with another content and the checksum that fits.
func resealed(b []byte, change func([]byte)) []byte {
	b = slices.Clone(b)
	change(b)
	return binary.BigEndian.AppendUint32(b[:len(b)-4], crc32.Checksum(b[:len(b)-4], castagnoli))
}

func goesOn(b []byte) []byte {
	return resealed(b, func(b []byte) { b[len(b)-tailSize] = 1 })
}

func timed(b []byte, ticks uint64) []byte {
	return resealed(b, func(b []byte) { binary.BigEndian.PutUint64(b[headSize:], ticks) })
}

func samplePushes() (list []Push) {
	return []Push{
		{
			Method: "PUT", Partition: 7, Path: name.Path{Account: "a", Container: "c", Object: "o/\xc3\xa9"}, Body: []byte("body"),
			Header: backend.Header{{Name: "X-Timestamp", Value: "0000000001.00000"}, {Name: "Content-Type", Value: "text/plain"}},
		},
		{Method: "POST", Partition: 7, Path: name.Path{Account: "a", Container: "c", Object: "o/\xc3\xa9"}, Header: backend.Header{{Name: "X-Object-Meta-K", Value: ""}}, Body: []byte{}},
		{Method: "DELETE", Partition: 1<<32 - 1, Path: name.Path{Account: "a", Container: "c", Object: "gone"}, Header: backend.Header{}, Body: []byte{}},
	}
}

func encodePushes(list []Push) []byte {
	var p Pushes
	for i := range list {
		p.Add(&list[i])
	}
	return p.Encoded()
}

func TestPushes(t *testing.T) {
	want := samplePushes()
	b := encodePushes(want)
	if got, err := ParsePushes(b); err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v came back as %+v, %v", want, got, err)
	}
	results := []Result{{201, true, ""}, {409, false, "older"}, {507, true, "full"}}
	if got, err := ParseResults(AppendResults(nil, results), 3); err != nil || !slices.Equal(got, results) {
		t.Fatalf("%+v came back as %+v, %v", results, got, err)
	}
	rapid.Check(t, func(t *rapid.T) {
		for _, b := range spoil(t, b) {
			if got, err := ParsePushes(b); !errors.Is(err, ErrList) {
				t.Fatalf("broken pushes are taken as %+v, %v", got, err)
			}
		}
		for _, b := range spoil(t, AppendResults(nil, results)) {
			if got, err := ParseResults(b, 3); !errors.Is(err, ErrList) {
				t.Fatalf("broken results are taken as %+v, %v", got, err)
			}
		}
	})
	one := func(change func(*Push)) []byte {
		x := samplePushes()[0]
		change(&x)
		return encodePushes([]Push{x})
	}
	for what, b := range map[string][]byte{
		"nothing":              AppendResults(nil, nil),
		"no method":            one(func(x *Push) { x.Method = "GET" }),
		"tombstone with body":  one(func(x *Push) { x.Method = "DELETE" }),
		"metadata with body":   one(func(x *Push) { x.Method = "POST" }),
		"line end in a value":  one(func(x *Push) { x.Header[0].Value = "1\r\nX: y" }),
		"line end in a name":   one(func(x *Push) { x.Header[0].Name = "X\n" }),
		"no name":              one(func(x *Push) { x.Header[0].Name = "" }),
		"space around a value": one(func(x *Push) { x.Header[0].Value = " 1" }),
		"goes on":              goesOn(one(func(*Push) {})),
		"fewer than counted":   resealed(b, func(b []byte) { binary.BigEndian.PutUint64(b[len(b)-12:], 4) }),
		"more than counted":    resealed(b, func(b []byte) { binary.BigEndian.PutUint64(b[len(b)-12:], 2) }),
		"too many":             encodePushes(make([]Push, MaxPushes+1)),
		"too large":            one(func(x *Push) { x.Body = make([]byte, MaxPushBytes) }),
	} {
		if got, err := ParsePushes(b); !errors.Is(err, ErrList) {
			t.Errorf("%s: taken as %+v, %v", what, got, err)
		}
	}
	for what, b := range map[string][]byte{
		"fewer":          AppendResults(nil, results[:2]),
		"status 0":       AppendResults(nil, []Result{{}, {}, {}}),
		"primary is 2":   resealed(AppendResults(nil, results), func(b []byte) { b[headSize+2] = 2 }),
		"another length": resealed(AppendResults(nil, results), func(b []byte) { b[headSize+4] = 1 }),
	} {
		if got, err := ParseResults(b, 3); !errors.Is(err, ErrList) {
			t.Errorf("results, %s: taken as %+v, %v", what, got, err)
		}
	}
}

// What fits is taken, and as much as there is room for; what does not fit is seen before.
func TestPushesFit(t *testing.T) {
	x := Push{Method: "PUT", Path: name.Path{Account: "a", Container: "c", Object: "o"}, Body: make([]byte, 256<<10)}
	var p Pushes
	for round := range 2 {
		for p.Reset(); p.Room(x); {
			p.Add(&x)
		}
		n := p.Len()
		if got, err := ParsePushes(p.Encoded()); err != nil || len(got) != n || n != 15 {
			t.Errorf("round %d: %d pushes of 256 KiB had room, %d are read, %v", round, n, len(got), err)
		}
	}
	x.Body = nil
	for p.Reset(); p.Room(x); {
		p.Add(&x)
	}
	if p.Len() != MaxPushes {
		t.Errorf("%d small pushes have room, want %d", p.Len(), MaxPushes)
	}
	long := string(bytes.Repeat([]byte("x"), 1<<16))
	for what, change := range map[string]func(*Push){
		"a large body":     func(x *Push) { x.Body = make([]byte, MaxPushBytes) },
		"a long name":      func(x *Push) { x.Path.Object = long },
		"a long value":     func(x *Push) { x.Header = backend.Header{{Name: "A", Value: long}} },
		"many fields":      func(x *Push) { x.Header = make(backend.Header, maxFields+1) },
		"a value of lines": func(x *Push) { x.Header = backend.Header{{Name: "A", Value: "\n"}} },
		"GET":              func(x *Push) { x.Method = "GET" },
	} {
		y := x
		change(&y)
		if y.Fits() {
			t.Errorf("%s fits", what)
		}
	}
	if !x.Fits() {
		t.Error("a small push does not fit")
	}
}

// sealed has the checksum put right, so that what is behind it is reached as well.
func sealed(b []byte) []byte {
	if len(b) < headSize+tailSize {
		return b
	}
	return resealed(b, func([]byte) {})
}

func FuzzParseQuestion(f *testing.F) {
	q := Question{Before: at(5), Parts: []Extent{extent(0, 4), extent(1<<62, 2)}}
	f.Add(q.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = sealed(b)
		q, err := ParseQuestion(b)
		if err != nil {
			if !errors.Is(err, ErrList) {
				t.Fatal(err)
			}
			return
		}
		if again := q.Append(nil); !bytes.Equal(again, b) {
			t.Errorf("%x is taken as %+v, which is %x", b, q, again)
		}
	})
}

func FuzzParseAnswer(f *testing.F) {
	q := Question{Parts: []Extent{extent(0, 4), extent(1<<62, 2)}}
	asked := q.Append(nil)
	f.Add((&Answer{Answered: 2, Differ: []Difference{{1, Digest{1}, 5}}}).Append(nil, asked, 2))
	f.Add((&Answer{Answered: 1}).Append(nil, asked, 2))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = sealed(b)
		a, err := ParseAnswer(b, &q, asked)
		if err != nil {
			if !errors.Is(err, ErrList) {
				t.Fatal(err)
			}
			return
		}
		if again := a.Append(nil, asked, 2); !bytes.Equal(again, b) {
			t.Errorf("%x is taken as %+v, which is %x", b, a, again)
		}
	})
}

func FuzzParsePushes(f *testing.F) {
	f.Add(encodePushes(samplePushes()))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = sealed(b)
		list, err := ParsePushes(b)
		if err != nil {
			if !errors.Is(err, ErrList) {
				t.Fatal(err)
			}
			return
		}
		if again := encodePushes(list); !bytes.Equal(again, b) {
			t.Errorf("%x is taken as %+v, which is %x", b, list, again)
		}
	})
}

func FuzzParseResults(f *testing.F) {
	f.Add(AppendResults(nil, []Result{{201, true, ""}, {409, false, "older"}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = sealed(b)
		list, err := ParseResults(b, 2)
		if err != nil {
			if !errors.Is(err, ErrList) {
				t.Fatal(err)
			}
			return
		}
		if again := AppendResults(nil, list); !bytes.Equal(again, b) {
			t.Errorf("%x is taken as %+v, which is %x", b, list, again)
		}
	})
}
