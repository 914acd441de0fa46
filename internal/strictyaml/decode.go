package strictyaml

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"distill/internal/hint"
	"distill/internal/nearest"
)

// decode puts n in v, which is settable and called path.
func decode(n *node, v reflect.Value, path string) error {
	switch v.Kind() {
	case reflect.Pointer:
		if n.kind == null {
			v.SetZero()
			return nil
		}
		fresh := makeValue(v.Type().Elem())
		if !v.IsNil() {
			fresh.Set(v.Elem()) // a copy: somebody else may share the default
		}
		v.Set(fresh.Addr())
		return decode(n, fresh, path)
	case reflect.Struct:
		return decodeStruct(n, v, path)
	case reflect.Slice, reflect.Array:
		return decodeList(n, v, path)
	case reflect.Map:
		return decodeMap(n, v, path)
	}
	return decodeScalar(n, v, path)
}

// makeValue returns a settable value of type t with its defaults.
func makeValue(t reflect.Type) reflect.Value {
	p := reflect.New(t)
	if d, ok := p.Interface().(Defaulter); ok {
		d.SetDefaults()
	}
	return p.Elem()
}

func decodeStruct(n *node, v reflect.Value, path string) error {
	s, err := sectionOf(v)
	if err != nil {
		return fmt.Errorf("strictyaml: %w", err)
	}
	if n.kind == scalar && s.choice != nil {
		n = &node{kind: dict, short: n, at: n.at}
	}
	if n.short != nil && s.choice == nil {
		n = n.short
	}
	if n.kind == scalar || n.kind == list {
		return n.at.errorf(path, "expected a section of keys, got %v", n)
	}
	if s.choice != nil {
		err = decodeChoice(n, s, v, path)
	} else {
		err = decodeEntries(n.entries, s.fields, path, path)
	}
	if err != nil {
		return err
	}
	return validate(n.at, v, path)
}

// decodeEntries puts each entry of a section in its field. The section is called name where a key is unknown.
func decodeEntries(entries []entry, fields []field, path, name string) error {
	for _, e := range entries {
		i := slices.IndexFunc(fields, func(f field) bool { return f.key == e.key })
		if i < 0 {
			return unknownKey(e, fields, name)
		}
		if err := decode(e.value, fields[i].value, join(path, e.key)); err != nil {
			return err
		}
	}
	return nil
}

func unknownKey(e entry, fields []field, name string) error {
	err := e.at.errorf("", "unknown key %q", e.key)
	if name != "" {
		err = e.at.errorf("", "unknown key %q in %s", e.key, name)
	}
	known := make([]string, len(fields))
	for i, f := range fields {
		known[i] = f.key
	}
	return suggest(err, e.key, known)
}

// suggest adds the known word nearest to word as a hint, or all of them if none is near.
func suggest(err error, word string, known []string) error {
	if near := nearest.Word(word, known); near != "" {
		return hint.Wrap(err, "did you mean %q?", near)
	}
	if len(known) == 0 {
		return hint.Wrap(err, "it takes no keys")
	}
	return hint.Wrap(err, "known keys: %s", strings.Join(known, ", "))
}

func validate(at place, v reflect.Value, path string) error {
	if !v.CanAddr() {
		p := reflect.New(v.Type())
		p.Elem().Set(v)
		v = p.Elem()
	}
	if checked, ok := v.Addr().Interface().(Validator); ok {
		if err := checked.Validate(); err != nil {
			return at.errorf(path, "%w", err)
		}
	}
	return nil
}

func decodeList(n *node, v reflect.Value, path string) error {
	if n.kind == scalar && v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.String {
		n = &node{kind: list, items: []*node{n}, at: n.at}
	}
	if n.kind != list {
		return hint.Wrap(n.wrong(path, "a list"), "write a list as [a, b], an empty one as []")
	}
	out := reflect.New(v.Type()).Elem()
	if v.Kind() == reflect.Array {
		if len(n.items) != v.Len() {
			return n.wrong(path, fmt.Sprintf("a list of %d", v.Len()))
		}
	} else if len(n.items) > 0 {
		out.Set(reflect.MakeSlice(v.Type(), len(n.items), len(n.items)))
	}
	for i, item := range n.items {
		out.Index(i).Set(makeValue(v.Type().Elem()))
		if err := decode(item, out.Index(i), join(path, strconv.Itoa(i))); err != nil {
			return err
		}
	}
	v.Set(out)
	return nil
}

func decodeMap(n *node, v reflect.Value, path string) error {
	if v.Type().Key().Kind() != reflect.String {
		return fmt.Errorf("strictyaml: no YAML form for a %v: its keys are not strings", v.Type())
	}
	if n.kind != dict || n.short != nil {
		return hint.Wrap(n.wrong(path, "keys and values"), "write an empty section as {}")
	}
	out := reflect.New(v.Type()).Elem()
	if len(n.entries) > 0 {
		out.Set(reflect.MakeMapWithSize(v.Type(), len(n.entries)))
	}
	for _, e := range n.entries {
		value := makeValue(v.Type().Elem())
		if err := decode(e.value, value, join(path, e.key)); err != nil {
			return err
		}
		out.SetMapIndex(reflect.ValueOf(e.key).Convert(v.Type().Key()), value)
	}
	v.Set(out)
	return nil
}
