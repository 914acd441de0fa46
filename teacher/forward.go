package teacher

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"distill/data"
	"distill/internal/hint"
	"distill/runtime/graph"
)

// Outputs is what a teacher says of N images. It is the caller's; a tap of the logits themselves may share their memory.
type Outputs struct {
	Logits []float32               // [N,K]
	Taps   map[string]graph.Tensor // [N,…] each, float32, by tensor name; nil without taps
}

// Forward runs the batch, as many images at a time as the teacher takes, and waits for threads of its budget. The batch holds
// pixels 0..255, which Forward preprocesses and leaves as they are. Images do not see one another: how they are cut up makes no
// difference beyond rounding. It is safe for concurrent use: a batch begins when all runs of the one before have begun.
func (t *Teacher) Forward(b *data.Batch) (Outputs, error) {
	got, err := t.run(b.X, b.Shape, append([]string{t.source}, t.model.taps...))
	if err != nil {
		return Outputs{}, fmt.Errorf("teacher: run %s: %w", t.Path(), err)
	}
	logits := got[t.source].F
	if len(logits) != b.Shape[0]*t.width {
		return Outputs{}, fmt.Errorf("teacher: run %s: %d logits for %d images of %d classes", t.Path(), len(logits), b.Shape[0], t.width)
	}
	if t.log {
		logits = slices.Clone(logits) // the same tensor may be a tap
		for i, p := range logits {
			logits[i] = float32(math.Log(max(float64(p), smallest)))
		}
	}
	out := Outputs{Logits: t.pickLogits(logits)}
	if len(t.model.taps) > 0 {
		out.Taps = make(map[string]graph.Tensor, len(t.model.taps))
		for _, name := range t.model.taps {
			out.Taps[name] = got[name]
		}
	}
	return out, nil
}

// smallest is the smallest normal float32: probabilities below it count as it.
const smallest = 0x1p-126

// run computes tensors for images x, pixels of shape N, C, H, W, and puts together those of all runs.
func (t *Teacher) run(x []float32, shape [4]int, names []string) (map[string]graph.Tensor, error) {
	n, c, h, w := shape[0], shape[1], shape[2], shape[3]
	if err := t.checkImages(c, h, w); err != nil {
		return nil, err
	}
	image := c * h * w
	if n < 1 || len(x) != n*image {
		return nil, fmt.Errorf("%d pixels do not fill %d images of %d×%d×%d", len(x), n, c, h, w)
	}
	step := n
	if t.batch > 0 {
		step = t.batch
	}
	joined := make(map[string]graph.Tensor, len(names))
	var mu sync.Mutex // of joined
	var runs errgroup.Group
	t.beginning.Lock()
	for from := 0; from < n; from += step {
		t.slots <- struct{}{}
		t.budget.Take(t.threads)
		runs.Go(func() error {
			defer func() {
				t.budget.Give(t.threads)
				<-t.slots
			}()
			count := min(step, n-from)
			size := count
			if t.model.batch > 0 {
				size = step // a last run that is not full is padded
			}
			got, err := t.runOnce(x[from*image:(from+count)*image], [4]int{count, c, h, w}, size, names)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			for _, name := range names {
				if joined[name], err = join(joined[name], got[name], n, from, count, size); err != nil {
					return fmt.Errorf("tensor %q: %w", name, err)
				}
			}
			return nil
		})
	}
	t.beginning.Unlock()
	return joined, runs.Wait()
}

// runOnce computes tensors for images that fit into one run of size images: zeros follow them.
func (t *Teacher) runOnce(x []float32, shape [4]int, size int, names []string) (map[string]graph.Tensor, error) {
	in := t.input(size)
	defer func() { t.buffers.Put(&in.F) }()
	used := shape[0] * len(in.F) / size
	t.preprocess.Apply(in.F[:used], x, shape)
	clear(in.F[used:])
	return t.session.Run(map[string]graph.Tensor{t.model.input.Name: in}, names...)
}

// input is a buffer for a run of n images, perhaps with what was in it before.
func (t *Teacher) input(n int) graph.Tensor {
	c, h, w := t.InputShape()
	size := n * c * h * w
	buffer, ok := t.buffers.Get().(*[]float32)
	if !ok || cap(*buffer) < size {
		buffer = new(make([]float32, size))
	}
	return graph.Floats((*buffer)[:size], n, c, h, w)
}

// join puts the first count of part's size rows into all, from a row on; all has n rows, and is made by the first part to come.
// Where one part is all, it is not copied.
func join(all, part graph.Tensor, n, from, count, size int) (graph.Tensor, error) {
	if part.DType() != graph.Float32 || len(part.Shape) == 0 || part.Shape[0] != size {
		err := fmt.Errorf("it is %v%v for %d images: not float32 with the images along the first axis", part.DType(), part.Shape, size)
		return all, hint.Wrap(err, "tap tensors whose first axis is the batch; a narrower glob, such as *Relu*, matches fewer")
	}
	row := len(part.F) / size
	if all.Shape == nil {
		shape := part.Shape.Clone()
		shape[0] = n
		if count == n {
			return graph.Tensor{Shape: shape, F: part.F[:n*row]}, nil
		}
		all = graph.NewTensor(graph.Float32, shape...)
	}
	if !part.Shape[1:].Equal(all.Shape[1:]) {
		return all, fmt.Errorf("its shape changes from run to run: %v, then %v", all.Shape[1:], part.Shape[1:])
	}
	copy(all.F[from*row:], part.F[:count*row])
	return all, nil
}

// Latency is that of [runtime.Session.Latency] for one image, without preprocessing. Where the file has a fixed batch, a run takes
// that many images. For the latency of the model alone, open it without taps.
func (t *Teacher) Latency(ctx context.Context, n int) (float64, error) {
	in := t.input(max(1, t.model.batch))
	clear(in.F)
	ms, err := t.session.Latency(ctx, map[string]graph.Tensor{t.model.input.Name: in}, n, t.source)
	if err != nil {
		return 0, fmt.Errorf("teacher: measure latency of %s: %w", t.Path(), err)
	}
	return ms, nil
}
