package losses

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"

	"distill/internal/hint"
	"distill/runtime/graph"
)

// memory is CRD's: an embedding of each training sample by student and teacher, in the store. What it draws for a step depends
// on the seed and the step alone.
type memory struct {
	student, teacher graph.Tensor // [M,128]
	labels           []int64      // [M]
	momentum         float64
	seed             uint64

	drawn []int                   // the step's samples, min(K,M)
	taken []bool                  // [M], all false between draws
	index []int64                 // of the step's batch
	fed   map[string]graph.Tensor // used again each step
	k     int                     // K of the program
}

// Open takes the memory from the store, or starts it as published: uniform, of length 1 in the mean.
func (c *CRD) Open(prefix string, store *graph.Store, labels []int64, seed uint64) (Host, error) {
	if classes(labels) < 2 {
		err := fmt.Errorf("losses: open crd: all %d training samples are of one class: it has none to tell from", len(labels))
		return nil, hint.Wrap(err, "train with another loss, or on a set of two classes or more")
	}
	m := &memory{labels: labels, momentum: c.Momentum, seed: seed, k: c.Negatives, fed: map[string]graph.Tensor{}}
	shape := graph.Shape{len(labels), embeddingWidth}
	for side, t := range map[string]*graph.Tensor{studentSide: &m.student, teacherSide: &m.teacher} {
		name := prefix + ".memory." + side
		var ok bool
		if *t, ok = store.Tensor(name); !ok {
			*t = graph.NewTensor(graph.Float32, shape...)
			rng, bound := rand.New(rand.NewPCG(seed, hashOf(name))), 1/math.Sqrt(embeddingWidth/3.0)
			for i := range t.F {
				t.F[i] = float32((2*rng.Float64() - 1) * bound)
			}
			store.Set(name, graph.State, *t)
		}
		if !t.Shape.Equal(shape) || t.DType() != graph.Float32 {
			err := fmt.Errorf("losses: open crd: the memory %s is %v %v, the training set needs %v %v", name, t.DType(), t.Shape, graph.Float32, shape)
			return nil, hint.Wrap(err, "go on with the data that the run began with, or begin another run")
		}
	}
	m.drawn, m.taken = make([]int, min(m.k, len(labels))), make([]bool, len(labels))
	return m, nil
}

// classes counts the labels that differ.
func classes(labels []int64) int {
	seen := map[int64]bool{}
	for _, y := range labels {
		seen[y] = true
	}
	return len(seen)
}

func hashOf(name string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(name))
	return h.Sum64()
}

// Feed draws the step's negatives and gives their rows of the memory, and those of the batch's samples.
func (m *memory) Feed(step int, index, labels []int64) (map[string]graph.Tensor, error) {
	for _, i := range index {
		if i < 0 || i >= int64(len(m.labels)) {
			return nil, fmt.Errorf("losses: feed crd: there is no sample %d among %d", i, len(m.labels))
		}
	}
	m.draw(step)
	m.index = index
	for side, t := range map[string]graph.Tensor{studentSide: m.student, teacherSide: m.teacher} {
		positives := m.tensor(side+positivesPart, len(index), embeddingWidth)
		for row, i := range index {
			copy(positives[row*embeddingWidth:], embeddingOf(t, int(i)))
		}
		negatives := m.tensor(side+negativesPart, m.k, embeddingWidth)
		for row, i := range m.drawn {
			copy(negatives[row*embeddingWidth:], embeddingOf(t, i))
		}
	}
	m.tensor(drawnPart, 1)[0] = float32(len(m.drawn))
	shares := m.tensor(sharesPart, len(index), m.k)
	for row, y := range labels {
		m.share(shares[row*m.k:(row+1)*m.k], y)
	}
	return m.fed, nil
}

// tensor is an input's elements: what the step before left, or zeros.
func (m *memory) tensor(part string, shape ...int) []float32 {
	t, ok := m.fed[part]
	if !ok || !t.Shape.Equal(shape) {
		t = graph.NewTensor(graph.Float32, shape...)
		m.fed[part] = t
	}
	return t.F
}

func embeddingOf(t graph.Tensor, i int) []float32 {
	return t.F[i*embeddingWidth : (i+1)*embeddingWidth]
}

// draw chooses len(m.drawn) of the samples, each set of them as likely as another, by Floyd's method: for each j of the last so
// many, one of 0..j, or j itself where that is taken.
func (m *memory) draw(step int) {
	rng := rand.New(rand.NewPCG(m.seed^hashOf("crd"), uint64(step)))
	first := len(m.labels) - len(m.drawn)
	for k := range m.drawn {
		j := first + k
		if i := rng.IntN(j + 1); !m.taken[i] {
			j = i
		}
		m.drawn[k], m.taken[j] = j, true
	}
	for _, i := range m.drawn {
		m.taken[i] = false
	}
}

// share is how often an image of class y counts each of those drawn: those of other classes alike, so that they count as many as
// were drawn. Where there are none, nothing counts.
func (m *memory) share(shares []float32, y int64) {
	others := 0
	for _, i := range m.drawn {
		if m.labels[i] != y {
			others++
		}
	}
	each := float32(len(m.drawn)) / float32(max(others, 1))
	for k, i := range m.drawn {
		shares[k] = each
		if m.labels[i] == y {
			shares[k] = 0
		}
	}
}

// Take moves the batch's rows towards the step's embeddings.
func (m *memory) Take(out map[string]graph.Tensor) error {
	for side, t := range map[string]graph.Tensor{studentSide: m.student, teacherSide: m.teacher} {
		u := out[side]
		if want := (graph.Shape{len(m.index), embeddingWidth}); !u.Shape.Equal(want) {
			return fmt.Errorf("losses: update crd: the %s's embeddings are %v, not %v", side, u.Shape, want)
		}
		for row, i := range m.index {
			m.move(embeddingOf(t, int(i)), embeddingOf(u, row))
		}
	}
	return nil
}

func (m *memory) move(kept, u []float32) {
	square := 0.0
	for i, v := range u {
		moved := m.momentum*float64(kept[i]) + (1-m.momentum)*float64(v)
		kept[i] = float32(moved)
		square += moved * moved
	}
	length := float32(max(math.Sqrt(square), leastNorm))
	for i := range kept {
		kept[i] /= length
	}
}
