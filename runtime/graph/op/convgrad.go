package op

import (
	"distill/runtime/graph"
)

// convGradX is a convolution's gradient with respect to its input, from w and dy.
type convGradX struct {
	ConvAttrs
	x graph.Shape
}

func (convGradX) Name() string                        { return "ConvGradX" }
func (c convGradX) Infer([]graph.Shape) []graph.Shape { return one(c.x) }

func (c convGradX) Eval(in []graph.Array) []graph.Array {
	w, dy := in[0], in[1]
	dx := graph.Zeros(c.x)
	c.columns(c.x, w.Shape, dy.Shape, func(n, g int, index []int, cols []float64, rows, k, p int) {
		gemm(true, false, k, p, rows, w.F[g*rows*k:], dy.F[(n*dy.Shape[1]+g*rows)*p:], 0, cols)
		for i, at := range index {
			if at >= 0 {
				dx.F[at] += cols[i]
			}
		}
	})
	return []graph.Array{dx}
}

// Lower is, at stride 1, a convolution of dy with the kernel turned by 180° and its channels exchanged, which has ONNX
// Runtime's fast kernels; in blocks, at another stride, one for each phase; else a ConvTranspose.
func (c convGradX) Lower(e graph.Emitter, in []graph.Operand) []string {
	w, dy := in[0], in[1]
	kh, kw := w.Shape[2], w.Shape[3]
	t := e.Target()
	depthwise := c.Group > 1 && c.Group == c.x[1] && c.Group == dy.Shape[1]
	fills := t.Fills(c.x[1]) && t.Fills(dy.Shape[1]) && (c.Group == 1 || depthwise)
	switch back := c.turned(kh, kw); {
	case fills && c.flippable(kh, kw):
		return []string{e.Emit(graph.BlockedDomain+":ConvGradX", c.x, names(in), back.onnx(kh, kw)...)}
	case fills && c.Group == 1 && c.phased(kh, kw, dy.Shape):
		return []string{e.Emit(graph.BlockedDomain+":ConvGradXPhases", c.x, names(in), c.onnx(kh, kw)...)}
	case fills && depthwise && c.Dilations == [2]int{1, 1}:
		return []string{e.Emit(graph.BlockedDomain+":ConvGradXApart", c.x, names(in), c.onnx(kh, kw)...)}
	case t.Fused && c.flippable(kh, kw):
		return []string{c.lowerFlipped(e, w, dy, back)}
	}
	var rest [2]int
	for i, k := range []int{kh, kw} {
		rest[i] = c.x[2+i] - ((dy.Shape[2+i]-1)*c.Strides[i] - c.Pads[i] - c.Pads[i+2] + c.Dilations[i]*(k-1) + 1)
	}
	attrs := append(c.onnx(kh, kw), graph.Attr{Name: "output_padding", Value: rest[:]})
	return []string{e.Emit("ConvTranspose", c.x, []string{dy.Name, w.Name}, attrs...)}
}

// flippable reports whether dx is a plain convolution of dy: stride 1, and no more padding than the kernel reaches.
func (c ConvAttrs) flippable(kh, kw int) bool {
	for i, k := range []int{kh, kw} {
		reach := c.Dilations[i] * (k - 1)
		if c.Strides[i] != 1 || c.Pads[i] > reach || c.Pads[i+2] > reach {
			return false
		}
	}
	return true
}

// phased reports whether dx falls into phases that are convolutions of dy.
func (c convGradX) phased(kh, kw int, dy graph.Shape) bool {
	for i, k := range []int{kh, kw} {
		if _, ok := Phases(k, c.Strides[i], c.Pads[i], c.x[2+i], dy[2+i]); !ok || c.Dilations[i] > 1 {
			return false
		}
	}
	return true
}

// turned are the attributes of the convolution that gives dx: what the kernel reached beyond the image, dy is padded by.
func (c convGradX) turned(kh, kw int) ConvAttrs {
	back := c.ConvAttrs
	for i, k := range []int{kh, kw} {
		reach := c.Dilations[i] * (k - 1)
		back.Pads[i], back.Pads[i+2] = reach-c.Pads[i], reach-c.Pads[i+2]
	}
	return back
}

func (c convGradX) lowerFlipped(e graph.Emitter, w, dy graph.Operand, back ConvAttrs) string {
	co, ci, kh, kw := w.Shape[0], w.Shape[1], w.Shape[2], w.Shape[3]
	taps := kh * kw
	s := graph.Shape{c.Group, co / c.Group, ci, taps}
	flat := graph.Operand{Name: emitReshape(e, w.Name, s, nil), Shape: s}
	if taps > 1 {
		// A product with a reversal matrix turns the kernel six times faster than a Slice with a negative step.
		reversal := graph.NewTensor(graph.Float32, taps, taps)
		for i := range taps {
			reversal.F[i*taps+taps-1-i] = 1
		}
		flat.Name = e.Emit("MatMul", s, []string{flat.Name, e.Const(reversal)})
	}
	turned := emitTranspose(e, flat, 0, 2, 1, 3)
	ws := graph.Shape{c.Group * ci, co / c.Group, kh, kw}
	wt := emitReshape(e, turned.Name, ws, nil)
	return e.Emit("Conv", c.x, []string{dy.Name, wt}, back.onnx(kh, kw)...)
}

// convGradW is a convolution's gradient with respect to its weights, from x and dy.
type convGradW struct {
	ConvAttrs
	w graph.Shape
}

func (convGradW) Name() string                        { return "ConvGradW" }
func (c convGradW) Infer([]graph.Shape) []graph.Shape { return one(c.w) }

func (c convGradW) Eval(in []graph.Array) []graph.Array {
	x, dy := in[0], in[1]
	dw := graph.Zeros(c.w)
	c.columns(x.Shape, c.w, dy.Shape, func(n, g int, index []int, cols []float64, rows, k, p int) {
		collect(cols, index, x.F)
		gemm(false, true, rows, k, p, dy.F[(n*dy.Shape[1]+g*rows)*p:], cols, 1, dw.F[g*rows*k:])
	})
	return []graph.Array{dw}
}

func (c convGradW) Lower(e graph.Emitter, in []graph.Operand) []string {
	x, dy := in[0], in[1]
	kh, kw := c.w[2], c.w[3]
	if c.blocked(e.Target(), x.Shape, dy.Shape) {
		return []string{e.Emit(graph.BlockedDomain+":ConvGradW", c.w, names(in), c.onnx(kh, kw)...)}
	}
	plain := c.Strides == [2]int{1, 1} && c.Dilations == [2]int{1, 1} && c.Group == 1
	// Channels to copy by either way: a stem's few input channels are cheaper copied for every tap.
	shifted, taps := kh*c.w[0]+kw*c.w[1], kh*kw*c.w[1]
	if e.Target().Fused && plain && shifted < taps && c.flippable(kh, kw) {
		return []string{c.lowerShifted(e, x, dy)}
	}
	return []string{c.lowerTaps(e, x, dy)}
}

// blocked reports whether the gradient can be a convolution in blocks: of all channels at once, whose samples then fill the
// blocks, or of each by itself.
func (c convGradW) blocked(t graph.Target, x, dy graph.Shape) bool {
	if c.Group > 1 {
		return c.Group == x[1] && c.Group == dy[1] && t.Fills(x[1])
	}
	few := x[1] < t.Block
	return t.Fills(dy[1]) && (few || t.Fills(x[1])) && x[0]%t.Block == 0 && c.Dilations == [2]int{1, 1}
}

// lowerShifted needs kh + kw shifted copies where lowerTaps needs kh·kw: with x shifted along W and dy along H,
//
//	dW[k,c,i,j] = Σ dy[n,k,h−i,w]·x[n,c,h,w+j]
//
// is one product that gives all taps at once.
func (c convGradW) lowerShifted(e graph.Emitter, x, dy graph.Operand) string {
	n, co, ci, kh, kw := x.Shape[0], c.w[0], c.w[1], c.w[2], c.w[3]
	h, wo := x.Shape[2], dy.Shape[3]
	xp := emitPad(e, x, []int{0, 0, 0, c.Pads[1]}, []int{0, 0, 0, c.Pads[3]})
	dyp := emitPad(e, dy, []int{0, 0, kh - 1 - c.Pads[0], 0}, []int{0, 0, kh - 1 - c.Pads[2], 0})
	var xs, dys []string
	for j := range kw {
		xs = append(xs, emitSlice(e, xp, Range{Axis: 3, From: j, To: j + wo}).Name)
	}
	for i := range kh {
		dys = append(dys, emitSlice(e, dyp, Range{Axis: 2, From: kh - 1 - i, To: kh - 1 - i + h}).Name)
	}
	flat := func(parts []string, ch int) graph.Operand {
		s := graph.Shape{n, ch, h * wo}
		return graph.Operand{Name: emitReshape(e, emitConcat(e, 1, graph.Shape{n, ch, h, wo}, parts), s, nil), Shape: s}
	}
	a, b := flat(dys, kh*co), flat(xs, kw*ci)
	prod := emitMatMul(e, graph.Shape{n, kh * co, kw * ci}, a, b, false, true)
	sum := emitSum0(e, prod, graph.Shape{kh * co, kw * ci})
	s := graph.Shape{kh, co, kw, ci}
	return emitTranspose(e, graph.Operand{Name: emitReshape(e, sum, s, nil), Shape: s}, 1, 3, 0, 2).Name
}

// lowerTaps takes one strided copy of x for each kernel tap; it serves any stride, dilation, padding and group.
func (c convGradW) lowerTaps(e graph.Emitter, x, dy graph.Operand) string {
	n, g, co, cg, kh, kw := x.Shape[0], c.Group, c.w[0], c.w[1], c.w[2], c.w[3]
	ho, wo := dy.Shape[2], dy.Shape[3]
	columns := c.tapColumns(e, x, kw, wo)
	var taps []string
	for i := range kh {
		for j := range kw {
			tap := columns[j]
			if at := i * c.Dilations[0]; tap.Shape[2] != ho {
				tap = emitSlice(e, tap, Range{Axis: 2, From: at, To: at + (ho-1)*c.Strides[0] + 1, Step: c.Strides[0]})
			}
			taps = append(taps, emitReshape(e, tap.Name, graph.Shape{n, g, cg, ho * wo}, nil))
		}
	}
	t := kh * kw
	xs := graph.Shape{n, g, t * cg, ho * wo}
	a := graph.Operand{Name: emitConcat(e, 2, xs, taps), Shape: xs}
	ds := graph.Shape{n, g, co / g, ho * wo}
	b := graph.Operand{Name: emitReshape(e, dy.Name, ds, nil), Shape: ds}
	prod := emitMatMul(e, graph.Shape{n, g, co / g, t * cg}, b, a, false, true)
	sum := emitSum0(e, prod, graph.Shape{g, co / g, t * cg})
	s := graph.Shape{co, t, cg}
	turned := emitTranspose(e, graph.Operand{Name: emitReshape(e, sum, s, nil), Shape: s}, 0, 2, 1)
	return emitReshape(e, turned.Name, c.w, nil)
}

// tapColumns pads x along H and gives, for each of the kernel's columns, the n columns of x that it reads, zeros where they
// lie outside. Columns at a stride are slow to slice, so ONNX Runtime gets a product with a matrix of zeros and ones.
func (c ConvAttrs) tapColumns(e graph.Emitter, x graph.Operand, kw, n int) []graph.Operand {
	columns := make([]graph.Operand, kw)
	w, stride := x.Shape[3], c.Strides[1]
	if e.Target().Fused && stride > 1 {
		x = emitPad(e, x, []int{0, 0, c.Pads[0], 0}, []int{0, 0, c.Pads[2], 0})
		s := graph.Shape{x.Shape[0], x.Shape[1], x.Shape[2], n}
		for j := range columns {
			pick := graph.NewTensor(graph.Float32, w, n)
			for k := range n {
				if at := j*c.Dilations[1] - c.Pads[1] + k*stride; at >= 0 && at < w {
					pick.F[at*n+k] = 1
				}
			}
			columns[j] = graph.Operand{Name: e.Emit("MatMul", s, []string{x.Name, e.Const(pick)}), Shape: s}
		}
		return columns
	}
	x = emitPad(e, x, []int{0, 0, c.Pads[0], c.Pads[1]}, []int{0, 0, c.Pads[2], c.Pads[3]})
	for j := range columns {
		columns[j] = x
		if from := j * c.Dilations[1]; x.Shape[3] != n {
			columns[j] = emitSlice(e, x, Range{Axis: 3, From: from, To: from + (n-1)*stride + 1, Step: stride})
		}
	}
	return columns
}

// emitSum0 sums over the first axis.
func emitSum0(e graph.Emitter, x string, out graph.Shape) string {
	return e.Emit("ReduceSum", out, []string{x, graph.ConstInts(e, 0)}, graph.Attr{Name: "keepdims", Value: 0})
}
