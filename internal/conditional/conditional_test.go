package conditional

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

var (
	stamp   = time.Unix(1_700_000_000, 0).UTC()
	current = Validators{ETag: "abc", Modified: stamp}
	same    = stamp.Format(http.TimeFormat)
	before  = stamp.Add(-time.Second).Format(http.TimeFormat)
	after   = stamp.Add(time.Second).Format(http.TimeFormat)
)

func TestCheck(t *testing.T) {
	for name, tt := range map[string]struct {
		r    Request
		want Verdict
	}{
		"nothing":                          {Request{}, Proceed},
		"if-match":                         {Request{IfMatch: `"abc"`}, Proceed},
		"if-match without quotes":          {Request{IfMatch: `abc`}, Proceed},
		"if-match in a list":               {Request{IfMatch: `"x,y", "abc"`}, Proceed},
		"if-match star":                    {Request{IfMatch: `*`}, Proceed},
		"if-match other":                   {Request{IfMatch: `"abd"`}, Failed},
		"if-match is strong":               {Request{IfMatch: `W/"abc"`}, Failed},
		"if-match of commas":               {Request{IfMatch: `,,`}, Failed},
		"if-none-match":                    {Request{IfNoneMatch: `"abc"`}, NotModified},
		"if-none-match is weak":            {Request{IfNoneMatch: `W/"abc"`}, NotModified},
		"if-none-match star":               {Request{IfNoneMatch: `*`}, NotModified},
		"if-none-match other":              {Request{IfNoneMatch: `"x"`}, Proceed},
		"if-modified-since same":           {Request{IfModifiedSince: same}, NotModified},
		"if-modified-since before":         {Request{IfModifiedSince: before}, Proceed},
		"if-modified-since rubbish":        {Request{IfModifiedSince: "yesterday"}, Proceed},
		"if-unmodified-since same":         {Request{IfUnmodifiedSince: same}, Proceed},
		"if-unmodified-since before":       {Request{IfUnmodifiedSince: before}, Failed},
		"if-match and its date both count": {Request{IfMatch: "abc", IfUnmodifiedSince: before}, Failed},
		"if-none-match beats its date":     {Request{IfNoneMatch: "x", IfModifiedSince: after}, Proceed},
		"failed before not modified":       {Request{IfMatch: "x", IfNoneMatch: "abc"}, Failed},
		"unquoted comma is a border":       {Request{IfNoneMatch: "x,abc,y"}, NotModified},
		"an open quote reaches to the end": {Request{IfNoneMatch: `"x,abc`}, Proceed},
	} {
		if got := tt.r.Check(current); got != tt.want {
			t.Errorf("%s: %+v gives %d, want %d", name, tt.r, got, tt.want)
		}
	}
}

func TestSpans(t *testing.T) {
	repeat := func(n int, f func(i int) string) string {
		parts := make([]string, n)
		for i := range parts {
			parts[i] = f(i)
		}
		return "bytes=" + strings.Join(parts, ",")
	}
	up := func(i int) string { return fmt.Sprintf("%d-%d", i, i) }
	down := func(i int) string { return fmt.Sprintf("%d-%d", 80-i, 80-i) }
	overlap := func(int) string { return "0-9" }
	for name, tt := range map[string]struct {
		r      Request
		length int64
		want   string
	}{
		"none":                      {Request{}, 100, "0 []"},
		"first to last":             {Request{Range: "bytes=0-9"}, 100, "1 [{0 10}]"},
		"past the end":              {Request{Range: "bytes=90-200"}, 100, "1 [{90 10}]"},
		"open":                      {Request{Range: "bytes=99-"}, 100, "1 [{99 1}]"},
		"suffix":                    {Request{Range: "bytes=-5"}, 100, "1 [{95 5}]"},
		"suffix over the length":    {Request{Range: "bytes=-500"}, 100, "1 [{0 100}]"},
		"suffix of nothing":         {Request{Range: "bytes=-0"}, 100, "2 []"},
		"beyond":                    {Request{Range: "bytes=100-"}, 100, "2 []"},
		"huge":                      {Request{Range: "bytes=99999999999999999999-"}, 100, "2 []"},
		"huge end":                  {Request{Range: "bytes=1-99999999999999999999"}, 100, "1 [{1 99}]"},
		"empty object":              {Request{Range: "bytes=0-"}, 0, "2 []"},
		"suffix of an empty object": {Request{Range: "bytes=-5"}, 0, "2 []"},
		"backwards":                 {Request{Range: "bytes=9-5"}, 100, "0 []"},
		"rubbish":                   {Request{Range: "bytes=a-b"}, 100, "0 []"},
		"negative":                  {Request{Range: "bytes=--5"}, 100, "0 []"},
		"signs":                     {Request{Range: "bytes=+1-5"}, 100, "0 []"},
		"other unit":                {Request{Range: "lines=1-5"}, 100, "0 []"},
		"only commas":               {Request{Range: "bytes=,,"}, 100, "0 []"},
		"spaces and case":           {Request{Range: "Bytes = 1 - 2 , 5-6"}, 100, "1 [{1 2} {5 2}]"},
		"one of two exists":         {Request{Range: "bytes=1-2,200-"}, 100, "1 [{1 2}]"},
		"if-range":                  {Request{Range: "bytes=1-2", IfRange: `"abc"`}, 100, "1 [{1 2}]"},
		"if-range other":            {Request{Range: "bytes=1-2", IfRange: `"x"`}, 100, "0 []"},
		"if-range weak":             {Request{Range: "bytes=1-2", IfRange: `W/"abc"`}, 100, "0 []"},
		"if-range date":             {Request{Range: "bytes=1-2", IfRange: same}, 100, "1 [{1 2}]"},
		"if-range older":            {Request{Range: "bytes=1-2", IfRange: before}, 100, "0 []"},
		"fifty-one":                 {Request{Range: repeat(51, up)}, 100, "2 []"},
		"nine downwards":            {Request{Range: repeat(9, down)}, 100, "2 []"},
		"three overlapping":         {Request{Range: repeat(3, overlap)}, 100, "2 []"},
	} {
		spans, extent := tt.r.Spans(current, tt.length)
		if got := fmt.Sprint(extent, spans); got != tt.want {
			t.Errorf("%s: %q of %d gives %s, want %s", name, tt.r.Range, tt.length, got, tt.want)
		}
	}
	for name, r := range map[string]Request{
		"fifty": {Range: repeat(50, up)}, "eight downwards": {Range: repeat(8, down)}, "two overlapping": {Range: repeat(2, overlap)},
	} {
		if _, extent := r.Spans(current, 100); extent != Partial {
			t.Errorf("%s: extent %d, want %d", name, extent, Partial)
		}
	}
}

func FuzzSpans(f *testing.F) {
	f.Add("bytes=0-1,5-,-3", "", int64(10))
	f.Add("bytes=9-5", `"abc"`, int64(0))
	f.Fuzz(func(t *testing.T, field, ifRange string, length int64) {
		if length < 0 {
			return
		}
		r := Request{Range: field, IfRange: ifRange, IfMatch: field, IfNoneMatch: ifRange}
		r.Check(current)
		spans, extent := r.Spans(current, length)
		if (extent == Partial) != (len(spans) > 0) || len(spans) > MaxRanges {
			t.Fatalf("%d spans with extent %d", len(spans), extent)
		}
		for _, s := range spans {
			if s.Off < 0 || s.N <= 0 || s.Off+s.N > length {
				t.Fatalf("%+v is not within %d", s, length)
			}
		}
	})
}
