package data

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
)

var sampleCard = Card{
	Preprocess:    Preprocess{Mean: []float64{0.485, 0.456, 0.406}, Std: []float64{0.229, 0.224, 0.225}, Scale: 1.0 / 255, Size: []int{32, 32}},
	Classes:       []string{"cat", "dog, or \"wolf\"", "été"},
	RecipeSHA256:  strings.Repeat("0123456789abcdef", 4),
	TeacherSHA256: strings.Repeat("fedcba9876543210", 4),
}

func TestCardComesBackFromMetadata(t *testing.T) {
	for name, want := range map[string]Card{"full": sampleCard, "least": {Preprocess: DefaultPreprocess()}} {
		got, ok, err := ReadCard(want.Metadata())
		if err != nil || !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v, %v; want %+v", name, got, ok, err, want)
		}
	}
}

func TestCardSchemaIsStable(t *testing.T) {
	c := sampleCard
	c.Preprocess.Scale = 0.5
	want := map[string]string{
		"distill.version":        "1",
		"distill.preprocess":     `{"mean":[0.485,0.456,0.406],"std":[0.229,0.224,0.225],"scale":0.5,"size":[32,32]}`,
		"distill.classes":        `["cat","dog, or \"wolf\"","été"]`,
		"distill.recipe_sha256":  c.RecipeSHA256,
		"distill.teacher_sha256": c.TeacherSHA256,
	}
	if got := c.Metadata(); !maps.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestOtherModelsHaveNoCard(t *testing.T) {
	for _, meta := range []map[string]string{nil, {"author": "x", "preprocess": "{}"}} {
		if card, ok, err := ReadCard(meta); ok || err != nil || !reflect.DeepEqual(card, Card{}) {
			t.Errorf("%v: got %+v, %v, %v", meta, card, ok, err)
		}
	}
}

func TestCardDefaultsAreThoseOfThePixels(t *testing.T) {
	card, ok, err := ReadCard(map[string]string{"distill.version": "1", "distill.preprocess": "{}"})
	if err != nil || !ok || !reflect.DeepEqual(card.Preprocess, DefaultPreprocess()) {
		t.Errorf("got %+v, %v, %v", card, ok, err)
	}
}

func TestBadCardNamesItsProperty(t *testing.T) {
	for _, c := range []struct {
		key, value string // "": the property is left out
		words      []string
	}{
		{"distill.version", "", []string{"distill.version is missing", "export"}},
		{"distill.version", "2", []string{`distill.version is "2", this program reads "1"`, "use the distill that wrote"}},
		{"distill.preprocess", "", []string{"distill.preprocess: it is missing"}},
		{"distill.preprocess", " ", []string{"distill.preprocess: it is empty"}},
		{"distill.preprocess", `{"mean":[0.5`, []string{"distill.preprocess: ", "unexpected EOF"}},
		{"distill.preprocess", `{"mean":"0.5"}`, []string{"distill.preprocess: ", "cannot unmarshal string"}},
		{"distill.preprocess", `{"crop":4}`, []string{"distill.preprocess: ", `unknown field "crop"`}},
		{"distill.preprocess", `{} {}`, []string{"distill.preprocess: something follows"}},
		{"distill.preprocess", `{"scale":1e999}`, []string{"distill.preprocess: ", "1e999"}},
		{"distill.preprocess", `{"mean":[0,0,0],"std":[1,1]}`, []string{"std has 2 values for 3-channel images"}},
		{"distill.preprocess", `{"size":[32,99999999]}`, []string{"distill.preprocess: ", "size [32 99999999]"}},
		{"distill.classes", `{"0":"cat"}`, []string{"distill.classes: ", "cannot unmarshal object"}},
		{"distill.classes", `["` + strings.Repeat("x", maxCardText) + `"]`, []string{"distill.classes has 4194308 bytes"}},
		{"distill.recipe_sha256", "ABCD", []string{`distill.recipe_sha256: "ABCD" is not 64`}},
		{"distill.teacher_sha256", sampleCard.TeacherSHA256 + " ", []string{"distill.teacher_sha256: ", "64 hexadecimal digits"}},
		{"distill.teacher_sha256", strings.Repeat("A", 64), []string{"distill.teacher_sha256: ", "lower case"}},
	} {
		meta := sampleCard.Metadata()
		meta[c.key] = c.value
		if c.value == "" {
			delete(meta, c.key)
		}
		card, ok, err := ReadCard(meta)
		wantError(t, err, append(slices.Clone(c.words), "data: read card: ")...)
		if ok || !reflect.DeepEqual(card, Card{}) {
			t.Errorf("%s %.40q: a card comes with the error", c.key, c.value)
		}
	}
}

func FuzzReadCard(f *testing.F) {
	meta := sampleCard.Metadata()
	f.Add(meta[cardPreprocess], meta[cardClasses], meta[cardRecipe])
	f.Add(`{"scale":1,"size":null,"mean":[]}`, `[null,""]`, "")
	f.Fuzz(func(t *testing.T, preprocess, classes, sha string) {
		card, ok, err := ReadCard(map[string]string{
			cardVersion: cardSchema, cardPreprocess: preprocess, cardClasses: classes, cardRecipe: sha,
		})
		if ok != (err == nil) {
			t.Fatalf("ok is %v with error %v", ok, err)
		}
		if !ok {
			return
		}
		again, ok, err := ReadCard(card.Metadata())
		if len(card.Classes) == 0 {
			card.Classes = nil // an empty list is not written
		}
		if !ok || err != nil || !reflect.DeepEqual(again, card) {
			t.Fatalf("%+v comes back as %+v, %v", card, again, err)
		}
	})
}
