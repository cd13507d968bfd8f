package conf

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"strings"

	toml "github.com/pelletier/go-toml/v2"
)

var durationType = reflect.TypeFor[Duration]()

// checkUnits refuses bare numbers where a duration belongs: the decoder would take
// them for nanoseconds. The text is known to be good TOML that fits v.
func checkUnits(path, text string, v any) error {
	var raw map[string]any
	if err := toml.Unmarshal([]byte(text), &raw); err != nil {
		return err
	}
	return bareNumber(path, "", raw, reflect.TypeOf(v))
}

// bareNumber finds the first one in raw, the value of a key of the given type.
func bareNumber(path, key string, raw any, typ reflect.Type) error {
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	switch value := raw.(type) {
	case int64, float64:
		if typ == durationType {
			return Invalid(path, key, value, `it has no unit: write "500ms" or "10s", in quotes`)
		}
	case []any:
		if typ.Kind() != reflect.Slice && typ.Kind() != reflect.Array {
			return nil
		}
		for _, item := range value {
			if err := bareNumber(path, key, item, typ.Elem()); err != nil {
				return err
			}
		}
	case map[string]any:
		if typ.Kind() == reflect.Map {
			for _, name := range slices.Sorted(maps.Keys(value)) {
				if err := bareNumber(path, strings.TrimPrefix(key+"."+name, "."), value[name], typ.Elem()); err != nil {
					return err
				}
			}
			return nil
		}
		if typ.Kind() != reflect.Struct {
			return nil
		}
		for _, f := range reflect.VisibleFields(typ) { // those of embedded structs, too
			name, _, _ := strings.Cut(f.Tag.Get("toml"), ",")
			name = cmp.Or(name, f.Name)
			item, ok := value[name]
			if !ok {
				continue
			}
			if err := bareNumber(path, strings.TrimPrefix(key+"."+name, "."), item, f.Type); err != nil {
				return err
			}
		}
	}
	return nil
}
