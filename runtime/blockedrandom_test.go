package runtime

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

func TestImagesInBlocksAgreeWithTheTape(t *testing.T) {
	needBlocks(t)
	for _, p := range pieces {
		for i, x := range []graph.Shape{{32, 16, 6, 5}, {3, 20, 4, 5}, {2, 32, 3, 3}} {
			if testing.Short() && i > 0 {
				continue
			}
			t.Run(fmt.Sprintf("%s/%v", p.name, x), func(t *testing.T) {
				var f network = func(n *net) *G.Node {
					y := p.make(n, n.same(n.input(0, 2, x...), x[1], 1))
					return n.same(y, x[1], 1)
				}
				f.check(t, 1, true)
			})
		}
	}
}

func TestResultInBlocksAgreesWithTheTape(t *testing.T) {
	if testing.Short() {
		t.Skip("long")
	}
	needBlocks(t)
	for _, p := range pieces {
		t.Run(p.name, func(t *testing.T) {
			var f network = func(n *net) *G.Node { return p.make(n, n.input(0, 2, 16, 20, 4, 4)) }
			if err := f.agrees(1); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRandomNetworksInBlocksAgreeWithTheTape(t *testing.T) {
	needBlocks(t)
	count := uint64(20)
	switch {
	case *drawn > 0:
		count = uint64(*drawn)
	case os.Getenv("DISTILL_LONG") != "":
		count = 500
	case testing.Short():
		count = 5
	}
	useless := uint64(0)
	for seed := *firstSeed; seed < *firstSeed+count; seed++ {
		f, about := randomNetwork(dice{rand.New(rand.NewPCG(seed, 7))})
		switch err := f.eachWay(seed, asNearAsPlain); {
		case errors.Is(err, errAtKink): // as of a ReLU of what a GELU flattened
			useless++
		case err != nil:
			t.Fatalf("%s: %v\nagain by: go test ./runtime -run '^%s$' -seed %d -draws 1", about, err, t.Name(), seed)
		}
	}
	if useless > count/4 {
		t.Errorf("%d draws of %d cannot be compared", useless, count)
	}
}

// asNearAsPlain compares blocks with the tape by what plain ONNX makes of the same program: a random network may well
// magnify its rounding.
func asNearAsPlain(p *graph.Program, in []graph.Array) error {
	probed, err := Probe(Options{})
	if err != nil {
		return err
	}
	want, err := onTape(p, in)
	if err != nil {
		return err
	}
	winograd := probed
	winograd.Winograd = graph.WinogradSquares
	off := map[graph.Target]map[string]float64{} // largest difference of each result
	for _, target := range []graph.Target{{}, probed, winograd} {
		got, err := onONNXRuntime(p, tensorsOf(in), target)
		if err != nil {
			return fmt.Errorf("%+v: %w", target, err)
		}
		off[target] = map[string]float64{}
		for name, w := range want {
			for i, v := range doubled(got[name].F) {
				off[target][name] = max(off[target][name], math.Abs(v-w.F[i])) // NaN, if one is
			}
		}
	}
	for name, w := range want {
		size, plain := max(1, largest(w)(0)), off[graph.Target{}][name]
		for _, target := range []graph.Target{probed, winograd} {
			if blocked := off[target][name]; !(plain <= 1e-2*size) || !(blocked <= max(5e-5*size, 4*plain)) {
				return fmt.Errorf("%s, of at most %g, is %g from the tape's on %+v, in plain ONNX %g", name, size, blocked, target, plain)
			}
		}
	}
	return nil
}

// tensorsOf are a program's inputs by number.
func tensorsOf(in []graph.Array) map[string]graph.Tensor {
	named := map[string]graph.Tensor{}
	for k, a := range in {
		t := graph.NewTensor(graph.Float32, a.Shape...)
		for i, v := range a.F {
			t.F[i] = float32(v)
		}
		named[fmt.Sprint(k)] = t
	}
	return named
}

// randomNetwork is of up to five pieces behind a stem or a convolution.
func randomNetwork(d dice) (f network, about string) {
	x := graph.Shape{among(d, 16, 16, 32, 3, 1), among(d, 3, 16, 20, 24, 32), 4 + d.IntN(4), 4 + d.IntN(4)}
	width := among(d, 16, 20, 24, 32)
	var chain []piece
	names := []string{fmt.Sprintf("%v to %d channels", x, width)}
	for range 2 + d.IntN(4) {
		if p := pieces[d.IntN(len(pieces))]; !p.alone {
			chain, names = append(chain, p), append(names, p.name)
		}
	}
	return func(n *net) *G.Node {
		h := n.same(n.input(0, 2, x...), width, 3)
		for _, p := range chain {
			// What halves an image or takes a variance of it needs one of some size.
			if s := h.Shape(); min(s[2], s[3]) >= 2 && s[0]*s[2]*s[3] >= 8 {
				h = p.make(n, h)
			}
		}
		return h
	}, strings.Join(names, ", ")
}
