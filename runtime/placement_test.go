package runtime

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

func TestPlacementCountsEachNodeOnce(t *testing.T) {
	node := func(name, op, provider string) string {
		return `{"cat":"Node","name":"` + name + `_kernel_time","args":{"op_name":"` + op + `","provider":"` + provider + `"}}`
	}
	profile := "[" + strings.Join([]string{
		`{"cat":"Session","name":"model_run","args":{}}`,
		node("a", "Conv", "WebGpuExecutionProvider"), node("b", "Sign", "CPUExecutionProvider"),
		node("c", "Sign", "CPUExecutionProvider"), node("d", "Cast", "CPUExecutionProvider"),
		node("e", "MemcpyToHost", "WebGpuExecutionProvider"),
		node("a", "Conv", "WebGpuExecutionProvider"), // the next run
	}, ",") + "]"
	got, err := parsePlacement([]byte(profile), Provider{Name: "webgpu"})
	want := Placement{On: 1, Elsewhere: 3, Operators: []string{"Cast", "Sign"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if _, err := parsePlacement([]byte("{"), Provider{}); err == nil {
		t.Error("half a profile was read")
	}
}

func TestPlacementOfAStepOnTheCPU(t *testing.T) {
	testInit(t)
	p, err := graph.Build(graph.Inference, func(g *graph.Graph) {
		g.Output("y", op.Exp(op.Sin(g.Input("x", graph.Float32, 3))))
	})
	if err != nil {
		t.Fatal(err)
	}
	prefix := filepath.Join(t.TempDir(), "profile")
	step, err := Compile(p, &graph.Store{}, ONNXRuntime, Options{Threads: 1, Profile: prefix}, &graph.Target{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := step.Run(map[string]graph.Tensor{"x": graph.Floats([]float32{1, 2, 3}, 3)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := step.Close(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]Placement{"cpu": {On: 2}, "webgpu": {Elsewhere: 2, Operators: []string{"Exp", "Sin"}}} {
		if got, err := ReadPlacement(prefix, Provider{Name: name}); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v, want %+v", name, got, err, want)
		}
	}
	if err := os.WriteFile(prefix+"2", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []string{prefix, prefix + "none"} {
		if _, err := ReadPlacement(wrong, Provider{}); err == nil || !strings.Contains(err.Error(), "not one") {
			t.Errorf("%s: error %v", wrong, err)
		}
	}
}
