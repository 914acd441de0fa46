package hint_test

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"distill/internal/hint"
)

func TestHintIsApartFromTheText(t *testing.T) {
	inner := hint.Wrap(fs.ErrNotExist, "inner %d", 1)
	for _, c := range []struct {
		name       string
		err        error
		text, want string
	}{
		{"plain", fs.ErrNotExist, "file does not exist", ""},
		{"hinted", inner, "file does not exist", "inner 1"},
		{"wrapped", fmt.Errorf("runtime: open x: %w", inner), "runtime: open x: file does not exist", "inner 1"},
		{"outermost wins", hint.Wrap(fmt.Errorf("y: %w", inner), "outer"), "y: file does not exist", "outer"},
		{"joined", errors.Join(errors.New("a"), inner), "a\nfile does not exist", "inner 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.err.Error(); got != c.text {
				t.Errorf("text %q, want %q", got, c.text)
			}
			if got := hint.Of(c.err); got != c.want {
				t.Errorf("hint %q, want %q", got, c.want)
			}
		})
	}
	if !errors.Is(inner, fs.ErrNotExist) {
		t.Error("a hinted error hides its cause from errors.Is")
	}
}

func TestNilHasNoHint(t *testing.T) {
	if err := hint.Wrap(nil, "unused"); err != nil {
		t.Errorf("Wrap(nil) = %v, want nil", err)
	}
	if got := hint.Of(nil); got != "" {
		t.Errorf("Of(nil) = %q, want none", got)
	}
}
