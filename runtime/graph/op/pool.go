package op

import (
	"distill/runtime/graph"
)

// PoolAttrs are the attributes of a pooling window. Zero strides mean 1.
type PoolAttrs struct {
	Kernel  [2]int // kh and kw
	Strides [2]int
	Pads    [4]int // top, left, bottom, right; smaller than the kernel
	// ExcludePad leaves the padding out of an average (PyTorch's count_include_pad=False).
	ExcludePad bool
}

func (a PoolAttrs) conv() ConvAttrs { return ConvAttrs{Strides: a.Strides, Pads: a.Pads}.filled() }

func (a PoolAttrs) onnx() []graph.Attr {
	c := a.conv()
	return []graph.Attr{
		{Name: "kernel_shape", Value: a.Kernel[:]},
		{Name: "strides", Value: c.Strides[:]},
		{Name: "pads", Value: c.Pads[:]},
	}
}

func (a PoolAttrs) shape(op string, in []graph.Shape) graph.Shape {
	arity(op, in, 1)
	rank(op, in, 0, 4)
	x, c := in[0], a.conv()
	for i, k := range a.Kernel {
		if k < 1 || a.Pads[i] >= k || a.Pads[i+2] >= k {
			graph.Fail(op, in, "kernel %v must be positive and larger than its pads %v", a.Kernel, a.Pads)
		}
	}
	s := graph.Shape{x[0], x[1], c.out(0, x[2], a.Kernel[0]), c.out(1, x[3], a.Kernel[1])}
	if s[2] < 1 || s[3] < 1 {
		graph.Fail(op, in, "the image is smaller than the window")
	}
	return s
}

// windows visits every place of the result with the elements of x under its window.
func (a PoolAttrs) windows(x, y graph.Shape, visit func(i int, under []int)) {
	c := a.conv()
	under := make([]int, 0, a.Kernel[0]*a.Kernel[1])
	for i := range y.Size() {
		plane, oh, ow := i/(y[2]*y[3]), i/y[3]%y[2], i%y[3]
		under = under[:0]
		for kh := range a.Kernel[0] {
			for kw := range a.Kernel[1] {
				h, w := oh*c.Strides[0]-c.Pads[0]+kh, ow*c.Strides[1]-c.Pads[1]+kw
				if h >= 0 && h < x[2] && w >= 0 && w < x[3] {
					under = append(under, (plane*x[2]+h)*x[3]+w)
				}
			}
		}
		visit(i, under)
	}
}

// poolAttrs reads the window of a pooling node.
func (n *Node) poolAttrs(x graph.Shape) PoolAttrs {
	if len(x) != 4 {
		n.fail("only images [N,C,H,W] can be pooled")
	}
	if d := pair(n.Ints("dilations", 1, 1)); d != [2]int{1, 1} {
		n.fail("dilated windows are not supported")
	}
	a := PoolAttrs{Kernel: pair(n.Ints("kernel_shape")), Strides: pair(n.Ints("strides", 1, 1))}
	a.Pads = n.pads(x[2:], a.Kernel[:], a.Strides, [2]int{1, 1})
	if n.Int("ceil_mode", 0) != 0 {
		a.Pads = a.ceiled(x[2:])
	}
	return a
}

// ceiled are the pads with which the windows that ceil_mode adds, those that only begin in the image or before it, lie
// inside whole.
func (a PoolAttrs) ceiled(image []int) [4]int {
	strides, pads := a.conv().Strides, a.Pads
	for i, k := range a.Kernel {
		span := image[i] + pads[i] + pads[i+2] - k
		if span%strides[i] == 0 || span <= -strides[i] {
			continue
		}
		last := (span/strides[i] + 1) * strides[i] // where the window begins that is added
		if span < 0 {
			last = 0
		}
		if last < image[i]+pads[i] {
			pads[i+2] = last + k - image[i] - pads[i]
		}
	}
	return pads
}
