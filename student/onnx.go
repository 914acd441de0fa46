package student

import (
	"errors"
	"fmt"

	G "gorgonia.org/gorgonia"

	"distill/internal/hint"
	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
)

// ONNX is a network from an ONNX file: its weights are where training starts. In a recipe it is written
//
//	student: {onnx: net.onnx, freeze: ["conv1.*"]}
//
// The file must have one input, images [N,C,H,W], and logits [N,K] as its first output. For another number of classes than
// the data have, its last dense layer is replaced. Batch norm that the export folded into convolutions stays folded; where it
// is a node of its own, it is trained with the batch's statistics.
type ONNX struct {
	File   string   `yaml:"onnx"`
	Freeze []string `yaml:"freeze"` // names or globs of weights that are not trained
	Fresh  bool     `yaml:"fresh"`  // start weights anew, by PyTorch's default initialisation
	// BatchNorm puts a new batch norm after each convolution, for a file in which it was folded away.
	BatchNorm bool `yaml:"batch_norm"`
	// Dropout is the share, 0..1, of the last dense layer's inputs that each training step leaves out. Dropout that the file
	// has as nodes is restored by itself.
	Dropout float64 `yaml:"dropout"`
}

// Validate wants a file that can be read and lifted.
func (o *ONNX) Validate() error {
	_, err := o.lift(0)
	return err
}

func (o *ONNX) lift(classes int) (*onnx.Network, error) {
	if o.File == "" {
		return nil, errors.New("onnx must name a file")
	}
	m, err := onnx.Read(o.File)
	if err != nil {
		return nil, err
	}
	in := m.Inputs()
	switch {
	case len(in) != 1:
		return nil, fmt.Errorf("%s has %d inputs, a student has one", o.File, len(in))
	case len(in[0].Shape) > 0 && !in[0].Shape[0].Dynamic():
		return nil, hint.Wrap(fmt.Errorf("%s fixes a batch of %v", o.File, in[0].Shape[0]), "export it with a dynamic batch (dynamic_axes)")
	}
	// What only other outputs need has no part in the cost.
	if m, err = m.Only(m.Outputs()[0].Name); err != nil {
		return nil, err
	}
	return m.Lift(onnx.Lifting{Freeze: o.Freeze, Fresh: o.Fresh, Classes: classes, BatchNorm: o.BatchNorm, Dropout: o.Dropout})
}

// Build describes the network; it has no taps.
func (o *ONNX) Build(g *graph.Graph, x *G.Node, classes int) Model {
	n, err := o.lift(classes)
	if err != nil {
		graph.Fail(o.File, nil, "%v", err)
	}
	in, out := n.Signature()
	if s := graph.ShapeOf(x); !in.Takes(s) {
		way := "set preprocess.size"
		if len(in.Shape) == 4 && in.Shape[1].String() != fmt.Sprint(s[1]) {
			way = "give it images of as many channels"
		}
		graph.Fail(o.File, []graph.Shape{s}, "the network takes %v; %s, or export it with another input", in.Shape, way)
	}
	logits := n.Build(g, map[string]*G.Node{in.Name: x})[out.Name]
	if s := graph.ShapeOf(logits); len(s) != 2 || s[1] != classes {
		graph.Fail(o.File, []graph.Shape{s}, "the network's first output %s is not logits [N,%d]", out.Name, classes)
	}
	return Model{Logits: logits}
}
