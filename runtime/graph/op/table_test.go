package op_test

import (
	"slices"
	"testing"

	"distill/runtime/graph/op"
)

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
