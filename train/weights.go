package train

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"distill/internal/atomicfile"
	"distill/internal/hint"
	"distill/internal/nearest"
	"distill/internal/safetensors"
	"distill/losses"
	"distill/runtime/graph"
)

// SaveWeights writes the parameters and running statistics of the network that is exported as safetensors, under PyTorch's
// names; what losses train of their own is left out, but for what is deployed.
func (run *Run) SaveWeights(path string) error {
	tensors := map[string]graph.Tensor{}
	for _, l := range run.phase.Eval.Stored {
		tensors[l.Name], _ = run.Store.Tensor(l.Name)
	}
	err := atomicfile.Write(path, func(w io.Writer) error {
		return safetensors.Write(w, tensors, map[string]string{"format": "pt"})
	})
	if err != nil {
		return fmt.Errorf("train: save weights: %w", err)
	}
	return nil
}

// isLosses reports whether a stored tensor belongs to a loss.
func isLosses(name string) bool { return strings.HasPrefix(name, losses.Prefix("")) }

// Weights say what a run started from.
type Weights struct {
	File string // safetensors
	// Anew is the last dense layer, where the file has it for another number of classes than the data: it starts anew.
	Anew    string
	Classes int // of the file's last layer, where Anew is one
}

// wrappers are what PyTorch puts before every name of a network in DataParallel, or compiled.
var wrappers = []string{"module.", "_orig_mod."}

// loadWeights puts a safetensors file's tensors under the names of the student's parameters and running statistics. Every
// one of them must be there with its shape, but the last dense layer's may be for another number of classes: that layer is left
// to Program.Fill. What else is in the file (num_batches_tracked, say) is left.
func loadWeights(s *graph.Store, p *graph.Program, path string, classes int) (*Weights, error) {
	f, err := safetensors.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("train: load weights: %w", err)
	}
	file := unwrapped(f.Tensors)
	w := &Weights{File: path}
	head := lastDense(p, classes)
	if t, ok := file[head+".weight"]; ok && len(t.Shape) == 2 && t.Shape[0] != classes {
		w.Anew, w.Classes = head, t.Shape[0]
	}
	for _, l := range p.Stored {
		if l.Kind == graph.Moment || isLosses(l.Name) {
			continue
		}
		t, ok := file[l.Name]
		if !ok {
			return nil, missing(path, l, file, p)
		}
		want, anew := l.Shape, w.Anew != "" && strings.HasPrefix(l.Name, w.Anew+".")
		if anew {
			want = append(graph.Shape{w.Classes}, l.Shape[1:]...)
		}
		if !t.Shape.Equal(want) || t.DType() != graph.Float32 {
			err := fmt.Errorf("train: load weights: %s: %s is %v %v, the student needs float32 %v", path, l.Name, t.DType(), t.Shape, want)
			return nil, hint.Wrap(err, "give the student the settings that the weights were trained with, or leave out student.init")
		}
		if !anew {
			s.Set(l.Name, l.Kind, t)
		}
	}
	return w, nil
}

// unwrapped are a file's tensors without what PyTorch puts before all of their names.
func unwrapped(tensors map[string]graph.Tensor) map[string]graph.Tensor {
	for _, wrapper := range wrappers {
		bare := map[string]graph.Tensor{}
		for name, t := range tensors {
			if name, ok := strings.CutPrefix(name, wrapper); ok {
				bare[name] = t
			}
		}
		if len(bare) == len(tensors) {
			tensors = bare
		}
	}
	return tensors
}

// lastDense is the name of the dense layer that gives the logits: that of the last weight [classes,in].
func lastDense(p *graph.Program, classes int) (name string) {
	for _, l := range p.Stored {
		layer, ok := strings.CutSuffix(l.Name, ".weight")
		if ok && l.Kind == graph.Param && !isLosses(l.Name) && len(l.Shape) == 2 && l.Shape[0] == classes {
			name = layer
		}
	}
	return name
}

// missing says that a file has no tensor of a name, and which it has instead.
func missing(path string, l graph.Leaf, file map[string]graph.Tensor, p *graph.Program) error {
	err := fmt.Errorf("train: load weights: %s has no %s %v", path, l.Name, l.Shape)
	const way = "the weights must be of the student's architecture, under torchvision's names"
	names := slices.Sorted(maps.Keys(file))
	others := slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		return slices.ContainsFunc(p.Stored, func(l graph.Leaf) bool { return l.Name == name })
	})
	if near := nearest.Word(l.Name, others); near != "" {
		return hint.Wrap(err, "did you mean %s %v? %s", near, file[near].Shape, way)
	}
	shown := names
	if len(names) > 5 {
		shown = append(names[:5:5], "…")
	}
	return hint.Wrap(err, "it has %d tensors: %s; %s", len(names), strings.Join(shown, ", "), way)
}
