package main

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"distill/train"
)

func TestStarterRecipeStatesTheDefaults(t *testing.T) {
	r, err := train.ParseRecipe([]byte(starter), "starter.yaml", nil)
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
	for _, m := range regexp.MustCompile(`(?m)^[ -]*(\w+):`).FindAllStringSubmatch(text, -1) {
		if !regexp.MustCompile(`(?m)^[ -]*` + m[1] + `:`).MatchString(starter) {
			t.Errorf("the starter recipe has no %s", m[1])
		}
	}
	for line := range strings.Lines(starter) {
		if n := len([]rune(line)); n > 129 {
			t.Errorf("a line has %d characters: %s", n, line)
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
}
