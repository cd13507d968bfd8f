// Package conf reads configuration: one TOML file for a process, decoded into
// typed structs that the caller has filled with defaults.
//
// A key that nothing reads is refused, since a misspelt limit that is silently
// the default is found out at the worst time. Every error names the file, the
// line where there is one, and the key. Quote writes what such a file is made of.
package conf

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	toml "github.com/pelletier/go-toml/v2"
)

// maxFile bounds a configuration file, in bytes.
const maxFile = 4 << 20

// Load reads the file into v, a pointer to a struct that holds the defaults.
func Load(path string, v any) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if info.Size() > maxFile {
		return fmt.Errorf("%s: configuration of %d bytes, more than %d", path, info.Size(), maxFile)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	return Parse(path, string(text), v)
}

// Parse reads the text of a file into v. The path is for its errors.
func Parse(path, text string, v any) error {
	d := toml.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	var unknown *toml.StrictMissingError
	var broken *toml.DecodeError
	switch {
	case err == nil:
		return checkUnits(path, text, v)
	case errors.As(err, &unknown):
		var all []error
		for _, e := range unknown.Errors {
			line, _ := e.Position()
			all = append(all, fmt.Errorf("%s:%d: unknown key %q", path, line, strings.Join(e.Key(), ".")))
		}
		return errors.Join(all...)
	case errors.As(err, &broken):
		line, _ := broken.Position()
		text := strings.TrimPrefix(broken.Error(), "toml: ")
		if key := strings.Join(broken.Key(), "."); key != "" {
			return fmt.Errorf("%s:%d: key %q: %s", path, line, key, text)
		}
		return fmt.Errorf("%s:%d: %s", path, line, text)
	}
	return fmt.Errorf("%s: %w", path, err)
}

// Invalid is an error about the value of one key.
func Invalid(path, key string, value any, why string) error {
	return fmt.Errorf("%s: key %q: value %v: %s", path, key, value, why)
}

// Duration is a time span, written "500ms", "10s" or "1h30m".
type Duration time.Duration

// D returns it as a time.Duration.
func (d Duration) D() time.Duration { return time.Duration(d) }

// UnmarshalText reads the written form. A negative span is refused.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("%q is not a duration such as \"500ms\" or \"10s\"", b)
	}
	if v < 0 {
		return fmt.Errorf("duration %s is negative", v)
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes the written form.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// Size is a number of bytes, written "4096", "64KiB", "5GiB" or "100MB".
type Size int64

var units = []struct {
	suffix string
	bytes  int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
}

// UnmarshalText reads the written form. A size is whole, not negative and fits
// into 63 bits.
func (s *Size) UnmarshalText(b []byte) error {
	number, unit := strings.TrimSpace(string(b)), int64(1)
	for _, u := range units {
		if head, ok := strings.CutSuffix(number, u.suffix); ok {
			number, unit = strings.TrimSpace(head), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > (1<<63-1)/unit {
		return fmt.Errorf("%q is not a size such as \"4096\" or \"64KiB\"", b)
	}
	*s = Size(n * unit)
	return nil
}

// MarshalText writes the largest binary unit that divides the size.
func (s Size) MarshalText() ([]byte, error) {
	for i := 3; i >= 0; i-- {
		if u := units[i]; s != 0 && int64(s)%u.bytes == 0 {
			return fmt.Appendf(nil, "%d%s", int64(s)/u.bytes, u.suffix), nil
		}
	}
	return strconv.AppendInt(nil, int64(s), 10), nil
}

// Quote writes a string as TOML does.
func Quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// QuoteAll writes a list of strings as TOML does.
func QuoteAll(all []string) string {
	quoted := make([]string, len(all))
	for i, s := range all {
		quoted[i] = Quote(s)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}
