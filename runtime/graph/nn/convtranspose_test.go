package nn_test

import (
	"fmt"
	"math"
	"testing"

	"distill/runtime/graph"
	"distill/runtime/graph/nn"
)

func TestTransposedConvolutionAddsUpKernelsAtItsStride(t *testing.T) {
	input := graph.Shape{2, 2, 3, 2}
	for _, l := range []nn.ConvTranspose{
		{Kernel: 4, Stride: 2, Pad: 1},
		{Kernel: 3, Stride: 1, Pad: 1},
		{Kernel: 2, Stride: 3},
		{Kernel: 1, Stride: 2},
		{Kernel: 3, Stride: 2, Pad: 2},
	} {
		t.Run(fmt.Sprintf("%+v", l), func(t *testing.T) {
			l.Name, l.In, l.Out = "up", 2, 3
			p := build(t, graph.Inference, input, l.Apply)
			in := map[string]graph.Array{"x": graph.Zeros(input)}
			for _, leaf := range p.Stored {
				in[leaf.Name] = graph.Zeros(leaf.Shape)
			}
			for name, a := range in {
				for i := range a.F {
					a.F[i] = math.Sin(12.9898*float64(i+1) + float64(len(name)))
				}
			}
			tape, err := graph.NewTape(p)
			if err != nil {
				t.Fatal(err)
			}
			defer tape.Close()
			out, _, err := tape.Eval(in)
			if err != nil {
				t.Fatal(err)
			}
			size := func(n int) int { return (n-1)*l.Stride - 2*l.Pad + l.Kernel }
			want := graph.Zeros(graph.Shape{2, 3, size(3), size(2)})
			if !out["y"].Shape.Equal(want.Shape) {
				t.Fatalf("it gives %v, want %v", out["y"].Shape, want.Shape)
			}
			for i := range want.F {
				want.F[i] = in["up.bias"].F[i/(want.Shape[2]*want.Shape[3])%3]
			}
			x, w := in["x"].F, in["up.weight"]
			if !w.Shape.Equal(graph.Shape{2, 3, l.Kernel, l.Kernel}) {
				t.Fatalf("its weight is %v", w.Shape)
			}
			for i, v := range w.F { // one product for each weight and pixel
				kw, kh, to, from := i%l.Kernel, i/l.Kernel%l.Kernel, i/l.Kernel/l.Kernel%3, i/l.Kernel/l.Kernel/3
				for j, pixel := range x {
					if j/6%2 != from {
						continue
					}
					h, c := j/2%3*l.Stride+kh-l.Pad, j%2*l.Stride+kw-l.Pad
					if h >= 0 && h < want.Shape[2] && c >= 0 && c < want.Shape[3] {
						want.F[((j/12*3+to)*want.Shape[2]+h)*want.Shape[3]+c] += v * pixel
					}
				}
			}
			near(t, "y", out["y"].F, want.F)
		})
	}
}
