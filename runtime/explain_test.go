package runtime

import (
	"strings"
	"testing"

	"distill/internal/hint"
	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
	"distill/runtime/graph/op"
)

// lacking is a small model with an operator that ONNX Runtime does not have, made by renaming one in the file's bytes.
func lacking(t *testing.T) []byte {
	t.Helper()
	p, err := graph.Build(graph.Inference, func(g *graph.Graph) {
		g.Output("y", op.Softplus(g.Input("x", graph.Float32, 2, 3)))
	})
	if err != nil {
		t.Fatal(err)
	}
	m, err := onnx.Lower(p, onnx.Lowering{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return []byte(strings.ReplaceAll(string(b), "Softplus", "Hardplus"))
}

func TestOperatorThatIsLackingIsNamedWithItsNode(t *testing.T) {
	testInit(t)
	_, err := NewSession(lacking(t), Options{})
	if err == nil {
		t.Fatal("a model with an unknown operator became a session")
	}
	for _, want := range []string{"Hardplus_0", "no operator Hardplus"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	if hint.Of(err) == "" {
		t.Errorf("%q has no hint", err)
	}
}
