package adapter

import (
	"fmt"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/nn"
	"distill/runtime/graph/op"
)

// Attention gives every place of the teacher's tensor a query, whose answer an attention mixes from keys and values of the
// student's. Queries go through a 1x1 convolution, group norm and GELU. Both tensors may be maps, tokens or vectors, a vector
// being one token; the result has the teacher's shape. Inside, tokens have the teacher's width, rounded up to what heads and
// groups share. It is to be compared with a fixed, normalised tensor of the teacher: with the student's own, a constant wins.
//
// What asks is learnt for each place, "position", as is what is added to the key of each of the student's: the result is then
// made of the student's tensor alone, and near the teacher's only if the student's says what the teacher's does. The form with
// the teacher's own tensor as what asks, "teacher", past which no gradient goes, knows the answer when it asks. Only where all
// tokens of the student are alike does nothing of that get past the attention, for then every query has one answer. Tokens
// that differ, be it by their place alone, are a code book from which queries put together what they know: students without
// a trace of the image then reach a low loss, too.
type Attention struct {
	Query  string `yaml:"query"`  // what asks: "position" or "teacher"; default "position"
	Heads  int    `yaml:"heads"`  // of the attention; default 4
	Groups int    `yaml:"groups"` // of the queries' norm; default 4
}

// mostScores bounds what an attention computes, which grows with the square of the maps' pixels: 1 GiB in float32.
const mostScores = 1 << 28

// Validate wants a known query, heads and groups.
func (a *Attention) Validate() error {
	if a.Query != "position" && a.Query != "teacher" {
		return fmt.Errorf("query must be position or teacher, not %q", a.Query)
	}
	for _, s := range []struct {
		key  string
		size int
	}{{"heads", a.Heads}, {"groups", a.Groups}} {
		if s.size < 1 || s.size > 64 {
			return fmt.Errorf("%s must be in 1..64, not %d", s.key, s.size)
		}
	}
	return nil
}

// Build describes name.conv, name.norm and name.attention and, where places ask, name.query [1,L,D] and name.key [1,M,D'].
func (a *Attention) Build(g *graph.Graph, name string, student, teacher *G.Node) *G.Node {
	p := pairOf("attention", name, student, teacher)
	if err := a.Validate(); err != nil {
		p.fail("%v", err)
	}
	asked := tokensOf(op.StopGradient(teacher)) // [N,L,D]
	values := tokensOf(student)                 // [N,M,D']
	keys := values
	if a.Query == "position" {
		asked = learnt(g, name+".query", asked) // [1,L,D], for all images
		keys = op.Add(keys, learnt(g, name+".key", keys))
	}
	places, tokens := graph.ShapeOf(asked)[1], graph.ShapeOf(keys)[1]
	if scores := p.s[0] * a.Heads * places * tokens; scores > mostScores {
		p.fail("every head of every image scores %d tokens of the student for %d of the teacher, %d scores in all, above %d; tap smaller maps, or lower the batch",
			tokens, places, scores, mostScores)
	}
	d, other := graph.ShapeOf(asked)[2], graph.ShapeOf(keys)[2]
	width := roundUp(d, a.Heads, a.Groups)
	query := op.Unsqueeze(op.Transpose(asked, 0, 2, 1), 3) // [·,D,L,1]
	query = nn.Conv{Name: name + ".conv", In: d, Out: width, Kernel: 1, Bias: true}.Apply(g, query)
	query = op.Gelu(nn.GroupNorm{Name: name + ".norm", Channels: width, Groups: a.Groups}.Apply(g, query))
	attention := nn.CrossAttention{Name: name + ".attention", Width: width, Heads: a.Heads, Other: other, Out: d}
	y := attention.Apply(g, flatten(query), keys, values)
	switch len(p.t) {
	case 2:
		return op.Squeeze(y, 1)
	case 4:
		return unflatten(y, grid{h: p.t[2], w: p.t[3]})
	}
	return y
}

// learnt is a tensor [1,L,D] for the places of tokens [N,L,D].
func learnt(g *graph.Graph, name string, tokens *G.Node) *G.Node {
	s := graph.ShapeOf(tokens)
	return g.Param(name, graph.Shape{1, s[1], s[2]}, nn.Normal(1))
}

// tokensOf makes tokens [N,L,D] of a map, tokens or a vector.
func tokensOf(x *G.Node) *G.Node {
	switch len(graph.ShapeOf(x)) {
	case 2:
		return op.Unsqueeze(x, 1)
	case 4:
		return flatten(x)
	}
	return x
}

// roundUp is the least number from n that a and b both divide.
func roundUp(n, a, b int) int {
	for n%a != 0 || n%b != 0 {
		n++
	}
	return n
}
