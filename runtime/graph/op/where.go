package op

import (
	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// where chooses between its last two inputs by its first.
type where struct{}

// Where is a where cond is 1 and b where it is 0, broadcast. cond holds nothing else, as a comparison's result does, and has
// no gradient; a and b have one each where they are chosen.
func Where(cond, a, b *G.Node) *G.Node { return graph.Apply(where{}, cond, a, b) }

func (where) Name() string   { return "Where" }
func (where) Wrt(i int) bool { return i > 0 }

func (where) Infer(in []graph.Shape) []graph.Shape {
	arity("Where", in, 3)
	return one(broadcastAll("Where", in))
}

func (where) Eval(in []graph.Array) []graph.Array {
	s := broadcastAll("Where", shapesOf(in))
	y := graph.Zeros(s)
	walk(s, allStretched(in, s), func(i int, at []int) {
		from := 1
		if in[0].F[at[0]] == 0 {
			from = 2
		}
		y.F[i] = in[from].F[at[from]]
	})
	return []graph.Array{y}
}

// Grad multiplies by the condition, which ONNX Runtime does faster than choose.
func (where) Grad(in []*G.Node, _, dy *G.Node) []*G.Node {
	da := Mul(dy, in[0])
	return []*G.Node{nil, sumTo(da, graph.ShapeOf(in[1])), sumTo(Sub(dy, da), graph.ShapeOf(in[2]))}
}

func (where) Lower(e graph.Emitter, in []graph.Operand) []string {
	cond := e.Emit("Cast", in[0].Shape, []string{in[0].Name}, graph.Attr{Name: "to", Value: onnxBool})
	out := broadcastAll("Where", []graph.Shape{in[0].Shape, in[1].Shape, in[2].Shape})
	return []string{e.Emit("Where", out, []string{cond, in[1].Name, in[2].Name})}
}

// onnxBool is TensorProto.BOOL.
const onnxBool = 9

func liftWhere(n *Node) []*G.Node {
	return []*G.Node{Where(n.floats(0), n.floats(1), n.floats(2))}
}

// floats is X, where a constant of integers or truth values becomes one of floats.
func (n *Node) floats(i int) *G.Node {
	if !n.Has(i) || n.In[i].Const == nil || n.In[i].Const.I == nil || n.depends(i) {
		return n.X(i)
	}
	c := n.In[i].Const
	a := graph.Zeros(c.Shape)
	for k, v := range c.I {
		a.F[k] = float64(v)
	}
	return n.Graph.Const(a)
}

// depends reports whether input i is a constant that depends on the batch size.
func (n *Node) depends(i int) bool { return n.In[i].Sized || n.In[i].Free != nil }
