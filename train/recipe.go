package train

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"

	"distill/data"
	"distill/internal/hint"
	"distill/internal/strictyaml"
	"distill/losses"
	"distill/runtime"
	"distill/student"
	"distill/student/adapter"
	"distill/teacher"
	"distill/train/optim"
	"distill/train/schedule"
)

// Recipe is a whole run: the YAML file that `distill train` takes. Its zero value is not useful; start from NewRecipe.
type Recipe struct {
	Output  string `yaml:"output"`  // folder of the run
	Seed    uint64 `yaml:"seed"`    // of initial weights, order and augmentation
	Engine  string `yaml:"engine"`  // onnxruntime or gorgonia
	Threads int    `yaml:"threads"` // of student and teacher together; 0: all

	// Provider trains and evaluates the student, where the engine is onnxruntime: one of runtime.Providers; default cpu. The
	// teacher has its own.
	Provider        string            `yaml:"provider"`
	ProviderOptions map[string]string `yaml:"provider_options"` // see runtime.Provider

	Epochs int `yaml:"epochs"`
	Batch  int `yaml:"batch"` // images of a forward and backward pass; the last, incomplete batch of an epoch is dropped

	Accumulate int       `yaml:"accumulate"` // batches a step, whose gradients' mean it takes; default 1
	Precision  string    `yaml:"precision"`  // of convolutions and matrix products: float32 or float16; see onnx.Lower
	LossScale  LossScale `yaml:"loss_scale"` // with float16

	Data       data.Options    `yaml:"data"`
	Preprocess data.Preprocess `yaml:"preprocess"` // of the student's input; default: ImageNet's mean and std, as torchvision
	Teacher    teacher.Options `yaml:"teacher"`    // without a model, and without teachers: labels alone

	// Teachers, instead of Teacher, are several, which Combine makes one of. Inner tensors and the classifier that losses ask for are
	// the first's.
	Teachers []teacher.Options `yaml:"teachers,omitempty"`
	Combine  Combine           `yaml:"combine"`

	Student Student `yaml:"student"`
	Losses  []Term  `yaml:"losses"`

	Optimizer Optimizer         `yaml:"optimizer"`
	Schedule  schedule.Schedule `yaml:"schedule"`
	ClipNorm  float64           `yaml:"clip_norm"` // largest norm of all gradients together; 0: no limit

	Checkpoint Checkpoint `yaml:"checkpoint"`
}

// Checkpoint says when a run is saved.
type Checkpoint struct {
	Every int `yaml:"every"` // steps between checkpoints within an epoch; 0: at the end of each epoch only
}

// Student is an architecture chosen by name.
type Student struct {
	Name string       `yaml:"arch,choice"`
	Arch student.Arch `yaml:",inline"`
	Init string       `yaml:"init"` // a safetensors file of weights to start from; empty: PyTorch's default initialisation
}

// Choose is the default architecture of a name.
func (Student) Choose(name string) any {
	arch, err := student.New(name)
	if err != nil {
		return nil
	}
	return arch
}

// Implies lets {onnx: net.onnx} stand without an arch.
func (Student) Implies(key string) string {
	if key == "onnx" {
		return "onnx"
	}
	return ""
}

// Choices lists the families.
func (Student) Choices() []string { return student.Names() }

// Term is a weighted loss.
type Term struct {
	Name   string      `yaml:"loss,choice"`
	Loss   losses.Loss `yaml:",inline"`
	Weight float32     `yaml:"weight"` // default: that of the loss's row in losses.Table
	// Standardize has each image's logits, student's and teacher's, brought to mean 0 and deviation 1 before the loss sees
	// them (Sun et al. 2024, arXiv:2403.01427).
	Standardize bool `yaml:"standardize"`
	// Taps are the inner tensors that the loss compares, from input to output. Where there are none and the loss wants some,
	// Open chooses them: see propose.
	Taps []Tap `yaml:"taps"`
}

// Tap is an inner tensor of the student and one of the teacher.
type Tap struct {
	Student string `yaml:"student"` // a tap of the student's architecture
	Teacher string `yaml:"teacher"` // a tensor of the teacher's file, as distill inspect lists them
	// Adapter brings the student's tensor to the teacher's shape: one of package adapter, "auto" to choose one by the shapes, or
	// "none". Default: the loss's own.
	Adapter string `yaml:"adapter"`
}

// Validate wants both sides and an adapter that exists.
func (t Tap) Validate() error {
	if t.Student == "" || t.Teacher == "" {
		return errors.New("a tap names a tensor of the student and one of the teacher")
	}
	known := append(adapter.Names(), autoAdapter, noAdapter, "")
	if !slices.Contains(known, t.Adapter) {
		return fmt.Errorf("adapter must be %s or none, not %q", strings.Join(known[:len(known)-2], ", "), t.Adapter)
	}
	return nil
}

// term is a loss with its defaults.
func term(name string) Term {
	var t Term
	t.Name, t.Loss = name, t.Choose(name).(losses.Loss)
	return t
}

// Choose is the default of a loss; it gives the term the loss's weight, too.
func (t *Term) Choose(name string) any {
	row, ok := losses.Lookup(name)
	if !ok {
		return nil
	}
	t.Weight = row.Weight
	return row.New()
}

// Choices lists the losses.
func (*Term) Choices() []string {
	var names []string
	for _, row := range losses.Table {
		names = append(names, row.Name)
	}
	return names
}

// Validate wants a finite weight.
func (t Term) Validate() error {
	if math.IsNaN(float64(t.Weight)) || math.IsInf(float64(t.Weight), 0) {
		return fmt.Errorf("weight must be finite, not %v", t.Weight)
	}
	return nil
}

// Optimizer is an optimizer chosen by name, and its base learning rate.
type Optimizer struct {
	Name   string          `yaml:"name,choice"`
	Method optim.Optimizer `yaml:",inline"`
	LR     float64         `yaml:"lr"` // before the schedule; default 0.1
}

// Choose is the default of an optimizer.
func (Optimizer) Choose(name string) any {
	for _, row := range optim.Table {
		if row.Name == name {
			return row.New()
		}
	}
	return nil
}

// Choices lists the optimizers.
func (Optimizer) Choices() []string {
	var names []string
	for _, row := range optim.Table {
		names = append(names, row.Name)
	}
	return names
}

// Validate wants a positive, finite rate.
func (o Optimizer) Validate() error {
	if !(o.LR > 0) || math.IsInf(o.LR, 0) {
		return fmt.Errorf("lr must be positive, not %v", o.LR)
	}
	return nil
}

// NewRecipe is the recipe in which nothing is said yet: every default filled in.
func NewRecipe() *Recipe {
	pre, err := data.Preset("imagenet")
	if err != nil {
		panic(err)
	}
	r := &Recipe{
		Output: "runs/distill", Seed: 1, Engine: string(runtime.ONNXRuntime), Provider: runtime.Provider{}.String(), Epochs: 30, Batch: 64,
		Accumulate: 1, Precision: float32Precision,
		LossScale:  LossScale{Init: 65536, Growth: 2, Backoff: 0.5, Interval: 2000},
		Data:       data.Options{Augment: data.Augment{Crop: 4, Flip: true}},
		Preprocess: pre,
		Schedule:   schedule.Schedule{Name: "cosine", Curve: schedule.Cosine{}},
		Losses:     []Term{term("ce"), term("kd")},
	}
	r.Losses[0].Weight, r.Losses[1].Weight = 0.1, 0.9
	r.Student.Name, r.Student.Arch = "resnet8", Student{}.Choose("resnet8").(student.Arch)
	r.Optimizer = Optimizer{Name: "sgd", Method: Optimizer{}.Choose("sgd").(optim.Optimizer), LR: 0.1}
	return r
}

// LoadRecipe reads a recipe over the defaults and applies overrides such as "optimizer.lr=0.05". An empty path is an empty
// file.
func LoadRecipe(path string, overrides []string) (*Recipe, error) {
	var src []byte
	if path != "" {
		var err error
		if src, err = readUpTo(path, strictyaml.MaxSize); err != nil {
			return nil, hint.Wrap(fmt.Errorf("train: read recipe: %w", err), "`distill init` writes a recipe to start from")
		}
	}
	return ParseRecipe(src, path, overrides)
}

// readUpTo reads a file of at most so many bytes.
func readUpTo(path string, most int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(most)+1))
	if err == nil && len(b) > most {
		err = fmt.Errorf("%s has more than the %d bytes of a recipe", path, most)
	}
	return b, err
}

// ParseRecipe is LoadRecipe for the bytes of a file of the given name.
func ParseRecipe(src []byte, name string, overrides []string) (*Recipe, error) {
	r := NewRecipe()
	err := strictyaml.Decode(src, name, r, overrides)
	if err == nil && !r.Taught() {
		// The default losses need a teacher; without one the labels are all there is.
		r = NewRecipe()
		r.Losses = labelsOnly()
		err = strictyaml.Decode(src, name, r, overrides)
	}
	if err != nil {
		return nil, fmt.Errorf("train: recipe: %w", err)
	}
	if len(r.Teachers) > 0 && r.Combine.By == "" {
		r.Combine = combineBy(defaultCombine)
	}
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("train: %s: %w", cmp.Or(name, "recipe"), err)
	}
	return r, nil
}

// labelsOnly is cross-entropy alone.
func labelsOnly() []Term { return []Term{term("ce")} }

// check finds what no single section can see.
func (r *Recipe) check() error {
	if err := r.checkTeachers(); err != nil {
		return err
	}
	switch {
	case r.Engine != string(runtime.ONNXRuntime) && r.Engine != string(runtime.Gorgonia):
		return fmt.Errorf("engine must be %s or %s, not %q", runtime.ONNXRuntime, runtime.Gorgonia, r.Engine)
	case r.Epochs < 1 || r.Epochs > 1e6:
		return fmt.Errorf("epochs must be in 1..1000000, not %d", r.Epochs)
	case r.Batch < 2 || r.Batch > 65536:
		return fmt.Errorf("batch must be in 2..65536, not %d: batch norm needs two images", r.Batch)
	case r.Accumulate < 1 || r.Accumulate > 65536:
		return fmt.Errorf("accumulate must be in 1..65536, not %d", r.Accumulate)
	case r.Precision != float32Precision && r.Precision != float16Precision:
		return fmt.Errorf("precision must be %s or %s, not %q", float32Precision, float16Precision, r.Precision)
	case r.Precision == float16Precision && r.Engine == string(runtime.Gorgonia):
		return hint.Wrap(fmt.Errorf("engine %s computes in float64: it has no precision %s", r.Engine, r.Precision),
			"leave precision out, or take engine: %s", runtime.ONNXRuntime)
	case r.Threads < 0:
		return fmt.Errorf("threads must not be negative: %d", r.Threads)
	case !(r.ClipNorm >= 0) || math.IsInf(r.ClipNorm, 0):
		return fmt.Errorf("clip_norm must be 0 or more, not %v", r.ClipNorm)
	case r.Checkpoint.Every < 0:
		return fmt.Errorf("checkpoint.every must not be negative: %d", r.Checkpoint.Every)
	case r.Output == "":
		return errors.New("output must name a folder")
	case len(r.Losses) == 0:
		return errors.New("losses needs at least one loss")
	case r.Data.Source == "":
		return hint.Wrap(errors.New("data.source is missing"), "for example data.source=cifar10:testdata/cifar10, or --data")
	}
	if err := r.checkProvider(); err != nil {
		return err
	}
	return r.checkAccumulated()
}

// provider is where the student trains.
func (r *Recipe) provider() runtime.Provider {
	return runtime.Provider{Name: r.Provider, Options: r.ProviderOptions}
}

// checkProvider wants one that there is, with an engine that has providers.
func (r *Recipe) checkProvider() error {
	p := r.provider()
	if err := p.Validate(); err != nil {
		return err
	}
	if cpu := (runtime.Provider{}).String(); p.String() != cpu && r.Engine != string(runtime.ONNXRuntime) {
		return hint.Wrap(fmt.Errorf("engine %s knows the CPU alone, not provider %s", r.Engine, p),
			"leave provider out, or take engine: %s", runtime.ONNXRuntime)
	}
	return nil
}

// checkAccumulated refuses losses of a whole step's images where a step is several batches.
func (r *Recipe) checkAccumulated() error {
	if r.Accumulate == 1 {
		return nil
	}
	for _, t := range r.Losses {
		if row, _ := losses.Lookup(t.Name); row.Relational {
			return hint.Wrap(fmt.Errorf("loss %s compares the images of a batch with one another: over %d batches its gradients are not those of one large batch",
				t.Name, r.Accumulate), "leave accumulate out, with batch: %d where memory allows, or leave out the loss", r.Batch*r.Accumulate)
		}
	}
	return nil
}

// Text is the resolved recipe: every default written out.
func (r *Recipe) Text() (string, error) {
	b, err := strictyaml.Encode(r)
	return string(b), err
}

// Identity is what a checkpoint is bound to: the resolved recipe without what does not bear on the weights.
func (r *Recipe) Identity() (text, sha string, err error) {
	bare := *r
	bare.Output, bare.Checkpoint = "", Checkpoint{}
	bare.Data.Augment, bare.Teacher = r.withoutViews(), withoutCache(r.Teacher)
	bare.Teachers = slices.Clone(r.Teachers)
	for i, t := range r.Teachers {
		bare.Teachers[i] = withoutCache(t)
	}
	if text, err = bare.Text(); err != nil {
		return "", "", err
	}
	sum := sha256.Sum256([]byte(text))
	return text, hex.EncodeToString(sum[:]), nil
}

// LabelsOnly is the same run without a teacher: the same student, data, order, augmentation and budget, trained on the
// labels alone.
func (r *Recipe) LabelsOnly(output string) *Recipe {
	l := *r
	l.Output, l.Teacher, l.Teachers, l.Combine = output, teacher.Options{}, nil, Combine{}
	l.Losses = labelsOnly()
	for _, t := range r.Losses {
		if ce, ok := t.Loss.(*losses.CE); ok && ce.Targets == "labels" { // with its label smoothing
			l.Losses[0].Loss = ce
			break
		}
	}
	return &l
}
