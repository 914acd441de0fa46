package op_test

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"distill/runtime/graph/op"
)

var update = flag.Bool("update", false, "write docs/operators.md")

// document writes the table of operators for people.
func document() string {
	var b strings.Builder
	b.WriteString(`# Operators

What networks, losses and gradients are made of, generated from ` + "`op.Table`" + ` by
` + "`go test ./runtime/graph/op -run Documented -update`" + `. An ONNX file can be trained if its operators are in the table with a
form to be read; each is read in the forms that opsets 11 to 21 give it, shape arithmetic on constants is folded, and an
operator that is not here is refused by an error that names its node.

"Gradient" says with respect to which inputs; "–" is none. Every example is checked for its gradient by central differences,
against PyTorch in float64 (value and gradients to 1e-10), and between both engines on each of three targets: plain ONNX,
ONNX Runtime's fused operators, and its blocked convolution.

Of ONNX 1.12's 909 single-operator cases, 355 use operators of the table on float32 tensors: 341 pass on both engines, 14 are
forms that are refused (1-D and 3-D windows 4, batch norm in training mode 2, ceil_mode 2, and one each of allowzero, an empty
slice, a backward slice, column-major indices, dilated pooling, padding by other than zeros). The other 554: another operator
267, integers and booleans 201, other float types 55, strings 12, constants alone, which are folded, 10, sequences and
optionals 9. The cases that matter are kept in testdata/onnx-node;
` + "`DISTILL_ONNX_CASES=onnx-node-tests.tar.gz go test ./runtime -run ONNXNodeCases -v`" + ` runs an archive of all.

| operator | gradient | read from ONNX | examples |
|---|---|---|---|
`)
	for _, row := range op.Table {
		inputs := 0
		wrt := map[int]bool{}
		for _, e := range row.Examples {
			inputs = max(inputs, len(e.In))
			n := e.Wrt
			if n == 0 {
				n = len(e.In)
			}
			for i := range max(n, 0) {
				wrt[i] = true
			}
		}
		gradient := "–"
		switch {
		case len(wrt) == inputs:
			gradient = "all inputs"
		case len(wrt) == 1:
			gradient = "the first input"
		case len(wrt) > 1:
			gradient = fmt.Sprintf("the first %d inputs", len(wrt))
		}
		read := "yes"
		if row.Lift == nil {
			read = "–"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %d |\n", row.Name, gradient, read, len(row.Examples))
	}
	return b.String()
}

func TestOperatorsAreDocumented(t *testing.T) {
	const path = "../../../docs/operators.md"
	want := document()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s is not what the table says (%v); write it by -update", path, err)
	}
}

func TestRowsAreInOrderAndOnce(t *testing.T) {
	var names []string
	for _, row := range op.Table {
		names = append(names, row.Name)
	}
	if !slices.IsSorted(names) {
		t.Error("the rows are not in alphabetical order")
	}
	if n := len(slices.Compact(slices.Clone(names))); n != len(names) {
		t.Errorf("%d rows, %d names", len(names), n)
	}
}
