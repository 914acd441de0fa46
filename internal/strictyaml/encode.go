package strictyaml

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

var errNotMade = errors.New("a choice was not made")

// tree returns the node that decodes to v; nil for a choice that was never made.
func tree(v reflect.Value) (*node, error) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return &node{}, nil
		}
		return tree(v.Elem())
	case reflect.Struct:
		return structTree(v)
	case reflect.Slice, reflect.Array:
		out := &node{kind: list}
		for i := range v.Len() {
			item, err := tree(v.Index(i))
			if err == nil && item == nil {
				err = errNotMade
			}
			if err != nil {
				return nil, fmt.Errorf("%d: %w", i, err)
			}
			out.items = append(out.items, item)
		}
		return out, nil
	case reflect.Map:
		return mapTree(v)
	case reflect.String:
		if !utf8.ValidString(v.String()) {
			return nil, fmt.Errorf("%q is not UTF-8 text", v.String())
		}
		return &node{kind: scalar, text: v.String(), quoted: true}, nil
	case reflect.Bool:
		return &node{kind: scalar, text: strconv.FormatBool(v.Bool())}, nil
	case reflect.Float32, reflect.Float64:
		return &node{kind: scalar, text: formatFloat(v.Float(), v.Type().Bits())}, nil
	}
	switch {
	case v.CanInt():
		return &node{kind: scalar, text: strconv.FormatInt(v.Int(), 10)}, nil
	case v.CanUint():
		return &node{kind: scalar, text: strconv.FormatUint(v.Uint(), 10)}, nil
	}
	return nil, fmt.Errorf("no YAML form for a %v", v.Type())
}

func structTree(v reflect.Value) (*node, error) {
	s, err := sectionOf(v)
	if err != nil {
		return nil, err
	}
	fields := s.fields
	if s.choice != nil {
		if s.choice.value.String() == "" {
			return nil, nil
		}
		_, inner, err := s.chosen()
		if err != nil {
			return nil, err
		}
		fields = slices.Concat([]field{*s.choice}, fields, inner)
	}
	out := &node{kind: dict}
	for _, f := range fields {
		if f.omitEmpty && f.value.Len() == 0 {
			continue
		}
		value, err := tree(f.value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.key, err)
		}
		if value != nil {
			out.entries = append(out.entries, entry{key: f.key, value: value})
		}
	}
	return out, nil
}

func mapTree(v reflect.Value) (*node, error) {
	if v.Type().Key().Kind() != reflect.String {
		return nil, fmt.Errorf("no YAML form for a %v: its keys are not strings", v.Type())
	}
	values := map[string]reflect.Value{}
	for k, value := range v.Seq2() {
		values[k.String()] = value
	}
	out := &node{kind: dict}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		value, err := tree(values[key])
		switch {
		case err == nil && value == nil:
			err = errNotMade
		case !utf8.ValidString(key):
			err = errors.New("the key is not UTF-8 text")
		}
		if err != nil {
			return nil, fmt.Errorf("%q: %w", key, err)
		}
		out.entries = append(out.entries, entry{key: key, value: value})
	}
	return out, nil
}

func formatFloat(f float64, bits int) string {
	switch s := strconv.FormatFloat(f, 'g', -1, bits); s {
	case "NaN":
		return ".nan"
	case "+Inf":
		return ".inf"
	case "-Inf":
		return "-.inf"
	default:
		return s
	}
}

// appendBlock writes n as lines indented by indent spaces; the first line's indent is the caller's.
func (n *node) appendBlock(b []byte, indent int) []byte {
	if n.isFlow() {
		return append(n.appendFlow(b), '\n')
	}
	pad := strings.Repeat(" ", indent)
	for i, item := range n.items {
		if i > 0 {
			b = append(b, pad...)
		}
		b = item.appendBlock(append(b, "- "...), indent+2)
	}
	for i, e := range n.entries {
		if i > 0 {
			b = append(b, pad...)
		}
		b = append(appendText(b, e.key), ':')
		if e.value.isFlow() {
			b = append(b, ' ')
		} else {
			b = append(append(b, '\n'), pad...)
			b = append(b, "  "...)
		}
		b = e.value.appendBlock(b, indent+2)
	}
	return b
}

// isFlow reports whether n goes on one line: a scalar, a list of such, or an empty section.
func (n *node) isFlow() bool {
	return len(n.entries) == 0 && !slices.ContainsFunc(n.items, func(item *node) bool { return item.kind == dict || !item.isFlow() })
}

func (n *node) appendFlow(b []byte) []byte {
	switch {
	case n.kind == null:
		return append(b, "null"...)
	case n.kind == dict:
		return append(b, "{}"...)
	case n.kind == scalar && n.quoted:
		return appendText(b, n.text)
	case n.kind == scalar:
		return append(b, n.text...)
	}
	b = append(b, '[')
	for i, item := range n.items {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = item.appendFlow(b)
	}
	return append(b, ']')
}

// bare matches a string that needs no quotes wherever it stands, unless it is one of words.
var (
	bare  = regexp.MustCompile(`^[A-Za-z_/][A-Za-z0-9_./-]*(:[A-Za-z0-9_./][A-Za-z0-9_./-]*)*$`)
	words = []string{"true", "false", "null", "yes", "no", "on", "off", "y", "n"} // of YAML 1.1 too: others read the file
)

// appendText writes a string: Go's escapes of valid UTF-8 are all escapes of YAML as well.
func appendText(b []byte, s string) []byte {
	if bare.MatchString(s) && !slices.Contains(words, strings.ToLower(s)) {
		return append(b, s...)
	}
	return strconv.AppendQuote(b, s)
}
