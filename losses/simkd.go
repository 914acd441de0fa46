package losses

import (
	"fmt"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/nn"
	"distill/runtime/graph/op"
)

// SimKD trains the student to give the teacher's last map, and deploys it with the teacher's classifier in place of its own
// (Chen et al. 2022, arXiv:2203.14001, equation 2):
//
//	mean (u(s) − t)²
//
// over all elements of maps s [N,C',H,W] and t [N,C,H,W], the larger averaged to the smaller one's size. The projector u is
// three convolutions without bias of 1x1, 3x3 and 1x1, each with batch norm and ReLU, of C/factor channels inside. What is
// exported is student, projector, average and the teacher's classifier: so t must be the map that the teacher's classifier
// reads the average of, after its ReLU, for u is never negative. Published alone, with a weight of 1: the student's own
// classifier is not exported, and losses on its logits do not reach what is.
type SimKD struct {
	Factor int `yaml:"factor"` // of the projector's bottleneck, 1..64; default 2
}

// Validate wants a factor in 1..64.
func (s *SimKD) Validate() error {
	if s.Factor < 1 || s.Factor > 64 {
		return fmt.Errorf("factor must be in 1..64, not %d", s.Factor)
	}
	return nil
}

// Build describes the loss and its projector. It needs the classifier of a teacher, too, without which nothing could be deployed.
func (s *SimKD) Build(in In) *G.Node {
	p := in.averaged(in.Pair())
	in.classifierOf(p)
	u := s.project(in, p)
	size := graph.ShapeOf(u)
	return meanSquare(op.Sub(u, nn.Resample(p.Teacher, size[2], size[3], nn.Averaging)))
}

// Deploy describes the logits that the teacher's classifier gives of the projected map's average.
func (s *SimKD) Deploy(in In) *G.Node {
	p := in.averaged(in.Pair())
	w, b := in.classifierOf(p)
	return op.Gemm(op.Flatten(op.GlobalAveragePool(s.project(in, p))), w, b)
}

// project is u of a pair's student, [N,C,h,w] of the smaller map's size.
func (s *SimKD) project(in In, p Pair) *G.Node {
	size, c := graph.ShapeOf(p.Student), p.Shape[1]
	x := nn.Resample(p.Student, min(size[2], p.Shape[2]), min(size[3], p.Shape[3]), nn.Averaging)
	inside := max(c/s.Factor, 1)
	x = convNormRelu(in.Graph(), in.Name("projector.1"), x, inside, 1)
	x = convNormRelu(in.Graph(), in.Name("projector.2"), x, inside, 3)
	return convNormRelu(in.Graph(), in.Name("projector.3"), x, c, 1)
}
