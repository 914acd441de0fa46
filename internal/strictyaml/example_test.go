package strictyaml_test

import (
	"fmt"

	"distill/internal/hint"
	"distill/internal/strictyaml"
)

func ExampleDecode() {
	recipe := struct {
		Epochs  int     `yaml:"epochs"`
		Shuffle bool    `yaml:"shuffle"`
		Clip    float64 `yaml:"clip"`
	}{Epochs: 10, Shuffle: true, Clip: 5}
	src := []byte("shuffle: false\nclip: 0\n")
	err := strictyaml.Decode(src, "recipe.yaml", &recipe, []string{"epochs=20"})
	fmt.Println(recipe, err)

	err = strictyaml.Decode([]byte("epoch: 3"), "recipe.yaml", &recipe, nil)
	fmt.Println(err)
	fmt.Println(hint.Of(err))
	// Output:
	// {20 false 0} <nil>
	// recipe.yaml:1:1: unknown key "epoch"
	// did you mean "epochs"?
}
