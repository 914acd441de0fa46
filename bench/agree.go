package main

import (
	"fmt"
	"math"
	"path/filepath"

	"distill/internal/safetensors"
	"distill/runtime/graph"
)

// Where an activation lies within rounding of a kink of ReLU, the two sides may fall on either side of it, and one such element
// among a hundred thousand moves the gradients before it by a few thousandths. So the strict comparison is of a few images,
// where that is rarer, and tries other weights and images when it happens: a wrong gradient is wrong for all of them.
const (
	strictBatch     = 4
	strictSeeds     = 8
	strictTolerance = 1e-4
	kinkTolerance   = 2e-2 // at the timed batch
)

type deviation struct {
	tensor     string
	difference float64 // relative, L2
}

// agree finds out how far the first step of two sides differs, at the strict batch and at the timed one, which stays loaded.
func (n network) agree(o options, pair [2]*child) (strict, timed deviation, err error) {
	for seed := 1; seed <= strictSeeds; seed++ {
		d, err := n.differ(o, pair, strictBatch, seed)
		if err != nil {
			return strict, timed, err
		}
		if seed == 1 || d.difference < strict.difference {
			strict = d
		}
		if strict.difference <= strictTolerance {
			break
		}
	}
	if timed, err = n.differ(o, pair, n.batch, 1); err != nil {
		return strict, timed, err
	}
	for _, c := range []struct {
		deviation
		batch     int
		tolerance float64
	}{{strict, strictBatch, strictTolerance}, {timed, n.batch, kinkTolerance}} {
		if c.difference > c.tolerance {
			return strict, timed, fmt.Errorf("bench: compare %s: after the first step at batch %d %s differs by %.1e, relative L2; %.0e is allowed",
				n.name, c.batch, c.tensor, c.difference, c.tolerance)
		}
	}
	return strict, timed, nil
}

// differ loads a network on both sides, runs the first step, and returns where they differ most.
func (n network) differ(o options, pair [2]*child, batch, seed int) (worst deviation, err error) {
	var files [2]safetensors.File
	for i, c := range pair {
		if err := c.load(n, batch, seed, o); err != nil { // ours first: it writes what the peer reads
			return worst, err
		}
		path := filepath.Join(o.folder, fmt.Sprintf("%s.first%d.safetensors", n.name, i))
		if _, err := c.ask("first", path); err != nil {
			return worst, err
		}
		if files[i], err = safetensors.ReadFile(path); err != nil {
			return worst, err
		}
	}
	if len(files[0].Tensors) != len(files[1].Tensors) {
		return worst, fmt.Errorf("bench: compare %s: %d tensors on our side, %d on the peer's", n.name, len(files[0].Tensors), len(files[1].Tensors))
	}
	for name, t := range files[0].Tensors {
		if p, ok := files[1].Tensors[name]; !ok || !p.Shape.Equal(t.Shape) {
			return worst, fmt.Errorf("bench: compare %s: the peer has no %s of shape %v", n.name, name, t.Shape)
		}
	}
	return furthest(files[0].Tensors, files[1].Tensors), nil
}

// faint is the share of the largest tensor's norm below which a norm is taken for rounding: a batch norm's bias has no gradient
// where another batch norm follows, as in MobileNetV2.
const faint = 1e-3

// furthest is the tensor of a that is furthest from its namesake in b, relative to the norm in b.
func furthest(a, b map[string]graph.Tensor) (worst deviation) {
	largest := 0.0
	for _, t := range b {
		largest = max(largest, norm(t.F, nil))
	}
	for name, t := range a {
		d := norm(t.F, b[name].F) / max(norm(b[name].F, nil), faint*largest)
		if math.IsNaN(d) {
			d = math.Inf(1)
		}
		if worst.tensor == "" || d > worst.difference {
			worst = deviation{name, d}
		}
	}
	return worst
}

// norm is the L2 norm of a, or of a−b.
func norm(a, b []float32) float64 {
	sum := 0.0
	for i, v := range a {
		d := float64(v)
		if b != nil {
			d -= float64(b[i])
		}
		sum += d * d
	}
	return math.Sqrt(sum)
}
