package train

import (
	"fmt"
	"io"
	"strings"

	"distill/internal/atomicfile"
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

// loadWeights puts a safetensors file's tensors under the names of the student's parameters and running statistics. Every
// one of them must be there with its shape; what else is in the file (num_batches_tracked, say) is left.
func loadWeights(s *graph.Store, p *graph.Program, path string) error {
	f, err := safetensors.ReadFile(path)
	if err != nil {
		return fmt.Errorf("train: load weights: %w", err)
	}
	for _, l := range p.Stored {
		if l.Kind == graph.Moment || isLosses(l.Name) {
			continue
		}
		t, ok := f.Tensors[l.Name]
		switch {
		case !ok:
			return fmt.Errorf("train: load weights: %s has no %s", path, l.Name)
		case !t.Shape.Equal(l.Shape) || t.DType() != graph.Float32:
			return fmt.Errorf("train: load weights: %s: %s is %v %v, the student needs float32 %v", path, l.Name, t.DType(), t.Shape, l.Shape)
		}
		s.Set(l.Name, l.Kind, t)
	}
	return nil
}
