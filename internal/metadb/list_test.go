package metadb

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"martlet/internal/listing"
	"martlet/internal/policy"
)

// page lists and marks subdirs with a star.
func page(s *Store, loc Location, q Query) (got []string, err error) {
	got = []string{}
	err = s.View(bg, loc, func(tx *Tx) error {
		return tx.List(q, func(name, row []byte) error {
			entry := string(name)
			if row == nil {
				entry += "*"
			}
			got = append(got, entry)
			return nil
		})
	})
	return got, err
}

// model is the listing as a list of names gives it, with no seeking.
func model(names []string, q Query) []string {
	names = slices.Sorted(slices.Values(names))
	if q.Reverse {
		slices.Reverse(names)
	}
	prefix, delimiter := q.Prefix, q.Delimiter
	if q.HasPath {
		delimiter, prefix = "/", ""
		if q.Path != "" {
			prefix = strings.TrimRight(q.Path, "/") + "/"
		}
	}
	before := func(a, b string) bool { return a < b != q.Reverse && a != b }
	got := []string{}
	for _, n := range names {
		if q.Marker != "" && !before(q.Marker, n) || q.EndMarker != "" && !before(n, q.EndMarker) ||
			!strings.HasPrefix(n, prefix) || !q.Reserved && strings.HasPrefix(n, "\x00") {
			continue
		}
		entry := n
		if head, _, found := strings.Cut(n[len(prefix):], delimiter); found && delimiter != "" {
			dir := prefix + head + delimiter
			switch {
			case !q.HasPath:
				entry = dir + "*"
			case dir != n:
				continue
			}
			// In either order the marker that is the smaller of the two decides.
			if after := map[bool]string{false: q.Marker, true: q.EndMarker}[q.Reverse]; !q.HasPath && dir == after {
				continue
			}
		}
		if q.HasPath && n == prefix {
			continue
		}
		if len(got) > 0 && got[len(got)-1] == entry {
			continue
		}
		if len(got) == q.Limit {
			break
		}
		got = append(got, entry)
	}
	return got
}

func awkward(longest int) *rapid.Generator[string] {
	return rapid.Map(rapid.SliceOfN(rapid.SampledFrom([]string{
		"a", "b", "/", "/", "//", "é", "\U0010ffff", "\x00", "\x01", "\x7f", " ", "ab", "0", ".",
	}), 0, longest), func(s []string) string { return strings.Join(s, "") })
}

func TestListingsMatchTheModel(t *testing.T) {
	s, dev := open(t, t.TempDir(), Config{})
	n := uint64(0)
	rapid.Check(t, func(r *rapid.T) {
		n++
		loc := Location{dev, hashOf(n)}
		names := rapid.SliceOfNDistinct(awkward(6).Filter(func(s string) bool { return s != "" }), 0, 30, rapid.ID).Draw(r, "names")
		gone := rapid.SliceOfN(rapid.Bool(), len(names), len(names)).Draw(r, "gone")
		var left []string
		err := s.Ensure(bg, loc, Info{}, func(tx *Tx) error {
			left = left[:0]
			for i, name := range names {
				for space := range policy.Index(3) { // the neighbours must not show
					row := live(5, 1)
					if space != 1 || gone[i] {
						row = dead(6)
					}
					if space != 1 && i%2 == 0 {
						row = live(9, 9)
					}
					if _, err := tx.MergeRow(space, name, row); err != nil {
						return err
					}
				}
				if !gone[i] {
					left = append(left, name)
				}
			}
			return nil
		})
		if err != nil {
			r.Fatal(err)
		}
		for range 20 {
			q := Query{Space: 1, Reserved: rapid.IntRange(0, 4).Draw(r, "reserved") == 0, Params: listing.Params{
				Limit:   rapid.IntRange(0, 12).Draw(r, "limit"),
				Reverse: rapid.Bool().Draw(r, "reverse"),
			}}
			pick := rapid.OneOf(rapid.Just(""), awkward(4), rapid.SampledFrom(append(names, "")))
			q.Marker, q.EndMarker, q.Prefix = pick.Draw(r, "marker"), pick.Draw(r, "end"), awkward(2).Draw(r, "prefix")
			switch rapid.IntRange(0, 3).Draw(r, "mode") {
			case 0:
				q.Delimiter = rapid.SampledFrom([]string{"/", "//", "é", "ab", "\U0010ffff"}).Draw(r, "delimiter")
			case 1:
				q.HasPath, q.Path = true, awkward(3).Draw(r, "path")
			}
			got, err := page(s, loc, q)
			if want := model(left, q); err != nil || !slices.Equal(got, want) {
				r.Fatalf("names %q\nquery %+v\n got %q, %v\nwant %q", left, q, got, err, want)
			}
		}
	})
}

func TestListing(t *testing.T) {
	s, loc := one(t, Config{})
	rows := map[string][]byte{}
	for _, n := range []string{"a", "photos/", "photos/a", "photos/b/c", "photos/z", "photos0", "q//r", "q/s", "\x00hidden"} {
		rows[n] = live(2, 3)
	}
	rows["b"] = dead(2)
	merge(t, s, loc, rows)
	for what, c := range map[string]struct {
		p    listing.Params
		want string
	}{
		"everything":                     {listing.Params{Limit: 99}, "a photos/ photos/a photos/b/c photos/z photos0 q//r q/s"},
		"nothing":                        {listing.Params{Limit: 0}, ""},
		"delimiter":                      {listing.Params{Limit: 99, Delimiter: "/"}, "a photos/* photos0 q/*"},
		"delimiter of two":               {listing.Params{Limit: 99, Delimiter: "//"}, "a photos/ photos/a photos/b/c photos/z photos0 q//* q/s"},
		"reverse":                        {listing.Params{Limit: 3, Delimiter: "/", Reverse: true}, "q/* photos0 photos/*"},
		"subdirs count":                  {listing.Params{Limit: 2, Delimiter: "/"}, "a photos/*"},
		"marker that equals a subdir":    {listing.Params{Limit: 99, Delimiter: "/", Marker: "photos/"}, "photos0 q/*"},
		"marker within a subdir":         {listing.Params{Limit: 99, Delimiter: "/", Marker: "photos/b"}, "photos/* photos0 q/*"},
		"reverse, marker equals subdir":  {listing.Params{Limit: 99, Delimiter: "/", Marker: "photos/", Reverse: true}, "a"},
		"reverse, end marker is subdir":  {listing.Params{Limit: 99, Delimiter: "/", EndMarker: "photos/", Reverse: true}, "q/* photos0"},
		"reverse, markers change places": {listing.Params{Limit: 99, Marker: "photos0", EndMarker: "photos/a", Reverse: true}, "photos/z photos/b/c"},
		"prefix and delimiter":           {listing.Params{Limit: 99, Prefix: "photos/", Delimiter: "/"}, "photos/ photos/a photos/b/* photos/z"},
		"path":                           {listing.Params{Limit: 99, Path: "photos", HasPath: true}, "photos/a photos/z"},
		"path of nothing":                {listing.Params{Limit: 99, HasPath: true}, "a photos/ photos0"},
		"path in reverse":                {listing.Params{Limit: 99, HasPath: true, Reverse: true}, "photos0 photos/ a"},
	} {
		got, err := page(s, loc, Query{Params: c.p})
		if want := strings.Fields(c.want); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v gives %q, %v; want %q", what, c.p, got, err, want)
		}
	}
}

func TestListingEnds(t *testing.T) {
	s, loc := one(t, Config{})
	merge(t, s, loc, map[string][]byte{"a": live(2, 3), "b": live(2, 3)})
	stop := errors.New("enough")
	calls := 0
	err := s.View(bg, loc, func(tx *Tx) error {
		return tx.List(Query{Params: listing.Params{Limit: 9}}, func(_, _ []byte) error { calls++; return stop })
	})
	if !errors.Is(err, stop) || calls != 1 {
		t.Errorf("got %v after %d calls, want the callback's own error after one", err, calls)
	}
}
