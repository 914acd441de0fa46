package op

import (
	"maps"
	"slices"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// ConvAttrs are the attributes of a two-dimensional convolution. Zero strides, dilations and group mean 1.
type ConvAttrs struct {
	Strides   [2]int // along H and W
	Pads      [4]int // zeros at the top, left, bottom and right, as ONNX orders them
	Dilations [2]int
	Group     int // channels fall into this many groups that do not mix
}

func (a ConvAttrs) filled() ConvAttrs {
	for i := range 2 {
		a.Strides[i] = max(a.Strides[i], 1)
		a.Dilations[i] = max(a.Dilations[i], 1)
	}
	a.Group = max(a.Group, 1)
	return a
}

// out is the size of the result along an axis (0 for H, 1 for W) of size n under a kernel of size k.
func (a ConvAttrs) out(axis, n, k int) int {
	span := n + a.Pads[axis] + a.Pads[axis+2] - a.Dilations[axis]*(k-1) - 1
	if span < 0 {
		return 0
	}
	return span/a.Strides[axis] + 1
}

func (a ConvAttrs) onnx(kernel ...int) []graph.Attr {
	return []graph.Attr{
		{Name: "kernel_shape", Value: kernel},
		{Name: "strides", Value: a.Strides[:]},
		{Name: "pads", Value: a.Pads[:]},
		{Name: "dilations", Value: a.Dilations[:]},
		{Name: "group", Value: a.Group},
	}
}

// conv is a two-dimensional convolution (cross-correlation, as everywhere in the field).
type conv struct {
	smooth
	ConvAttrs
}

// Conv convolves x [N,C,H,W] with w [K,C/group,kh,kw] and adds b [K], which may be nil; the result is [N,K,H',W'] with
// H' = ⌊(H + pads − dilation·(kh−1) − 1)/stride⌋ + 1.
func Conv(x, w, b *G.Node, a ConvAttrs) *G.Node {
	if b == nil {
		return graph.Apply(conv{ConvAttrs: a.filled()}, x, w)
	}
	return graph.Apply(conv{ConvAttrs: a.filled()}, x, w, b)
}

func (conv) Name() string { return "Conv" }

func (c conv) Infer(in []graph.Shape) []graph.Shape {
	if len(in) != 3 {
		arity("Conv", in, 2)
	}
	rank("Conv", in, 0, 4)
	rank("Conv", in, 1, 4)
	x, w := in[0], in[1]
	if x[1] != w[1]*c.Group || w[0]%c.Group != 0 {
		graph.Fail("Conv", in, "%d channels do not fit the weights in %d groups", x[1], c.Group)
	}
	if len(in) == 3 && !in[2].Equal(graph.Shape{w[0]}) {
		graph.Fail("Conv", in, "the bias must be [%d]", w[0])
	}
	s := graph.Shape{x[0], w[0], c.out(0, x[2], w[2]), c.out(1, x[3], w[3])}
	if s[2] < 1 || s[3] < 1 {
		graph.Fail("Conv", in, "the image is smaller than the kernel")
	}
	return one(s)
}

func (c conv) Eval(in []graph.Array) []graph.Array {
	x, w := in[0], in[1]
	y := graph.Zeros(c.Infer([]graph.Shape{x.Shape, w.Shape})[0])
	if len(in) == 3 {
		plane := y.Shape[2:].Size()
		for i := range y.F {
			y.F[i] = in[2].F[i/plane%y.Shape[1]]
		}
	}
	c.columns(x.Shape, w.Shape, y.Shape, func(n, g int, index []int, cols []float64, rows, k, p int) {
		collect(cols, index, x.F)
		gemm(false, false, rows, p, k, w.F[g*rows*k:], cols, 1, y.F[(n*y.Shape[1]+g*rows)*p:])
	})
	return []graph.Array{y}
}

// columns visits every sample and group of a convolution as a matrix product: index holds, for a matrix [k,p] of kernel
// taps by output places, the element of x each reads, or −1 in the padding; rows are output channels a group; cols is
// room for the matrix.
func (c ConvAttrs) columns(x, w, y graph.Shape, visit func(n, g int, index []int, cols []float64, rows, k, p int)) {
	k, p := w[1:].Size(), y[2]*y[3]
	index, cols := make([]int, k*p), make([]float64, k*p)
	for n := range x[0] {
		for g := range c.Group {
			i := 0
			for ch := range w[1] {
				base := (n*x[1] + g*w[1] + ch) * x[2] * x[3]
				for kh := range w[2] {
					for kw := range w[3] {
						for oh := range y[2] {
							h := oh*c.Strides[0] - c.Pads[0] + kh*c.Dilations[0]
							for ow := range y[3] {
								v := ow*c.Strides[1] - c.Pads[1] + kw*c.Dilations[1]
								index[i] = -1
								if h >= 0 && h < x[2] && v >= 0 && v < x[3] {
									index[i] = base + h*x[3] + v
								}
								i++
							}
						}
					}
				}
			}
			visit(n, g, index, cols, w[0]/c.Group, k, p)
		}
	}
}

func collect(dst []float64, index []int, src []float64) {
	for i, at := range index {
		dst[i] = 0
		if at >= 0 {
			dst[i] = src[at]
		}
	}
}

func (c conv) Grad(in []*G.Node, _, dy *G.Node) []*G.Node {
	x, w := in[0], in[1]
	grads := []*G.Node{
		graph.Apply(convGradX{c.ConvAttrs, graph.ShapeOf(x)}, w, dy),
		graph.Apply(convGradW{c.ConvAttrs, graph.ShapeOf(w)}, x, dy),
	}
	if len(in) == 3 {
		grads = append(grads, ReduceSum(dy, []int{0, 2, 3}, false))
	}
	return grads
}

func (c conv) Lower(e graph.Emitter, in []graph.Operand) []string {
	shapes := make([]graph.Shape, len(in))
	for i, o := range in {
		shapes[i] = o.Shape
	}
	w := in[1].Shape
	return []string{e.Emit("Conv", c.Infer(shapes)[0], names(in), c.onnx(w[2], w[3])...)}
}

// liftConv reads a Conv of two dimensions, or of one.
func liftConv(n *Node) []*G.Node {
	x, w := n.X(0), n.X(1)
	if len(graph.ShapeOf(x)) == 3 && len(graph.ShapeOf(w)) == 3 {
		return n.liftConv1()
	}
	if len(graph.ShapeOf(x)) != 4 || len(graph.ShapeOf(w)) != 4 {
		n.fail("only images [N,C,H,W] can be convolved, and lines [N,C,L]")
	}
	k := graph.ShapeOf(w)[2:]
	a := ConvAttrs{
		Strides:   pair(n.Ints("strides", 1, 1)),
		Dilations: pair(n.Ints("dilations", 1, 1)),
		Group:     n.Int("group", 1),
	}
	a.Pads = n.pads(graph.ShapeOf(x)[2:], []int(k), a.Strides, a.Dilations)
	return []*G.Node{Conv(x, w, n.Optional(2), a)}
}

// liftConv1 reads a Conv of lines [N,C,L] as one of images of height 1.
func (n *Node) liftConv1() []*G.Node {
	flat := *n
	flat.In = slices.Clone(n.In)
	for i := range 2 {
		flat.In[i] = Input{Tensor: Unsqueeze(n.X(i), 2)}
	}
	flat.Attrs = map[string]any{}
	maps.Copy(flat.Attrs, n.Attrs)
	flat.Attrs["strides"] = append([]int{1}, n.Ints("strides", 1)...)
	flat.Attrs["dilations"] = append([]int{1}, n.Ints("dilations", 1)...)
	if p := n.Ints("pads", 0, 0); len(p) == 2 {
		flat.Attrs["pads"] = []int{0, p[0], 0, p[1]}
	}
	return []*G.Node{Squeeze(liftConv(&flat)[0], 2)}
}

func pair(v []int) [2]int {
	if len(v) != 2 {
		graph.Fail("Conv", nil, "%v must be two numbers, for H and W", v)
	}
	return [2]int{v[0], v[1]}
}

// pads are the zeros around a window's image: as stated, or worked out for auto_pad.
func (n *Node) pads(image, kernel []int, strides, dilations [2]int) [4]int {
	switch auto := n.String("auto_pad", "NOTSET"); auto {
	case "NOTSET":
		p := n.Ints("pads", 0, 0, 0, 0)
		if len(p) != 4 {
			n.fail("pads %v must be four numbers", p)
		}
		return [4]int{p[0], p[1], p[2], p[3]}
	case "VALID":
		return [4]int{}
	case "SAME_UPPER", "SAME_LOWER":
		var pads [4]int
		for i := range 2 {
			out := (image[i] + strides[i] - 1) / strides[i]
			all := max(0, (out-1)*strides[i]+dilations[i]*(kernel[i]-1)+1-image[i])
			pads[i], pads[i+2] = all/2, all-all/2
			if auto == "SAME_LOWER" {
				pads[i], pads[i+2] = pads[i+2], pads[i]
			}
		}
		return pads
	default:
		n.fail("auto_pad %q is unknown", auto)
		return [4]int{}
	}
}
