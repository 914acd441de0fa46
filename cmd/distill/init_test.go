package main

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"distill/train"
)

// textOf is a template's recipe.
func textOf(t *testing.T, name string) string {
	t.Helper()
	found, err := templateNamed(name)
	if err != nil {
		t.Fatal(err)
	}
	text, err := found.text()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestTemplatesAreRecipes(t *testing.T) {
	for _, template := range templates {
		text := textOf(t, template.name)
		r, err := train.ParseRecipe([]byte(text), template.name, nil)
		if err != nil {
			t.Error(err)
			continue
		}
		if r.Output != "run" || r.Teacher.Model == "" || r.Losses[0].Name != "ce" || r.Losses[1].Name != "kd" {
			t.Errorf("%s goes to %s with teacher %q and losses %s", template.name, r.Output, r.Teacher.Model, lossText(r.Losses))
		}
		short(t, text)
	}
}

// short fails on lines that are too long for an editor.
func short(t *testing.T, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if n := len([]rune(line)); n > 129 {
			t.Errorf("a line has %d characters: %s", n, line)
		}
	}
}

func TestStarterRecipeStatesTheDefaults(t *testing.T) {
	r, err := train.ParseRecipe([]byte(textOf(t, "starter")), "starter.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	want := train.NewRecipe()
	// What has no default that fits.
	want.Output, want.Data.Source, want.Teacher.Model = "run", "cifar10:testdata/cifar10", "models/cifar10_resnet56.onnx"
	got, err := r.Text()
	if err != nil {
		t.Fatal(err)
	}
	if text, err := want.Text(); err != nil || got != text {
		t.Errorf("the starter recipe is (%v)\n%s\nthe defaults are\n%s", err, got, text)
	}
}

func TestStarterRecipeExplainsEachKey(t *testing.T) {
	text, err := train.NewRecipe().Text()
	if err != nil {
		t.Fatal(err)
	}
	starter := textOf(t, "starter")
	for _, m := range regexp.MustCompile(`(?m)^[ -]*(\w+):`).FindAllStringSubmatch(text, -1) {
		if !regexp.MustCompile(`(?m)^[ -]*` + m[1] + `:`).MatchString(starter) {
			t.Errorf("the starter recipe has no %s", m[1])
		}
	}
}

func TestRecipesOfTheMakefileAreGood(t *testing.T) {
	for _, name := range []string{"demo", "results"} {
		r, err := train.LoadRecipe(filepath.Join("recipes", name+".yaml"), nil)
		if err != nil {
			t.Error(err)
			continue
		}
		if r.Output != "runs/"+name || r.Teacher.Model != "models/cifar10_resnet56.onnx" {
			t.Errorf("%s goes to %s with teacher %s", name, r.Output, r.Teacher.Model)
		}
	}
	t.Chdir("../..") // the suite names its recipe from there
	s, err := train.LoadSuite("cmd/distill/recipes/losses.yaml", []string{"data.source=cifar10:x"})
	if err != nil {
		t.Fatal(err)
	}
	if s.Output != "runs/losses" || len(s.Seeds) != 3 || len(s.Rows) < 10 {
		t.Errorf("the suite has %d rows and %d seeds, and goes to %s", len(s.Rows), len(s.Seeds), s.Output)
	}
	if r, err := s.RecipeOf(s.Rows[0], 2); err != nil || len(r.Losses) != 1 || r.Losses[0].Name != "ce" || r.Output != "runs/losses/labels alone/seed2" {
		t.Errorf("its first row is %+v, %v: not labels alone", r, err)
	}
	if s, err = train.LoadSuite("cmd/distill/recipes/students.yaml", []string{"data.source=cifar10:x"}); err != nil || s.Output != "runs/students" || len(s.Rows) != 8 {
		t.Errorf("three teachers and two students are %+v, %v", s, err)
	}
}
