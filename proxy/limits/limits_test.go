package limits

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"martlet/internal/conf"
	"martlet/internal/errs"
	"martlet/internal/timestamp"
)

const ok = errs.Kind(255) // no error at all

// check compares an error with what is wanted: a kind, and words for the client.
func check(t *testing.T, what string, err error, kind errs.Kind, words string) {
	t.Helper()
	got := ok
	if err != nil {
		got = errs.KindOf(err)
	}
	if got != kind || !strings.Contains(errs.PublicOf(err), words) {
		t.Errorf("%s: got %v, want kind %v and %q", what, err, kind, words)
	}
}

// text2 is n bytes of characters that have two.
func text2(n int) string { return strings.Repeat("é", n/2) + strings.Repeat("x", n%2) }

func TestNames(t *testing.T) {
	l := Defaults()
	for _, tt := range []struct {
		what  string
		check func(string) error
		name  string
		kind  errs.Kind
		words string
	}{
		{"account", l.CheckAccount, text2(256), ok, ""},
		{"account", l.CheckAccount, text2(257), errs.Invalid, "Account name length of 257 longer than 256"},
		{"account", l.CheckAccount, "", errs.Precondition, "Account name cannot be empty"},
		{"account", l.CheckAccount, "a/b", errs.Precondition, "Account name cannot contain slashes"},
		{"container", l.CheckContainer, text2(256), ok, ""},
		{"container", l.CheckContainer, text2(257), errs.Invalid, "Container name length of 257 longer than 256"},
		{"container", l.CheckContainer, "", errs.Precondition, "Container name cannot be empty"},
		{"container", l.CheckContainer, "/", errs.Precondition, "Container name cannot contain slashes"},
		{"container", l.CheckContainer, "..", ok, ""},
		{"object", l.CheckObject, text2(1024), ok, ""},
		{"object", l.CheckObject, text2(1025), errs.Invalid, "Object name length of 1025 longer than 1024"},
		{"object", l.CheckObject, "/a//../", ok, ""},
	} {
		check(t, fmt.Sprintf("%s of %d bytes, %.10q", tt.what, len(tt.name), tt.name), tt.check(tt.name), tt.kind, tt.words)
	}
}

func TestListing(t *testing.T) {
	for _, tt := range []struct {
		limit string
		want  int
		kind  errs.Kind
	}{
		{"", 10000, ok}, {"0", 0, ok}, {"1", 1, ok}, {"9999", 9999, ok}, {"10000", 10000, ok}, {"00010000", 10000, ok},
		{"10001", 0, errs.Precondition}, {"99999999999999999999999", 0, errs.Precondition},
		{"-1", 10000, ok}, {"x", 10000, ok}, {"1x", 10000, ok}, {"1.5", 10000, ok}, {" 5", 10000, ok}, {"+5", 10000, ok},
	} {
		got, err := Listing(tt.limit, 10000)
		words := ""
		if tt.kind != ok {
			words = "Maximum limit is 10000"
		}
		check(t, fmt.Sprintf("limit %q", tt.limit), err, tt.kind, words)
		if got != tt.want {
			t.Errorf("limit %q: got %d, want %d", tt.limit, got, tt.want)
		}
	}
	if _, err := Listing("5", 0); !errs.Is(err, errs.Precondition) {
		t.Errorf("limit 5 of at most 0: got %v", err)
	}
}

// items makes n fields of metadata with values of the given length.
func items(prefix string, n, value int) http.Header {
	h := http.Header{}
	for i := range n {
		h[fmt.Sprintf("%s%04d", prefix, i)] = []string{strings.Repeat("v", value)}
	}
	return h
}

func TestMetadata(t *testing.T) {
	l := Defaults()
	one := func(key, value string) http.Header { return http.Header{key: {value}} }
	for name, tt := range map[string]struct {
		target Target
		header http.Header
		kind   errs.Kind
		words  string
	}{
		"none":                      {Object, nil, ok, ""},
		"empty name":                {Object, one("X-Object-Meta-", "v"), errs.Invalid, "Metadata name cannot be empty"},
		"empty name in lower case":  {Container, one("x-container-meta-", ""), errs.Invalid, "Metadata name cannot be empty"},
		"empty name of another":     {Container, one("X-Object-Meta-", "v"), ok, ""},
		"empty value":               {Account, one("X-Account-Meta-A", ""), ok, ""},
		"name at the limit":         {Object, one("X-Object-Meta-"+text2(128), "v"), ok, ""},
		"name over it":              {Object, one("X-Object-Meta-"+text2(129), "v"), errs.Invalid, "Metadata name too long"},
		"value at the limit":        {Container, one("X-Container-Meta-A", text2(256)), ok, ""},
		"value over it":             {Container, one("X-Container-Meta-A", text2(257)), errs.Invalid, "Metadata value longer than 256: X-Container-Meta-A"},
		"values joined, at it":      {Object, http.Header{"X-Object-Meta-A": {text2(128), text2(127)}}, ok, ""},
		"values joined, over it":    {Object, http.Header{"X-Object-Meta-A": {text2(128), text2(128)}}, errs.Invalid, "longer than 256"},
		"count at the limit":        {Object, items("X-Object-Meta-", 90, 1), ok, ""},
		"count over it":             {Object, items("X-Object-Meta-", 91, 1), errs.Invalid, "Too many metadata items; max 90"},
		"empty ones count":          {Account, items("X-Account-Meta-", 91, 0), errs.Invalid, "Too many metadata items; max 90"},
		"count of another target's": {Account, items("X-Container-Meta-", 91, 1), ok, ""},
		"size at the limit":         {Object, items("X-Object-Meta-", 16, 252), ok, ""}, // 16 * (4 + 252) = 4096
		"size over it":              {Object, merge(items("X-Object-Meta-", 16, 252), one("X-Object-Meta-x", "")), errs.Invalid, "Total metadata too large; max 4096"},
		"name not UTF-8":            {Account, one("X-Account-Meta-\xff", "v"), errs.Invalid, "Metadata must be valid UTF-8"},
		"value not UTF-8":           {Container, one("X-Container-Meta-A", "\xc3"), errs.Invalid, "Metadata must be valid UTF-8"},
		"a surrogate":               {Container, one("X-Container-Meta-A", "\xed\xa0\x80"), errs.Invalid, "Metadata must be valid UTF-8"},
		"NUL":                       {Container, one("X-Container-Meta-A", "\x00"), errs.Invalid, "Metadata must be valid UTF-8"},
		"an object's may be bytes":  {Object, one("X-Object-Meta-A", "\xff"), ok, ""},
		"any header at the limit":   {Object, one("X-Whatever", strings.Repeat("v", 8192)), ok, ""},
		"any header over it":        {Object, one("X-Whatever", strings.Repeat("v", 8193)), errs.Invalid, "Header value too long: X-Whatever; max_header_size is 8192"},
	} {
		check(t, name, l.CheckMetadata(tt.target, tt.header), tt.kind, tt.words)
	}
}

func merge(a, b http.Header) http.Header {
	for k, v := range b {
		a[k] = v
	}
	return a
}

func TestParseBody(t *testing.T) {
	const most = 1<<63 - 1
	for _, tt := range []struct {
		te, cl string
		want   Body
		kind   errs.Kind
		words  string
	}{
		{"", "", Body{Length: -1}, ok, ""},
		{"", "0", Body{}, ok, ""},
		{"", " 12 ", Body{Length: 12}, ok, ""},
		{"", "9223372036854775807", Body{Length: most}, ok, ""},
		{"", "9223372036854775808", Body{Length: most}, ok, ""},
		{"", "99999999999999999999999", Body{Length: most}, ok, ""},
		{"chunked", "", Body{-1, true}, ok, ""},
		{"Chunked", "12", Body{-1, true}, ok, ""},
		{"chunked", "x", Body{-1, true}, ok, ""},
		{"", "-1", Body{}, errs.Invalid, "Invalid Content-Length"},
		{"", "-", Body{}, errs.Invalid, "Invalid Content-Length header value"},
		{"", "+1", Body{}, errs.Invalid, "Invalid Content-Length header value"},
		{"", "1.0", Body{}, errs.Invalid, "Invalid Content-Length header value"},
		{"", "0x1", Body{}, errs.Invalid, "Invalid Content-Length header value"},
		{"", "1, 1", Body{}, errs.Invalid, "Invalid Content-Length header value"},
		{"", "٣", Body{}, errs.Invalid, "Invalid Content-Length header value"},
		{"gzip", "", Body{}, errs.Invalid, "Invalid Transfer-Encoding header value"},
		{"gzip,chunked", "", Body{}, errs.Unsupported, "Transfer-Encoding"},
		{"chunked, gzip", "5", Body{}, errs.Unsupported, "Transfer-Encoding"},
	} {
		got, err := ParseBody(tt.te, tt.cl)
		check(t, fmt.Sprintf("%q, %q", tt.te, tt.cl), err, tt.kind, tt.words)
		if got != tt.want {
			t.Errorf("%q, %q: got %+v, want %+v", tt.te, tt.cl, got, tt.want)
		}
	}
}

func TestCreation(t *testing.T) {
	l := Defaults()
	for name, tt := range map[string]struct {
		change func(*Creation)
		kind   errs.Kind
		words  string
	}{
		"as it should be":    {func(*Creation) {}, ok, ""},
		"chunked":            {func(c *Creation) { c.Body = Body{-1, true} }, ok, ""},
		"size at the limit":  {func(c *Creation) { c.Body.Length = 5368709122 }, ok, ""},
		"size over it":       {func(c *Creation) { c.Body.Length = 5368709123 }, errs.TooLarge, "max_file_size is 5368709122"},
		"no length":          {func(c *Creation) { c.Body.Length = -1 }, errs.Length, "Missing Content-Length header."},
		"name at the limit":  {func(c *Creation) { c.Name = text2(1024) }, ok, ""},
		"name over it":       {func(c *Creation) { c.Name = text2(1025) }, errs.Invalid, "Object name length of 1025 longer than 1024"},
		"no type":            {func(c *Creation) { c.ContentType = "" }, errs.Invalid, "No content type"},
		"type not UTF-8":     {func(c *Creation) { c.ContentType = "\xff" }, errs.Invalid, "Invalid Content-Type"},
		"type with NUL":      {func(c *Creation) { c.ContentType = "a\x00" }, errs.Invalid, "Invalid Content-Type"},
		"type with UTF-8":    {func(c *Creation) { c.ContentType = "text/é; charset=ü" }, ok, ""},
		"type of our own":    {func(c *Creation) { c.ContentType = "text/plain;a=b; swift_bytes=5" }, errs.Invalid, "swift_*"},
		"type like our own":  {func(c *Creation) { c.ContentType = "swift_a/b; a=swift_c" }, ok, ""},
		"metadata":           {func(c *Creation) { c.Header = items("X-Object-Meta-", 91, 1) }, errs.Invalid, "max 90"},
		"copy":               {func(c *Creation) { c.Copy, c.Body.Length = true, 0 }, ok, ""},
		"copy, no length":    {func(c *Creation) { c.Copy, c.Body.Length = true, -1 }, ok, ""},
		"copy with a body":   {func(c *Creation) { c.Copy, c.Body.Length = true, 1 }, errs.Invalid, "zero byte body"},
		"copy under a limit": {func(c *Creation) { c.Copy, c.Body.Length, c.Name = true, 0, text2(1025) }, errs.Invalid, "longer than 1024"},
	} {
		c := Creation{Name: "o", Body: Body{Length: 5}, ContentType: "text/plain"}
		tt.change(&c)
		check(t, name, l.CheckCreation(c), tt.kind, tt.words)
	}
	check(t, "too large", l.TooLarge(), errs.TooLarge, "max_file_size")
}

func TestDeleteAt(t *testing.T) {
	whole := timestamp.FromTicks(1000 * 100_000)
	later := timestamp.FromTicks(1000*100_000 + 1)
	none := "\x00"
	for _, tt := range []struct {
		now       timestamp.T
		after, at string
		want      int64
		set       bool
		words     string
	}{
		{whole, none, none, 0, false, ""},
		{whole, none, "1001", 1001, true, ""},
		{whole, none, " +1001 ", 1001, true, ""},
		{later, none, "1001", 1001, true, ""},
		{whole, none, "1000", 0, false, "X-Delete-At in past"},
		{later, none, "1000", 0, false, "X-Delete-At in past"},
		{whole, none, "-5", 0, false, "X-Delete-At in past"},
		{whole, none, "-99999999999999999999", 0, false, "X-Delete-At in past"},
		{whole, none, "", 0, false, "Non-integer X-Delete-At"},
		{whole, none, "1001.5", 0, false, "Non-integer X-Delete-At"},
		{whole, none, "x", 0, false, "Non-integer X-Delete-At"},
		{whole, none, "+", 0, false, "Non-integer X-Delete-At"},
		{whole, none, "9999999999", 9999999999, true, ""},
		{whole, none, "10000000000", 9999999999, true, ""},
		{whole, none, "99999999999999999999", 9999999999, true, ""},
		{whole, "1", none, 1001, true, ""},
		{later, "1", none, 1001, true, ""},
		{whole, "0", none, 0, false, "X-Delete-After in past"},
		{later, "0", none, 0, false, "X-Delete-After in past"},
		{whole, "-1", none, 0, false, "X-Delete-After in past"},
		{whole, "-99999999999999999999", none, 0, false, "X-Delete-After in past"},
		{whole, "x", none, 0, false, "Non-integer X-Delete-After"},
		{whole, "", none, 0, false, "Non-integer X-Delete-After"},
		{whole, "99999999999999999999", none, 9999999999, true, ""},
		{whole, "5", "2000", 1005, true, ""},
		{whole, "5", "x", 1005, true, ""},
		{whole, "x", "2000", 0, false, "Non-integer X-Delete-After"},
	} {
		h := http.Header{}
		if tt.after != none {
			h.Set("X-Delete-After", tt.after)
		}
		if tt.at != none {
			h.Set("X-Delete-At", tt.at)
		}
		got, set, err := DeleteAt(h, tt.now)
		kind := ok
		if tt.words != "" {
			kind = errs.Invalid
		}
		check(t, fmt.Sprintf("%v at %v", h, tt.now), err, kind, tt.words)
		if got != tt.want || set != tt.set {
			t.Errorf("%v at %v: got %d, %v, want %d, %v", h, tt.now, got, set, tt.want, tt.set)
		}
	}
}

func TestConfigured(t *testing.T) {
	l := Defaults()
	if err := l.Validate(); err != nil {
		t.Fatalf("the defaults: got %v", err)
	}
	if got := l.MaxHeaderCount(); got != 126 {
		t.Errorf("headers: got %d, want 126", got)
	}
	err := conf.Parse("proxy.toml", "max_file_size = \"1MiB\"\nmax_meta_count = 2\nextra_header_count = 5\n", &l)
	if err != nil || l.MaxFileSize != 1<<20 || l.MaxMetaCount != 2 || l.MaxHeaderCount() != 43 || l.MaxMetaNameLength != 128 {
		t.Fatalf("got %+v, %v", l, err)
	}
	check(t, "size over what is configured", l.CheckCreation(Creation{Body: Body{Length: 1<<20 + 1}}), errs.TooLarge, "max_file_size is 1048576")
	check(t, "count over what is configured", l.CheckMetadata(Object, items("X-Object-Meta-", 3, 1)), errs.Invalid, "max 2")
	for key, change := range map[string]func(*Limits){
		"max_file_size":              func(l *Limits) { l.MaxFileSize = 0 },
		"max_meta_name_length":       func(l *Limits) { l.MaxMetaNameLength = -1 },
		"container_listing_limit":    func(l *Limits) { l.ContainerListingLimit = 0 },
		"extra_header_count":         func(l *Limits) { l.ExtraHeaderCount = -1 },
		"valid_api_versions":         func(l *Limits) { l.ValidAPIVersions = nil },
		"auto_create_account_prefix": func(l *Limits) { l.AutoCreateAccountPrefix = "" },
	} {
		bad := Defaults()
		change(&bad)
		if err := bad.Validate(); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: got %v", key, err)
		}
	}
}

func FuzzNumbers(f *testing.F) {
	for _, s := range []string{"", "0", "-1", "+5", "9223372036854775808", "1_0", " 7 ", "-0"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if body, err := ParseBody(a, b); err == nil && body.Length < -1 || err != nil && body != (Body{}) {
			t.Fatalf("%q, %q: got %+v, %v", a, b, body, err)
		}
		now := timestamp.FromTicks(1000 * 100_000)
		at, set, err := DeleteAt(http.Header{"X-Delete-At": {a}, "X-Delete-After": {b}}, now)
		if set != (err == nil) || set && (at <= 1000 || at > lastDeleteAt) {
			t.Fatalf("%q, %q: got %d, %v, %v", a, b, at, set, err)
		}
		if n, err := Listing(a, 10000); err == nil && (n < 0 || n > 10000) {
			t.Fatalf("limit %q: got %d", a, n)
		}
		if n, isNumber := integer(a); isNumber {
			var want json.Number
			if text := strings.TrimPrefix(strings.TrimSpace(a), "+"); json.Unmarshal([]byte(text), &want) == nil {
				if exact, err := want.Int64(); err == nil && exact != n {
					t.Fatalf("%q: got %d, want %d", a, n, exact)
				}
			}
		}
	})
}

func BenchmarkCheckMetadata(b *testing.B) {
	l := Defaults()
	h := merge(items("X-Object-Meta-", 4, 20), http.Header{"Content-Type": {"text/plain"}, "Host": {"h"}, "X-Auth-Token": {"AUTH_tkx"}})
	b.ReportAllocs()
	for b.Loop() {
		if err := l.CheckMetadata(Object, h); err != nil {
			b.Fatal(err)
		}
	}
}
