// Package losstest has a loss of each kind for tests of what runs losses: they do little, and can be told apart.
//
//	losses.Table = slices.Concat(losses.Table, losstest.Rows) // until the test ends
package losstest

import (
	G "gorgonia.org/gorgonia"

	"distill/losses"
	"distill/runtime/graph"
	"distill/runtime/graph/nn"
	"distill/runtime/graph/op"
)

// Rows are test_hint, which compares maps through an adapter; test_kept, which is deployed with a layer of its own; and
// test_bank, which is hosted and scheduled.
var Rows = []losses.Row{
	{Name: "test_hint", Weight: 3, Taps: losses.Stages, Adapter: "conv", New: func() losses.Loss { return &hint{} }},
	{Name: "test_kept", Weight: 1, Taps: losses.Pooled, New: func() losses.Loss { return &kept{} }},
	{Name: "test_bank", Weight: 1, New: func() losses.Loss { return &bank{} }},
}

func meanSquare(a, b *G.Node) *G.Node {
	d := op.Sub(a, b)
	return op.ReduceMean(op.Mul(d, d), nil, false)
}

// hint is the mean squared difference of each pair.
type hint struct{}

func (*hint) Validate() error { return nil }

func (*hint) Build(in losses.In) *G.Node {
	var all []*G.Node
	for _, p := range in.Pairs() {
		all = append(all, meanSquare(p.Student, p.Teacher))
	}
	return op.Mean(all...)
}

// kept compares pooled vectors after a layer of its own, which it keeps before the teacher's classifier, as SimKD does.
type kept struct{}

func (*kept) Validate() error { return nil }

func (*kept) project(in losses.In) *G.Node {
	p := in.Pair()
	return nn.Linear{Name: in.Name("projector"), In: graph.ShapeOf(p.Student)[1], Out: p.Shape[1]}.Apply(in.Graph(), p.Student)
}

func (k *kept) Build(in losses.In) *G.Node { return meanSquare(k.project(in), in.Pair().Teacher) }

func (k *kept) Deploy(in losses.In) *G.Node {
	w, b := in.Classifier()
	return op.Gemm(k.project(in), w, b)
}

// bank pulls the student's logits to what the bank outside the graph remembers of the sample, with a knob that moves.
type bank struct{}

func (*bank) Validate() error { return nil }

func (*bank) Build(in losses.In) *G.Node {
	row := in.Input("row", graph.Float32, in.Batch(), in.Classes())
	in.Output("logits", in.Student())
	return op.Mul(in.Knob("pace", 0), meanSquare(in.Student(), row))
}

func (*bank) Knobs(at losses.Progress) map[string]float32 {
	return map[string]float32{"pace": float32(at.Epoch) / float32(at.Epochs)}
}

func (*bank) Open(prefix string, s *graph.Store, labels []int64, _ uint64) (losses.Host, error) {
	const classes = 10
	name := prefix + ".bank"
	if _, ok := s.Tensor(name); !ok {
		t := graph.NewTensor(graph.Float32, len(labels), classes)
		for i, y := range labels {
			t.F[i*classes+int(y)] = 1
		}
		s.Set(name, graph.State, t)
	}
	rows, _ := s.Tensor(name)
	return &host{rows: rows}, nil
}

type host struct {
	rows  graph.Tensor
	index []int64
}

func (h *host) Feed(_ int, index, _ []int64) (map[string]graph.Tensor, error) {
	k := h.rows.Shape[1]
	row := graph.NewTensor(graph.Float32, len(index), k)
	for i, n := range index {
		copy(row.F[i*k:(i+1)*k], h.rows.F[int(n)*k:])
	}
	h.index = index
	return map[string]graph.Tensor{"row": row}, nil
}

func (h *host) Take(out map[string]graph.Tensor) error {
	k := h.rows.Shape[1]
	for i, n := range h.index {
		for j := range k {
			h.rows.F[int(n)*k+j] = 0.5*h.rows.F[int(n)*k+j] + 0.5*out["logits"].F[i*k+j]
		}
	}
	return nil
}
