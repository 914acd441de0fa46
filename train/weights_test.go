package train

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"distill/internal/safetensors"
	"distill/runtime/graph"
)

// stateDict is the network of a run as PyTorch has it: its parameters and running statistics, each element the number of its
// place, and the batches that a batch norm has seen.
func stateDict(run *Run) map[string]graph.Tensor {
	state := map[string]graph.Tensor{}
	for _, l := range run.phase.Eval.Stored {
		t := graph.NewTensor(graph.Float32, l.Shape...)
		for i := range t.F {
			t.F[i] = float32(i+1) / 64
		}
		state[l.Name] = t
		if bn, ok := strings.CutSuffix(l.Name, "running_var"); ok {
			state[bn+"num_batches_tracked"] = graph.Ints([]int64{100}, 1)
		}
	}
	return state
}

// written is a safetensors file.
func written(t *testing.T, state map[string]graph.Tensor) string {
	t.Helper()
	var b bytes.Buffer
	if err := safetensors.Write(&b, state, nil); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "weights.safetensors")
	if err := os.WriteFile(path, b.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// halved is a file whose floats are bfloat16.
func halved(t *testing.T, state map[string]graph.Tensor) string {
	t.Helper()
	header, body := map[string]any{}, []byte{}
	for _, name := range slices.Sorted(maps.Keys(state)) {
		v, at := state[name], len(body)
		if v.F == nil {
			continue
		}
		for _, f := range v.F {
			body = binary.LittleEndian.AppendUint16(body, uint16(math.Float32bits(f)>>16))
		}
		header[name] = map[string]any{"dtype": "BF16", "shape": v.Shape, "data_offsets": []int{at, len(body)}}
	}
	head, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "half.safetensors")
	file := slices.Concat(binary.LittleEndian.AppendUint64(nil, uint64(len(head))), head, body)
	if err := os.WriteFile(path, file, 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// renamed gives every tensor another name.
func renamed(state map[string]graph.Tensor, name func(string) string) map[string]graph.Tensor {
	all := map[string]graph.Tensor{}
	for n, t := range state {
		all[name(n)] = t
	}
	return all
}

func TestStateDictOfPyTorchIsWhereTrainingStarts(t *testing.T) {
	state := stateDict(open(t, recipe(t), Options{}))
	prefixed := func(prefix string) map[string]graph.Tensor {
		return renamed(state, func(name string) string { return prefix + name })
	}
	for name, path := range map[string]string{
		"plain": written(t, state), "DataParallel": written(t, prefixed("module.")), "compiled": written(t, prefixed("_orig_mod.")),
		"compiled DataParallel": written(t, prefixed("module._orig_mod.")), "bfloat16": halved(t, state),
	} {
		run := open(t, recipe(t, "student.init="+path), Options{})
		if w := run.Weights; w == nil || *w != (Weights{File: path}) {
			t.Errorf("%s: it started from %+v", name, w)
		}
		for _, l := range run.phase.Eval.Stored {
			got, _ := run.Store.Tensor(l.Name)
			for i, want := range state[l.Name].F {
				if name == "bfloat16" {
					want = math.Float32frombits(math.Float32bits(want) >> 16 << 16)
				}
				if got.F[i] != want {
					t.Fatalf("%s: %s[%d] is %v, want %v", name, l.Name, i, got.F[i], want)
				}
			}
		}
	}
	if run := open(t, recipe(t), Options{}); run.Weights != nil {
		t.Errorf("without student.init a run started from %+v", run.Weights)
	}
}

func TestLastLayerOfAnotherNumberOfClassesStartsAnew(t *testing.T) {
	fresh := open(t, recipe(t), Options{})
	state := stateDict(fresh)
	state["linear.weight"], state["linear.bias"] = graph.NewTensor(graph.Float32, 1000, 16), graph.NewTensor(graph.Float32, 1000)
	path := written(t, state)
	run := open(t, recipe(t, "student.init="+path), Options{})
	if want := (Weights{File: path, Anew: "linear", Classes: 1000}); *run.Weights != want {
		t.Errorf("it started from %+v, want %+v", *run.Weights, want)
	}
	for _, l := range run.phase.Eval.Stored {
		want, ok := state[l.Name], strings.HasPrefix(l.Name, "linear.")
		if ok {
			want, _ = fresh.Store.Tensor(l.Name)
		}
		if got, _ := run.Store.Tensor(l.Name); !slices.Equal(got.F, want.F) {
			t.Errorf("%s is not what it starts from", l.Name)
		}
	}

	state["linear.bias"] = graph.NewTensor(graph.Float32, 999)
	_, err := Open(recipe(t, "student.init="+written(t, state)), Options{})
	wants(t, err, "linear.bias is float32 [999], the student needs float32 [1000]")
	state["linear.weight"] = graph.NewTensor(graph.Float32, 1000, 17)
	_, err = Open(recipe(t, "student.init="+written(t, state)), Options{})
	wants(t, err, "linear.weight is float32 [1000,17], the student needs float32 [1000,16]")
}

func TestWeightsOfAnotherNetworkAreRefusedWithTheNearestName(t *testing.T) {
	state := stateDict(open(t, recipe(t), Options{}))
	for _, c := range []struct {
		state map[string]graph.Tensor
		want  []string
	}{
		{renamed(state, func(n string) string { return strings.Replace(n, "bn1", "norm1", 1) }),
			[]string{"has no bn1.weight [4]", "did you mean norm1.weight [4]?"}},
		{map[string]graph.Tensor{"x": graph.Scalar(1)}, []string{"has no conv1.weight [4,3,3,3]", "it has 1 tensors: x"}},
		{map[string]graph.Tensor{}, []string{"has no conv1.weight", "it has 0 tensors"}},
		{map[string]graph.Tensor{"conv1.weight": graph.Ints(make([]int64, 108), 4, 3, 3, 3)},
			[]string{"conv1.weight is int64 [4,3,3,3], the student needs float32", "settings"}},
	} {
		path := written(t, c.state)
		_, err := Open(recipe(t, "student.init="+path), Options{})
		wants(t, err, append(c.want, path)...)
	}
}
