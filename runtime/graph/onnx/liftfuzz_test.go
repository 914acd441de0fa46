package onnx_test

import (
	"os"
	"path/filepath"
	"testing"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
)

// No file may bring down what lifts it: it is lifted, or refused by an error.
func FuzzLift(f *testing.F) {
	for _, pattern := range []string{"../../../testdata/onnx-node/test_*/model.onnx", "../../../testdata/exports/mobilenet_v3.onnx"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for i, path := range paths {
			if i%8 != 0 {
				continue
			}
			b, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := onnx.Parse(b, "fuzzed")
		if err != nil {
			return
		}
		n, err := m.Lift(onnx.Lifting{})
		if err != nil {
			return
		}
		shapes := map[string]graph.Shape{}
		for _, in := range m.Inputs() {
			s := graph.Shape{}
			for _, d := range in.Shape {
				size := d.Size
				if size < 1 {
					size = 2
				}
				s = append(s, min(size, 64))
			}
			if s.Size() > 1<<16 {
				return
			}
			shapes[in.Name] = s
		}
		graph.Build(graph.Training, func(g *graph.Graph) {
			in := map[string]*G.Node{}
			for name, s := range shapes {
				in[name] = g.Input(name, graph.Float32, s...)
			}
			for name, y := range n.Build(g, in) {
				g.Output(name, y)
			}
		})
	})
}
