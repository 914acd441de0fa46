package onnx_test

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"distill/internal/hint"
	"distill/runtime/graph/onnx"
)

func outputNames(m *onnx.Model) []string {
	var names []string
	for _, v := range m.Outputs() {
		names = append(names, v.Name)
	}
	return names
}

func TestTappedCopyLeavesTheModelAsItWas(t *testing.T) {
	p := network()
	p.Graph.ValueInfo = append(p.Graph.ValueInfo, info("pool", "batch", 4, 1, 1))
	m := parsed(t, p)
	tapped, err := m.WithOutputs("/layer1/relu", "pool", "probs", "pool")
	if err != nil {
		t.Fatal(err)
	}
	if got := outputNames(tapped); !slices.Equal(got, []string{"probs", "/layer1/relu", "pool"}) {
		t.Errorf("outputs %v", got)
	}
	if out := tapped.Outputs()[2]; len(out.Shape) != 4 || out.DType != "float32" {
		t.Errorf("output %v lacks the type that the model notes", out)
	}
	tapped.SetMetadata("k", "v")
	if folded, err := tapped.FoldBatchNorm(); err != nil || folded != 1 {
		t.Fatalf("folded %d: %v", folded, err)
	}
	decoded(t, tapped)
	if !proto.Equal(decoded(t, m), p) {
		t.Error("the model changed with its copy")
	}
}

func TestCutKeepsWhatTheOutputsNeed(t *testing.T) {
	m := parsed(t, network())
	cut, err := m.Only("pool", "/layer1/conv")
	if err != nil {
		t.Fatal(err)
	}
	p := decoded(t, cut)
	if got := outputNames(cut); !slices.Equal(got, []string{"pool", "/layer1/conv"}) {
		t.Errorf("outputs %v", got)
	}
	if got := nodeOps(p); !slices.Equal(got, []string{"Conv", "BatchNormalization", "Relu", "GlobalAveragePool"}) {
		t.Errorf("nodes %v", got)
	}
	if got := initializerNames(p); len(got) != 5 || slices.Contains(got, "fc.weight") {
		t.Errorf("initializers %v", got)
	}
	if !proto.Equal(decoded(t, m), network()) {
		t.Error("the model changed with its copy")
	}
}

func TestCutKeepsWhatSubgraphsNeed(t *testing.T) {
	m := parsed(t, branching())
	cut, err := m.Only("y")
	if err != nil {
		t.Fatal(err)
	}
	p := decoded(t, cut)
	if got := nodeOps(p); !slices.Equal(got, []string{"Relu", "Neg", "If"}) {
		t.Errorf("nodes %v", got)
	}
	if got := cut.Inputs(); len(got) != 1 || got[0].Name != "x" {
		t.Errorf("inputs %v, want x alone", got)
	}
	if got := initializerNames(p); !slices.Equal(got, []string{"flag", "bias"}) {
		t.Errorf("initializers %v", got)
	}
}

func TestUnknownOutputNamesTheNearest(t *testing.T) {
	m := parsed(t, network())
	for name, try := range map[string]func(...string) (*onnx.Model, error){"WithOutputs": m.WithOutputs, "Only": m.Only} {
		_, err := try("logit")
		if err == nil || !strings.Contains(err.Error(), `"logit" of test.onnx`) || !strings.Contains(hint.Of(err), `"logits"`) {
			t.Errorf("%s: error %v, hint %q", name, err, hint.Of(err))
		}
	}
}
