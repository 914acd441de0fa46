package adapter

import (
	"fmt"
	"math"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// pair is a student's tensor and a teacher's, as an adapter sees them.
type pair struct {
	adapter string // whose it is
	name    string // of its parameters
	s, t    graph.Shape
}

// pairOf reads the shapes of two tensors, which must be vectors, tokens or maps of one batch.
func pairOf(adapter, name string, student, teacher *G.Node) pair {
	p := pair{adapter, name, graph.ShapeOf(student), graph.ShapeOf(teacher)}
	if kind(p.s) == "" || kind(p.t) == "" || p.s[0] != p.t[0] {
		p.fail("the two must be vectors [N,D], tokens [N,L,D] or maps [N,C,H,W] of one batch; tap others")
	}
	return p
}

// fail ends the description with an error that names the adapter and both shapes, the student's first.
func (p pair) fail(format string, args ...any) {
	graph.Fail(fmt.Sprintf("adapter %s (%s)", p.name, p.adapter), []graph.Shape{p.s, p.t}, format, args...)
}

// want fails unless the tensors are what the adapter takes.
func (p pair) want(fits bool, what string) {
	if !fits {
		p.fail("it takes %s, not a student's %s and a teacher's %s; %s", what, kind(p.s), kind(p.t), p.way())
	}
}

// grid lays tokens out in the aspect of h:w, or fails.
func (p pair) grid(tokens, h, w int) grid {
	gr, ok := gridOf(tokens, h, w)
	if !ok {
		p.fail("%d tokens fill no grid of the aspect %d:%d, with or without a class token; %s", tokens, h, w, p.way())
	}
	return gr
}

// way is the way out of a pair that does not fit.
func (p pair) way() string {
	if other, _ := Propose(p.s, p.t); other != "" && other != p.adapter {
		return fmt.Sprintf("use the adapter %s, or tap other tensors", other)
	}
	return "tap other tensors"
}

// kind names what a tensor of a shape holds; "" where no adapter knows it.
func kind(s graph.Shape) string {
	return map[int]string{2: "vectors", 3: "tokens", 4: "maps"}[len(s)]
}

// grid is how tokens lie in an image.
type grid struct {
	h, w  int
	class bool // whether one more, the class's, comes first
}

// gridOf lays L tokens, or one less where the first is the class's, out in rows and columns of the aspect of h:w. No number
// of tokens can be read both ways, but 1, which is a patch. Where it can be read in neither, ok is false.
func gridOf(tokens, h, w int) (gr grid, ok bool) {
	for class, n := range []int{tokens, tokens - 1} {
		rows := int(math.Round(math.Sqrt(float64(n) * float64(h) / float64(w))))
		if rows < 1 || n%rows != 0 {
			continue
		}
		if columns := n / rows; rows*w == columns*h {
			return grid{rows, columns, class == 1}, true
		}
	}
	return grid{}, false
}
