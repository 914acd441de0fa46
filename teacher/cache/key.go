package cache

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"

	"golang.org/x/sys/cpu"

	"distill/data"
	"distill/internal/hint"
	"distill/runtime/graph"
)

// Key is all that a teacher's kept outputs follow from. Outputs of equal keys are equal bit for bit; where Run alone differs,
// they agree to rounding.
//
// A view of a sample, and so its record, is a function of Augment's fields, the number of the view and the sample alone. What
// mixes samples has no such record.
type Key struct {
	Teacher    string          `json:"teacher"` // SHA-256 of the file
	Classes    int             `json:"classes"`
	ClassMap   []int           `json:"class_map,omitempty"` // of the file's classes those that these are; absent: its own
	Preprocess data.Preprocess `json:"preprocess"`
	Data       string          `json:"data"` // data.Digest of the training images
	Samples    int             `json:"samples"`
	Augment    Augment         `json:"augment"`
	DType      string          `json:"dtype"` // of what is kept: float32 or float16
	Taps       []Tap           `json:"taps"`  // that are kept, besides the logits
	Run        Run             `json:"run"`
}

// Augment is how the views of a sample are made: as data.Augment has it, with nothing left open.
type Augment struct {
	Crop  int    `json:"crop"`
	Flip  bool   `json:"flip"`
	Views int    `json:"views"` // of each sample; 1 without augmentation
	Seed  uint64 `json:"seed"`
}

// Tap is a tensor inside the teacher.
type Tap struct {
	Name  string      `json:"name"`
	Shape graph.Shape `json:"shape"` // for one image
}

// Run is how the teacher computed: what the last bits of its outputs may hang on.
type Run struct {
	ONNXRuntime string            `json:"onnxruntime"` // version of the library
	Processor   string            `json:"processor"`   // see Processor
	Provider    string            `json:"provider"`
	Options     map[string]string `json:"options,omitempty"` // of the provider
	Threads     int               `json:"threads"`
	Batch       int               `json:"batch"`                 // images that come together
	AtATime     int               `json:"at_a_time"`             // of them in a run; 0: all
	Specialized string            `json:"specialized,omitempty"` // see teacher.Teacher.Specialized
	Outputs     []string          `json:"outputs,omitempty"`     // taps that it was opened with: they keep operators from being fused
}

// Processor names the architecture and the widest vectors that ONNX Runtime has kernels of its own for.
func Processor() string {
	switch {
	case cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512VL:
		return runtime.GOARCH + " avx512"
	case cpu.X86.HasAVX2 && cpu.X86.HasFMA:
		return runtime.GOARCH + " avx2"
	case cpu.X86.HasAVX:
		return runtime.GOARCH + " avx"
	}
	return runtime.GOARCH
}

// ErrForeign is what [Key.Serves] returns, wrapped, for a cache of something else.
var ErrForeign = errors.New("it is of something else")

// Serves reports whether a cache of this key holds what is wanted. Its taps must be among those that are kept; the rest of
// the keys must be equal or, with rounding, all but Run. The error says what differs, and how to go on.
func (k Key) Serves(want Key, rounding bool) error {
	for _, f := range []struct {
		what       string
		have, want any
		way        string
	}{
		{"teacher (SHA-256)", k.Teacher, want.Teacher, ""},
		{"number of classes", k.Classes, want.Classes, ""},
		{"class map", k.ClassMap, want.ClassMap, ""},
		{"preprocessing", k.Preprocess, want.Preprocess, ""},
		{"training images (SHA-256)", k.Data, want.Data, ""},
		{"number of training images", k.Samples, want.Samples, ""},
		{"augmentation", k.Augment, want.Augment, "leave data.augment.views and seed out: they follow the cache"},
		{"dtype", k.DType, want.DType, fmt.Sprintf("set teacher.cache.dtype=%.10s", k.DType)},
	} {
		if have, want := text(f.have), text(f.want); have != want {
			err := fmt.Errorf("%w: its %s is %s, not %s", ErrForeign, f.what, have, want)
			way := "name another folder, or remove this one to have it made again"
			if f.way != "" {
				way = f.way + "; or " + way
			}
			return hint.Wrap(err, "%s", way)
		}
	}
	for _, t := range want.Taps {
		if !slices.ContainsFunc(k.Taps, func(has Tap) bool { return has.Name == t.Name && has.Shape.Equal(t.Shape) }) {
			return hint.Wrap(fmt.Errorf("%w: it does not hold the teacher's tensor %q %v", ErrForeign, t.Name, t.Shape),
				"name another folder: a cache holds what the recipe that made it compares")
		}
	}
	if have, want := text(k.Run), text(want.Run); have != want && !rounding {
		return hint.Wrap(fmt.Errorf("%w: its outputs may differ in the last bits: they were computed with %s, not %s", ErrForeign, have, want),
			"set teacher.cache.rounding=true to take them all the same, or name another folder")
	}
	return nil
}

// text is how a part of a key is compared and shown.
func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil { // none of a key's types can be at fault, but for numbers that are not finite
		return fmt.Sprint(v)
	}
	return string(b)
}

// Sum is the key's SHA-256: two caches of one sum hold the same.
func (k Key) Sum() [sha256.Size]byte { return sha256.Sum256([]byte(text(k))) }

// Bytes is what a whole cache takes on disk, cache.json apart.
func (k Key) Bytes() (int64, error) {
	l, err := k.layout()
	if err != nil {
		return 0, err
	}
	return int64(l.views) * (int64(l.samples)*int64(l.record) + int64(l.perView)*headerSize), nil
}

// Bounds of what a cache.json may claim.
const (
	maxValues = 1 << 24 // of a record
	maxViews  = 1 << 20
	maxShard  = 64 << 20 // bytes that records fill at most in a shard, unless one does alone
)

// layout is where records lie. Those of a view follow one another in the order of the samples, in shards of about the same
// size; no shard holds two views.
type layout struct {
	samples, views int
	values         int // floats of a record
	half           bool
	record         int // bytes
	perShard       int // records
	perView        int // shards
}

func (k Key) layout() (layout, error) {
	l := layout{samples: k.Samples, views: k.Augment.Views, values: k.Classes, half: k.DType == dtype16}
	if k.DType != dtype16 && k.DType != dtype32 {
		return layout{}, fmt.Errorf("dtype %.20q is neither float32 nor float16", k.DType)
	}
	if k.Samples < 1 || k.Samples > math.MaxInt32 || l.views < 1 || l.views > maxViews || k.Classes < 1 || k.Classes > maxValues {
		return layout{}, fmt.Errorf("%d views of %d samples with %d logits are out of range", l.views, k.Samples, k.Classes)
	}
	for _, t := range k.Taps {
		n, err := t.values()
		if err != nil {
			return layout{}, err
		}
		if l.values += n; l.values > maxValues {
			return layout{}, fmt.Errorf("a record of over %d values is too large", maxValues)
		}
	}
	l.record = recordSize(l.values, l.half)
	l.perShard = min(l.samples, max(1, maxShard/l.record))
	l.perView = (l.samples + l.perShard - 1) / l.perShard
	l.perShard = (l.samples + l.perView - 1) / l.perView
	l.perView = (l.samples + l.perShard - 1) / l.perShard
	return l, nil
}

// values counts the elements of a tap.
func (t Tap) values() (int, error) {
	n := 1
	for _, d := range t.Shape {
		if d < 1 || d > maxValues/n {
			return 0, fmt.Errorf("tap %.100q has the shape %v", t.Name, t.Shape)
		}
		n *= d
	}
	return n, nil
}

// find says where a sample's record of a view is: in which shard, and at which place.
func (l layout) find(view, sample int) (shard, place int) {
	return view*l.perView + sample/l.perShard, sample % l.perShard
}

// records counts those of a shard.
func (l layout) records(shard int) int {
	return min(l.perShard, l.samples-shard%l.perView*l.perShard)
}

func (l layout) shards() int { return l.views * l.perView }
