// Package strictyaml decodes YAML into typed structs, refuses everything it was not told to expect, and says where.
//
//	recipe := Recipe{Epochs: 10} // defaults first: a key not written keeps its default, an explicit zero is a zero
//	err := strictyaml.Decode(src, "recipe.yaml", &recipe, []string{"optimizer.lr=0.05"})
package strictyaml

import (
	"fmt"
	"reflect"
)

// Chooser is implemented by a struct that stands for one of several, chosen by name:
//
//	type Optimizer struct {
//		Name   string `yaml:"name,choice"` // the key that selects
//		Method Method `yaml:",inline"`     // an interface; the keys of the chosen struct stand beside this struct's own
//		Clip   float64 `yaml:"clip"`       // shared by all choices
//	}
//
// is written {name: sgd, lr: 0.1, clip: 5}, or just sgd for {name: sgd}. A name that differs from the one dst holds puts
// the default that Choose returns in the inline field before the remaining keys are decoded; without a name key the choice
// that dst holds stays.
type Chooser interface {
	// Choose returns the default settings for name, a struct or a pointer to a fresh one, or nil if there is no such name.
	Choose(name string) any
	// Choices lists the names, for error messages.
	Choices() []string
}

// Implier is implemented by a Chooser of which some choices have a key that no other has: {onnx: net.onnx} then need not
// name its choice.
type Implier interface {
	// Implies is the choice that a key stands for, "" for a key that implies none.
	Implies(key string) string
}

// Defaulter is implemented by a pointer to a list item, map value or pointed-to struct whose defaults are not all zero:
// the decoder makes such values itself, so nobody else can fill them in before.
type Defaulter interface {
	SetDefaults()
}

// Validator is implemented by a struct that checks what its type cannot say, a range for instance. It is asked once all
// keys of a section that is in the document are decoded, and its error is reported at that section's place.
type Validator interface {
	Validate() error
}

// MaxSize is the largest document in bytes, and MaxDepth the deepest nesting, that Decode reads.
const (
	MaxSize  = 64 << 10 // the library takes quadratic time
	MaxDepth = 32
)

// Decode reads one YAML document into the struct that dst points to. Fields of these types count if they carry a tag
// `yaml:"key"`: strings, booleans, numbers, structs, slices, arrays, maps with string keys, and pointers to these; a struct
// tagged `yaml:",inline"` lends its keys, [Encode] leaves out a slice tagged `yaml:"key,omitempty"` while it is empty, and
// [Chooser] describes a field chosen by name, and a slice of strings may be one string. An empty document leaves dst as it is, a written list or map replaces the default
// whole, and an empty one becomes nil.
//
// Each override is "key.path=value" with the value in YAML and list items by index, as "losses.0.weight=0.5". It is put in
// the document before decoding, missing sections being made, so what is refused in a file is refused there too. To address
// an item of a list that the document does not mention, the list in dst is taken first.
//
// Refused are: unknown and duplicate keys; values of another type or outside its range (there is no conversion: 1 is not a
// string, 1.0 not an integer; .inf and .nan are floats, an overflow is not); anchors, aliases, tags, merge keys and a second
// document; more than [MaxSize] or [MaxDepth]. An error starts with file:line:column, or the override, names the key path,
// and carries a hint where there is a way out. dst is then filled in part.
func Decode(src []byte, file string, dst any, overrides []string) error {
	v := reflect.ValueOf(dst)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return fmt.Errorf("strictyaml: decode %s: dst is a %T, not a pointer to a struct", file, dst)
	}
	root, err := parse(src, place{file: file})
	if err != nil {
		return err
	}
	if len(overrides) > 0 {
		defaults, err := tree(v.Elem())
		if err != nil {
			return fmt.Errorf("strictyaml: decode %s: %w", file, err)
		}
		for _, o := range overrides {
			if err := override(root, defaults, o); err != nil {
				return err
			}
		}
	}
	return decode(root, v.Elem(), "")
}

// Encode writes the struct v, or the one v points to, as Decode reads it: every field, defaults too, in the order declared, the name of a choice first. What it
// writes decodes to an equal value (NaN apart, and nil for an empty list or map). A choice that was never made is left out.
// The error names a field of a type that Decode does not know, or a string that is not UTF-8.
func Encode(v any) ([]byte, error) {
	value := reflect.Indirect(reflect.ValueOf(v))
	if value.Kind() != reflect.Struct {
		return nil, fmt.Errorf("strictyaml: encode %T: not a struct", v)
	}
	root, err := tree(value)
	if err != nil {
		return nil, fmt.Errorf("strictyaml: encode %T: %w", v, err)
	}
	if root == nil {
		root = &node{}
	}
	return root.appendBlock(nil, 0), nil
}
