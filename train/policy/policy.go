// Package policy decides what a run does next, by what it has come to: which of several teachers teaches the next round of steps.
// A policy is a function of its [Feedback], and so keeps nothing that a checkpoint would have to.
//
//	arm := policy.LinUCB{Explore: 0.5}.Choose(policy.Feedback{Arms: arms, Past: rounds})
package policy

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
)

// Policy picks one of some arms, the teachers, for each round.
type Policy interface {
	Choose(Feedback) int // the index of an arm
	rounds() Rounds      // see Of
}

// Feedback is what a choice follows from.
type Feedback struct {
	Arms []Arm   // one or more
	Past []Round // all before, in order
	Seed uint64  // of the run
}

// Arm is a teacher as it stands before the round.
type Arm struct {
	Context []float64 // [D], of as many numbers for each arm and round
	Top1    float64   // its own accuracy on val, 0..1
}

// Round is one that is over.
type Round struct {
	Arm     int
	Context []float64 // of the arm, before the round
	Reward  float64
}

// Rounds says how long a round is and what it is worth.
type Rounds struct {
	Steps int `yaml:"round"` // of a round; 0, the default: those of an epoch

	// Weights of the reward's terms; defaults 10, 2 and 0.1. See Reward.
	Alpha float64 `yaml:"alpha"`
	Beta  float64 `yaml:"beta"`
	Gamma float64 `yaml:"gamma"`

	// KL says what beta weighs: its decrease, the default, or what it comes to, printed.
	KL string `yaml:"kl"`
}

// DefaultRounds are those of the defaults.
func DefaultRounds() Rounds { return Rounds{Alpha: 10, Beta: 2, Gamma: 0.1, KL: "decrease"} }

// Validate checks the ranges.
func (r Rounds) Validate() error {
	if r.Steps < 0 || r.Steps > 1e9 {
		return fmt.Errorf("round must be 0 or a number of steps, not %d", r.Steps)
	}
	for _, w := range []float64{r.Alpha, r.Beta, r.Gamma} {
		if !(math.Abs(w) <= 1e6) {
			return errors.New("alpha, beta and gamma must be finite and not above 1e6")
		}
	}
	if r.KL != "decrease" && r.KL != "printed" {
		return fmt.Errorf("kl must be decrease or printed, not %q", r.KL)
	}
	return nil
}

func (r Rounds) rounds() Rounds { return r }

// Of are the rounds of a policy.
func Of(p Policy) Rounds { return p.rounds() }

// Measure is what is known of a student under a teacher.
type Measure struct {
	Top1 float64 `json:"top1"` // the student's accuracy on val, 0..1
	// KL is κ/(κ + log K), κ the mean on val of KL(p_T ‖ p_S) at temperature 1 in K classes, in nats: 0 for a student that says
	// what the teacher says, 1/2 for one that knows nothing of a sure teacher, and below 1 however wrong the student is.
	KL   float64 `json:"kl"`
	Cost float64 `json:"cost"` // of the teacher: its multiply-adds for an image over those of the largest, 0..1
}

// Context is that of an arm: a constant, which lets what is learned of it have an offset, the student's accuracy, its
// divergence from the teacher, and the teacher's cost; each is within 0..1.
func (m Measure) Context() []float64 { return []float64{1, m.Top1, m.KL, m.Cost} }

// Reward is what a round with a teacher was worth, from the measures before and after:
//
//	α·(accuracy gained) + β·(KL lost) − γ·cost
//
// With the default α, 10 points of accuracy are worth 1, as is with β the way from knowing nothing of a sure teacher to it. The KL
// that is lost is what the round brought. With kl: printed, β weighs the KL after the round itself, which is larger the less the
// student has learned: it rewards teachers that the student does not follow.
func (r Rounds) Reward(before, after Measure) float64 {
	kl := before.KL - after.KL
	if r.KL == "printed" {
		kl = after.KL
	}
	return r.Alpha*(after.Top1-before.Top1) + r.Beta*kl - r.Gamma*after.Cost
}

// Best picks the teacher of the best accuracy on val, of equals the first, in every round.
type Best struct {
	Rounds `yaml:",inline"`
}

// Choose implements [Policy].
func (Best) Choose(f Feedback) int {
	return largest(len(f.Arms), func(a int) float64 { return f.Arms[a].Top1 })
}

// Random picks any with the same chance; which, follows from the run's seed and the number of the round.
type Random struct {
	Rounds `yaml:",inline"`
}

// Choose implements [Policy].
func (Random) Choose(f Feedback) int {
	return rand.New(rand.NewPCG(f.Seed, uint64(len(f.Past)))).IntN(len(f.Arms))
}

// largest is the index below n of the largest value, of equals the first.
func largest(n int, value func(int) float64) (best int) {
	top := math.Inf(-1)
	for i := range n {
		if v := value(i); v > top {
			best, top = i, v
		}
	}
	return best
}
