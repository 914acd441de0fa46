package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"distill/data"
	"distill/internal/hint"
	"distill/internal/safetensors"
	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
	"distill/teacher"
	"distill/train"
)

// epochRow is what an epoch cost on both sides, in milliseconds an image, lower being better.
type epochRow struct {
	Network      string  `json:"network"` // with PyTorch's layout, if it was asked for one
	Images       int     `json:"images"`  // timed, on each side
	Ours         float64 `json:"ours_ms"`
	PyTorch      float64 `json:"pytorch_ms"`
	Ratio        float64 `json:"ratio"`           // ours to PyTorch's
	Wait         float64 `json:"wait_share"`      // of our time, in which step and teacher waited for data, 0..1
	OursStart    float64 `json:"ours_start_s"`    // from the start of the process to the end of the first step
	PyTorchStart float64 `json:"pytorch_start_s"` // the same, the interpreter's start included
}

const (
	epochName  = "resnet-56 → resnet-20"
	epochModel = "models/cifar10_resnet56.onnx" // from the root of the repository
	epochBatch = 64                             // a recipe's default

	// Both are links in the folder, so that no path of the user's goes through the lines of the protocol.
	dataName    = "data"
	teacherName = "teacher.onnx"

	// settle are the steps of a turn that are not timed: the feed begins it full, which it is not in the long run.
	settle = 8
	// rest lets the feed fill up and fall asleep before another side's turn.
	rest = time.Second
)

// epoch trains the student on both sides, by turns, with the teacher live. The folder holds CIFAR-10's binary files.
func epoch(ctx context.Context, o options, cifar string, out io.Writer) ([]epochRow, error) {
	steps, err := turn(o.images, o.rounds)
	if err != nil {
		return nil, err
	}
	want, err := o.teach(cifar, epochModel)
	if err != nil {
		return nil, err
	}
	var children []*child
	starts := make([]float64, len(sides))
	for i, side := range sides {
		begin := time.Now()
		c, err := side(ctx)
		if err != nil {
			return nil, err
		}
		defer c.stop()
		children = append(children, c)
		if _, err := c.ask("open", strconv.Itoa(o.images), strconv.Itoa(o.threads), o.folder, c.layout); err != nil {
			return nil, err
		}
		starts[i] = time.Since(begin).Seconds()
		if i > 0 {
			if err := sameTeacher(c, o.folder, want, out); err != nil {
				return nil, err
			}
		}
		time.Sleep(rest)
	}
	perImage, wait := make([][]float64, len(sides)), 0.0
	for range o.rounds {
		for i, c := range children {
			ms, err := c.numbers("train", strconv.Itoa(settle), strconv.Itoa(steps))
			if err != nil {
				return nil, err
			}
			perImage[i] = append(perImage[i], ms[0]/float64(steps*epochBatch))
			if i == 0 {
				wait += ms[1] / ms[0] / float64(o.rounds)
			}
			fmt.Fprintf(out, "  %s: %.3f ms an image\n", c.name, perImage[i][len(perImage[i])-1])
			time.Sleep(rest)
		}
	}
	var rows []epochRow
	mine := spreadOf(perImage[0]).median
	fmt.Fprintf(out, "%s, batch %d: distill %.3f ms an image, %.1f %% of it waiting for data; first step after %.2f s\n", epochName, epochBatch, mine, 100*wait, starts[0])
	for i, layout := range []string{contiguous, channelsLast} {
		theirs := spreadOf(perImage[1+i]).median
		rows = append(rows, epochRow{
			against(epochName, layout), o.rounds * steps * epochBatch,
			round(mine), round(theirs), round(mine / theirs), round(wait), round(starts[0]), round(starts[1+i]),
		})
		fmt.Fprintf(out, "  PyTorch, %s: %.3f ms an image, ratio %.2f; first step after %.2f s\n", layout, theirs, mine/theirs, starts[1+i])
	}
	return rows, nil
}

// turn is how many steps of each round are timed, so that all of them fit into an epoch of so many images, with one step to
// begin with and one that nobody times: the last step validates.
func turn(images, rounds int) (int, error) {
	n := (images/epochBatch-2)/rounds - settle
	if n < 1 {
		need := (2 + rounds*(settle+1)) * epochBatch
		return 0, hint.Wrap(fmt.Errorf("bench: epoch: %d images are too few for %d rounds", images, rounds), "-images %d, or fewer -rounds", need)
	}
	return n, nil
}

// teach readies the folder for all sides: links to data and teacher, and the teacher's weights for the peer. It returns the
// teacher's logits of the first images, [64,K].
func (o options) teach(cifar, model string) (graph.Tensor, error) {
	for name, target := range map[string]string{dataName: cifar, teacherName: model} {
		absolute, err := filepath.Abs(target)
		if err != nil {
			return graph.Tensor{}, err
		}
		if _, err := os.Stat(absolute); err != nil { // by the name that the user knows
			return graph.Tensor{}, fmt.Errorf("bench: epoch: %w", err)
		}
		if err := os.Symlink(absolute, filepath.Join(o.folder, name)); err != nil {
			return graph.Tensor{}, err
		}
	}
	weights, err := teacherState(model)
	if err != nil {
		return graph.Tensor{}, err
	}
	if err := writeTensors(filepath.Join(o.folder, "teacher.safetensors"), weights); err != nil {
		return graph.Tensor{}, err
	}
	r, err := epochRecipe(o.folder, o.images, o.threads)
	if err != nil {
		return graph.Tensor{}, err
	}
	return firstLogits(r)
}

// firstLogits are the teacher's for the first batch of training images, as they are.
func firstLogits(r *train.Recipe) (graph.Tensor, error) {
	splits, err := data.Open(r.Data)
	if err != nil {
		return graph.Tensor{}, err
	}
	var b data.Batch
	if err := (&data.Loader{Source: splits.Train, Batch: epochBatch}).Fill(&b, 0, 0); err != nil {
		return graph.Tensor{}, err
	}
	t, err := teacher.Open(r.Teacher, r.Preprocess, r.Threads)
	if err != nil {
		return graph.Tensor{}, err
	}
	defer t.Close()
	got, err := t.Forward(&b)
	if err != nil {
		return graph.Tensor{}, err
	}
	return graph.Floats(got.Logits, epochBatch, t.Classes()).Clone(), nil
}

// teacherState are the weights of a model that PyTorch exported, under the names of its modules.
func teacherState(model string) (map[string]graph.Tensor, error) {
	m, err := onnx.Read(model)
	if err != nil {
		return nil, err
	}
	n, err := m.Lift(onnx.Lifting{})
	if err != nil {
		return nil, err
	}
	state := map[string]graph.Tensor{}
	for _, w := range n.Weights() {
		kind := ".weight"
		if len(w.Shape) == 1 {
			kind = ".bias"
		}
		if state[modulePath(w.Node)+kind], err = m.Initializer(w.Name); err != nil {
			return nil, err
		}
	}
	return state, nil
}

// modulePath is the module whose node this is: layer1.0.conv1 for /layer1/layer1.0/conv1/Conv, where an element that belongs to
// the one before repeats it.
func modulePath(node string) string {
	elements := strings.Split(strings.Trim(node, "/"), "/")
	var path string
	for i, e := range elements[:len(elements)-1] {
		if i > 0 && !strings.HasPrefix(e, elements[i-1]+".") {
			e = path + "." + e
		}
		path = e
	}
	return path
}

// sameTeacher checks that the peer's teacher and data are ours.
func sameTeacher(c *child, folder string, want graph.Tensor, out io.Writer) error {
	path := filepath.Join(folder, "logits.safetensors")
	if _, err := c.ask("logits", path); err != nil {
		return err
	}
	f, err := safetensors.ReadFile(path)
	if err != nil {
		return err
	}
	got := f.Tensors["logits"]
	if !got.Shape.Equal(want.Shape) {
		return fmt.Errorf("bench: epoch: %s gives logits of shape %v, not %v", c.name, got.Shape, want.Shape)
	}
	d := furthest(map[string]graph.Tensor{"logits": got}, map[string]graph.Tensor{"logits": want})
	fmt.Fprintf(out, "%s: the teacher's logits agree to %.1e\n", c.name, d.difference)
	if d.difference > strictTolerance {
		return fmt.Errorf("bench: epoch: the teacher's logits in %s differ by %.1e, relative L2; %.0e is allowed", c.name, d.difference, strictTolerance)
	}
	return nil
}

// needsCIFAR is the error for a missing folder.
func needsCIFAR() error {
	return hint.Wrap(errors.New("bench: epoch needs the CIFAR-10 data"), "bench epoch FOLDER, which has data_batch_1.bin and others, or make bench-epoch CIFAR10=FOLDER")
}
