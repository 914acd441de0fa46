package runtime

import (
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

var (
	firstSeed = flag.Uint64("seed", 1, "of the first random draw of each operator")
	drawn     = flag.Int("draws", 0, "how many random draws of each operator; 0: 12, with -short 3, with DISTILL_LONG 1000")
)

// eachDraw runs a check on random draws of each operator of the table. A draw depends on the operator's name and its seed
// alone; the first that fails ends its operator's.
func eachDraw(t *testing.T, check func(d dice, e op.Example) error) {
	testInit(t)
	n := 12
	switch {
	case *drawn > 0:
		n = *drawn
	case os.Getenv("DISTILL_LONG") != "":
		n = 1000
	case testing.Short():
		n = 3
	}
	for _, row := range op.Table {
		t.Run(row.Name, func(t *testing.T) {
			draw, ok := draws[row.Name]
			if !ok {
				t.Fatal("no draws: add the operator to those of draw_test.go")
			}
			h := fnv.New64a()
			h.Write([]byte(row.Name))
			for seed := *firstSeed; seed < *firstSeed+uint64(n); seed++ {
				d := dice{rand.New(rand.NewPCG(seed, h.Sum64()))}
				e := draw(d)
				if err := check(d, e); err != nil {
					t.Fatalf("of %v: %v\nagain by: go test ./runtime -run '^%s$' -seed %d -draws 1", e.In, err, t.Name(), seed)
				}
			}
		})
	}
}

func TestRandomDrawsAgreeOnBothEnginesAndWithDifferences(t *testing.T) {
	eachDraw(t, func(d dice, e op.Example) error {
		p, err := e.Program()
		if err != nil {
			return err
		}
		whole := d.chance(0.25)
		in := d.values(e, whole)
		if err := enginesAgree(p, in, largest); err != nil || whole {
			return err
		}
		return differencesAgree(p, in)
	})
}

// Shapes that fit an operator are changed until they may not. What is built all the same must run, on both engines to the same.
func TestRandomShapesThatDoNotFitAreATypedError(t *testing.T) {
	eachDraw(t, func(d dice, e op.Example) error {
		i := d.IntN(len(e.In))
		e.In = slices.Clone(e.In)
		e.In[i] = d.spoiled(e.In[i])
		p, err := built(e)
		var mistake *graph.Error
		switch {
		case errors.As(err, &mistake):
			return nil
		case err != nil:
			return fmt.Errorf("as %v: %w", e.In, err)
		}
		if err := enginesAgree(p, d.values(e, true), largest); err != nil {
			return fmt.Errorf("as %v: %w", e.In, err)
		}
		return nil
	})
}

// spoiled is a shape with an axis more, an axis less, or another size of one.
func (d dice) spoiled(s graph.Shape) graph.Shape {
	s = s.Clone()
	i := d.IntN(len(s) + 1)
	switch {
	case i == len(s) || d.chance(0.3):
		return slices.Insert(s, i, d.size())
	case d.chance(0.4):
		return slices.Delete(s, i, i+1)
	}
	s[i] = among(d, s[i]+1, s[i]-1, 2*s[i], 1, 0)
	return s
}

// built is the example's program; a panic becomes an error.
func built(e op.Example) (p *graph.Program, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	return e.Program()
}

// fewElements is of how many elements, at most, the differences are taken: two runs each.
const fewElements = 40

// differencesAgree compares the gradients of an example's cost with its central differences.
func differencesAgree(p *graph.Program, in []graph.Array) error {
	all := 0
	for _, a := range in {
		all += len(a.F)
	}
	if all > fewElements {
		return nil
	}
	tape, err := graph.NewTape(p)
	if err != nil {
		return err
	}
	defer tape.Close()
	at := func(k, i int, v float64) (float64, error) {
		moved := slices.Clone(in)
		moved[k].F = slices.Clone(in[k].F)
		moved[k].F[i] = v
		out, err := evalOn(tape, moved)
		return out["cost"].F[0], err
	}
	grads, err := onTape(p, in) // another tape's: the runs below may write over this one's
	if err != nil {
		return err
	}
	const h = 1e-5
	for k, a := range in {
		grad, ok := grads[fmt.Sprintf("d%d", k)]
		if !ok {
			continue
		}
		for i, x := range a.F {
			up, err := at(k, i, x+h)
			if err != nil {
				return err
			}
			down, err := at(k, i, x-h)
			if err != nil {
				return err
			}
			if got := (up - down) / (2 * h); !(math.Abs(got-grad.F[i]) <= 1e-6*math.Max(1, math.Abs(got))) {
				return fmt.Errorf("d%d[%d]: central difference %.9g, gradient %.9g", k, i, got, grad.F[i])
			}
		}
	}
	return nil
}
