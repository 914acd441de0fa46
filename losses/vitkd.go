package losses

import (
	"cmp"
	"fmt"
	"math"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/nn"
	"distill/runtime/graph/op"
)

// ViTKD compares the tokens of transformers (Yang et al. 2022, arXiv:2209.02432, equations 2 to 5): those of the first blocks
// are to be the teacher's, those of the last are to be made again from a part of them,
//
//	α/N · Σ_first ‖s − t‖² + β/(λN) · ‖m∘(generate((1−m)∘s + m∘token) − t)‖²
//
// for tokens s, after the adapter, and t [N,L,D], without the class's where that is the first, on a square grid. The mask m
// hides a share λ of the places; there s gives way to a token that is learnt, and there alone the result counts. generate is a
// 3x3 convolution, ReLU and another. Token and generation are the loss's own, and not exported. Norms sum all elements.
//
// The last pair is the generation's, all before it are the first blocks': in the paper, taps name the outputs of the first
// two blocks and of the last. A recipe without taps has the generation alone. Unlike in the authors' code, which hides equally
// many places of each image, each place is hidden by itself with probability λ. The mask is drawn anew for each step from the
// run's seed. α and β are the published weights beside cross-entropy of weight 1; the term's own is 1.
type ViTKD struct {
	Alpha  float64 `yaml:"alpha"`  // α, 0 or more; default 3e-5
	Beta   float64 `yaml:"beta"`   // β, 0 or more; default 3e-6
	Lambda float64 `yaml:"lambda"` // λ, the share hidden, between 0 and 1; default 0.5
}

// Validate wants weights of 0 or more and a share between 0 and 1.
func (v *ViTKD) Validate() error {
	if !(v.Lambda > 0 && v.Lambda < 1) {
		return fmt.Errorf("lambda must be between 0 and 1, not %v", v.Lambda)
	}
	return cmp.Or(notNegative("alpha", v.Alpha), notNegative("beta", v.Beta))
}

// Build describes the loss, its token and its generation.
func (v *ViTKD) Build(in In) *G.Node {
	pairs, n := in.Pairs(), float64(in.Batch())
	var all []*G.Node
	for i, p := range pairs {
		s, t := in.patches(p)
		scale := v.Alpha
		if i == len(pairs)-1 {
			keep := 1 - v.Lambda
			size := graph.ShapeOf(s)
			kept := op.Scale(in.Graph().Mask(in.Name("mask"), keep, size[0], 1, size[2], size[3]), keep) // 1 or 0
			s, scale = v.generate(in, s, kept), v.Beta/v.Lambda
			hidden := op.Not(kept)
			s, t = op.Mul(s, hidden), op.Mul(t, hidden)
		}
		all = append(all, op.Scale(op.ReduceSumSquare(op.Sub(s, t), nil, false), scale/n))
	}
	return op.Sum(all...)
}

// generate makes a map [N,D,h,w] again from its pixels that are kept [N,1,h,w].
func (v *ViTKD) generate(in In, x, kept *G.Node) *G.Node {
	d := graph.ShapeOf(x)[1]
	token := in.Graph().Param(in.Name("token"), graph.Shape{1, d, 1, 1}, graph.Constant(0))
	x = op.Add(op.Mul(x, kept), op.Mul(token, op.Not(kept)))
	conv := func(part string, x *G.Node) *G.Node {
		return nn.Conv{Name: in.Name(part), In: d, Out: d, Kernel: 3, Pad: 1, Bias: true}.Apply(in.Graph(), x)
	}
	return conv("generation.2", op.Relu(conv("generation.1", x)))
}

// patches are the maps [N,D,h,w] of a pair of tokens [N,L,D], without the class's.
func (in In) patches(p Pair) (s, t *G.Node) {
	if len(graph.ShapeOf(p.Student)) != 3 || len(p.Shape) != 3 {
		in.refuse(p, "it compares tokens [N,L,D]; tap the blocks of transformers")
	}
	in.alike(p)
	l, d := p.Shape[1], p.Shape[2]
	side := int(math.Sqrt(float64(l)))
	class := l - side*side
	if class > 1 {
		in.refuse(p, "%d tokens are no square, with or without the class's", l)
	}
	lay := func(x *G.Node) *G.Node {
		if class == 1 {
			x = op.Slice(x, op.Range{Axis: 1, From: 1})
		}
		return op.Reshape(op.Transpose(x, 0, 2, 1), -1, d, side, side)
	}
	return lay(p.Student), lay(p.Teacher)
}
