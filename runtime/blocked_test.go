package runtime

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	goruntime "runtime"
	"testing"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
	"distill/runtime/graph/op"
)

// net is a network of images while it is described. Each tensor that it asks for becomes an input of the program, named by
// its number.
type net struct {
	g      *graph.Graph
	inputs []netInput
	others []*G.Node // results beside the network's own
	kinks  []*G.Node // what must not come close to 0, lest rounding decide on which side of a kink it lies
}

type netInput struct {
	node           *G.Node
	centre, spread float64 // of its uniform values
	fixed          bool    // has no gradient
}

func (n *net) input(centre, spread float64, shape ...int) *G.Node {
	x := n.g.Input(fmt.Sprint(len(n.inputs)), graph.Float32, shape...)
	n.inputs = append(n.inputs, netInput{node: x, centre: centre, spread: spread})
	return x
}

func (n *net) fixed(centre, spread float64, shape ...int) *G.Node {
	x := n.input(centre, spread, shape...)
	n.inputs[len(n.inputs)-1].fixed = true
	return x
}

// conv keeps the images' variance.
func (n *net) conv(x *G.Node, channels, kernel int, a op.ConvAttrs) *G.Node {
	return op.Conv(x, n.filter(x, channels, kernel, a), nil, a)
}

func (n *net) filter(x *G.Node, channels, kernel int, a op.ConvAttrs) *G.Node {
	in := channelsOf(x) / max(a.Group, 1)
	return n.input(0, math.Sqrt(3/float64(in*kernel*kernel)), channels, in, kernel, kernel)
}

// same is a convolution that keeps an image's size.
func (n *net) same(x *G.Node, channels, kernel int) *G.Node {
	return n.conv(x, channels, kernel, op.ConvAttrs{Pads: all(kernel / 2)})
}

func (n *net) depthwise(x *G.Node, kernel int, a op.ConvAttrs) *G.Node {
	a.Group = channelsOf(x)
	return n.conv(x, a.Group, kernel, a)
}

func (n *net) norm(x *G.Node) *G.Node {
	c := channelsOf(x)
	y, mean, variance := op.BatchNormTraining(x, n.input(1, 0.5, c), n.input(0, 0.5, c), 1e-5)
	n.others = append(n.others, mean, variance)
	return y
}

// normNear knows the mean to half a deviation.
func (n *net) normNear(x *G.Node) *G.Node {
	c := channelsOf(x)
	y, mean, variance := op.BatchNormTrainingNear(x, n.input(1, 0.5, c), n.input(0, 0.5, c), n.fixed(0, 0.5, c), 1e-5)
	n.others = append(n.others, mean, variance)
	return y
}

// frozen is a batch norm by statistics that are given.
func (n *net) frozen(x *G.Node) *G.Node {
	c := channelsOf(x)
	return op.BatchNorm(x, n.input(1, 0.5, c), n.input(0, 0.5, c), n.fixed(0, 0.5, c), n.fixed(1, 0.5, c), 1e-5)
}

// bent marks the places where a function of x bends or jumps.
func (n *net) bent(x *G.Node, at ...float64) *G.Node {
	for _, v := range at {
		n.kinks = append(n.kinks, op.Shift(x, -v))
	}
	return x
}

func (n *net) relu(x *G.Node) *G.Node { return op.Relu(n.bent(x, 0)) }

func channelsOf(x *G.Node) int { return x.Shape()[1] }
func all(pad int) [4]int       { return [4]int{pad, pad, pad, pad} }

// network describes a net and gives its result.
type network func(n *net) *G.Node

// build makes a program of what the network gives.
func (f network) build(outputs func(n *net, y *G.Node)) (p *graph.Program, n *net, err error) {
	p, err = graph.Build(graph.Training, func(g *graph.Graph) {
		n = &net{g: g}
		outputs(n, f(n))
	})
	return p, n, err
}

// trained has the result "y" and the derivatives "d<k>" of Σ y[i]·sin(i+1).
func trained(n *net, y *G.Node) {
	n.g.Output("y", y)
	n.derive(y)
}

// ways of making a program of a network: what reads its images, and with it what may be done to them, differs.
var ways = map[string]func(n *net, y *G.Node){
	"result and gradients": trained,
	"gradients":            (*net).derive,
	"result": func(n *net, y *G.Node) {
		n.g.Output("y", y)
		for i, v := range n.others {
			n.g.Output(fmt.Sprint("other", i), v)
		}
	},
}

// derive has the derivatives alone.
func (n *net) derive(y *G.Node) {
	w := graph.Zeros(graph.ShapeOf(y))
	for i := range w.F {
		w.F[i] = math.Sin(float64(i + 1))
	}
	var wrt []*G.Node
	for _, in := range n.inputs {
		if !in.fixed {
			wrt = append(wrt, in.node)
		}
	}
	for _, d := range n.g.GradInput(op.ReduceSum(op.Mul(y, n.g.Const(w)), nil, false), wrt...) {
		n.g.Output("d"+d.Name, d.Grad)
	}
}

// values draws the net's inputs until no image of the net has an element at a kink.
func (f network) values(n *net, rng *rand.Rand) ([]graph.Array, error) {
	var tape *graph.Tape
	if len(n.kinks) > 0 {
		p, _, err := f.build(func(n *net, _ *G.Node) {
			for i, k := range n.kinks {
				n.g.Output(fmt.Sprint("kink", i), k)
			}
		})
		if err != nil {
			return nil, err
		}
		if tape, err = graph.NewTape(p); err != nil {
			return nil, err
		}
		defer tape.Close()
	}
	for range 20 {
		in := make([]graph.Array, len(n.inputs))
		for k, v := range n.inputs {
			in[k] = graph.Zeros(graph.ShapeOf(v.node))
			for i := range in[k].F {
				in[k].F[i] = float64(float32(v.centre + v.spread*(2*rng.Float64()-1)))
			}
		}
		if tape == nil {
			return in, nil
		}
		kinks, err := evalOn(tape, in)
		if err != nil || apart(kinks) {
			return in, err
		}
	}
	return nil, errAtKink
}

var errAtKink = errors.New("some element of the images is always at a kink")

// apart reports whether no value comes closer to 0 than rounding may move it. What is 0 itself stays there.
func apart(values map[string]graph.Array) bool {
	for _, v := range values {
		for _, x := range v.F {
			if x != 0 && math.Abs(x) < 5e-6 {
				return false
			}
		}
	}
	return true
}

// agrees compares a network's results and gradients on all targets with the tape's.
func (f network) agrees(seed uint64) error {
	return f.eachWay(seed, func(p *graph.Program, in []graph.Array) error { return enginesAgree(p, in, largest) })
}

// eachWay compares each way's program by its inputs' values.
func (f network) eachWay(seed uint64, compare func(p *graph.Program, in []graph.Array) error) error {
	for name, outputs := range ways {
		p, n, err := f.build(outputs)
		if err != nil {
			return err
		}
		in, err := f.values(n, rand.New(rand.NewPCG(seed, 0)))
		if err != nil {
			return err
		}
		if err := compare(p, in); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// blocks reports whether the network's program has images in blocks.
func (f network) blocks() (bool, error) {
	target, err := Probe(Options{})
	if err != nil {
		return false, err
	}
	p, _, err := f.build(trained)
	if err != nil {
		return false, err
	}
	m, err := onnx.Lower(p, onnx.Lowering{Target: target})
	if err != nil {
		return false, err
	}
	b, err := m.Marshal()
	return bytes.Contains(b, []byte("com.microsoft.nchwc")), err
}

// needBlocks skips a test where ONNX Runtime has no blocked convolution. On x86-64 it always has one, so that a mistake in the
// layout, which the probe would answer by doing without it, is a failure here.
func needBlocks(t *testing.T) {
	t.Helper()
	testInit(t)
	target, err := Probe(Options{})
	switch {
	case err != nil:
		t.Fatal(err)
	case target.Block == 0 && goruntime.GOARCH == "amd64":
		t.Fatal("the probe found no block that computes")
	case target.Block == 0:
		t.Skip("there is no blocked convolution here")
	}
}

// check compares a network with the tape, and whether it has blocks with what is expected.
func (f network) check(t *testing.T, seed uint64, blocks bool) {
	t.Helper()
	if got, err := f.blocks(); err != nil || got != blocks {
		t.Errorf("some image is in blocks: %v, %v, want %v", got, err, blocks)
	}
	if err := f.agrees(seed); err != nil {
		t.Error(err)
	}
}
