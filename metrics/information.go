package metrics

import (
	"math"

	"gonum.org/v1/gonum/floats"
)

// Transfer is how much of a teacher's choices of class a student's tell: η = I(T;S) / H(T), of the joint table of the classes
// that the two predict for the same samples. Informations are in nats.
//
// The plug-in estimator puts frequencies for probabilities. Of N samples it finds H too low, by about (m−1)/2N where m classes
// occur, and I too high, by about (m_T−1)(m_S−1)/2N where T and S are independent. Miller and Madow (Miller 1955, "Note on the
// bias of information estimates") add (m−1)/2N to each entropy, with m the cells that are not empty; so
//
//	I = I_plug-in + (m_T + m_S − m_TS − 1) / 2N
//
// which leaves a bias of order 1/N², and more where cells are empty that are not impossible. The estimate may fall below 0 by
// chance. It sees classes alone: a student who always takes cat for dog and dog for cat loses nothing.
type Transfer struct {
	Information float64 // I(T;S), by Miller and Madow
	Entropy     float64 // H(T), likewise
	Efficiency  float64 // Information / Entropy; NaN where the teacher always predicts one class
	PlugIn      float64 // the same, of the plug-in estimates, 0..1
}

// TransferEfficiency estimates it from predictions of classes 0..k−1 for the same samples.
func TransferEfficiency(teacher, student []int, k int) Transfer {
	match(len(teacher), len(student))
	joint, t, s := make([]float64, k*k), make([]float64, k), make([]float64, k)
	for i := range teacher {
		joint[teacher[i]*k+student[i]]++
		t[teacher[i]]++
		s[student[i]]++
	}
	plugT, millerT := entropies(t)
	plugS, millerS := entropies(s)
	plugTS, millerTS := entropies(joint)
	r := Transfer{Information: millerT + millerS - millerTS, Entropy: millerT}
	if r.Efficiency, r.PlugIn = r.Information/r.Entropy, (plugT+plugS-plugTS)/plugT; plugT == 0 {
		r.Efficiency, r.PlugIn = math.NaN(), math.NaN()
	}
	return r
}

// entropies estimates the entropy, in nats, of what was counted: by frequencies, and by Miller and Madow.
func entropies(counts []float64) (plugIn, miller float64) {
	n := floats.Sum(counts)
	occupied := 0.0
	for _, c := range counts {
		if c > 0 {
			plugIn -= c / n * math.Log(c/n)
			occupied++
		}
	}
	return plugIn, plugIn + (occupied-1)/(2*n)
}

// PredictiveInformation estimates I(X;Y), in nats, of images and classes from a model's probabilities at a temperature:
//
//	H(mean p) − mean H(p), p = softmax(logits/T)
//
// It is the information that the model's own probabilities claim. Where they are calibrated it is no more than the true one,
// since I(X;Y) ≥ I(p(X);Y); a model that is too sure claims too much, one that is too unsure too little. Of N samples the first
// term is too low by at most about (k−1)/2N.
func PredictiveInformation(logits []float32, k int, temperature float64) float64 {
	n := rows(len(logits), k)
	z := make([]float32, len(logits))
	for i, v := range logits {
		z[i] = float32(float64(v) / temperature)
	}
	mean, p := make([]float64, k), make([]float64, k)
	for i := range n {
		floats.Add(mean, Softmax(p, z[i*k:][:k]))
	}
	marginal, _ := entropies(mean)
	return marginal - MeanEntropy(z, k)
}

// CapacityBound is the lower bound I(X;Y) / (ε²·KL(p_T‖p_S)) of a student's capacity, from an information and a mean divergence in
// nats and an error ε > 0. It has no unit, and it diverges as the divergence goes to 0: the better a student matches its
// teacher, the more capacity it would be said to need. So it informs, and nothing should be decided by it. It is +Inf where the
// divergence is not above 0.
func CapacityBound(information, divergence, epsilon float64) float64 {
	if divergence <= 0 {
		return math.Inf(1)
	}
	return information / (epsilon * epsilon * divergence)
}
