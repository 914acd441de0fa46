package losses

import (
	"fmt"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/nn"
	"distill/runtime/graph/op"
)

// CATKD transfers class activation maps: where in the image each network sees each class (Guo et al. 2023, CVPR, "Class
// attention transfer based knowledge distillation", equations 3 and 4):
//
//	mean (n(A(s)) − n(A(t)))²,  A(F) = AAP(W·F)    [N,K,g,g]
//
// over all N·K·g² elements, where W [K,C] is the network's own classifier, moved before the average of its last map F
// [N,C,H,W], AAP the adaptive average to g·g cells, and n(A) = A/‖A‖₂ for each class of each image. A bias, which would raise a
// map everywhere, has no part in it. The gradient reaches the student's classifier, too. Channels and sizes may differ.
//
// The published weight of 400 is for normalised maps; without it, weights are 0.7 to 15 by pair of networks. Both stand beside
// cross-entropy of weight 1.
type CATKD struct {
	Normalize bool `yaml:"normalize"` // default true
	Size      int  `yaml:"size"`      // g, 1..64; default 2
}

// Validate wants g in 1..64.
func (c *CATKD) Validate() error {
	if c.Size < 1 || c.Size > 64 {
		return fmt.Errorf("size must be in 1..64, not %d", c.Size)
	}
	return nil
}

// Build describes the loss.
func (c *CATKD) Build(in In) *G.Node {
	p := in.averaged(in.Pair())
	theirs, _ := in.classifierOf(p)
	last, ours := headOf(in.student)
	if last != p.Student {
		in.refuse(p, "it needs the map whose average the student's last layer classifies, as its taps name it and without an adapter; "+
			"this student's is another, or it has none")
	}
	return meanSquare(op.Sub(c.attention(p.Student, ours), c.attention(p.Teacher, theirs)))
}

// attention is n(A(F)) for a map F [N,C,H,W] and a classifier's weight [K,C].
func (c *CATKD) attention(x, w *G.Node) *G.Node {
	a := op.Conv(x, op.Unsqueeze(w, 2, 3), nil, op.ConvAttrs{})
	a = nn.Resample(a, c.Size, c.Size, nn.Averaging)
	if c.Normalize {
		a = unit(a, 2, 3)
	}
	return a
}

// headOf finds what logits [N,K] are made of where a dense layer gives them of the average of a map, perhaps with dropout
// between: that map [N,C,H,W] and the layer's weight [K,C]; nil where they are made otherwise.
func headOf(logits *G.Node) (last, weight *G.Node) {
	made, dense := graph.Made(logits)
	if made == nil || made.Name() != "Gemm" {
		return nil, nil
	}
	x := dense[0]
	for _, name := range []string{"Mul", "Flatten", "GlobalAveragePool"} {
		made, from := graph.Made(x)
		switch {
		case made != nil && made.Name() == name:
			x = from[0]
		case name != "Mul": // no dropout
			return nil, nil
		}
	}
	return x, dense[1]
}
