package strictyaml

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"

	"distill/internal/hint"
)

func decodeScalar(n *node, v reflect.Value, path string) error {
	switch {
	case v.Kind() == reflect.String:
		if n.kind != scalar {
			return n.wrong(path, "text")
		}
		if !n.isText() {
			return hint.Wrap(n.wrong(path, "text"), "put it in quotes: %q", clip(n.text))
		}
		v.SetString(n.text)
		return nil
	case v.Kind() == reflect.Bool:
		if n.kind != scalar || n.quoted || !isBool(n.text) {
			return n.wrong(path, "true or false")
		}
		v.SetBool(n.text == "true")
		return nil
	case v.CanInt():
		return decodeNumber(n, v, path, "a whole number", func(s string, bits int) error {
			i, err := strconv.ParseInt(s, 10, bits)
			v.SetInt(i)
			return err
		})
	case v.CanUint():
		return decodeNumber(n, v, path, "a whole number, not negative", func(s string, bits int) error {
			u, err := strconv.ParseUint(s, 10, bits)
			v.SetUint(u)
			return err
		})
	case v.CanFloat():
		return decodeNumber(n, v, path, "a number", func(s string, bits int) error {
			f, err := parseFloat(s, bits)
			v.SetFloat(f)
			return err
		})
	}
	return fmt.Errorf("strictyaml: no YAML form for a %v", v.Type())
}

// decodeNumber hands the text of a number, without a plus sign, to set.
func decodeNumber(n *node, v reflect.Value, path, expected string, set func(s string, bits int) error) error {
	if n.kind != scalar || n.quoted || !isNumber(n.text) {
		return n.wrong(path, expected)
	}
	err := set(strings.TrimPrefix(n.text, "+"), v.Type().Bits())
	if errors.Is(err, strconv.ErrRange) {
		return n.at.errorf(path, "%s is out of range for %v", clip(n.text), v.Type())
	}
	if err != nil {
		return n.wrong(path, expected)
	}
	return nil
}

// parseFloat reads a number as YAML writes it.
func parseFloat(s string, bits int) (float64, error) {
	switch {
	case nan.MatchString(s):
		return math.NaN(), nil
	case infinite.MatchString(s):
		sign := 1
		if s[0] == '-' {
			sign = -1
		}
		return math.Inf(sign), nil
	}
	return strconv.ParseFloat(s, bits)
}

// wrong reports that n is not what was expected.
func (n *node) wrong(path, expected string) error {
	what := n
	if n.short != nil {
		what = n.short
	}
	return n.at.errorf(path, "expected %s, got %v", expected, what)
}
