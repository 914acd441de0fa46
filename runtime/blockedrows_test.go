package runtime

import (
	"testing"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// dense is a layer with a bias that keeps the variance of rows [R,D].
func (n *net) dense(x *G.Node, width int) *G.Node {
	return op.Gemm(x, n.weights(x, width), n.input(0, 1, width))
}

// weights are [width,D] for rows [R,D].
func (n *net) weights(x *G.Node, width int) *G.Node {
	return n.input(0, 1/float64(channelsOf(x))*8, width, channelsOf(x))
}

func TestRowsInBlocksAgreeWithTheTape(t *testing.T) {
	if testing.Short() {
		t.Skip("rows in blocks are many, for which an emulator takes minutes")
	}
	needBlocks(t)
	const samples, tokens, narrow, wide = 32, 64, 64, 256 // rows are two samples, at least
	split := func(x *G.Node) *G.Node { return op.Reshape(x, samples, tokens, channelsOf(x)) }
	rows := func(x *G.Node) *G.Node { return op.Reshape(x, samples*tokens, graph.ShapeOf(x)[2]) }
	for _, c := range []struct {
		name   string
		size   float64 // of the rows
		f      func(n *net, x *G.Node) *G.Node
		blocks bool
	}{
		{"perceptron", 1, func(n *net, x *G.Node) *G.Node {
			return n.dense(rows(op.Gelu(split(n.dense(x, wide)))), narrow)
		}, true},
		{"perceptron in a residual block", 1, func(n *net, x *G.Node) *G.Node {
			return op.Add(x, n.dense(op.Tanh(n.dense(x, wide)), narrow))
		}, true},
		{"perceptron of a layer norm", 1, func(n *net, x *G.Node) *G.Node {
			y := op.LayerNormGemm(x, n.input(1, 0.5, narrow), n.input(0, 1, narrow), n.weights(x, wide), n.input(0, 1, wide), 1e-5)
			return op.Add(x, n.dense(op.Gelu(y), narrow))
		}, true},
		{"perceptron of a layer norm, by weights that are turned", 1, func(n *net, x *G.Node) *G.Node {
			y := op.LayerNormMatMul(x, n.input(1, 0.5, narrow), n.input(0, 1, narrow), n.input(0, 0.1, narrow, wide), n.input(0, 1, wide), 1e-5)
			return op.Add(x, n.dense(op.Gelu(y), narrow))
		}, true},
		{"relu", 1000, func(n *net, x *G.Node) *G.Node { return n.dense(n.relu(n.dense(x, wide)), narrow) }, true},
		{"wide values that are scaled by others", 1, func(n *net, x *G.Node) *G.Node {
			return n.dense(op.Mul(n.dense(x, wide), n.input(1, 1, samples*tokens, wide)), narrow)
		}, true},
		{"wide values whose columns are scaled", 1, func(n *net, x *G.Node) *G.Node {
			return n.dense(op.Mul(op.Gelu(n.dense(x, wide)), n.input(1, 1, 1, wide)), narrow)
		}, true},
		{"a sum of wide values", 1, func(n *net, x *G.Node) *G.Node {
			return n.dense(op.Add(n.dense(x, wide), op.Sigmoid(n.dense(x, wide))), narrow)
		}, true},
		{"products without a bias", 1, func(n *net, x *G.Node) *G.Node {
			y := op.MatMul(x, n.input(0, 0.1, narrow, wide))
			return op.MatMulT(op.Exp(y), n.input(0, 0.1, narrow, wide), false, true)
		}, true},
		{"rows of each image", 1, func(n *net, x *G.Node) *G.Node {
			y := op.Add(n.input(0, 1, wide), op.MatMul(split(x), n.input(0, 0.1, narrow, wide)))
			y = op.MatMul(op.Div(op.Tanh(y), op.Scalar(y, 0.7)), n.input(0, 0.1, wide, narrow))
			return op.Add(rows(op.Add(y, n.input(0, 1, narrow))), x)
		}, true},
		{"a bias is not all that reads a product", 1, func(n *net, x *G.Node) *G.Node {
			y := op.MatMul(split(x), n.input(0, 0.1, narrow, wide))
			return op.MatMul(op.Mul(y, op.Add(y, n.input(0, 1, wide))), n.input(0, 0.1, wide, narrow))
		}, true},
		{"a bias that is computed", 1, func(n *net, x *G.Node) *G.Node {
			y := op.Add(op.MatMul(split(x), n.input(0, 0.1, narrow, wide)), op.Exp(n.input(0, 1, wide)))
			return n.dense(rows(op.Sigmoid(y)), narrow)
		}, true},
		{"wide values divided by others", 1, func(n *net, x *G.Node) *G.Node {
			return n.dense(op.Div(n.dense(x, wide), n.input(5, 1, samples*tokens, wide)), narrow)
		}, true},
		{"pixels", 1, func(n *net, x *G.Node) *G.Node {
			y := op.Gelu(op.Reshape(n.dense(x, wide), samples, 8, 8, wide))
			return n.dense(op.Reshape(y, samples*tokens, wide), narrow)
		}, true},
		{"pixels of images", 1, func(n *net, x *G.Node) *G.Node {
			image := n.same(op.Transpose(op.Reshape(x, samples, 8, 8, narrow), 0, 3, 1, 2), narrow, 1)
			y := op.Reshape(op.Transpose(image, 0, 2, 3, 1), samples*tokens, narrow)
			y = op.Reshape(n.dense(op.Gelu(n.dense(y, wide)), narrow), samples, 8, 8, narrow)
			return op.Add(op.Mul(op.Transpose(y, 0, 3, 1, 2), n.input(0, 1, narrow, 1, 1)), image)
		}, true},
		{"wide pixels become images", 1, func(n *net, x *G.Node) *G.Node {
			y := op.Transpose(op.Tanh(op.Reshape(n.dense(x, wide), samples, 8, 8, wide)), 0, 3, 1, 2)
			return n.same(op.Mul(y, op.Sigmoid(y)), 16, 1)
		}, true},
		{"rows that are an image's as they are", 1, func(n *net, x *G.Node) *G.Node {
			y := op.Tanh(op.Reshape(n.dense(x, wide), samples, 16, 4, wide))
			return op.Mul(n.same(y, 16, 1), y)
		}, true},
		{"relu of pixels that are read as rows, too", 1000, func(n *net, x *G.Node) *G.Node {
			y := n.dense(x, wide)
			z := op.Reshape(n.relu(op.Reshape(y, samples, 8, 8, wide)), samples*tokens, wide)
			return n.dense(op.Add(z, op.Tanh(y)), narrow)
		}, true},
		{"relu of rows whose bias was added before, and which are read, too", 1000, func(n *net, x *G.Node) *G.Node {
			y := op.Add(op.MatMul(split(x), n.input(0, 0.1, narrow, wide)), n.input(0, 1, wide))
			return n.dense(op.Add(n.relu(rows(y)), rows(op.Tanh(y))), narrow)
		}, true},
		{"samples of one value beside one that is whole", 1, func(n *net, x *G.Node) *G.Node {
			u := n.input(0, 1, 4096, 576)
			v := op.Reshape(u, 64, 64, 576)
			early := op.Softplus(op.Transpose(v, 0, 2, 1)) // so that v is written before u is in blocks
			s := op.Reshape(op.ReduceSum(op.ReduceSum(early, []int{0, 1}, false), []int{0}, true), 1, 1)
			y := op.Add(op.Mul(s, n.dense(u, 64)), op.ReduceMean(x, []int{0, 1}, true))
			y = n.dense(n.dense(y, 192), 576) // in one value, since no elementwise operator lies between
			return n.dense(op.Reshape(op.Mul(op.Reshape(y, 64, 64, 576), v), 4096, 576), 64)
		}, true},
		{"wide values read plain", 1, func(n *net, x *G.Node) *G.Node {
			y := n.dense(x, wide)
			parts := op.Transpose(op.Reshape(y, samples, tokens, 4, narrow), 0, 2, 1, 3)
			return op.Add(op.Index(parts, 1, 1), split(n.dense(op.Gelu(y), narrow)))
		}, true},
		{"heads", 1, func(n *net, x *G.Node) *G.Node {
			heads := op.Reshape(n.dense(x, wide), samples, tokens, 4, 2, narrow/2)
			part := func(i int) *G.Node { return op.Transpose(op.Index(heads, 2, i), 0, 2, 1, 3) }
			y := op.Mul(part(3), op.MatMul(op.MatMulT(part(0), part(1), false, true), part(2)))
			return op.Reshape(op.Transpose(y, 0, 2, 1, 3), samples*tokens, narrow)
		}, true},
		{"heads that come first", 1, func(n *net, x *G.Node) *G.Node {
			heads := op.Transpose(op.Reshape(n.dense(x, wide), samples, tokens, 4, 2, narrow/2), 2, 0, 3, 1, 4)
			y := op.Mul(op.Index(heads, 0, 2), op.Tanh(op.Index(heads, 0, 1)))
			return op.Reshape(op.Transpose(y, 0, 2, 1, 3), samples*tokens, narrow)
		}, true},
		{"heads by slices", 1, func(n *net, x *G.Node) *G.Node {
			heads := op.Transpose(op.Reshape(n.dense(x, wide), samples, tokens, 4, 2, narrow/2), 2, 0, 3, 1, 4)
			part := func(i int) *G.Node { return op.Squeeze(op.Slice(heads, op.Range{Axis: 0, From: i, To: i + 1}), 0) }
			y := op.Mul(part(3), op.MatMul(op.MatMulT(part(0), part(1), false, true), part(2)))
			return op.Reshape(op.Transpose(y, 0, 2, 1, 3), samples*tokens, narrow)
		}, true},
		{"columns by slices", 1, func(n *net, x *G.Node) *G.Node {
			y := n.dense(x, wide)
			part := func(from, to, step int) *G.Node {
				return op.Slice(y, op.Range{Axis: 1, From: from, To: to, Step: step})
			}
			whole := op.Mul(op.Tanh(part(0, narrow, 1)), part(wide-narrow, 0, 1))
			return op.Add(op.Add(whole, part(2, narrow+2, 1)), op.Sigmoid(part(narrow, 3*narrow, 2)))
		}, true},
		{"some tokens", 1, func(n *net, x *G.Node) *G.Node {
			y := op.Gather(op.Reshape(n.dense(x, wide), samples, tokens, wide), 1, graph.Array{Shape: graph.Shape{3}, I: []int64{5, 60, 5}})
			return op.ReduceSum(op.Reshape(op.Tanh(y), 3*samples*wide/narrow, narrow), []int{0}, false)
		}, true},
		{"columns that become rows", 1, func(n *net, x *G.Node) *G.Node {
			y := op.Transpose(op.Reshape(n.dense(x, wide), samples, tokens, wide), 0, 2, 1)
			return op.ReduceSum(op.Sigmoid(y), []int{2}, false)
		}, true},
		{"rows beside one another come in", 1, func(n *net, x *G.Node) *G.Node {
			moved := op.Transpose(op.Reshape(op.Tanh(x), samples, 2, tokens/2, narrow), 0, 2, 1, 3)
			y := op.Concat(1, op.Reshape(moved, samples*tokens, narrow), x, op.Neg(x), op.Mul(x, x))
			return n.dense(y, narrow)
		}, true},
		{"rows of two widths beside one another", 1, func(n *net, x *G.Node) *G.Node {
			return n.dense(op.Concat(1, op.Tanh(x), n.input(0, 1, samples*tokens, 3*narrow)), narrow)
		}, true},
		{"some columns beside all of others", 1, func(n *net, x *G.Node) *G.Node {
			some := op.Slice(n.input(0, 1, samples*tokens, 2*narrow), op.Range{Axis: 1, From: narrow / 2, To: 3 * narrow / 2})
			return op.Add(x, n.dense(op.Concat(1, some, n.input(0, 1, samples*tokens, 3*narrow)), narrow))
		}, true},
		{"heads of rows beside one another by turns", 1, func(n *net, x *G.Node) *G.Node {
			head := func(y *G.Node) *G.Node { return op.Reshape(y, samples*tokens, 2, narrow/2) }
			y := op.Concat(2, head(op.Tanh(x)), head(x), head(op.Neg(x)), head(op.Mul(x, x)))
			return n.dense(op.Reshape(y, samples*tokens, wide), narrow)
		}, true},
		{"wide rows come in, narrow ones go out", 1, func(n *net, x *G.Node) *G.Node {
			return op.Add(x, n.dense(n.input(0, 1, samples*tokens, wide), narrow))
		}, true},
		{"plain rows that are summed", 1, func(n *net, x *G.Node) *G.Node {
			return op.Mul(x, op.Reshape(op.ReduceSum(n.input(0, 1, 4*samples*tokens, narrow), []int{0}, false), 1, narrow))
		}, false},
		{"narrow ones that are as wide as half", 1, func(n *net, x *G.Node) *G.Node {
			return n.dense(op.Gelu(n.dense(x, 2*narrow)), narrow)
		}, false},
		{"a width of no whole blocks", 1, func(n *net, x *G.Node) *G.Node { return n.dense(op.Gelu(n.dense(x, 516)), narrow) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var f network = func(n *net) *G.Node { return c.f(n, n.input(0, c.size, samples*tokens, narrow)) }
			f.check(t, 1, c.blocks)
		})
	}
}
