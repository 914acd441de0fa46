package data

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"distill/internal/hint"
)

// Preprocess turns pixels into a network's input: (x·scale − mean) / std, channel by channel.
type Preprocess struct {
	Mean  []float64 `yaml:"mean" json:"mean"`           // [C], of scaled pixels; empty: 0
	Std   []float64 `yaml:"std" json:"std"`             // [C], of scaled pixels, > 0; empty: 1
	Scale float64   `yaml:"scale" json:"scale"`         // of pixels 0..255; DefaultPreprocess has 1/255
	Size  []int     `yaml:"size" json:"size,omitempty"` // height and width of the input; empty: the images' own
}

// DefaultPreprocess brings pixels to 0..1 and no further: what a Preprocess holds before it is decoded.
func DefaultPreprocess() Preprocess { return Preprocess{Scale: 1.0 / 255} }

// preset is a Preprocess that goes by a name.
type preset struct {
	name      string
	mean, std []float64
}

// presets are the statistics of data sets over their training images.
var presets = []preset{
	{"cifar10", []float64{0.4914, 0.4822, 0.4465}, []float64{0.2470, 0.2435, 0.2616}},
	{"imagenet", []float64{0.485, 0.456, 0.406}, []float64{0.229, 0.224, 0.225}}, // torchvision's, of most exported models
	{"mnist", []float64{0.1307}, []float64{0.3081}},
}

// Preset returns the preprocessing that goes by a data set's name: cifar10, imagenet or mnist.
func Preset(name string) (Preprocess, error) {
	var names []string
	for _, s := range presets {
		if s.name == name {
			p := DefaultPreprocess()
			p.Mean, p.Std = slices.Clone(s.mean), slices.Clone(s.std)
			return p, nil
		}
		names = append(names, s.name)
	}
	return Preprocess{}, hint.Wrap(fmt.Errorf("data: no preprocessing is called %q", name), "the names are %s", strings.Join(names, ", "))
}

// Validate checks p for images of c channels.
func (p Preprocess) Validate(c int) error {
	for _, v := range []struct {
		name   string
		values []float64
	}{{"mean", p.Mean}, {"std", p.Std}} {
		if n := len(v.values); n != 0 && n != c {
			err := fmt.Errorf("data: preprocess: %s has %d values for %d-channel images", v.name, n, c)
			return hint.Wrap(err, "give one value a channel%s", example(c))
		}
		for _, x := range v.values {
			if math.IsNaN(x) || math.IsInf(x, 0) || v.name == "std" && x <= 0 {
				return fmt.Errorf("data: preprocess: %s %v: %v is out of range", v.name, v.values, x)
			}
		}
	}
	if math.IsNaN(p.Scale) || math.IsInf(p.Scale, 0) || p.Scale == 0 {
		return hint.Wrap(fmt.Errorf("data: preprocess: scale %v is out of range", p.Scale), "1/255 brings pixels to 0..1, 1 leaves them as they are")
	}
	if err := checkSize(p.Size); err != nil {
		return fmt.Errorf("data: preprocess: %w", err)
	}
	return nil
}

// example says, for hints, how a preset for images of c channels is written in a recipe; it is "" where there is none.
func example(c int) string {
	for _, s := range presets {
		if len(s.mean) == c {
			return fmt.Sprintf("; those of %s are preprocess: {mean: %s, std: %s}", s.name, flow(s.mean), flow(s.std))
		}
	}
	return ""
}

// flow writes values as a YAML list.
func flow(values []float64) string { return strings.ReplaceAll(fmt.Sprint(values), " ", ", ") }

// OutShape is the shape, N, C, H and W, of what Apply makes of pixels of a shape.
func (p Preprocess) OutShape(shape [4]int) [4]int {
	if len(p.Size) == 2 {
		shape[2], shape[3] = p.Size[0], p.Size[1]
	}
	return shape
}

// Apply turns src, pixels of shape N, C, H, W, into dst, of shape OutShape, with p valid for C channels. Where the two
// shapes are equal, dst may be src; where not, images are stretched bilinearly between pixel centres, as
// torch.nn.functional.interpolate(mode="bilinear") does.
func (p Preprocess) Apply(dst, src []float32, shape [4]int) {
	n, c, h, w := shape[0], shape[1], shape[2], shape[3]
	out := p.OutShape(shape)
	if out != shape {
		interpolate(dst, src, n*c, h, w, out[2], out[3])
		src = dst
	}
	plane := out[2] * out[3]
	for i := range n * c {
		mean, std := 0.0, 1.0
		if len(p.Mean) > 0 {
			mean = p.Mean[i%c]
		}
		if len(p.Std) > 0 {
			std = p.Std[i%c]
		}
		to := dst[i*plane:][:plane]
		for j, x := range src[i*plane:][:plane] {
			to[j] = float32((float64(x)*p.Scale - mean) / std)
		}
	}
}

// interpolate stretches n planes of h×w to oh×ow.
func interpolate(dst, src []float32, n, h, w, oh, ow int) {
	rows, columns := taps(h, oh), taps(w, ow)
	for i := range n {
		from, to := src[i*h*w:][:h*w], dst[i*oh*ow:][:oh*ow]
		for y, r := range rows {
			upper, lower := from[r.low*w:][:w], from[r.high*w:][:w]
			for x, c := range columns {
				a := upper[c.low] + c.weight*(upper[c.high]-upper[c.low])
				b := lower[c.low] + c.weight*(lower[c.high]-lower[c.low])
				to[y*ow+x] = a + r.weight*(b-a)
			}
		}
	}
}

// tap is where an output position falls between two input positions.
type tap struct {
	low, high int
	weight    float32 // of high; low has the rest
}

// taps maps the centres of out positions onto in positions, holding to the edge beyond the outermost centres.
func taps(in, out int) []tap {
	t := make([]tap, out)
	for i := range t {
		at := max(0, (float64(i)+0.5)*float64(in)/float64(out)-0.5)
		low := min(int(at), in-1)
		t[i] = tap{low, min(low+1, in-1), float32(at - float64(low))}
	}
	return t
}
