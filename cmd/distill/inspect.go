package main

import (
	"cmp"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"distill/data"
	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
)

type inspectOptions struct {
	global
	model   string
	taps    bool // list all
	weights bool // list them
}

func newInspect(g *global) *cobra.Command {
	var o inspectOptions
	c := &cobra.Command{
		Use:   "inspect MODEL.onnx",
		Short: "Show what is in an ONNX model",
		Long: `Show what is in an ONNX model: what it takes and gives, its size, the tensors inside it that can be tapped, and
what to know before distilling it. Shapes and multiply-adds come from a run on one image of zeros; a model that cannot
run is shown without them, and with the reason. The weights, by the names that "student: {onnx: MODEL.onnx, freeze: [GLOB]}"
takes in a recipe, are listed by --weights.

JSON keys: file, sha256, producer, opset, inputs, outputs, params, macs (for one image), macs_error, taps (tensor, op,
node, shape), weights (name, shape, op and node that read it, trained), weights_error, audit (batch_norm,
batch_norm_nodes, output, dynamic_batch, batch, external_data, custom_domains), card (preprocess, classes, recipe_sha256,
teacher_sha256). What is not known is null.`,
		Example: `  distill inspect models/cifar10_resnet56.onnx
  distill inspect --taps models/mnist_cntk.onnx
  distill inspect --weights models/cifar10_resnet56.onnx
  distill inspect --json models/cifar10_resnet56.onnx`,
		Args: wantArgs(1, 1, "one model"),
		RunE: func(c *cobra.Command, args []string) error {
			o.global, o.model = *g, args[0]
			return runInspect(o, c.OutOrStdout())
		},
	}
	c.Flags().BoolVar(&o.taps, "taps", false, "list every tensor that can be tapped, not just the first and last ones")
	c.Flags().BoolVar(&o.weights, "weights", false, "list the weights, by the names that a student's freeze takes")
	return c
}

// inspection is what inspect finds.
type inspection struct {
	File         string        `json:"file"`
	SHA256       string        `json:"sha256"`
	Producer     string        `json:"producer"`
	Opset        int           `json:"opset"`
	Inputs       []onnx.Value  `json:"inputs"`
	Outputs      []onnx.Value  `json:"outputs"`
	Params       int           `json:"params"`
	MACs         *int64        `json:"macs"` // nil where the model cannot run, for the reason in MACsError
	MACsError    *string       `json:"macs_error"`
	Taps         []tap         `json:"taps"`
	Weights      []onnx.Weight `json:"weights"` // nil where the model cannot be a student, for the reason in WeightsError
	WeightsError *string       `json:"weights_error"`
	Audit        onnx.Audit    `json:"audit"`
	Card         *card         `json:"card"`
}

type tap struct {
	onnx.Tap
	Shape []int `json:"shape"` // for one image; nil where it is not known
}

// card is a data.Card with keys that stay as they are.
type card struct {
	Preprocess    data.Preprocess `json:"preprocess"`
	Classes       []string        `json:"classes"`
	RecipeSHA256  string          `json:"recipe_sha256"`
	TeacherSHA256 string          `json:"teacher_sha256"`
}

func runInspect(o inspectOptions, stdout io.Writer) error {
	m, err := onnx.Read(o.model)
	if err != nil {
		return err
	}
	i, err := inspect(o, m)
	if err != nil {
		return fmt.Errorf("inspect %s: %w", o.model, err)
	}
	if o.json {
		return writeJSON(stdout, i)
	}
	if err := writeTable(stdout, i.facts()); err != nil {
		return err
	}
	fmt.Fprintln(stdout)
	if err := writeTable(stdout, i.tapRows(o.taps)); err != nil || !o.weights {
		return err
	}
	fmt.Fprintln(stdout)
	return writeTable(stdout, i.weightRows())
}

func inspect(o inspectOptions, m *onnx.Model) (inspection, error) {
	i := inspection{
		File: o.model, SHA256: m.SHA256(), Producer: m.Producer(), Opset: m.Opset(), Inputs: m.Inputs(), Outputs: m.Outputs(),
		Params: m.Params(), Taps: []tap{}, Audit: m.Audit(),
	}
	own, ok, err := data.ReadCard(m.Metadata())
	if err != nil {
		return inspection{}, err
	}
	if ok {
		c := card(own)
		i.Card = &c
	}
	shapes, macs, err := measure(m, own.Preprocess.Size, o.global)
	if err == nil {
		i.MACs = &macs
	} else {
		reason := err.Error()
		i.MACsError = &reason
	}
	for _, t := range m.Taps() {
		i.Taps = append(i.Taps, tap{t, shapes[t.Tensor]})
	}
	if !o.weights && !o.json {
		return i, nil
	}
	if n, err := m.Lift(onnx.Lifting{}); err == nil {
		i.Weights = n.Weights()
	} else {
		reason := err.Error()
		i.WeightsError = &reason
	}
	return i, nil
}

// measure returns the shapes of a model's tensors for one image, and its multiply-adds. The shapes may be known where the
// multiply-adds are not.
func measure(m *onnx.Model, size []int, g global) (shapes map[string][]int, macs int64, err error) {
	if err := g.init(); err != nil {
		return nil, 0, err
	}
	if shapes, err = trace(m, size, g.budget()); err != nil {
		return nil, 0, err
	}
	macs, _, err = m.MACs(shapes)
	return shapes, macs, err
}

// facts are the rows of the table of what the model is.
func (i inspection) facts() [][]string {
	macs, batch, own, custom := "", "dynamic", "none", "none"
	if i.MACs != nil {
		macs = grouped(*i.MACs) + " for one image"
	} else {
		macs = "not counted: " + *i.MACsError
	}
	if !i.Audit.DynamicBatch {
		batch = fmt.Sprintf("fixed at %d", i.Audit.Batch)
	}
	if i.Card != nil {
		p := i.Card.Preprocess
		own = fmt.Sprintf("mean %v, std %v, scale %.6g; %d class names", p.Mean, p.Std, p.Scale, len(i.Card.Classes))
	}
	if len(i.Audit.CustomDomains) > 0 {
		custom = strings.Join(i.Audit.CustomDomains, ", ")
	}
	norm := i.Audit.BatchNorm
	if n := i.Audit.BatchNormNodes; n > 0 {
		norm = fmt.Sprintf("present, %d nodes", n)
	}
	rows := [][]string{
		{"file", i.File},
		{"sha256", i.SHA256},
		{"producer", cmp.Or(i.Producer, "unknown")},
		{"opset", strconv.Itoa(i.Opset)},
	}
	rows = append(rows, valueRows("input", i.Inputs)...)
	rows = append(rows, valueRows("output", i.Outputs)...)
	return append(rows, [][]string{
		{"parameters", grouped(int64(i.Params))},
		{"multiply-adds", macs},
		{"batch", batch},
		{"batch norm", norm},
		{"gives", strings.ReplaceAll(i.Audit.Output, "_", " ")},
		{"external data", yesNo(i.Audit.ExternalData)},
		{"custom domains", custom},
		{"card", own},
	}...)
}

func valueRows(kind string, values []onnx.Value) [][]string {
	var rows [][]string
	for _, v := range values {
		dims := make([]string, len(v.Shape))
		for i, d := range v.Shape {
			dims[i] = d.String()
		}
		rows = append(rows, []string{kind, v.Name, fmt.Sprintf("%s[%s]", v.DType, strings.Join(dims, ","))})
	}
	return rows
}

// Without --taps, as many taps are shown at each end.
const tapsShown = 4

// tapRows are the rows of the table of taps.
func (i inspection) tapRows(all bool) [][]string {
	rows := [][]string{{fmt.Sprintf("%d taps", len(i.Taps)), "operator", "shape for one image"}}
	hidden := len(i.Taps) - 2*tapsShown
	for n, t := range i.Taps {
		if !all && hidden > 0 && n >= tapsShown && n < tapsShown+hidden {
			if n == tapsShown {
				rows = append(rows, []string{fmt.Sprintf("… %d more, --taps lists them", hidden), "", ""})
			}
			continue
		}
		shape := "unknown"
		if t.Shape != nil {
			shape = graph.Shape(t.Shape).String()
		}
		rows = append(rows, []string{t.Tensor, t.Op, shape})
	}
	return rows
}

// weightRows are the rows of the table of weights.
func (i inspection) weightRows() [][]string {
	if i.WeightsError != nil {
		return [][]string{{"weights", "not listed: " + *i.WeightsError}}
	}
	rows := [][]string{{fmt.Sprintf("%d weights", len(i.Weights)), "shape", "read by", "trained"}}
	for _, w := range i.Weights {
		rows = append(rows, []string{w.Name, graph.Shape(w.Shape).String(), cmp.Or(w.Node, w.Op), yesNo(w.Trained)})
	}
	return rows
}
