package adapter_test

import (
	"encoding/json"
	"math"
	"os"
	"strings"
	"testing"

	"distill/runtime/graph"
	"distill/runtime/runtimetest"
)

// golden is a case of testdata/goldens/adapters.json; adapters.py says how it was made.
type golden struct {
	Adapter, Settings string
	Student, Teacher  graph.Shape
	Output, Gradient  []float64
	Parameters        map[string]struct {
		Shape    graph.Shape
		K        int
		Gradient []float64
	}
}

func TestAdaptersEqualPyTorch(t *testing.T) {
	b, err := os.ReadFile("../../testdata/goldens/adapters.json")
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]golden
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	for name, want := range all {
		t.Run(name, func(t *testing.T) {
			s, err := decode("{adapter: " + want.Adapter + ", " + want.Settings[1:])
			if err != nil {
				t.Fatal(err)
			}
			p := training(t, s.Adapter, want.Student, want.Teacher)
			in := map[string]graph.Array{
				"student": runtimetest.Filled(want.Student, func(i float64) float64 { return math.Sin(12.9898 * (i + 1)) }),
				"teacher": runtimetest.Filled(want.Teacher, func(i float64) float64 { return math.Cos(2.3*i + 0.5) }),
			}
			params := 0
			for _, l := range p.Stored {
				short := strings.TrimPrefix(l.Name, "a.")
				g, known := want.Parameters[short]
				switch {
				case l.Name == "student":
				case l.Kind == graph.State: // a running statistic, which training only writes
					in[l.Name] = graph.Zeros(l.Shape)
				case !known || !g.Shape.Equal(l.Shape):
					t.Fatalf("parameter %s is %v, in PyTorch %v", l.Name, l.Shape, g.Shape)
				default:
					params++
					mean := 0.0
					if strings.HasSuffix(l.Name, "weight") && len(l.Shape) == 1 { // of a norm
						mean = 1
					}
					in[l.Name] = runtimetest.Filled(l.Shape, func(i float64) float64 { return 0.5*math.Sin(0.7*i+float64(g.K)) + mean })
				}
			}
			if params != len(want.Parameters) {
				t.Errorf("%d parameters, in PyTorch %d", params, len(want.Parameters))
			}
			out := onTape(t, p, in)
			near(t, "y", out["y"].F, want.Output, 1e-9)
			near(t, "gradient of the student", out["dstudent"].F, want.Gradient, 1e-9)
			for part, g := range want.Parameters {
				near(t, "gradient of "+part, out["da."+part].F, g.Gradient, 1e-9)
			}
		})
	}
}

// near fails unless |Δ| ≤ tolerance·max(1, |want|) everywhere.
func near[T float32 | float64](t *testing.T, what string, got []T, want []float64, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s has %d elements, want %d", what, len(got), len(want))
	}
	for i, w := range want {
		if d := math.Abs(float64(got[i]) - w); !(d <= tolerance*math.Max(1, math.Abs(w))) {
			t.Fatalf("%s[%d] is %.12g, want %.12g", what, i, got[i], w)
		}
	}
}
