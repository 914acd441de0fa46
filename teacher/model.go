package teacher

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"distill/data"
	"distill/internal/hint"
	"distill/runtime/graph/onnx"
)

// model is what a file is known to be before it runs.
type model struct {
	path    string
	bytes   []byte // computes output, inner where it is another tensor, and taps
	sha256  string // of the file
	params  int
	card    data.Card
	hasCard bool

	input                   onnx.Value
	batch                   int // images in a run; 0: any number
	channels, height, width int // height or width -1: free

	output string   // the tensor of the classifier's answer
	inner  string   // the tensor that goes into a final softmax, where there is one, else the output
	kind   string   // of the output, as the graph has it: "logits", "softmax", "log_softmax"
	taps   []string // resolved globs

	classifier    onnx.Classifier // of inner
	notClassifier error           // why there is none
	norms         map[string]Norm // of taps that a batch norm gives
}

func readModel(path string, taps []string) (model, error) {
	file, err := onnx.Read(path)
	if err != nil {
		return model{}, fmt.Errorf("teacher: %w", err)
	}
	m := model{path: path, sha256: file.SHA256(), params: file.Params()}
	if err := m.examine(file, taps); err != nil {
		return model{}, fmt.Errorf("teacher: open %s: %w", path, err)
	}
	return m, nil
}

func (m *model) examine(file *onnx.Model, taps []string) (err error) {
	if file.Audit().ExternalData {
		return hint.Wrap(errors.New("its weights lie in other files (external data)"),
			"put them inside, as with onnx.save(onnx.load(path), path, save_as_external_data=False)")
	}
	if m.card, m.hasCard, err = data.ReadCard(file.Metadata()); err != nil {
		return err
	}
	if err := m.setInput(file.Inputs()); err != nil {
		return err
	}
	if m.output, err = answer(file.Outputs()); err != nil {
		return err
	}
	alone, err := file.Only(m.output)
	if err != nil {
		return err
	}
	m.kind, m.inner = alone.Softmax()
	for _, pattern := range taps {
		names, err := file.Glob(pattern)
		if err != nil {
			return err
		}
		for _, name := range names {
			if !slices.Contains(m.taps, name) {
				m.taps = append(m.taps, name)
			}
		}
	}
	m.norms = map[string]Norm{}
	for _, name := range m.taps {
		if gamma, beta, ok := file.Norm(name); ok {
			m.norms[name] = Norm{gamma.F, beta.F}
		}
	}
	if alone, err = file.Only(m.inner); err != nil {
		return err
	}
	m.classifier, m.notClassifier = alone.Classifier()
	run, err := file.Only(append([]string{m.output, m.inner}, m.taps...)...)
	if err != nil {
		return err
	}
	m.bytes, err = run.Marshal()
	return err
}

// setInput checks that the model takes images, and nothing else.
func (m *model) setInput(inputs []onnx.Value) error {
	if len(inputs) != 1 {
		return hint.Wrap(fmt.Errorf("it has %d inputs: %s; a classifier of images has one", len(inputs), list(inputs)),
			"export the network with the images as its only input")
	}
	in := inputs[0]
	fail := func(cause string) error {
		return hint.Wrap(fmt.Errorf("input %q is %s, %s", in.Name, format(in), cause),
			"export the network with one input, float32 images [N,C,H,W]")
	}
	if in.DType != "float32" || len(in.Shape) != 4 {
		return fail("not float32 images [N,C,H,W]")
	}
	for _, d := range in.Shape {
		if d.Size == 0 {
			return fail("which has no elements")
		}
	}
	c, last := in.Shape[1].Size, in.Shape[3].Size
	if c != 1 && c != 3 && (last == 1 || last == 3) {
		return fail("which looks like [N,H,W,C]: channels come first")
	}
	if c < 0 {
		return fail("which leaves the number of channels free")
	}
	m.input, m.batch, m.channels = in, max(0, in.Shape[0].Size), c
	m.height, m.width = in.Shape[2].Size, last
	return nil
}

// refuse is the error for images of c channels, which the model does not take.
func (m *model) refuse(c int) error {
	err := fmt.Errorf("the model takes %d-channel images, the data has %d-channel ones", m.channels, c)
	return hint.Wrap(err, "use a model or data of the same number of channels")
}

// answer picks the output that holds a row per image: the first of shape [N,K] or [N,K,1,1], else the first whose shape the
// file does not say.
func answer(outputs []onnx.Value) (string, error) {
	unknown := ""
	for _, out := range outputs {
		switch out.DType {
		case "float32", "float64", "":
		default:
			continue
		}
		s := out.Shape
		if len(s) == 2 || len(s) == 4 && s[2].Size == 1 && s[3].Size == 1 {
			return out.Name, nil
		}
		if s == nil && unknown == "" {
			unknown = out.Name
		}
	}
	if unknown == "" {
		return "", hint.Wrap(fmt.Errorf("no output has a row per image, [N,K]: it has %s", list(outputs)),
			"export the classifier with its head, up to the float32 logits")
	}
	return unknown, nil
}

func list(values []onnx.Value) string {
	parts := make([]string, len(values))
	for i, v := range values {
		parts[i] = fmt.Sprintf("%q %s", v.Name, format(v))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// format writes a value's type and shape as float32[batch,3,32,32].
func format(v onnx.Value) string {
	kind := v.DType
	if kind == "" {
		kind = "unknown"
	}
	if v.Shape == nil {
		return kind + " of unknown shape"
	}
	dims := make([]string, len(v.Shape))
	for i, d := range v.Shape {
		dims[i] = d.String()
	}
	return kind + "[" + strings.Join(dims, ",") + "]"
}
