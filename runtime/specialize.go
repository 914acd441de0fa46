package runtime

import (
	"crypto/sha256"
	"encoding/hex"
	"runtime/debug"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
)

// maxSpecialized bounds the bytes of a model whose weights are laid out: they are in memory four times then.
const maxSpecialized = 1 << 30

// Specialize puts a session for inputs of the example's shape alone in the place of plain, which it closes: its model, a whole
// ONNX file of one input, is lifted, and lowered for this machine with its weights laid out beforehand. form is the SHA-256 of what
// it was lowered to, in hexadecimal digits: with the model it says how the session computes, to the last bit.
//
// It gives plain back, and no form, where that would only repeat what plain does, which is wherever no convolution is one for
// Winograd's algorithm; and where the model cannot be lifted, or has more than 1 GiB. Where the results for the example are not
// those of plain to 1e-4, it gives a new session like plain, and no form.
func Specialize(model []byte, plain *Session, example graph.Tensor, opts Options) (s *Session, form string, err error) {
	p, lowered, b := specialized(model, plain.inputs[0].Name, example.Shape, opts)
	if lowered == nil {
		return plain, "", nil
	}
	in := map[string]graph.Tensor{plain.inputs[0].Name: example}
	want, err := plain.Run(in)
	if err != nil {
		return plain, "", nil
	}
	// First, so that the weights are not in memory twice. What was lifted is garbage of several times the model's size.
	if err := plain.Close(); err != nil {
		return nil, "", err
	}
	debug.FreeOSMemory()
	inputs, outputs := signature(&graph.Program{Inputs: p.Inputs, Outputs: p.Outputs})
	if s, err = openSession(b, inputs, outputs, lowered.LaidOut(), opts); err == nil {
		got, err := s.Run(in)
		if err == nil && len(got) == len(want) && near(got, want) {
			sum := sha256.Sum256(b)
			return s, hex.EncodeToString(sum[:]), nil
		}
		s.Close()
	}
	s, err = NewSession(model, opts)
	return s, "", err
}

// specialized is the program of a model for inputs of one shape, and what it is lowered to, also as a file; nil where that is not
// worth while, or cannot be.
func specialized(model []byte, input string, shape graph.Shape, opts Options) (*graph.Program, *onnx.Model, []byte) {
	target, err := Probe(opts)
	if err != nil || target.Winograd == graph.WinogradNever || len(model) > maxSpecialized {
		return nil, nil, nil
	}
	m, err := onnx.Parse(model, "model")
	if err != nil || !m.MayHaveWinograd() {
		return nil, nil, nil
	}
	if _, err := m.FoldBatchNorm(); err != nil {
		return nil, nil, nil
	}
	net, err := m.Lift(onnx.Lifting{})
	if err != nil {
		return nil, nil, nil
	}
	p, err := graph.Build(graph.Inference, func(g *graph.Graph) {
		built := net.Build(g, map[string]*G.Node{input: g.Input(input, graph.Float32, shape...)})
		for _, out := range m.Outputs() {
			g.Output(out.Name, built[out.Name])
		}
	})
	if err != nil {
		return nil, nil, nil
	}
	var weights graph.Store
	if err := p.Fill(&weights, 0); err != nil {
		return nil, nil, nil
	}
	lowered, err := onnx.Lower(p, onnx.Lowering{Target: target, Store: &weights})
	if err != nil || lowered.Winograd() == 0 {
		return nil, nil, nil
	}
	b, err := lowered.Marshal()
	if err != nil {
		return nil, nil, nil
	}
	return p, lowered, b
}
