package losses

import (
	"fmt"
	"math"
	"math/rand/v2"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/nn"
	"distill/runtime/graph/op"
)

// ReviewKD is knowledge review (Chen et al. 2021, arXiv:2104.09044): a student's deeper levels help its shallower ones to
// match the teacher's. From the last pair to the first, a student's map x [N,C,H,W] is fused with what the level after it passed
// on, y, by attention (ABF):
//
//	x ← BN(conv1x1(x))                             Mid channels
//	x ← a₁·x + a₂·y,  [a₁,a₂] = σ(conv1x1([x,y]))  y resized to x; not at the last level
//	x ← x resized to the teacher's size            passed on
//	s ← BN(conv3x3(x))                             the teacher's channels
//
// where resizing is by the nearest pixel, and each s is compared by pooled maps (HCL):
//
//	mean d² + ½·mean d²₄ + ¼·mean d²₂ + ⅛·mean d²₁, over the sum of those factors
//
// for d = s − t, of which dₖ is the average on k·k cells, only where that is less than the map's side. Levels add up.
//
// Published is a pair for each stage, the teacher's maps taken before their ReLU, and one of the pooled vectors [N,D], which is a
// level of one pixel. Where the last pair is of maps, their own means over the pixels are that level, unless Pooled is false.
// The weight is 1; 5 is published for ResNet-32x4 to ResNet-8x4 and, on ImageNet, 8 for ResNet-50 to MobileNet, with a warm-up of
// one epoch of 100.
type ReviewKD struct {
	Mid    int     `yaml:"mid"`    // channels inside, at most as many as the student's last level has; in 1..4096, default 512
	Pooled bool    `yaml:"pooled"` // whether the last maps' means are a level, too; default true
	Warmup float32 `yaml:"warmup"` // epochs of a run of 240 over which the loss comes in, in proportion; 0: none; default 20
}

// Validate wants a width, and a warm-up that is not negative.
func (r *ReviewKD) Validate() error {
	if r.Mid < 1 || r.Mid > 4096 {
		return fmt.Errorf("mid must be in 1..4096, not %d", r.Mid)
	}
	return notNegative("warmup", r.Warmup)
}

// Knobs are the factor of the warm-up.
func (r *ReviewKD) Knobs(at Progress) map[string]float32 {
	return map[string]float32{"warmup": warmup(at, r.Warmup)}
}

// level is a pair of maps.
type level struct{ s, t *G.Node }

// Build describes, for level i from 1, abfi.conv1, abfi.bn1, abfi.attention, abfi.conv2 and abfi.bn2.
func (r *ReviewKD) Build(in In) *G.Node {
	levels := r.levels(in)
	last := len(levels) - 1
	mid := min(r.Mid, graph.ShapeOf(levels[last].s)[1])
	var passed *G.Node
	var all []*G.Node
	for i := last; i >= 0; i-- {
		var s *G.Node
		s, passed = fuse(in.Graph(), in.Name(fmt.Sprintf("abf%d", i+1)), levels[i], passed, mid)
		all = append(all, hierarchical(op.Sub(s, levels[i].t)))
	}
	return op.Mul(in.Knob("warmup", 1), op.Sum(all...))
}

// levels are the pairs as maps, from input to output.
func (r *ReviewKD) levels(in In) (levels []level) {
	for _, p := range in.Pairs() {
		if len(graph.ShapeOf(p.Student)) == 2 && len(p.Shape) == 2 {
			levels = append(levels, level{op.Unsqueeze(p.Student, 2, 3), op.Unsqueeze(p.Teacher, 2, 3)})
			continue
		}
		in.maps(p)
		levels = append(levels, level{p.Student, p.Teacher})
	}
	last := levels[len(levels)-1]
	if pixels := graph.ShapeOf(last.s)[2:].Size(); r.Pooled && pixels > 1 {
		levels = append(levels, level{op.GlobalAveragePool(last.s), op.GlobalAveragePool(last.t)})
	}
	return levels
}

// fuse is the attention-based fusion of a level with what the one after it passed on, nil at the last. It gives the student's
// map as the teacher's is, and what is passed on.
func fuse(g *graph.Graph, name string, l level, y *G.Node, mid int) (s, passed *G.Node) {
	conv := func(part string, x *G.Node, out, kernel int) *G.Node {
		in := graph.ShapeOf(x)[1]
		x = nn.Conv{Name: name + ".conv" + part, In: in, Out: out, Kernel: kernel, Pad: kernel / 2, Init: lecunUniform}.Apply(g, x)
		return nn.BatchNorm{Name: name + ".bn" + part, Channels: out}.Apply(g, x)
	}
	size, to := graph.ShapeOf(l.s), graph.ShapeOf(l.t)
	x := conv("1", l.s, mid, 1)
	if y != nil {
		y = nn.Resample(y, size[2], size[3], nn.Nearest)
		a := nn.Conv{Name: name + ".attention", In: 2 * mid, Out: 2, Kernel: 1, Bias: true}.Apply(g, op.Concat(1, x, y))
		a = op.Sigmoid(a) // [N,2,H,W]
		share := func(i int, of *G.Node) *G.Node { return op.Mul(of, op.Slice(a, op.Range{Axis: 1, From: i, To: i + 1})) }
		x = op.Add(share(0, x), share(1, y))
	}
	x = nn.Resample(x, to[2], to[3], nn.Nearest)
	return conv("2", x, to[1], 3), x
}

// hierarchical is the hierarchical context loss of a difference d [N,C,H,W]. Averages are linear: that of a difference is the
// difference of averages.
func hierarchical(d *G.Node) *G.Node {
	s := graph.ShapeOf(d)
	sum, factor, factors := meanSquare(d), 1.0, 1.0
	for _, k := range []int{4, 2, 1} {
		if k >= min(s[2], s[3]) {
			continue
		}
		factor /= 2
		factors += factor
		sum = op.Add(sum, op.Scale(meanSquare(nn.Resample(d, k, k, nn.Averaging)), factor))
	}
	return op.Scale(sum, 1/factors)
}

// lecunUniform is U(−b, b) with b = √(3/fanIn), for a weight [out,in,…]: PyTorch's kaiming_uniform_ with a = 1.
func lecunUniform(values []float32, s graph.Shape, rng *rand.Rand) {
	b := math.Sqrt(3 / float64(s[1:].Size()))
	for i := range values {
		values[i] = float32((2*rng.Float64() - 1) * b)
	}
}
