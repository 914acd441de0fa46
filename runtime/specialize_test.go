package runtime

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
	"distill/runtime/graph/op"
)

// classifier has convolutions of all kinds that weights are laid out for: of few channels, to a part of a block, depthwise, of one
// place, at a stride and as Winograd's; with a bias and, before a batch norm, without.
func classifier(g *graph.Graph, x *G.Node, width int) *G.Node {
	around := func(centre float64) graph.Init {
		return func(to []float32, s graph.Shape, rng *rand.Rand) {
			spread := 0.3
			if len(s) == 4 {
				spread = math.Sqrt(2 / float64(s[1:].Size()))
			}
			for i := range to {
				to[i] = float32(centre + spread*rng.NormFloat64()/(1+2*centre))
			}
		}
	}
	conv := func(name string, x *G.Node, channels, kernel, stride, group int, bias bool) *G.Node {
		w := g.Param(name+".weight", graph.Shape{channels, channelsOf(x) / group, kernel, kernel}, around(0))
		var b *G.Node
		if bias {
			b = g.Param(name+".bias", graph.Shape{channels}, around(0))
		}
		return op.Conv(x, w, b, op.ConvAttrs{Pads: all(kernel / 2), Strides: [2]int{stride, stride}, Group: group})
	}
	x = op.Relu(conv("stem", x, width, 3, 1, 1, true))
	y := conv("first", x, width, 3, 1, 1, false)
	c := graph.Shape{width}
	y = op.Relu(op.BatchNorm(y, g.Param("scale", c, around(1)), g.Param("shift", c, around(0)),
		g.State("mean", graph.State, c, around(0)), g.State("variance", graph.State, c, graph.Constant(0.7)), 1e-5))
	y = op.Relu(conv("second", y, width, 3, 1, 1, true))
	x = op.Relu(op.Add(conv("third", y, width, 3, 1, 1, true), x))
	x = op.Relu(conv("each", x, width, 3, 1, width, true))
	x = op.Relu(conv("part", x, 40, 1, 1, 1, true))
	x = op.Relu(conv("half", x, width, 3, 2, 1, true))
	return op.Gemm(op.Flatten(op.GlobalAveragePool(x)), g.Param("head.weight", graph.Shape{10, width}, around(0)), g.Param("head.bias", graph.Shape{10}, around(0)))
}

// withWeights builds a classifier of n images of a height and the same width, or another, and draws its weights.
func withWeights(t *testing.T, n, width, size int, wide ...int) (*graph.Program, *graph.Store) {
	t.Helper()
	p, err := graph.Build(graph.Inference, func(g *graph.Graph) {
		g.Output("y", classifier(g, g.Input("x", graph.Float32, n, 3, size, append(wide, size)[0]), width))
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &graph.Store{}
	if err := p.Fill(s, 1); err != nil {
		t.Fatal(err)
	}
	return p, s
}

// fileOf is a model that takes any number of images.
func fileOf(t *testing.T, p *graph.Program, s *graph.Store) []byte {
	t.Helper()
	m, err := onnx.Lower(p, onnx.Lowering{Store: s, Batch: "n"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func noise(shape ...int) graph.Tensor {
	rng, x := rand.New(rand.NewPCG(2, 0)), graph.NewTensor(graph.Float32, shape...)
	for i := range x.F {
		x.F[i] = float32(rng.NormFloat64())
	}
	return x
}

func logits(t *testing.T, s *Session, x graph.Tensor) []float64 {
	t.Helper()
	out, err := s.Run(map[string]graph.Tensor{"x": x})
	if err != nil {
		t.Fatal(err)
	}
	return doubled(out["y"].F)
}

func opened(t *testing.T, model []byte) *Session {
	t.Helper()
	s, err := NewSession(model, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestGivenWeightsGiveTheSameResults(t *testing.T) {
	needBlocks(t)
	probed, err := Probe(Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name       string
		winograd   graph.Winograd
		high, wide int
		winograds  int
	}{
		{"plain", graph.WinogradNever, 6, 11, 0},
		{"squares", graph.WinogradSquares, 6, 11, 3},
		{"strips", graph.WinogradStrips, 8, 11, 3},
		{"strips of samples in parts", graph.WinogradStrips, 48, 45, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			const n, width = 16, 32
			p, weights := withWeights(t, n, width, c.high, c.wide)
			x := noise(n, 3, c.high, c.wide)
			want := logits(t, opened(t, fileOf(t, p, weights)), x)
			m, err := onnx.Lower(p, onnx.Lowering{Target: graph.Target{Fused: true, Block: probed.Block, Winograd: c.winograd}, Store: weights})
			if err != nil {
				t.Fatal(err)
			}
			if m.Winograd() != c.winograds || len(m.LaidOut()) != 7 {
				t.Errorf("%d of Winograd's convolutions and %d weights in another layout, want %d and 7", m.Winograd(), len(m.LaidOut()), c.winograds)
			}
			b, err := m.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			inputs, outputs := signature(&graph.Program{Inputs: p.Inputs, Outputs: p.Outputs})
			s, err := openSession(b, inputs, outputs, m.LaidOut(), Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if d := distance(logits(t, s, x), want); !(d <= 2e-6) {
				t.Errorf("the results are %v away", d)
			}
		})
	}
}

func TestSpecializeComputesAsTheModelDoes(t *testing.T) {
	needBlocks(t)
	const n, width, size = 32, 128, 8
	p, weights := withWeights(t, n, width, size)
	model := fileOf(t, p, weights)
	before := bytes.Clone(model)
	plain := opened(t, model)
	s, form, err := Specialize(model, opened(t, model), noise(n, 3, size, size), Options{})
	if err != nil || len(form) != 64 {
		t.Fatalf("the form is %q, %v", form, err)
	}
	defer s.Close()
	if !bytes.Equal(model, before) {
		t.Error("the model was changed")
	}
	if in := s.Inputs(); len(in) != 1 || in[0].String() != "float32[32,3,8,8]" {
		t.Errorf("it takes %v", in)
	}
	x := noise(n, 3, size, size)
	for i := range x.F {
		x.F[i] *= 3
	}
	got := logits(t, s, x)
	if d := distance(got, logits(t, plain, x)); !(d > 0 && d <= 2e-6) {
		t.Errorf("the results are %v away, want some rounding", d)
	}
	// An image's result does not depend on the others.
	clear(x.F[len(x.F)/2:])
	if d := distance(logits(t, s, x)[:n/2*10], got[:n/2*10]); d != 0 {
		t.Errorf("with other images beside them, results are %v away", d)
	}
	if _, err := s.Run(map[string]graph.Tensor{"x": noise(1, 3, size, size)}); err == nil {
		t.Error("it took another number of images")
	}
}

func TestSpecializeLeavesWhatItCannotImprove(t *testing.T) {
	needBlocks(t)
	const size = 8
	p, weights := withWeights(t, 32, 128, size)
	model := fileOf(t, p, weights)
	few := func() []byte {
		p, weights := withWeights(t, 32, 16, size)
		return fileOf(t, p, weights)
	}()
	p, err := graph.Build(graph.Inference, func(g *graph.Graph) {
		g.Output("y", op.Scale(classifier(g, g.Input("x", graph.Float32, 32, 3, size, size), 128), math.Inf(1)))
	})
	if err != nil {
		t.Fatal(err)
	}
	infinite := fileOf(t, p, weights)
	for _, c := range []struct {
		name    string
		model   []byte
		example graph.Tensor
		opts    Options
		some    bool
	}{
		{"itself", model, noise(32, 3, size, size), Options{}, true},
		{"one image", model, noise(1, 3, size, size), Options{}, false},
		{"few channels", few, noise(32, 3, size, size), Options{}, false},
		{"results that are no numbers", infinite, noise(32, 3, size, size), Options{}, false},
		{"a shape that it does not take", model, noise(32, 4, size, size), Options{}, false},
		{"another provider", model, noise(32, 3, size, size), Options{Provider: Provider{Name: "webgpu"}}, false},
		{"no model", []byte("no model"), noise(32, 3, size, size), Options{}, false},
	} {
		of := c.model
		if c.name == "no model" {
			of = model
		}
		plain := opened(t, of)
		s, form, err := Specialize(c.model, plain, c.example, c.opts)
		if special := form != ""; err != nil || special != c.some || !special && s != plain && c.name != "results that are no numbers" {
			t.Errorf("%s: form %q, %v, want one: %v", c.name, form, err, c.some)
		}
		if _, err := s.Run(map[string]graph.Tensor{"x": noise(32, 3, size, size)}); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		s.Close()
	}
	// Another model's session shows that numbers are compared.
	_, others := withWeights(t, 32, 128, size)
	for _, name := range others.Names(graph.Param) {
		v, _ := others.Tensor(name)
		v.F[0] *= 1.01
	}
	q, _ := withWeights(t, 32, 128, size)
	s, form, err := Specialize(model, opened(t, fileOf(t, q, others)), noise(32, 3, size, size), Options{})
	if err != nil || form != "" {
		t.Errorf("it took the numbers of another model for its own: %q, %v", form, err)
	}
	s.Close()
}
