package onnx

import (
	"slices"

	pb "distill/internal/onnxpb"
	"distill/runtime/graph"
)

// normed is what batchNorm keeps for the gradient: an image in blocks that is x but for a number for each channel, and the
// mean of what is left, "" for zero.
type normed struct{ image, rest string }

// batchNormInference scales and shifts by given statistics.
func (b *blocker) batchNormInference(n *pb.NodeProto) bool {
	x := n.Input[0]
	s := b.shapes[x]
	if !b.fills(s) || b.twins[x] == "" {
		return false
	}
	c := s[1]
	scale := b.mul(b.widen(n.Input[1], c), b.inverse(n, b.widen(n.Input[4], c)))
	bias := b.sub(b.widen(n.Input[2], c), b.mul(b.widen(n.Input[3], c), scale))
	return b.pair(n.Output[0], b.affine(b.twins[x], s, scale, bias, ""))
}

// batchNorm normalises by the batch's statistics. A variance by E[x²] − E[x]² loses what the mean outweighs, so the mean is
// taken away first; or, which costs nothing, an estimate of it, as a bias of the convolution before (the shifted data of Chan,
// Golub and LeVeque 1983, "Algorithms for Computing the Sample Variance").
func (b *blocker) batchNorm(n *pb.NodeProto) {
	x := n.Input[0]
	s := b.shapes[x]
	c := s[1]
	gamma, beta := b.widen(n.Input[1], c), b.widen(n.Input[2], c)
	var of normed
	var variance string
	if near := input(n, 3); near != "" {
		near = b.widen(near, c)
		of.image = b.shifted(x, near)
		of.rest = b.overChannels("ReduceMean", of.image, s)
		b.result(b.add("Add", "", []string{of.rest, near}), n.Output[1], c)
		variance = b.sub(b.meanProduct(of.image, of.image, s), b.mul(of.rest, of.rest))
		variance = b.result(b.add("Relu", "", []string{variance}), n.Output[2], c) // rounding may have made it negative
	} else {
		mean := b.result(b.overChannels("ReduceMean", b.blocked(x), s), n.Output[1], c)
		of.image = b.affine(b.blocked(x), s, "", b.add("Neg", "", []string{mean}), "")
		variance = b.result(b.meanProduct(of.image, of.image, s), n.Output[2], c)
	}
	scale := b.mul(gamma, b.inverse(n, variance))
	if of.rest != "" {
		beta = b.sub(beta, b.mul(scale, of.rest))
	}
	b.norms[n.Output[1]] = of
	b.pair(n.Output[0], b.affine(of.image, s, scale, beta, ""))
}

// shifted is an image in blocks less a number for each channel: by the bias of the convolution that makes it, where only the
// batch norm and its gradient read it.
func (b *blocker) shifted(x, by string) string {
	conv := b.makers[b.twins[x]]
	others := slices.ContainsFunc(b.readers[x], func(n *pb.NodeProto) bool {
		return n == nil || n.GetDomain() != graph.BlockedDomain || n.GetOpType() != "BatchNorm" && n.GetOpType() != "BatchNormGrad"
	})
	less := b.add("Neg", "", []string{by})
	if conv == nil || conv.GetOpType() != "Conv" || others || !b.owed[x] || len(conv.Input) > 3 || attribute(conv, "activation") != nil {
		return b.affine(b.blocked(x), b.shapes[x], "", less, "")
	}
	if len(conv.Input) == 3 {
		less = b.sub(conv.Input[2], by)
	}
	conv.Input = append(conv.Input[:2:2], less)
	b.last(conv)
	return conv.Output[0]
}

func (b *blocker) mul(x, y string) string { return b.add("Mul", "", []string{x, y}) }
func (b *blocker) sub(x, y string) string { return b.add("Sub", "", []string{x, y}) }

// inverse is 1/√(variance + ε).
func (b *blocker) inverse(n *pb.NodeProto, variance string) string {
	eps := float64(attribute(n, "epsilon").GetF())
	root := b.add("Sqrt", "", []string{b.add("Add", "", []string{variance, b.scalar(eps)})})
	return b.add("Reciprocal", "", []string{root})
}

// product sums x·y over all but the channels: a depthwise convolution of each sample's channel with a kernel as large as the
// image, which reads both once and writes nothing.
func (b *blocker) product(x, y string, s graph.Shape) string {
	lanes, places := b.lanes(s[1]), s[2]*s[3]
	sums := b.add("Conv", nchwcDomain, []string{b.reshape(x, 1, s[0]*lanes, 1, places), b.reshape(y, s[0]*lanes, 1, 1, places)},
		whole("kernel_shape", []int{1, places}), whole("group", s[0]*lanes))
	return b.reduce("ReduceSum", b.reshape(sums, s[0], lanes), 0)
}

func (b *blocker) meanProduct(x, y string, s graph.Shape) string {
	return b.mul(b.product(x, y, s), b.scalar(float64(s[1])/float64(s.Size())))
}

// batchNormGrad writes the gradient of batchNorm: with x̃ = x − mean, inv = 1/√(variance+ε), and m elements a channel,
//
//	dβ = Σ dy,  dγ = inv·Σ dy·x̃,  dx = γ·inv·(dy − dβ/m − x̃·inv·dγ/m)
//
// Where only a convolution's gradients read dx, its weights take the factor γ·inv, which saves a pass over the image.
func (b *blocker) batchNormGrad(n *pb.NodeProto) {
	x, gamma, mean, variance, dy := n.Input[0], n.Input[1], n.Input[2], n.Input[3], n.Input[4]
	s := b.shapes[x]
	c := s[1]
	of, ok := b.norms[mean]
	if !ok {
		of.image = b.affine(b.blocked(x), s, "", b.add("Neg", "", []string{b.widen(mean, c)}), "")
	}
	inv := b.inverse(n, b.widen(variance, c))
	d := b.blocked(dy)
	dbeta := b.result(b.overChannels("ReduceSum", d, s), n.Output[2], c)
	sum := b.product(of.image, d, s)
	if of.rest != "" {
		sum = b.sub(sum, b.mul(of.rest, dbeta))
	}
	dgamma := b.result(b.mul(inv, sum), n.Output[1], c)
	each := b.scalar(-float64(s[1]) / float64(s.Size()))
	kx, k := b.mul(b.mul(inv, dgamma), each), b.mul(dbeta, each)
	if of.rest != "" {
		k = b.sub(k, b.mul(kx, of.rest))
	}
	factor := b.mul(b.widen(gamma, c), inv)
	if b.takesFactor(n.Output[0]) {
		b.factors[n.Output[0]] = factor
		b.pair(n.Output[0], b.affine(of.image, s, kx, k, d))
		return
	}
	scaled := b.affine(d, s, factor, "", "")
	b.pair(n.Output[0], b.affine(of.image, s, b.mul(factor, kx), b.mul(factor, k), scaled))
}

// takesFactor reports whether all that reads a gradient can scale weights instead, and these are few beside the image.
func (b *blocker) takesFactor(dx string) bool {
	return !slices.ContainsFunc(b.readers[dx], func(n *pb.NodeProto) bool {
		if n == nil || n.GetDomain() != graph.BlockedDomain {
			return true
		}
		switch n.GetOpType() {
		case "ConvGradX", "ConvGradXApart", "ConvGradXPhases":
			return 4*b.shapes[n.Input[0]].Size() > b.shapes[dx].Size()
		case "ConvGradW":
			return 4*b.shapes[n.Output[0]].Size() > b.shapes[dx].Size()
		}
		return true
	})
}

// scaled multiplies weights [K,C,kh,kw] by the factor of each channel that a gradient was left without.
func (b *blocker) scaled(w, dy string) string {
	factor := b.factors[dy]
	if factor == "" {
		return w
	}
	k := b.shapes[dy][1]
	return b.mul(w, b.reshape(b.narrow(factor, 0, k), k, 1, 1, 1))
}

// result gives c elements of a vector that fills the blocks the name of a plain value, and names the vector itself.
func (b *blocker) result(v, name string, c int) string {
	if b.lanes(c) == c {
		b.name(name)
		return name
	}
	b.narrow(v, 0, c)
	b.name(name)
	return v
}
