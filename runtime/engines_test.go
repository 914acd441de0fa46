package runtime

import (
	"fmt"
	"math"
	"testing"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

func TestEnginesAgreeOnEveryOperator(t *testing.T) {
	testInit(t)
	for _, row := range op.Table {
		for i, e := range row.Examples {
			t.Run(fmt.Sprintf("%s/%d", row.Name, i), func(t *testing.T) {
				p, err := e.Program()
				if err != nil {
					t.Fatal(err)
				}
				if err := enginesAgree(p, e.Inputs(), element); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

// measure is what the elements of a result are to be measured by.
type measure func(result graph.Array) (sizeOf func(i int) float64)

// element is each by itself.
func element(result graph.Array) func(int) float64 {
	return func(i int) float64 { return math.Abs(result.F[i]) }
}

// largest is for elements that are small differences of others: float32 rounds them as it rounds those.
func largest(result graph.Array) func(int) float64 {
	size := 0.0
	for _, v := range result.F {
		if a := math.Abs(v); a > size && !math.IsInf(a, 0) {
			size = a
		}
	}
	return func(int) float64 { return size }
}

// enginesAgree runs an example's program on the tape and, for each target, in ONNX Runtime: plain ONNX, what every provider has,
// its fused operators, its blocked convolution, and that by Winograd. They may differ by 2e-5, of the size where that is more than 1.
func enginesAgree(p *graph.Program, in []graph.Array, by measure) error {
	probed, err := Probe(Options{})
	if err != nil {
		return err
	}
	narrow := map[string]graph.Tensor{}
	rounded := make([]graph.Array, len(in))
	for k, a := range in {
		v := graph.NewTensor(graph.Float32, a.Shape...)
		for i, x := range a.F {
			v.F[i] = float32(x)
		}
		narrow[fmt.Sprint(k)], rounded[k] = v, graph.Array{Shape: a.Shape, F: doubled(v.F)}
	}
	want, err := onTape(p, rounded)
	if err != nil {
		return err
	}
	winograd := probed
	winograd.Winograd = graph.WinogradSquares
	for name, target := range map[string]graph.Target{"plain": {}, "portable": {Portable: true}, "fused": {Fused: true},
		"blocked": probed, "winograd": winograd} {
		got, err := onONNXRuntime(p, narrow, target)
		if err == nil && target.Winograd == graph.WinogradSquares {
			err = resultsAgree(got, want, largest) // a place is rounded as its tile's largest is
		} else if err == nil {
			err = resultsAgree(got, want, by)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func onONNXRuntime(p *graph.Program, in map[string]graph.Tensor, target graph.Target) (map[string]graph.Tensor, error) {
	step, err := Compile(p, &graph.Store{}, ONNXRuntime, Options{Threads: 1}, &target)
	if err != nil {
		return nil, err
	}
	defer step.Close()
	return step.Run(in)
}

func onTape(p *graph.Program, in []graph.Array) (map[string]graph.Array, error) {
	tape, err := graph.NewTape(p)
	if err != nil {
		return nil, err
	}
	defer tape.Close()
	return evalOn(tape, in)
}

func evalOn(tape *graph.Tape, in []graph.Array) (map[string]graph.Array, error) {
	named := map[string]graph.Array{}
	for k, a := range in {
		named[fmt.Sprint(k)] = a
	}
	out, _, err := tape.Eval(named)
	return out, err
}

// resultsAgree wants what is infinite or not a number to be so in both.
func resultsAgree(got map[string]graph.Tensor, want map[string]graph.Array, by measure) error {
	for name, w := range want {
		g := got[name]
		if !g.Shape.Equal(w.Shape) {
			return fmt.Errorf("%s is %v in ONNX Runtime, %v on the tape", name, g.Shape, w.Shape)
		}
		slack := 0.0
		if name == "cost" { // a sum of all of y with both signs: its rounding is that of its terms
			for _, v := range want["y"].F {
				slack += math.Abs(v)
			}
		}
		size := by(w)
		for i, v := range w.F {
			x, scale := float64(g.F[i]), math.Max(1, size(i))+slack
			same := x == v || math.IsNaN(x) && math.IsNaN(v)
			if !same && (math.IsInf(v, 0) || !(math.Abs(x-v) <= 2e-5*scale)) {
				return fmt.Errorf("%s[%d] is %g in ONNX Runtime, %g on the tape", name, i, x, v)
			}
		}
	}
	return nil
}
