package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"distill/internal/hint"
	"distill/internal/safetensors"
	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
	"distill/teacher"
	"distill/train"
)

// epochResults are what an epoch cost on all sides.
type epochResults struct {
	Sides  []epochSide  `json:"sides"`
	Ratios []epochRatio `json:"ratios"`
}

// epochSide is one of our ways, or the peer in one setup.
type epochSide struct {
	Side   string    `json:"side"`
	Images int       `json:"images"`     // timed
	MS     float64   `json:"ms"`         // an image, median of the rounds
	Rounds []float64 `json:"rounds_ms"`  // an image
	Wait   float64   `json:"wait_share"` // of the time, in which step and teacher waited for data, 0..1; of our training alone
	Start  float64   `json:"start_s"`    // from the start of the process, the peer's interpreter included, to the end of the first step
}

// epochRatio compares two sides, lower being better.
type epochRatio struct {
	Of     string     `json:"of"`
	To     string     `json:"to"`
	Ratio  float64    `json:"ratio"`  // of the medians
	Rounds [2]float64 `json:"rounds"` // least and largest of a round
}

// compared are the sides whose ratios tell something.
var compared = [][2]string{
	{string(live), setups[0].side()},
	{string(live), setups[1].side()},
	{string(warm), setups[0].side()},
	{string(warm), setups[1].side()},
	{string(warm), string(labelsAlone)},
	{string(writing), string(live)},
	{string(building), string(raw)},
}

const (
	epochName  = "resnet-56 → resnet-20"
	epochModel = "models/cifar10_resnet56.onnx" // from the root of the repository
	epochBatch = 64                             // a recipe's default

	// Both are links in the folder, so that no path of the user's goes through the lines of the protocol.
	dataName    = "data"
	teacherName = "teacher.onnx"

	cacheName = "cache" // of the warm way

	// settle are the steps of a turn that are not timed: the feed begins it full, which it is not in the long run.
	settle = 8
	// rest lets the feed fill up and fall asleep before another side's turn.
	rest = time.Second
)

// epoch goes all ways through an epoch, by turns. The folder holds CIFAR-10's binary files.
func epoch(ctx context.Context, o options, cifar string, out io.Writer) (res epochResults, err error) {
	steps, err := turn(o.images, o.rounds)
	if err != nil {
		return res, err
	}
	want, err := o.teach(ctx, cifar, epochModel)
	if err != nil {
		return res, err
	}
	var children []*child
	for i, start := range epochSides() {
		begin := time.Now()
		c, err := start(ctx)
		if err != nil {
			return res, err
		}
		defer c.stop()
		children = append(children, c)
		if _, err := c.ask("open", strconv.Itoa(o.images), strconv.Itoa(o.threads), o.folder, c.layout); err != nil {
			return res, err
		}
		res.Sides = append(res.Sides, epochSide{Side: c.name, Images: o.rounds * steps * epochBatch, Start: round(time.Since(begin).Seconds())})
		if i >= len(ways) {
			if err := sameTeacher(c, o.folder, want, out); err != nil {
				return res, err
			}
		}
		time.Sleep(rest)
	}
	for range o.rounds {
		for i, c := range children {
			ms, err := c.numbers("train", strconv.Itoa(settle), strconv.Itoa(steps))
			if err != nil {
				return res, err
			}
			s := &res.Sides[i]
			s.Rounds = append(s.Rounds, round(ms[0]/float64(steps*epochBatch)))
			s.Wait += ms[1] / ms[0] / float64(o.rounds)
			fmt.Fprintf(out, "  %s: %.3f ms an image\n", c.name, s.Rounds[len(s.Rounds)-1])
			time.Sleep(rest)
		}
	}
	fmt.Fprintf(out, "%s, batch %d\n", epochName, epochBatch)
	for i := range res.Sides {
		s := &res.Sides[i]
		s.MS, s.Wait = round(spreadOf(s.Rounds).median), round(s.Wait)
		fmt.Fprintf(out, "  %s: %.3f ms an image, %.1f %% of it waiting for data; first step after %.2f s\n", s.Side, s.MS, 100*s.Wait, s.Start)
	}
	for _, names := range compared {
		r := ratio(res.Sides, names)
		fmt.Fprintf(out, "  %s / %s: %.2f (rounds %.2f to %.2f)\n", r.Of, r.To, r.Ratio, r.Rounds[0], r.Rounds[1])
		res.Ratios = append(res.Ratios, r)
	}
	return res, nil
}

// epochSides are our ways, then the peer's setups but for the last: in an epoch glibc keeps the memory by itself.
func epochSides() (list []side) {
	for _, w := range ways {
		list = append(list, ourWay(w))
	}
	return append(list, sides()[1:len(setups)]...)
}

// ratio compares the first of two sides with the second.
func ratio(sides []epochSide, names [2]string) epochRatio {
	var of [2]epochSide
	for i, name := range names {
		of[i] = sides[slices.IndexFunc(sides, func(s epochSide) bool { return s.Side == name })]
	}
	var rounds []float64
	for i, ms := range of[0].Rounds {
		rounds = append(rounds, ms/of[1].Rounds[i])
	}
	return epochRatio{names[0], names[1], round(of[0].MS / of[1].MS), [2]float64{round(slices.Min(rounds)), round(slices.Max(rounds))}}
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

// teach readies the folder for all sides: links to data and teacher, the teacher's weights for the peer, and what it says of all
// images. It returns its logits of the first images, [64,K].
func (o options) teach(ctx context.Context, cifar, model string) (graph.Tensor, error) {
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
	r, err := epochRecipe(live, o.folder, o.images, o.threads)
	if err != nil {
		return graph.Tensor{}, err
	}
	if err := keep(ctx, r, filepath.Join(o.folder, cacheName)); err != nil {
		return graph.Tensor{}, err
	}
	return firstLogits(r)
}

// keep makes a cache.
func keep(ctx context.Context, r *train.Recipe, folder string) (err error) {
	c, err := train.OpenCaching(r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	return c.Build(ctx, folder, func(_, _ int) {})
}

// firstLogits are the teacher's for the first batch of training images.
func firstLogits(r *train.Recipe) (graph.Tensor, error) {
	b, err := firstBatch(r)
	if err != nil {
		return graph.Tensor{}, err
	}
	t, err := teacher.Open(r.Teacher, r.Preprocess, r.Threads)
	if err != nil {
		return graph.Tensor{}, err
	}
	defer t.Close()
	got, err := t.Forward(b)
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
