// Package optim describes optimizers as graph updates, so that a training step is one program.
//
//	grads := g.Grad(cost)
//	grads = optim.ClipNorm(grads, optim.Norm(grads), 5)
//	(&optim.SGD{Momentum: 0.9}).Update(g, grads, g.Knob("lr", 0.1), nil)
package optim

import (
	"fmt"
	"math"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// Optimizer turns gradients into updates of parameters; its struct is the recipe's `optimizer:` section.
type Optimizer interface {
	// Validate reports the first setting out of range.
	Validate() error
	// Update describes the next value of every parameter and of the optimizer's own moments. taken is a scalar, 1, or 0 where
	// all of them keep the value that they have; nil is 1.
	Update(g *graph.Graph, grads []graph.Gradient, lr, taken *G.Node)
	// Knobs are the inputs besides the learning rate that depend on the step, counted from 0. Steps not taken do not count.
	Knobs(step int) map[string]float32
}

// Row is an optimizer under the name a recipe gives it.
type Row struct {
	Name string
	New  func() Optimizer // a pointer to the defaults
}

// Table lists the optimizers.
var Table = []Row{
	{"adamw", func() Optimizer { return &AdamW{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, WeightDecay: 0.01} }},
	{"sgd", func() Optimizer { return &SGD{Momentum: 0.9, WeightDecay: 5e-4} }},
}

// within checks a setting against lo..hi, the upper end included where closed.
func within(name string, v, lo, hi float64, closed bool) error {
	if v >= lo && (v < hi || closed && v == hi) {
		return nil
	}
	return fmt.Errorf("%s must be in %g..%g, not %g", name, lo, hi, v)
}

// Norm is the Euclidean norm of all gradients taken as one vector.
func Norm(grads []graph.Gradient) *G.Node {
	var sum *G.Node
	for _, d := range grads {
		square := op.ReduceSum(op.Mul(d.Grad, d.Grad), nil, false)
		if sum == nil {
			sum = square
		} else {
			sum = op.Add(sum, square)
		}
	}
	return op.Sqrt(sum)
}

// ClipNorm scales the gradients by min(1, limit/(norm + 1e-6)), as PyTorch's clip_grad_norm_ does.
func ClipNorm(grads []graph.Gradient, norm *G.Node, limit float64) []graph.Gradient {
	scale := op.Clip(op.Div(op.Scalar(norm, limit), op.Shift(norm, 1e-6)), 0, 1)
	clipped := make([]graph.Gradient, len(grads))
	for i, d := range grads {
		clipped[i] = graph.Gradient{Name: d.Name, Param: d.Param, Grad: op.Mul(d.Grad, scale)}
	}
	return clipped
}

// Unscale divides the gradients of a cost that was multiplied by scale, a scalar, so that they do not vanish in float16
// (Micikevicius et al. 2018, arXiv:1710.03740). finite is 1 if every element of every gradient is, else 0.
func Unscale(grads []graph.Gradient, scale *G.Node) (unscaled []graph.Gradient, finite *G.Node) {
	var sum *G.Node // of 0·g, which is 0, or not a number
	for _, d := range grads {
		unscaled = append(unscaled, graph.Gradient{Name: d.Name, Param: d.Param, Grad: op.Div(d.Grad, scale)})
		zero := op.ReduceSum(op.Scale(d.Grad, 0), nil, false)
		if sum == nil {
			sum = zero
		} else {
			sum = op.Add(sum, zero)
		}
	}
	return unscaled, op.Equal(sum, op.Scalar(sum, 0))
}

// zeros declares a moment of a parameter.
func zeros(g *graph.Graph, d graph.Gradient, name string) *G.Node {
	return g.State(d.Name+"."+name, graph.Moment, graph.ShapeOf(d.Param), graph.Constant(0))
}

// update gives a stored tensor its next value, where the step is taken.
func update(g *graph.Graph, name string, now, next, taken *G.Node) {
	if taken != nil {
		next = op.Where(taken, next, now)
	}
	g.Update(name, next)
}

// SGD is stochastic gradient descent with momentum as PyTorch defines it:
//
//	g ← g + wd·w;  v ← μ·v + g;  w ← w − lr·v   (Nesterov: w ← w − lr·(g + μ·v))
type SGD struct {
	Momentum    float64 `yaml:"momentum"`     // μ in 0..1; default 0.9
	Nesterov    bool    `yaml:"nesterov"`     // needs momentum
	WeightDecay float64 `yaml:"weight_decay"` // wd ≥ 0; default 5e-4; on every parameter, as in PyTorch
}

// Validate checks the ranges.
func (s *SGD) Validate() error {
	if s.Nesterov && s.Momentum == 0 {
		return fmt.Errorf("nesterov needs a momentum")
	}
	if err := within("momentum", s.Momentum, 0, 1, false); err != nil {
		return err
	}
	return within("weight_decay", s.WeightDecay, 0, 1, true)
}

// Update describes the step.
func (s *SGD) Update(g *graph.Graph, grads []graph.Gradient, lr, taken *G.Node) {
	for _, d := range grads {
		step := d.Grad
		if s.WeightDecay > 0 {
			step = op.Add(step, op.Scale(d.Param, s.WeightDecay))
		}
		if mu := s.Momentum; mu > 0 {
			old := zeros(g, d, "momentum")
			v := op.Add(op.Scale(old, mu), step)
			update(g, d.Name+".momentum", old, v, taken)
			if s.Nesterov {
				step = op.Add(step, op.Scale(v, mu))
			} else {
				step = v
			}
		}
		update(g, d.Name, d.Param, op.Sub(d.Param, op.Mul(step, lr)), taken)
	}
}

// Knobs is empty: every step is alike.
func (s *SGD) Knobs(int) map[string]float32 { return nil }

// AdamW is Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2):
//
//	w ← w − lr·wd·w;  m ← β₁m + (1−β₁)g;  v ← β₂v + (1−β₂)g²
//	w ← w − lr · (m/(1−β₁ᵗ)) / (√(v/(1−β₂ᵗ)) + ε)
type AdamW struct {
	Beta1       float64 `yaml:"beta1"`        // default 0.9
	Beta2       float64 `yaml:"beta2"`        // default 0.999
	Eps         float64 `yaml:"eps"`          // default 1e-8
	WeightDecay float64 `yaml:"weight_decay"` // default 0.01; on every parameter, as in PyTorch
}

// Validate checks the ranges.
func (a *AdamW) Validate() error {
	for _, err := range []error{
		within("beta1", a.Beta1, 0, 1, false),
		within("beta2", a.Beta2, 0, 1, false),
		within("eps", a.Eps, 1e-16, 1, true),
		within("weight_decay", a.WeightDecay, 0, 1, true),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

// Update describes the step.
func (a *AdamW) Update(g *graph.Graph, grads []graph.Gradient, lr, taken *G.Node) {
	c1, c2 := g.Knob("adamw.correction1", 1), g.Knob("adamw.correction2", 1)
	b1, b2 := a.Beta1, a.Beta2 // in float64: 1−β₂ in float32 would be off by 1e-5
	for _, d := range grads {
		m0, v0 := zeros(g, d, "moment1"), zeros(g, d, "moment2")
		m := op.Add(op.Scale(m0, b1), op.Scale(d.Grad, 1-b1))
		v := op.Add(op.Scale(v0, b2), op.Scale(op.Mul(d.Grad, d.Grad), 1-b2))
		update(g, d.Name+".moment1", m0, m, taken)
		update(g, d.Name+".moment2", v0, v, taken)
		step := op.Div(op.Div(m, c1), op.Shift(op.Sqrt(op.Div(v, c2)), a.Eps))
		if a.WeightDecay > 0 {
			step = op.Add(step, op.Scale(d.Param, a.WeightDecay))
		}
		update(g, d.Name, d.Param, op.Sub(d.Param, op.Mul(step, lr)), taken)
	}
}

// Knobs are the bias corrections 1−βᵗ with t = step+1, computed here since float32 would lose 1−β₂ᵗ for the first steps.
func (a *AdamW) Knobs(step int) map[string]float32 {
	t := float64(step + 1)
	return map[string]float32{
		"adamw.correction1": float32(1 - math.Pow(a.Beta1, t)),
		"adamw.correction2": float32(1 - math.Pow(a.Beta2, t)),
	}
}
