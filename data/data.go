// Package data holds labelled images: where they come from, how they are split, augmented and put into batches.
//
//	splits, err := data.Open(data.Options{Source: "cifar10:testdata/cifar10"})
//	train := &data.Loader{Source: splits.Train, Batch: 64, Seed: 1, Shuffle: true, Augment: data.Augment{Crop: 4, Flip: true}}
//	var b data.Batch
//	err = train.Fill(&b, 0, 0) // epoch 0, step 0
package data

// Batch is N labelled images. Its buffers belong to whoever fills it and are reused by the next fill;
// the zero value is ready to be filled.
type Batch struct {
	X     []float32 // [N,C,H,W], RGB or grey, 0..255: augmented, not yet normalised
	Shape [4]int    // N, C, H, W
	Y     []int64   // [N], class index
	Index []int     // [N], the sample's index in its source
	View  []uint64  // [N], names the augmented view: equal Index and View mean equal pixels; 0 is the image itself
	Draw  int       // the number of the views, as Augment.View counts them

	sample []float32 // one image on its way into X
}

// resize makes room for n images of c×h×w, keeping what buffers are large enough.
func (b *Batch) resize(n, c, h, w int) {
	b.Shape = [4]int{n, c, h, w}
	b.X = grow(b.X, n*c*h*w)
	b.Y = grow(b.Y, n)
	b.Index = grow(b.Index, n)
	b.View = grow(b.View, n)
	b.sample = grow(b.sample, c*h*w)
}

func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

// Source is a sequence of labelled images of one shape.
type Source interface {
	Len() int
	Shape() (c, h, w int) // of every sample
	Classes() []string    // the name of each class; the caller must not change it

	// Read puts sample i, [C,H,W] with values 0..255, into dst, which must have C·H·W elements, and returns its class.
	// It is safe for concurrent use.
	Read(i int, dst []float32) (label int, err error)
}

// First returns the first n images of a source, n ≥ 0; the source itself where it has no more.
func First(s Source, n int) Source {
	if n >= s.Len() {
		return s
	}
	return first{s, n}
}

type first struct {
	Source
	n int
}

func (f first) Len() int { return f.n }

// Split is a part of a data set.
type Split struct {
	Source
	Name string // train, val or test; all for every image of a data set that is not laid out in splits
}

// Splits are the three disjoint parts of a data set, with one shape and one list of classes.
// Train is for gradients, Val for every decision, Test for the reported result only.
type Splits struct {
	Train, Val, Test Source
}
