package op_test

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

func each(t *testing.T, check func(t *testing.T, e op.Example)) {
	for _, row := range op.Table {
		for i, e := range row.Examples {
			t.Run(fmt.Sprintf("%s/%d", row.Name, i), func(t *testing.T) { check(t, e) })
		}
	}
}

func eval(t *testing.T, tape *graph.Tape, in []graph.Array) map[string]graph.Array {
	t.Helper()
	named := map[string]graph.Array{}
	for k, a := range in {
		named[fmt.Sprint(k)] = a
	}
	out, _, err := tape.Eval(named)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestGradientsEqualCentralDifferences(t *testing.T) {
	each(t, func(t *testing.T, e op.Example) {
		p, err := e.Program()
		if err != nil {
			t.Fatal(err)
		}
		tape, err := graph.NewTape(p)
		if err != nil {
			t.Fatal(err)
		}
		defer tape.Close()
		in := e.Inputs()
		grads := eval(t, tape, in)
		grads = maps.Clone(grads)
		const h = 1e-5
		for k := range in {
			want, ok := grads[fmt.Sprintf("d%d", k)]
			if !ok {
				continue
			}
			for i := range in[k].F {
				moved := slices.Clone(in)
				moved[k].F = slices.Clone(in[k].F)
				moved[k].F[i] += h
				up := eval(t, tape, moved)["cost"].F[0]
				moved[k].F[i] -= 2 * h
				down := eval(t, tape, moved)["cost"].F[0]
				if got := (up - down) / (2 * h); math.Abs(got-want.F[i]) > 1e-6*math.Max(1, math.Abs(got)) {
					t.Fatalf("input %d element %d: central difference %.9g, gradient %.9g", k, i, got, want.F[i])
				}
			}
		}
	})
}
