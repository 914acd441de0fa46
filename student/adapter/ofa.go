package adapter

import (
	"fmt"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/nn"
	"distill/runtime/graph/op"
)

// OFA is a stage's head of One-for-All (Hao et al. 2023, arXiv:2310.19444, section 3.2): it classifies by a student's inner
// tensor, so that networks of any two kinds are compared by their logits [N,K], the teacher's tensor here and the result.
//
// A map of stage i of 4 goes through 4−i separable convolutions, each of which halves it and doubles its channels; one of the
// last stage through a 1x1 convolution; then it is averaged and a dense layer classifies. Tokens are merged four to one as long
// as at least 7x7 are left, go through max(4−i, 1) transformer blocks, and the class's token, or else their mean, is classified.
//
// Unlike in the authors' code, a head knows nothing but its tensor: where they widen to the larger of the two networks' last
// features, Width says how far, and tokens keep their width. A side of tokens that is odd ends the merging, which there is an
// error; projections of the blocks have biases; blocks have 4 heads, or 2 or 1 where 4 do not share the width.
type OFA struct {
	// Stage is the tensor's, 1..4. Default 0: of a map, by its size, the stage after which halving leaves 8 pixels or fewer of
	// its longer side, as of the usual networks' four stages at 224x224 and three at 32x32; of tokens, the last.
	Stage int `yaml:"stage"`
	Width int `yaml:"width"` // of the features classified; default 0: what doubling gives
}

// Validate wants a stage and a width that exist.
func (o *OFA) Validate() error {
	switch {
	case o.Stage < 0 || o.Stage > 4:
		return fmt.Errorf("stage must be in 1..4, or 0 for what the size tells, not %d", o.Stage)
	case o.Width < 0 || o.Width > 65536:
		return fmt.Errorf("width must be in 0..65536, not %d", o.Width)
	}
	return nil
}

// Build describes the head; the result is logits [N,K] of the teacher's shape.
func (o *OFA) Build(g *graph.Graph, name string, student, teacher *G.Node) *G.Node {
	p := pairOf("ofa", name, student, teacher)
	p.want(len(p.s) != 2 && len(p.t) == 2, "maps or tokens, and the teacher's logits [N,K]")
	if err := o.Validate(); err != nil {
		p.fail("%v", err)
	}
	var features *G.Node // [N,·]
	if len(p.s) == 4 {
		features = o.maps(g, name, student)
	} else {
		if o.Width != 0 && o.Width != p.s[2] {
			p.fail("tokens keep their width; leave the setting width out")
		}
		features = o.tokens(g, p, student)
	}
	head := nn.Linear{Name: name + ".head", In: graph.ShapeOf(features)[1], Out: p.t[1], Init: headInit}
	return head.Apply(g, features)
}

// headInit is the authors' of dense layers.
var headInit = nn.TruncNormal(0.02)

func (o *OFA) maps(g *graph.Graph, name string, x *G.Node) *G.Node {
	s := graph.ShapeOf(x)
	halvings := 4 - o.Stage
	if o.Stage == 0 {
		for halvings = 0; halvings < 3 && max(s[2], s[3])>>halvings > 8; {
			halvings++
		}
	}
	in, out := s[1], o.Width
	if out == 0 {
		out = in << halvings
	}
	if halvings == 0 {
		x = nn.Conv{Name: name + ".conv", In: in, Out: out, Kernel: 1, Bias: true, Init: nn.KaimingNormal}.Apply(g, x)
	}
	for i := range halvings {
		to := 2 * in
		if i == halvings-1 {
			to = out
		}
		x = separable(g, fmt.Sprintf("%s.sep%d", name, i+1), x, in, to)
		in = to
	}
	return op.Flatten(op.GlobalAveragePool(x))
}

// separable halves a map [N,in,H,W] and gives it out channels: twice a depthwise 3x3 convolution, the first of stride 2, a 1x1
// convolution, batch norm and ReLU.
func separable(g *graph.Graph, name string, x *G.Node, in, out int) *G.Node {
	for i, to := range []int{in, out} {
		part := func(kind string) string { return fmt.Sprintf("%s.%s%d", name, kind, i+1) }
		x = nn.Conv{Name: part("dw"), In: in, Out: in, Kernel: 3, Stride: 2 - i, Pad: 1, Group: in, Init: nn.KaimingNormal}.Apply(g, x)
		x = nn.Conv{Name: part("pw"), In: in, Out: to, Kernel: 1, Init: nn.KaimingNormal}.Apply(g, x)
		x = op.Relu(nn.BatchNorm{Name: part("bn"), Channels: to}.Apply(g, x))
	}
	return x
}

func (o *OFA) tokens(g *graph.Graph, p pair, x *G.Node) *G.Node {
	d := p.s[2]
	lie, ok := gridOf(p.s[1], 1, 1)
	if !ok {
		p.fail("%d tokens fill no square, with or without a class token; tap other tensors", p.s[1])
	}
	var class *G.Node // [N,1,D]
	if lie.class {
		class = op.Slice(x, op.Range{Axis: 1, To: 1})
		x = op.Slice(x, op.Range{Axis: 1, From: 1})
	}
	for i := 0; lie.h >= 14 && lie.h%2 == 0; i++ {
		lie.h, lie.w = lie.h/2, lie.w/2
		last := lie.h < 14 || lie.h%2 != 0
		x = merge(g, fmt.Sprintf("%s.merge%d", p.name, i+1), x, lie, d)
		if i == 0 || !last {
			x = op.Gelu(x)
		}
	}
	if class != nil {
		x = op.Concat(1, class, x)
	}
	blocks := 1
	if o.Stage > 0 {
		blocks = max(4-o.Stage, 1)
	}
	heads := 4
	for d%heads != 0 {
		heads /= 2
	}
	for i := range blocks {
		x = nn.Block{Name: fmt.Sprintf("%s.block%d", p.name, i+1), Width: d, Heads: heads, Hidden: 4 * d}.Apply(g, x)
	}
	if class != nil {
		return op.Index(x, 1, 0)
	}
	return op.ReduceMean(x, []int{1}, false)
}

// merge makes one of each 2x2 tokens [N,4·h·w,D]: layer norm of the four together, then a dense layer without bias, which
// gives [N,h·w,D] (Liu et al. 2021, arXiv:2103.14030, section 3.1).
func merge(g *graph.Graph, name string, x *G.Node, to grid, d int) *G.Node {
	x = op.Transpose(op.Reshape(x, -1, to.h, 2, to.w, 2, d), 0, 1, 3, 4, 2, 5) // a column's two before the next column's
	x = op.Reshape(x, -1, to.h*to.w, 4*d)
	x = nn.LayerNorm{Name: name + ".norm", Features: 4 * d}.Apply(g, x)
	w := g.Param(name+".reduction.weight", graph.Shape{d, 4 * d}, headInit)
	rows := op.MatMulT(op.Reshape(x, -1, 4*d), w, false, true)
	return op.Reshape(rows, -1, to.h*to.w, d)
}
