package strictyaml

import (
	"errors"

	"distill/internal/hint"
)

// recipe has every kind of field.
type recipe struct {
	Name      string             `yaml:"name"`
	Epochs    int                `yaml:"epochs"`
	Seed      uint64             `yaml:"seed"`
	Tiny      int8               `yaml:"tiny"`
	Ratio     float32            `yaml:"ratio"`
	Shuffle   bool               `yaml:"shuffle"`
	Size      [2]int             `yaml:"size"`
	Mean      []float64          `yaml:"mean"`
	Grid      [][]int            `yaml:"grid"`
	Weights   map[string]float64 `yaml:"weights"`
	Clip      *float64           `yaml:"clip"`
	Common    common             `yaml:",inline"`
	Optimizer optimizer          `yaml:"optimizer"`
	Losses    []term             `yaml:"losses"`
	Adapter   *adapter           `yaml:"adapter"`
}

type common struct {
	Threads int `yaml:"threads"`
}

type adapter struct {
	From string `yaml:"from"`
	To   string `yaml:"to"`
}

func (a *adapter) SetDefaults() { a.To = "feat" }

type optimizer struct {
	Name   string  `yaml:"name,choice"`
	Method any     `yaml:",inline"`
	Clip   float64 `yaml:"clip"`
}

type sgd struct {
	LR       float64 `yaml:"lr"`
	Momentum float64 `yaml:"momentum"`
}

func (s sgd) Validate() error {
	if s.LR <= 0 {
		return hint.Wrap(errors.New("lr must be positive"), "0.1 is usual")
	}
	return nil
}

type adamw struct {
	LR    float64    `yaml:"lr"`
	Betas [2]float64 `yaml:"betas"`
}

func (optimizer) Choose(name string) any {
	switch name {
	case "sgd":
		return sgd{LR: 0.1, Momentum: 0.9}
	case "adamw":
		return &adamw{LR: 1e-3, Betas: [2]float64{0.9, 0.999}}
	}
	return nil
}

func (optimizer) Choices() []string { return []string{"adamw", "sgd"} }

type loss interface{ loss() }

type ce struct{}

type kd struct {
	Temperature float32 `yaml:"temperature"`
}

func (ce) loss() {}
func (kd) loss() {}

type term struct {
	Loss   string  `yaml:"loss,choice"`
	Of     loss    `yaml:",inline"`
	Weight float64 `yaml:"weight"`
}

func (t *term) SetDefaults() { t.Weight = 1 }

var lossTable = map[string]loss{"ce": ce{}, "kd": kd{Temperature: 4}}

func (term) Choose(name string) any { return lossTable[name] }
func (term) Choices() []string      { return []string{"ce", "kd"} }

func defaults() recipe {
	return recipe{
		Name: "demo", Epochs: 10, Seed: 1, Shuffle: true, Size: [2]int{32, 32}, Mean: []float64{0.5},
		Optimizer: optimizer{Name: "sgd", Method: sgd{LR: 0.2, Momentum: 0.9}, Clip: 5},
		Losses:    []term{{"ce", ce{}, 1}},
	}
}
