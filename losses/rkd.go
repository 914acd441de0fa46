package losses

import (
	"errors"
	"math"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/runtime/graph/op"
)

// RKD compares distances between two samples and angles between three (Park et al. 2019, arXiv:1904.05068, eq. 4 to 8), for
// features f [N,D], flattened:
//
//	distance · mean_ij SL1(dˢ_ij − dᵗ_ij) + angle · mean_ijk SL1(⟨eˢ_ij,eˢ_ik⟩ − ⟨eᵗ_ij,eᵗ_ik⟩)
//
// with d_ij = ‖f_i−f_j‖ over its mean over pairs, e_ij = (f_j−f_i)/‖f_j−f_i‖, and SL1 the smooth L1 that is ½x² within ±1. The means
// are over all N² and N³, the diagonal's zeros too, which the published factors 25 and 50 are for. Of samples that coincide, the
// distance has no gradient. Memory grows with N²·D, and N³ where angle is not 0: at N = 64 a tensor of angles has 1 MiB, at
// N = 512 half a GiB, and there are several.
type RKD struct {
	Distance float64 `yaml:"distance"` // factor ≥ 0; default 25
	Angle    float64 `yaml:"angle"`    // factor ≥ 0; default 50
}

// leastSquare is the square that a distance has at least; its root has no gradient there.
const leastSquare = 1e-12

// Validate wants factors of 0 or more, not both 0.
func (r *RKD) Validate() error {
	if err := notNegative("distance", r.Distance); err != nil {
		return err
	}
	if err := notNegative("angle", r.Angle); err != nil {
		return err
	}
	if r.Distance == 0 && r.Angle == 0 {
		return errors.New("distance or angle must be above 0")
	}
	return nil
}

// Build describes the loss.
func (r *RKD) Build(in In) *G.Node {
	student, teacher := related(in)
	s, t := differences(student), differences(teacher)
	var terms []*G.Node
	if r.Distance > 0 {
		d := smoothL1(op.Sub(distances(s), distances(t)))
		terms = append(terms, op.Scale(op.ReduceMean(d, nil, false), r.Distance))
	}
	if r.Angle > 0 {
		a := smoothL1(op.Sub(angles(s), angles(t)))
		terms = append(terms, op.Scale(op.ReduceMean(a, nil, false), r.Angle))
	}
	return op.Sum(terms...)
}

// differences are f_j − f_i [N,N,D] at i, j. Their squares lose nothing, where ‖f_i‖²+‖f_j‖²−2⟨f_i,f_j⟩ cancels.
func differences(f *G.Node) *G.Node { return op.Sub(op.Unsqueeze(f, 0), op.Unsqueeze(f, 1)) }

// distances are the lengths of differences over their mean, [N,N], 0 on the diagonal.
func distances(differences *G.Node) *G.Node {
	n := graph.ShapeOf(differences)[0]
	d := op.Sqrt(op.Clip(op.ReduceSumSquare(differences, []int{2}, false), leastSquare, math.Inf(1)))
	d = op.Mul(d, op.Not(graph.Const(d, eye(n))))
	return op.Div(d, op.Scale(op.ReduceSum(d, nil, false), 1/float64(n*(n-1))))
}

// angles are the cosines at sample i between those of j and k, [N,N,N].
func angles(differences *G.Node) *G.Node { return gram(direction(differences, 2, 0)) }

// smoothL1 is ½x² within ±1, and |x|−½ beyond.
func smoothL1(x *G.Node) *G.Node {
	c := op.Clip(x, -1, 1)
	return op.Mul(c, op.Sub(x, op.Scale(c, 0.5)))
}
