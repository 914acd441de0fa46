package strictyaml

import (
	"fmt"
	"reflect"
	"strings"
)

// field is a key of a section and the Go value under it.
type field struct {
	key       string
	value     reflect.Value
	omitEmpty bool // Encode leaves it out while it is empty
}

// section is a struct as a set of keys.
type section struct {
	fields []field
	choice *field        // the key that selects, if the struct is a Chooser
	inline reflect.Value // the interface that holds what is chosen
}

// sectionOf lists the keys of struct v. The keys of what a choice holds are not among them.
func sectionOf(v reflect.Value) (section, error) {
	var s section
	t := v.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		tag, ok := f.Tag.Lookup("yaml")
		if !ok || tag == "-" {
			continue
		}
		key, option, _ := strings.Cut(tag, ",")
		switch {
		case !f.IsExported():
			return s, fmt.Errorf("%v.%s has a yaml tag but is not exported", t, f.Name)
		case option == "choice" && key != "" && f.Type.Kind() == reflect.String:
			s.choice = &field{key: key, value: v.Field(i)}
		case option == "inline" && key == "" && f.Type.Kind() == reflect.Interface:
			s.inline = v.Field(i)
		case option == "inline" && key == "" && f.Type.Kind() == reflect.Struct:
			inner, err := sectionOf(v.Field(i))
			if err != nil {
				return s, err
			}
			if inner.choice != nil {
				return s, fmt.Errorf("%v.%s is a choice, which cannot be inline", t, f.Name)
			}
			s.fields = append(s.fields, inner.fields...)
		case (option == "" || option == "omitempty" && f.Type.Kind() == reflect.Slice) && key != "":
			s.fields = append(s.fields, field{key, v.Field(i), option != ""})
		default:
			return s, fmt.Errorf("%v.%s: tag %q does not suit its type", t, f.Name, tag)
		}
	}
	if (s.choice != nil) != s.inline.IsValid() {
		return s, fmt.Errorf("%v needs a choice and an inline interface, or neither", t)
	}
	return s, s.distinct(t)
}

// chosen copies what the choice holds and returns the copy (of the same type, the zero Value for a choice not made) and its keys.
func (s section) chosen() (reflect.Value, []field, error) {
	held := s.inline.Elem()
	if !held.IsValid() {
		return held, nil, nil
	}
	pointer := held.Kind() == reflect.Pointer
	if pointer {
		held = held.Elem()
	}
	if held.Kind() != reflect.Struct {
		return held, nil, fmt.Errorf("choice %q holds a %v, not a struct", s.choice.value, s.inline.Elem().Type())
	}
	fresh := reflect.New(held.Type())
	fresh.Elem().Set(held)
	inner, err := sectionOf(fresh.Elem())
	if err != nil {
		return held, nil, err
	}
	if inner.choice != nil {
		return held, nil, fmt.Errorf("%v is a choice inside a choice", held.Type())
	}
	all := section{fields: append(append([]field{*s.choice}, s.fields...), inner.fields...)}
	if err := all.distinct(held.Type()); err != nil {
		return held, nil, err
	}
	if pointer {
		return fresh, inner.fields, nil
	}
	return fresh.Elem(), inner.fields, nil
}

func (s section) distinct(t reflect.Type) error {
	seen := map[string]bool{}
	for _, f := range s.fields {
		if seen[f.key] {
			return fmt.Errorf("%v has two fields for the key %q", t, f.key)
		}
		seen[f.key] = true
	}
	return nil
}
