// Package adapter makes a student's inner tensor comparable with a teacher's: each adapter is trained with the student and
// dropped at export, for the network to be deployed does not read it.
//
//	a, err := adapter.New("conv")
//	like := a.Build(g, "loss.hint.adapter", student, teacher) // student [N,C,H,W]; like has the teacher's shape
//
// Tensors are maps [N,C,H,W], tokens [N,L,D], of which the class's may be the first, or vectors [N,D].
package adapter

import (
	"fmt"
	"strings"

	G "gorgonia.org/gorgonia"

	"distill/internal/hint"
	"distill/runtime/graph"
)

// Adapter is a way from a student's tensor to a teacher's; its struct is the recipe's section.
type Adapter interface {
	// Validate reports the first setting out of range.
	Validate() error
	// Build describes the adapter on a student's tensor; the result has the teacher's shape, or what the adapter's own
	// description says. What it trains and keeps is named name+".…". Tensors that it cannot bring together are a *graph.Error.
	Build(g *graph.Graph, name string, student, teacher *G.Node) *G.Node
}

// Row is an adapter under the name a recipe gives it.
type Row struct {
	Name string
	Doc  string
	New  func() Adapter // a pointer to the defaults
}

// Table lists the adapters.
var Table = []Row{
	{"attention", "attention of the teacher's places to any student's tensor", func() Adapter { return &Attention{Query: "position", Heads: 4, Groups: 4} }},
	{"conv", "1x1 convolution of a map to the teacher's channels, resized", func() Adapter { return &Conv{} }},
	{"convreg", "regressor of a map by convolution, batch norm and ReLU (Romero et al. 2015)", func() Adapter { return &ConvReg{} }},
	{"linear", "dense layer for vectors, or for each token", func() Adapter { return &Linear{} }},
	{"map", "tokens made a map: the class's dropped, 1x1 convolution, resized", func() Adapter { return &Map{} }},
	{"ofa", "head that classifies by a map or tokens (Hao et al. 2023)", func() Adapter { return &OFA{} }},
	{"tokens", "a map made tokens, or tokens of another number: resized, then a dense layer", func() Adapter { return &Tokens{} }},
}

// New is the default adapter of a name.
func New(name string) (Adapter, error) {
	for _, row := range Table {
		if row.Name == name {
			return row.New(), nil
		}
	}
	return nil, hint.Wrap(fmt.Errorf("adapter: there is no adapter %q", name), "known: %s", strings.Join(Names(), ", "))
}

// Names lists the adapters.
func Names() []string {
	var names []string
	for _, row := range Table {
		names = append(names, row.Name)
	}
	return names
}
