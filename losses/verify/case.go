package verify

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	G "gorgonia.org/gorgonia"

	"distill/internal/strictyaml"
	"distill/losses"
	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// Case is a loss with its settings on given inputs, and what it must come to.
type Case struct {
	Loss     string `json:"loss"`     // a name in losses.Table, and of the term
	Variant  string `json:"variant"`  // names the settings
	Settings string `json:"settings"` // YAML of the loss; "" for its defaults
	Case     string `json:"case"`     // names the inputs

	Standardize bool               `json:"standardize"` // logits, as a recipe's `standardize: true`
	Student     *Tensor            `json:"student"`     // logits [N,K]; nil for a loss that does not read them
	Teacher     *Tensor            `json:"teacher"`     // logits [N,K]
	Labels      []int64            `json:"labels"`      // [N]
	Index       []int64            `json:"index"`       // [N]
	Pairs       []Pair             `json:"pairs"`
	Classifier  *Classifier        `json:"classifier"` // the teacher's
	Head        *Classifier        `json:"head"`       // the student's: its logits are those of the last pair's map, averaged; Student is not read
	Params      map[string]Tensor  `json:"params"`     // the loss's own, without the prefix of their names
	States      map[string]Tensor  `json:"states"`     // likewise; those left out are as at the start of a run
	Host        map[string]Tensor  `json:"host"`       // likewise: inputs that a losses.Host feeds
	Knobs       map[string]float64 `json:"knobs"`      // without the term's name; those left out have their defaults

	Value     float64              `json:"value"`     // unweighted
	Gradients map[string][]float64 `json:"gradients"` // by "student", "pairs.0.student", "head.weight", "params.<name>"; none where the loss has no path
}

// Tensor is a row-major array.
type Tensor struct {
	Shape []int     `json:"shape"`
	Data  []float64 `json:"data"`
}

// Pair is a losses.Pair.
type Pair struct {
	Student Tensor    `json:"student"`
	Teacher Tensor    `json:"teacher"`
	Gamma   []float64 `json:"gamma"` // of the norm, with Beta; empty where there is none
	Beta    []float64 `json:"beta"`
}

// Classifier is a losses.Classifier.
type Classifier struct {
	Weight Tensor `json:"weight"`
	Bias   Tensor `json:"bias"`
}

// Names in the program of a case. The student's tensors are parameters of it, so that they get gradients as the loss's own do.
const (
	studentName    = "student"
	headWeight     = "head.weight"
	headBias       = "head.bias"
	valueOutput    = "value"
	gradientPrefix = "gradient."
)

func pairStudent(i int) string { return fmt.Sprintf("pairs.%d.student", i) }
func pairTeacher(i int) string { return fmt.Sprintf("pairs.%d.teacher", i) }

// New is the case's loss with its settings.
func (c *Case) New() (losses.Loss, error) {
	row, ok := losses.Lookup(c.Loss)
	if !ok {
		return nil, fmt.Errorf("there is no loss %q", c.Loss)
	}
	loss := row.New()
	if err := strictyaml.Decode([]byte(c.Settings), "settings", loss, nil); err != nil {
		return nil, err
	}
	return loss, loss.Validate()
}

// Program computes the outputs "value", and "gradient.NAME" for each tensor that the loss depends on, under the names that
// Gradients has.
func (c *Case) Program() (*graph.Program, error) {
	loss, err := c.New()
	if err != nil {
		return nil, err
	}
	return graph.Build(graph.Training, func(g *graph.Graph) {
		term := losses.Weighted{Name: c.Loss, Loss: loss, Weight: 1, Standardize: c.Standardize}
		for i, p := range c.Pairs {
			pair := losses.Pair{
				Student: g.Param(pairStudent(i), p.Student.Shape, graph.Constant(0)),
				Teacher: g.Input(pairTeacher(i), graph.Float32, p.Teacher.Shape...),
				Shape:   p.Teacher.Shape,
			}
			if len(p.Gamma) > 0 {
				pair.Norm = &losses.Norm{Gamma: p.Gamma, Beta: p.Beta}
			}
			term.Pairs = append(term.Pairs, pair)
			g.Idle(pair.Student)
		}
		if c.Classifier != nil {
			term.Classifier = &losses.Classifier{Weight: c.Classifier.Weight.array(), Bias: c.Classifier.Bias.array()}
		}
		student := c.student(g, term.Pairs)
		g.Idle(student)
		value := loss.Build(losses.NewInputs(g, student).For(term))
		g.Output(valueOutput, value)
		for _, d := range g.Grad(value) {
			name := d.Name
			if part, own := strings.CutPrefix(name, losses.Prefix(c.Loss)+"."); own {
				name = "params." + part
			}
			g.Output(gradientPrefix+name, d.Grad)
		}
	})
}

// Inputs are all that the program reads: what the case gives, defaults of knobs, and of stored tensors what a run starts with.
func (c *Case) Inputs(p *graph.Program) (map[string]graph.Array, error) {
	in := map[string]graph.Array{}
	if c.Head != nil {
		in[headWeight], in[headBias] = c.Head.Weight.array(), c.Head.Bias.array()
	} else {
		in[studentName] = c.logits().array()
	}
	if c.Teacher != nil {
		in[losses.TeacherInput] = c.Teacher.array()
	}
	for name, v := range map[string][]int64{losses.LabelsInput: c.Labels, losses.IndexInput: c.Index} {
		if v != nil {
			in[name] = graph.Array{Shape: graph.Shape{len(v)}, I: v}
		}
	}
	for i, pair := range c.Pairs {
		in[pairStudent(i)], in[pairTeacher(i)] = pair.Student.array(), pair.Teacher.array()
	}
	for _, own := range []map[string]Tensor{c.Params, c.States, c.Host} {
		for part, t := range own {
			in[losses.Prefix(c.Loss)+"."+part] = t.array()
		}
	}
	for name, v := range c.Knobs {
		in[c.Loss+"."+name] = graph.Array{Shape: graph.Shape{}, F: []float64{v}}
	}
	return in, complete(in, p)
}

// complete adds what the program reads besides, and refuses what it does not read: a name that is misspelt.
func complete(in map[string]graph.Array, p *graph.Program) error {
	leaves := slices.Concat(p.Inputs, p.Stored)
	for name := range in {
		optional := name == losses.TeacherInput || name == losses.LabelsInput || name == losses.IndexInput
		if !optional && !slices.ContainsFunc(leaves, func(l graph.Leaf) bool { return l.Name == name }) {
			return fmt.Errorf("the loss does not read %s", name)
		}
	}
	for _, l := range leaves {
		switch a, ok := in[l.Name]; {
		case ok && a.I != nil && l.DType != graph.Int64, ok && a.I == nil && l.DType == graph.Int64 && len(a.F) == 0:
			return fmt.Errorf("%s must be %v", l.Name, l.DType)
		case ok && l.DType == graph.Int64 && a.I == nil: // an input of a host, which JSON does not tell from floats
			a.I = make([]int64, len(a.F))
			for i, v := range a.F {
				a.I[i] = int64(v)
			}
			a.F = nil
			in[l.Name] = a
		case ok:
		case l.Knob:
			in[l.Name] = graph.Array{Shape: graph.Shape{}, F: []float64{decimal(l.Default)}}
		case l.Keep > 0: // a mask of a run's first step
			in[l.Name] = drawn(l)
		case l.Init != nil:
			in[l.Name] = initial(l)
		default:
			return fmt.Errorf("the case has no value of %s", l.Name)
		}
		if got := in[l.Name]; !got.Shape.Equal(l.Shape) || max(len(got.F), len(got.I)) != got.Shape.Size() {
			return fmt.Errorf("the case gives %s as %d elements of shape %v, the loss takes %v", l.Name, max(len(got.F), len(got.I)), got.Shape, l.Shape)
		}
	}
	return nil
}

// student is the logits: what the head makes of the last pair, or parameters themselves.
func (c *Case) student(g *graph.Graph, pairs []losses.Pair) *G.Node {
	if c.Head == nil || len(pairs) == 0 {
		return g.Param(studentName, c.logits().Shape, graph.Constant(0))
	}
	w := g.Param(headWeight, c.Head.Weight.Shape, graph.Constant(0))
	b := g.Param(headBias, c.Head.Bias.Shape, graph.Constant(0))
	last := pairs[len(pairs)-1].Student
	return op.Gemm(op.Flatten(op.GlobalAveragePool(last)), w, b)
}

// drawn is a mask.
func drawn(l graph.Leaf) graph.Array {
	a := graph.Zeros(l.Shape)
	for i, v := range l.Draw(1, 0).F {
		a.F[i] = float64(v)
	}
	return a
}

// initial is what a stored tensor starts with.
func initial(l graph.Leaf) graph.Array {
	h := fnv.New64a()
	h.Write([]byte(l.Name))
	values := make([]float32, l.Shape.Size())
	l.Init(values, l.Shape, rand.New(rand.NewPCG(1, h.Sum64())))
	a := graph.Zeros(l.Shape)
	for i, v := range values {
		a.F[i] = float64(v)
	}
	return a
}

// decimal is the number that was written and rounded to v: 0.1, not 0.100000001.
func decimal(v float32) float64 {
	d, _ := strconv.ParseFloat(strconv.FormatFloat(float64(v), 'g', -1, 32), 64)
	return d
}

// gradientOf is the tensor that an output is the gradient of; "" for another output.
func gradientOf(output string) string {
	if name, ok := strings.CutPrefix(output, gradientPrefix); ok {
		return name
	}
	return ""
}

func (t Tensor) array() graph.Array { return graph.Array{Shape: t.Shape, F: t.Data} }

// logits are the student's; zeros of two classes for a loss that does not read them.
func (c *Case) logits() Tensor {
	if c.Student != nil {
		return *c.Student
	}
	n := 1
	switch {
	case len(c.Pairs) > 0 && len(c.Pairs[0].Student.Shape) > 0:
		n = c.Pairs[0].Student.Shape[0]
	case len(c.Labels) > 0:
		n = len(c.Labels)
	}
	k := 2
	if c.Classifier != nil && len(c.Classifier.Weight.Shape) > 0 {
		k = c.Classifier.Weight.Shape[0]
	}
	if c.Teacher != nil {
		return Tensor{c.Teacher.Shape, make([]float64, len(c.Teacher.Data))}
	}
	return Tensor{[]int{n, k}, make([]float64, n*k)}
}
