package losses

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/nn"
	"distill/runtime/graph/op"
)

// headRows are the losses on what a network classifies: its last map, the vector that is pooled of it, or a transformer's
// tokens; some read the teacher's classifier.
var headRows = []Row{
	{Name: "srrl", Doc: "pooled vector, and what the teacher's classifier makes of it (Yang et al. 2021); needs that classifier",
		Source: "Yang et al. 2021, ICLR", Weight: 1, Taps: Pooled, New: func() Loss { return &SRRL{Features: 1, Logits: 1} }},
	{Name: "simkd", Doc: "the teacher's last map; the student is deployed with the teacher's classifier (Chen et al. 2022)",
		Source: "Chen et al. 2022, arXiv:2203.14001", Weight: 1, Taps: Last, New: func() Loss { return &SimKD{Factor: 2} }},
	{Name: "catkd", Doc: "class activation maps: where each class is seen (Guo et al. 2023); needs the teacher's classifier",
		Source: "Guo et al. 2023, CVPR", Weight: 400, Taps: Last, New: func() Loss { return &CATKD{Normalize: true, Size: 2} }},
	{Name: "srd", Doc: "normalised pooled vector after a projector, by a soft maximum, and kd (Miles and Mikolajczyk 2024)",
		Source: "Miles and Mikolajczyk 2024, arXiv:2303.11098", Weight: 1, Taps: Pooled, Adapter: "linear",
		Relational: true, New: func() Loss { return &SRD{Alpha: 4, Temperature: 1} }},
	{Name: "wkd_f", Doc: "Wasserstein distance of Gaussians in the cells of the last map (Lv et al. 2024)",
		Source: "Lv et al. 2024, arXiv:2412.08139", Weight: 0.08, Taps: Last,
		New: func() Loss { return &WKDF{Grid: 4, Hidden: 256, Mean: 2, Decay: 150} }},
	{Name: "vitkd", Doc: "tokens of the first blocks, and of the last made again from a part of them (Yang et al. 2022)",
		Source: "Yang et al. 2022, arXiv:2209.02432", Weight: 1, Taps: Tokens, Adapter: "tokens",
		New: func() Loss { return &ViTKD{Alpha: 3e-5, Beta: 3e-6, Lambda: 0.5} }},
}

// classifierOf is the teacher's classifier, weight [K,D] and bias [K], which must classify the features of a pair: vectors [N,D],
// or the average of maps [N,D,H,W].
func (in In) classifierOf(p Pair) (w, b *G.Node) {
	w, b = in.Classifier()
	s := graph.ShapeOf(w)
	if s[0] != in.Classes() {
		in.refuse(p, "the teacher's classifier tells %d classes apart, the student %d", s[0], in.Classes())
	}
	if s[1] != p.Shape[1] {
		in.refuse(p, "the teacher's classifier reads vectors of %d, which this tensor does not make; tap, of the teacher, what is "+
			"pooled for its last layer", s[1])
	}
	return w, b
}

// vectors wants a pair of vectors [N,D].
func (in In) vectors(p Pair) Pair {
	if len(graph.ShapeOf(p.Student)) != 2 || len(p.Shape) != 2 {
		in.refuse(p, "it compares vectors [N,D]; tap, of each network, what its classifier reads")
	}
	return p
}

// averaged wants a pair of maps [N,C,H,W], as the networks have them.
func (in In) averaged(p Pair) Pair {
	if len(graph.ShapeOf(p.Student)) != 4 || len(p.Shape) != 4 {
		in.refuse(p, "it compares the maps [N,C,H,W] whose averages the networks classify, without an adapter; tap those, or take the loss "+
			"srrl, which asks for a vector alone")
	}
	return p
}

// convNormRelu is a convolution without bias, batch norm and ReLU, from a map's channels to out: name.conv, name.bn.
func convNormRelu(g *graph.Graph, name string, x *G.Node, out, kernel int) *G.Node {
	conv := nn.Conv{Name: name + ".conv", In: graph.ShapeOf(x)[1], Out: out, Kernel: kernel, Pad: kernel / 2}
	return op.Relu(nn.BatchNorm{Name: name + ".bn", Channels: out}.Apply(g, conv.Apply(g, x)))
}
