package op

import (
	"slices"
	"strings"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// Einsum sums products of the elements of one or two tensors as an equation in Einstein's notation says, "bid,bjd->bij" for
// each query's product with each key. It is made of Transpose, Reshape, ReduceSum and MatMul. A letter stands for an axis; one
// that the result lacks is summed over. A letter twice in one operand and "…" are refused.
func Einsum(equation string, xs ...*G.Node) *G.Node { return einsum(equation, nil, xs) }

// labelled is a tensor with a letter for each axis.
type labelled struct {
	x      *G.Node
	labels string
}

// einsum leaves open the one size of the result that differs at another batch size, whose result has the shape other.
func einsum(equation string, other graph.Shape, xs []*G.Node) *G.Node {
	shapes := make([]graph.Shape, len(xs))
	for i, x := range xs {
		shapes[i] = graph.ShapeOf(x)
	}
	in, out, explicit := strings.Cut(strings.ReplaceAll(equation, " ", ""), "->")
	operands := strings.Split(in, ",")
	if len(operands) != len(xs) || len(xs) < 1 || len(xs) > 2 || strings.Contains(equation, ".") {
		graph.Fail("Einsum", shapes, "%q is not of one or two operands without an ellipsis", equation)
	}
	if !explicit {
		out = implied(in)
	}
	size := map[rune]int{}
	for i, labels := range append(operands, out) {
		if strings.ContainsFunc(labels, func(l rune) bool { return strings.Count(labels, string(l)) > 1 }) {
			graph.Fail("Einsum", shapes, "%q repeats a letter", equation)
		}
		if i == len(xs) {
			break
		}
		if len(labels) != len(shapes[i]) {
			graph.Fail("Einsum", shapes, "%q does not fit the operands", equation)
		}
		for axis, l := range labels {
			if n, ok := size[l]; ok && n != shapes[i][axis] {
				graph.Fail("Einsum", shapes, "%q has two sizes for %q", equation, l)
			}
			size[l] = shapes[i][axis]
		}
	}
	free := map[rune]bool{}
	for axis, l := range out {
		if _, ok := size[l]; !ok {
			graph.Fail("Einsum", shapes, "%q has no operand for %q", equation, l)
		}
		free[l] = len(other) == len(out) && other[axis] != size[l]
	}
	a := labelled{xs[0], operands[0]}
	if len(xs) == 1 {
		return a.only(out).order(out)
	}
	b := labelled{xs[1], operands[1]}
	a, b = a.only(out+b.labels), b.only(out+a.labels)
	sizes := func(labels string) (s []int) {
		for _, l := range labels {
			if s = append(s, size[l]); free[l] {
				s[len(s)-1] = -1
			}
		}
		return s
	}
	return contract(a, b, out, sizes).order(out)
}

// implied is the result of an equation without one: the letters that occur once, in alphabetical order.
func implied(in string) string {
	once := strings.Map(func(l rune) rune {
		if l == ',' || strings.Count(in, string(l)) > 1 {
			return -1
		}
		return l
	}, in)
	letters := []rune(once)
	slices.Sort(letters)
	return string(letters)
}

// shared are the letters of a that b has, or that it lacks.
func shared(a, b string, has bool) string {
	return strings.Map(func(l rune) rune {
		if strings.ContainsRune(b, l) == has {
			return l
		}
		return -1
	}, a)
}

// only sums over the axes whose letters are not wanted.
func (t labelled) only(wanted string) labelled {
	var gone []int
	for axis, l := range t.labels {
		if !strings.ContainsRune(wanted, l) {
			gone = append(gone, axis)
		}
	}
	if gone == nil {
		return t
	}
	return labelled{ReduceSum(t.x, gone, false), shared(t.labels, wanted, true)}
}

// order has the axes in the order of the letters.
func (t labelled) order(letters string) *G.Node {
	if t.labels == letters {
		return t.x
	}
	perm := make([]int, 0, len(letters))
	for _, l := range letters {
		perm = append(perm, strings.IndexRune(t.labels, l))
	}
	return Transpose(t.x, perm...)
}

// contract is one product of matrices [each…,rows,summed] and [each…,summed,columns]: each are the letters that all three
// have, summed those that the result lacks. Several letters in the place of one are merged to one axis, and split after.
func contract(a, b labelled, out string, sizes func(string) []int) labelled {
	common := shared(a.labels, b.labels, true)
	each, summed := shared(common, out, true), shared(common, out, false)
	rows, columns := shared(a.labels, b.labels, false), shared(b.labels, a.labels, false)
	x, y := a.order(each+rows+summed), b.order(each+summed+columns)
	result := each + rows + columns
	if len(rows) == 1 && len(summed) == 1 && len(columns) == 1 {
		return labelled{MatMul(x, y), result}
	}
	keep := make([]int, len(each)) // zeros, which leave the leading sizes as they are
	depth := 1
	for _, n := range sizes(summed) {
		depth *= n
	}
	x, y = Reshape(x, slices.Concat(keep, []int{-1, depth})...), Reshape(y, slices.Concat(keep, []int{depth, -1})...)
	return labelled{Reshape(MatMul(x, y), slices.Concat(keep, sizes(rows+columns))...), result}
}

func liftEinsum(n *Node) []*G.Node {
	var xs []*G.Node
	for i := range n.In {
		xs = append(xs, n.X(i))
	}
	return []*G.Node{einsum(n.String("equation", ""), n.Other, xs)}
}
