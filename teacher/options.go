package teacher

import (
	"fmt"
	"slices"
	"strings"

	"distill/data"
	"distill/internal/hint"
	"distill/runtime"
)

// Options say which teacher and how it sees images: the teacher section of a recipe.
//
//	teacher:
//	  model: models/cifar10_resnet56.onnx
//	  mean: [0.485, 0.456, 0.406]
//	  std: [0.229, 0.224, 0.225]
//
// Of the preprocessing, each part that is not given comes from the file's [data.Card], or, in a file without one, from the
// default of [Open].
type Options struct {
	Model string `yaml:"model"` // path of the ONNX file

	Mean  []float64 `yaml:"mean"`  // as in data.Preprocess; empty: not given
	Std   []float64 `yaml:"std"`   // likewise
	Scale *float64  `yaml:"scale"` // nil: not given
	Size  []int     `yaml:"size"`  // height and width that images are stretched to; empty: not given

	Taps  []string // names of tensors inside the model, or globs of them, to be given beside the logits; no key of a recipe
	Batch int      `yaml:"batch"` // most images at a time; 0: the file's fixed batch, or all at once

	// Images is how many come at a time, as far as is known; 0: any number. Then a teacher on the CPU shares them out among
	// several runs at once, where they are enough, and runs as [runtime.Specialize] has it, if that is faster. No key of a recipe.
	Images int `yaml:"-"`

	// Budget is what its runs take their threads from, where other sessions compute at the same time; nil: they do not wait. No key of
	// a recipe.
	Budget *runtime.Budget `yaml:"-"`

	// Channels of the images to come; 0: not known. A model that takes another number is refused for that, before its
	// preprocessing, which cannot fit either. No key of a recipe.
	Channels int

	// Classes are, for each class of the data, the index of the model's: to be given where the model has them in another order, or
	// others besides, as ImageNet's 1000. Then the logits are those of these classes alone, and softmax over them is the model's
	// belief given that it is one of them. Empty: the model's own classes.
	Classes []int `yaml:"classes,omitempty"`

	Provider        string            `yaml:"provider"`         // one of runtime.Providers; "": cpu
	ProviderOptions map[string]string `yaml:"provider_options"` // see runtime.Provider

	Cache Cache `yaml:"cache"`
}

// Cache says where a teacher's outputs for training images are kept, so that they are computed once. [Open] does not look at
// it: package teacher/cache keeps them.
type Cache struct {
	Folder   string `yaml:"folder"`   // of this one cache; empty: none is kept
	Write    bool   `yaml:"write"`    // keep what is not there yet; else all that is asked for must be there
	DType    string `yaml:"dtype"`    // float32, or float16: half the size, rounded to 11 bits; empty: float32
	Maps     bool   `yaml:"maps"`     // keep inner tensors of any size, not only those of one vector an image
	Rounding bool   `yaml:"rounding"` // take outputs that another batch, number of threads, provider, processor or ONNX Runtime gave
}

// Validate checks the data type.
func (c Cache) Validate() error {
	if c.DType != "" && c.DType != "float32" && c.DType != "float16" {
		return fmt.Errorf("dtype must be float32 or float16, not %q", c.DType)
	}
	return nil
}

// Validate checks what does not depend on the file.
func (o Options) Validate() error {
	if o.Batch < 0 || o.Images < 0 {
		return fmt.Errorf("teacher: batch %d is below 0", min(o.Batch, o.Images))
	}
	for i, class := range o.Classes {
		if class < 0 || slices.Contains(o.Classes[:i], class) {
			return hint.Wrap(fmt.Errorf("teacher: classes.%d: the index %d is below 0 or there twice", i, class), "give for each class of the data one of the model's, from 0")
		}
	}
	if known := runtime.Providers(); o.Provider != "" && !slices.Contains(known, o.Provider) {
		return hint.Wrap(fmt.Errorf("teacher: provider %q is unknown", o.Provider), "choose one of %s", strings.Join(known, ", "))
	}
	return nil
}

// override returns p with what o gives in its place.
func (o Options) override(p data.Preprocess) data.Preprocess {
	if len(o.Mean) > 0 {
		p.Mean = o.Mean
	}
	if len(o.Std) > 0 {
		p.Std = o.Std
	}
	if o.Scale != nil {
		p.Scale = *o.Scale
	}
	if len(o.Size) > 0 {
		p.Size = o.Size
	}
	p.Mean, p.Std, p.Size = slices.Clone(p.Mean), slices.Clone(p.Std), slices.Clone(p.Size)
	return p
}
