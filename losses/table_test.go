package losses_test

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"distill/internal/hint"
	"distill/internal/strictyaml"
	"distill/losses"
	"distill/train"
)

// setting is a key of a loss and a value.
type setting struct{ key, value string }

// refused are the settings that a loss must refuse by name, one at least for a loss that has any.
func refused(loss string) []setting {
	for _, family := range []map[string][]setting{logitRefused, featureRefused, headRefused, relationRefused, ownRefused} {
		if s := family[loss]; s != nil {
			return s
		}
	}
	return nil
}

// section is a recipe's list of losses.
type section struct {
	Losses []train.Term `yaml:"losses"`
}

func decode(src string) (section, error) {
	var s section
	err := strictyaml.Decode([]byte(src), "recipe.yaml", &s, nil)
	return s, err
}

func TestRowsAreWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, row := range losses.Table {
		if seen[row.Name] {
			t.Errorf("%s is there twice", row.Name)
		}
		seen[row.Name] = true
		if row.Doc == "" || row.Source == "" {
			t.Errorf("%s has no line that says what it is, or none that says where it is from", row.Name)
		}
		if w := float64(row.Weight); !(w > 0) || math.IsInf(w, 0) {
			t.Errorf("%s has a weight of %v", row.Name, w)
		}
		if row.Adapter != "" && row.Taps == losses.None {
			t.Errorf("%s has an adapter and nothing to adapt", row.Name)
		}
		if got, ok := losses.Lookup(row.Name); !ok || got.Name != row.Name {
			t.Errorf("%s is not found", row.Name)
		}
	}
	if _, ok := losses.Lookup("none"); ok {
		t.Error("a loss that is not there is found")
	}
}

func TestEveryLossIsItsYAMLSection(t *testing.T) {
	for _, row := range losses.Table {
		want, err := decode("losses: [{loss: " + row.Name + "}]")
		if err != nil {
			t.Fatalf("%s: %v", row.Name, err)
		}
		if term := want.Losses[0]; term.Weight != row.Weight || !reflect.DeepEqual(term.Loss, row.New()) {
			t.Errorf("%s: the name alone gives %+v of weight %v, not the defaults", row.Name, term.Loss, term.Weight)
		}
		if err := row.New().Validate(); err != nil {
			t.Errorf("%s: the defaults: %v", row.Name, err)
		}
		text, err := strictyaml.Encode(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decode(string(text))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: decodes from\n%s\nto %+v, %v", row.Name, text, got, err)
		}
	}
}

func TestSettingsOutOfRangeAreRefusedByName(t *testing.T) {
	for _, row := range losses.Table {
		cases := refused(row.Name)
		if len(cases) == 0 && reflect.TypeOf(row.New()).Elem().NumField() > 0 {
			t.Errorf("%s has no case here", row.Name)
		}
		for _, c := range append(cases, setting{"weight", ".nan"}) {
			_, err := decode(fmt.Sprintf("losses:\n  - loss: %s\n    %s: %s\n", row.Name, c.key, c.value))
			if err == nil || !strings.Contains(err.Error(), "recipe.yaml:2") || !strings.Contains(err.Error(), c.key+" must be") {
				t.Errorf("%s with %s %s: %v", row.Name, c.key, c.value, err)
			}
		}
	}
}

func TestUnknownLossSuggestsTheNearest(t *testing.T) {
	_, err := decode("losses: [{loss: kdd}]")
	if err == nil || !strings.Contains(hint.Of(err), `"kd"`) {
		t.Errorf("error %v, hint %q", err, hint.Of(err))
	}
}
