package strictyaml

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"distill/internal/hint"
	"distill/internal/nearest"
)

// decodeChoice decodes a section whose struct v is a Chooser.
func decodeChoice(n *node, s section, v reflect.Value, path string) error {
	chooser, ok := v.Addr().Interface().(Chooser)
	if !ok {
		return fmt.Errorf("strictyaml: %v has a choice but is not a Chooser", v.Type())
	}
	name := n.find(s.choice.key)
	if name == nil {
		name = n.short
	}
	if implier, ok := chooser.(Implier); ok && name == nil {
		for _, e := range n.entries {
			if word := implier.Implies(e.key); word != "" {
				name = &node{kind: scalar, text: word, at: e.at}
			}
		}
	}
	if name != nil {
		if err := choose(name, s, chooser, join(path, s.choice.key)); err != nil {
			return err
		}
	} else if s.choice.value.String() == "" {
		return hint.Wrap(n.at.errorf(path, "the key %q, which says what this is, is missing", s.choice.key),
			"known names: %s", strings.Join(chooser.Choices(), ", "))
	}
	chosen, inner, err := s.chosen()
	if err != nil {
		return fmt.Errorf("strictyaml: %w", err)
	}
	if !chosen.IsValid() {
		return fmt.Errorf("strictyaml: %v holds the name %q and nothing under it", v.Type(), s.choice.value)
	}
	// The name is done; what is left goes to the fields of both structs.
	rest := slices.DeleteFunc(slices.Clone(n.entries), func(e entry) bool { return e.key == s.choice.key })
	called := strings.TrimSpace(fmt.Sprintf("%s (%s: %s)", path, s.choice.key, s.choice.value))
	if err := decodeEntries(rest, append(inner, s.fields...), path, called); err != nil {
		return err
	}
	s.inline.Set(chosen)
	return validate(n.at, reflect.Indirect(chosen), path)
}

// choose makes the choice that the scalar name stands for.
func choose(name *node, s section, chooser Chooser, path string) error {
	held := s.choice.value.String()
	if err := decodeScalar(name, s.choice.value, path); err != nil {
		return err
	}
	word := s.choice.value.String()
	if word == held && !s.inline.IsNil() {
		return nil
	}
	value := chooser.Choose(word)
	if value == nil {
		known := chooser.Choices()
		err := name.at.errorf(path, "unknown name %q (known names: %s)", clip(word), strings.Join(known, ", "))
		if near := nearest.Word(word, known); near != "" {
			err = hint.Wrap(err, "did you mean %q?", near)
		}
		return err
	}
	if t := reflect.TypeOf(value); !t.AssignableTo(s.inline.Type()) {
		return fmt.Errorf("strictyaml: choice %q is a %v, not a %v", word, t, s.inline.Type())
	}
	s.inline.Set(reflect.ValueOf(value))
	return nil
}
