package onnx

import pb "distill/internal/onnxpb"

// batchNorm writes a BatchNormalization. For training it takes the mean away first, since a variance by E[x²] − E[x]² loses
// what the mean outweighs; the gradient needs what is left, too.
func (b *blocker) batchNorm(n *pb.NodeProto) bool {
	x := n.Input[0]
	s := b.shapes[x]
	if !b.fills(s) {
		return false
	}
	c := s[1]
	gamma, beta := b.widen(n.Input[1], c), b.widen(n.Input[2], c)
	if intAttribute(n, "training_mode", 0) == 0 {
		if b.twins[x] == "" {
			return false
		}
		scale := b.mul(gamma, b.inverse(n, b.widen(n.Input[4], c)))
		bias := b.add("Sub", "", []string{beta, b.mul(b.widen(n.Input[3], c), scale)})
		return b.pair(n.Output[0], b.affine(b.twins[x], c, scale, bias, ""))
	}
	wide := b.blocked(x)
	mean := b.result(b.overChannels("ReduceMean", wide, s), n.Output[1], c)
	centred := b.affine(wide, c, "", b.add("Neg", "", []string{mean}), "")
	variance := b.result(b.overChannels("ReduceMean", b.mul(centred, centred), s), n.Output[2], c)
	y := b.affine(centred, c, b.mul(gamma, b.inverse(n, variance)), beta, "")
	b.centred[n.Output[1]] = centred
	return b.pair(n.Output[0], y)
}

func (b *blocker) mul(x, y string) string { return b.add("Mul", "", []string{x, y}) }

// inverse is 1/√(variance + ε).
func (b *blocker) inverse(n *pb.NodeProto, variance string) string {
	eps := float64(attribute(n, "epsilon").GetF())
	root := b.add("Sqrt", "", []string{b.add("Add", "", []string{variance, b.scalar(eps)})})
	return b.add("Reciprocal", "", []string{root})
}

// batchNormGrad writes the gradient of a BatchNormalization for training: with x̃ = x − mean, inv = 1/√(variance+ε), and m
// elements a channel,
//
//	dβ = Σ dy,  dγ = inv·Σ dy·x̃,  dx = γ·inv·(dy − dβ/m − x̃·inv·dγ/m)
func (b *blocker) batchNormGrad(n *pb.NodeProto) {
	x, gamma, mean, variance, dy := n.Input[0], n.Input[1], n.Input[2], n.Input[3], n.Input[4]
	s := b.shapes[x]
	c := s[1]
	centred := b.centred[mean]
	if centred == "" {
		centred = b.affine(b.blocked(x), c, "", b.add("Neg", "", []string{b.widen(mean, c)}), "")
	}
	inv := b.inverse(n, b.widen(variance, c))
	d := b.blocked(dy)
	dbeta := b.result(b.overChannels("ReduceSum", d, s), n.Output[2], c)
	dgamma := b.result(b.mul(inv, b.overChannels("ReduceSum", b.mul(d, centred), s)), n.Output[1], c)
	scale := b.mul(b.widen(gamma, c), inv)
	per := b.mul(scale, b.scalar(-1/float64(s.Size()/c)))
	scaled := b.affine(d, c, scale, "", "")
	b.pair(n.Output[0], b.affine(centred, c, b.mul(per, b.mul(inv, dgamma)), b.mul(per, dbeta), scaled))
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
