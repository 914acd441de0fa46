package losses

import (
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/mat"

	"distill/runtime/graph"
)

// TestNewtonSchulzEqualsTheEigendecomposition compares A^{½} and A^{−½} of random matrices with gonum's: within 1e-9 of the
// largest element where the least eigenvalue is 1e-5 of the norm or more.
func TestNewtonSchulzEqualsTheEigendecomposition(t *testing.T) {
	const bound = 1e-9
	rng := rand.New(rand.NewPCG(1, 2))
	for _, d := range []int{1, 2, 5, 16, 48} {
		for _, least := range []float64{1, 1e-2, 1e-4, 2e-5} {
			// A = Q·diag(λ)·Qᵀ with λ from 1 down to least, evenly in the logarithm, and Q of a random matrix.
			var qr mat.QR
			random := mat.NewDense(d, d, nil)
			for i := range d * d {
				random.RawMatrix().Data[i] = rng.NormFloat64()
			}
			qr.Factorize(random)
			var q mat.Dense
			qr.QTo(&q)
			power := func(exponent float64) *mat.Dense {
				var y mat.Dense
				y.Apply(func(_, j int, v float64) float64 {
					return v * math.Pow(7*math.Pow(least, float64(j)/float64(max(d-1, 1))), exponent)
				}, &q)
				y.Mul(&y, q.T())
				return &y
			}
			a := mat.NewSymDense(d, nil)
			for i := range d {
				for j := range i + 1 {
					a.SetSym(i, j, power(1).At(i, j))
				}
			}
			var eigen mat.EigenSym
			if !eigen.Factorize(a, true) {
				t.Fatal("no eigenvalues")
			}
			var v mat.Dense
			eigen.VectorsTo(&v)
			exact := func(exponent float64) *mat.Dense {
				var y mat.Dense
				y.Apply(func(_, j int, x float64) float64 { return x * math.Pow(eigen.Values(nil)[j], exponent) }, &v)
				y.Mul(&y, v.T())
				return &y
			}
			root, inverse := rootsOf(t, a)
			for name, m := range map[string][2]*mat.Dense{"root": {root, exact(0.5)}, "inverse root": {inverse, exact(-0.5)}} {
				var diff mat.Dense
				diff.Sub(m[0], m[1])
				if e := mat.Norm(&diff, math.Inf(1)) / mat.Norm(m[1], math.Inf(1)); !(e <= bound) {
					t.Errorf("the %s of %d×%d with eigenvalues down to %v differs by %v", name, d, d, least, e)
				}
			}
		}
	}
}

// rootsOf runs squareRoot with the default number of iterations.
func rootsOf(t *testing.T, a *mat.SymDense) (root, inverse *mat.Dense) {
	t.Helper()
	d := a.SymmetricDim()
	p, err := graph.Build(graph.Inference, func(g *graph.Graph) {
		y, z := squareRoot(g.Input("a", graph.Float32, d, d), 20)
		g.Output("root", y)
		g.Output("inverse", z)
	})
	if err != nil {
		t.Fatal(err)
	}
	tape, err := graph.NewTape(p)
	if err != nil {
		t.Fatal(err)
	}
	defer tape.Close()
	in := graph.Zeros(graph.Shape{d, d})
	for i := range d {
		for j := range d {
			in.F[i*d+j] = a.At(i, j)
		}
	}
	out, _, err := tape.Eval(map[string]graph.Array{"a": in})
	if err != nil {
		t.Fatal(err)
	}
	return mat.NewDense(d, d, out["root"].F), mat.NewDense(d, d, out["inverse"].F)
}
