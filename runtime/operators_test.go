package runtime

import (
	"cmp"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"distill/runtime/graph/onnx"
	"distill/runtime/graph/op"
)

var update = flag.Bool("update", false, "write docs/operators.md")

// archived is what TestONNXNodeCases finds in the archive of all of ONNX 1.12's cases.
var archived = tally{passed: 343, refused: 10, outside: 556, reasons: map[error]int{
	outside("another operator"):                   267,
	outside("integers and booleans"):              201,
	outside("floats other than float32"):          55,
	outside("strings"):                            12,
	constant:                                      10,
	outside("a sequence or an optional"):          9,
	outside("tensors without elements"):           2,
	refused("windows of one or three dimensions"): 4,
	refused("batch norm in training mode"):        2,
	refused("an empty slice"):                     1,
	refused("column-major indices"):               1,
	refused("dilated pooling"):                    1,
	refused("slicing backwards"):                  1,
}}

// because lists the reasons of one type with their counts, the most frequent first.
func because[R error](c tally) string {
	var list []string
	for _, r := range c.sorted() {
		if _, ok := r.(R); ok {
			list = append(list, fmt.Sprintf("%v %d", r, c.reasons[r]))
		}
	}
	return strings.Join(list, "; ")
}

// since is the opset that brought an operator, where that is after the oldest of the table.
var since = map[string]int{
	"Celu": 12, "Einsum": 12, "Gelu": 20, "GreaterOrEqual": 12, "GroupNormalization": 18, "HardSwish": 14, "LayerNormalization": 17, "LessOrEqual": 12,
	"Mish": 18,
}

const oldest, newest = 11, 21

// inputNames are ONNX's for the inputs that a gradient may flow to, in the order of the examples' inputs; X where none is given.
var inputNames = map[string]string{
	"Add": "A, B", "BatchNormalization": "X, scale, B", "BatchNormalizationTraining": "X, scale, B", "Cast": "input", "Clip": "input",
	"Concat": "inputs", "Conv": "X, W, B", "Cos": "input", "DepthToSpace": "input", "Div": "A, B", "Dropout": "data", "Einsum": "inputs", "Erf": "input",
	"Exp": "input", "Expand": "input", "Flatten": "input", "Gather": "data", "Gemm": "A, B, C", "GroupNormalization": "X, scale, bias",
	"Identity": "input", "InstanceNormalization": "input, scale, B", "LayerNormGemm": "X, Scale, B, W, C",
	"LayerNormalization": "X, Scale, B", "Log": "input",
	"LogSoftmax": "input", "LpNormalization": "input", "MatMul": "A, B", "Max": "inputs", "Mean": "inputs", "Min": "inputs",
	"Mul": "A, B", "PRelu": "X, slope", "Pad": "data", "Pow": "X, Y", "ReduceL1": "data", "ReduceL2": "data", "ReduceLogSum": "data",
	"ReduceLogSumExp": "data", "ReduceMax": "data", "ReduceMean": "data", "ReduceMin": "data", "ReduceSum": "data",
	"ReduceSumSquare": "data", "Reshape": "data", "Sigmoid": "X", "Sign": "input", "Sin": "input", "Slice": "data", "Softmax": "input",
	"Softsign": "input", "SpaceToDepth": "input", "Split": "input", "Squeeze": "data", "Sub": "A, B", "Sum": "inputs", "Tanh": "input",
	"Transpose": "data", "Unsqueeze": "data", "Where": "X, Y",
}

// document writes the table of operators for people.
func document(t *testing.T) string {
	var b strings.Builder
	all := archived.passed + archived.refused
	fmt.Fprintf(&b, `# Operators

What networks, losses and gradients are made of, generated from the code by `+"`go test ./runtime -run Documented -update`"+`. An
ONNX file can be trained if its operators are in the table with opsets. Shape arithmetic on constants is folded, and an operator
that is not here is refused by an error that names its node.

- **Opsets** of a file in which the operator is read: from the one that brought it, or from %[1]d, to %[2]d, with what they write
  otherwise. Older forms, from opset 7 on, are read as well; models/mnist_cntk.onnx is of opset 8. "–" is no ONNX operator: it is
  used in training.
- **Gradient**: the inputs, by ONNX's names, with respect to which there is one; "–" is none.
- **Tested by** examples, each against PyTorch in float64 (the value, and each gradient, to 1e-10), by central differences of each
  gradient, and on both engines for each of five targets: plain ONNX, what every provider has, ONNX Runtime's fused operators,
  its blocked convolution, and that by Winograd.
  Random shapes and attributes are drawn anew for every operator, and tested on both engines for all targets and by central
  differences; shapes that do not fit must be an error. ONNX's are the single-operator cases on float32 tensors that lie in
  testdata/onnx-node, and how many of them pass on both engines; the others are of forms that are refused.

%[3]sAll are run by
`+"`DISTILL_ONNX_CASES=onnx-node-tests.tar.gz go test ./runtime -run ONNXNodeCases -v`"+`.

| operator | opsets | gradient | tested by |
|---|---|---|---|
`, oldest, newest, wrapped(fmt.Sprintf("Of ONNX 1.12's %d single-operator cases, %d use operators of the table on float32 tensors: %d pass on "+
		"both engines, and %d are of forms that are refused (%s). The other %d lie outside: %s.",
		all+archived.outside, all, archived.passed, archived.refused, because[refused](archived), archived.outside, because[outside](archived))))
	cases := casesByOperator(t)
	for _, row := range op.Table {
		tested := fmt.Sprintf("%d examples", len(row.Examples))
		if len(row.Examples) == 1 {
			tested = "1 example"
		}
		if draws[row.Name] != nil {
			tested += ", random shapes"
		}
		if c := cases[row.Name]; c.passed+c.refused > 0 {
			tested += fmt.Sprintf(", %d of ONNX's %d", c.passed, c.passed+c.refused)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", row.Name, opsets(row), gradient(t, row), tested)
	}
	return b.String()
}

// wrapped breaks a paragraph into lines.
func wrapped(paragraph string) string {
	const width = 125
	var b strings.Builder
	column := 0
	for _, word := range strings.Fields(paragraph) {
		switch {
		case column == 0:
		case column+1+len(word) > width:
			b.WriteByte('\n')
			column = 0
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String() + "\n"
}

// opsets are those in which the row's operator is read, with what differs between them.
func opsets(row op.Row) string {
	if row.Lift == nil {
		return "–"
	}
	s := fmt.Sprintf("%d–%d", max(oldest, since[row.Name]), newest)
	for _, f := range forms() {
		if f.op == row.Name && f.note != "" && f.opset >= oldest {
			s += "; " + f.note
		}
	}
	return s
}

// gradient names the inputs that the row's examples differentiate by.
func gradient(t *testing.T, row op.Row) string {
	inputs, differentiated := 0, 0
	for _, e := range row.Examples {
		n := e.Wrt
		if n == 0 {
			n = len(e.In)
		}
		inputs, differentiated = max(inputs, len(e.In)), max(differentiated, n)
	}
	all := cmp.Or(inputNames[row.Name], "X")
	names := strings.Split(all, ", ")
	switch {
	case differentiated == 0:
		return "–"
	case all == "inputs":
		return all
	case differentiated > len(names):
		t.Errorf("%s has %d inputs and the names %q: add to inputNames", row.Name, inputs, all)
		return all
	}
	return strings.Join(names[:differentiated], ", ")
}

// casesByOperator counts the kept cases that are run.
func casesByOperator(t *testing.T) map[string]tally {
	t.Helper()
	models, err := filepath.Glob("../testdata/onnx-node/*/model.onnx")
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]tally{}
	for _, path := range models {
		m, err := onnx.Read(path)
		if err != nil {
			t.Fatal(err)
		}
		taps := m.Taps()
		if len(taps) == 0 {
			continue // a Constant
		}
		c := cases[taps[0].Op]
		switch err := conforms(filepath.Dir(path)).(type) {
		case nil:
			c.passed++
		case refused:
			c.refused++
		case outside:
		default:
			t.Errorf("%s: %v", path, err)
		}
		cases[taps[0].Op] = c
	}
	return cases
}

func TestOperatorsAreDocumented(t *testing.T) {
	testInit(t)
	const path = "../docs/operators.md"
	want := document(t)
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s is not what the table says (%v); write it by -update", path, err)
	}
	if archive := os.Getenv("DISTILL_ONNX_CASES"); archive != "" {
		found := conform(t, unpack(t, archive))
		if found.passed != archived.passed || found.refused != archived.refused || found.outside != archived.outside ||
			!maps.Equal(found.reasons, archived.reasons) {
			t.Errorf("of all cases, %v\nput that into archived", found)
		}
	}
}

func TestFactsAreOfOperatorsOfTheTable(t *testing.T) {
	known := func(name string) bool {
		return slices.ContainsFunc(op.Table, func(row op.Row) bool { return row.Name == name })
	}
	names := slices.Concat(slices.Collect(maps.Keys(since)), slices.Collect(maps.Keys(inputNames)), slices.Collect(maps.Keys(draws)))
	for _, f := range forms() {
		names = append(names, f.op)
	}
	for _, name := range names {
		if !known(name) {
			t.Errorf("%s has no row", name)
		}
	}
}
