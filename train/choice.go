package train

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"slices"

	"distill/data"
	"distill/metrics"
	"distill/train/policy"
)

// Choice is that of a teacher for a round, as choices.jsonl holds it.
type Choice struct {
	Round   int             `json:"round"`   // from 1
	Step    int             `json:"step"`    // steps done before it
	Teacher int             `json:"teacher"` // in the recipe's order, from 0
	Model   string          `json:"model"`   // its file's name
	Before  policy.Measure  `json:"before"`
	After   *policy.Measure `json:"after,omitempty"`  // none while the round is under way, like the reward
	Reward  *float64        `json:"reward,omitempty"` // see policy.Rounds.Reward
}

// chooser has the recipe's policy pick the teacher of each round. Student and teachers are judged on val, of whose images it
// keeps what each teacher says.
type chooser struct {
	run    *Run
	policy policy.Policy
	logits [][]float32 // of each teacher, [n,K]
	top1   []float64   // their accuracies
	costs  []float64   // see policy.Measure
}

// newChooser asks each teacher about val; nil, which never chooses, where the recipe has no policy.
func newChooser(ctx context.Context, run *Run) (*chooser, error) {
	p, ok := run.Recipe.Combine.Rule.(policy.Policy)
	if !ok || !run.phase.NeedsTeacher {
		return nil, nil
	}
	c := &chooser{run: run, policy: p}
	var err error
	if c.costs, err = run.costs(); err != nil {
		return nil, err
	}
	val := run.Splits.Val
	l := &data.Loader{Source: val, Batch: min(run.Recipe.Batch, val.Len())}
	for _, t := range run.Teachers {
		var b data.Batch
		var logits []float32
		var labels []int64
		for i := range l.Steps() {
			if ctx.Err() != nil {
				return nil, ErrInterrupted
			}
			if err := l.Fill(&b, 0, i); err != nil {
				return nil, err
			}
			out, err := t.Forward(&b)
			if err != nil {
				return nil, err
			}
			logits, labels = append(logits, out.Logits...), append(labels, b.Y...)
		}
		c.logits = append(c.logits, logits)
		c.top1 = append(c.top1, metrics.Top1(logits, t.Classes(), labels))
	}
	return c, nil
}

// costs are the teachers' multiply-adds for an image over those of the largest; their weights, where those of one cannot be
// counted.
func (run *Run) costs() ([]float64, error) {
	macs, params := make([]float64, len(run.Teachers)), make([]float64, len(run.Teachers))
	counted := true
	for i, t := range run.Teachers {
		n, err := t.MACs(run.Recipe.AllTeachers()[i], run.Threads.Teacher)
		counted = counted && err == nil && n > 0
		macs[i], params[i] = float64(n), float64(t.Params())
	}
	if !counted {
		macs = params
	}
	most := max(1, slices.Max(macs))
	for i := range macs {
		macs[i] /= most
	}
	return macs, nil
}

// round is the number of steps of one.
func (ph *Phase) round(p policy.Policy) int {
	if n := policy.Of(p).Steps; n > 0 {
		return n
	}
	return ph.epoch()
}

// end is the step before which the round of a choice ends.
func (c *chooser) end(choice Choice) int {
	return min(choice.Step+c.run.phase.round(c.policy), c.run.phase.steps())
}

// current is the choice whose round is under way; nil between two rounds.
func (c *chooser) current() *Choice {
	all := c.run.State.Choices
	if len(all) == 0 || all[len(all)-1].Reward != nil {
		return nil
	}
	return &all[len(all)-1]
}

// between reports whether a teacher is to be chosen before the next step.
func (c *chooser) between() bool { return c != nil && c.current() == nil }

// choose gives the choice of the round under way, or makes that of the next one.
func (c *chooser) choose() (Choice, error) {
	if choice := c.current(); choice != nil {
		return *choice, nil
	}
	s := c.run.State
	f := policy.Feedback{Seed: c.run.Recipe.Seed}
	for _, past := range s.Choices {
		f.Past = append(f.Past, policy.Round{Arm: past.Teacher, Context: past.Before.Context(), Reward: *past.Reward})
	}
	now := make([]policy.Measure, len(c.logits))
	for i := range now {
		var err error
		if now[i], err = c.measure(i); err != nil {
			return Choice{}, err
		}
		f.Arms = append(f.Arms, policy.Arm{Context: now[i].Context(), Top1: c.top1[i]})
	}
	arm := c.policy.Choose(f)
	choice := Choice{Round: len(s.Choices) + 1, Step: s.Step, Teacher: arm, Model: filepath.Base(c.run.Teachers[arm].Path()), Before: now[arm]}
	s.Choices = append(s.Choices, choice)
	return choice, nil
}

// judge gives the round that the last step has ended, if it has, its reward.
func (c *chooser) judge() error {
	if c == nil || c.between() {
		return nil
	}
	choice := c.current()
	if c.run.State.Step < c.end(*choice) {
		return nil
	}
	after, err := c.measure(choice.Teacher)
	if err != nil {
		return err
	}
	reward := policy.Of(c.policy).Reward(choice.Before, after)
	choice.After, choice.Reward = &after, &reward
	return nil
}

// measure is of the student as it is under a teacher.
func (c *chooser) measure(teacher int) (policy.Measure, error) {
	v, err := c.run.validate()
	if err != nil {
		return policy.Measure{}, err
	}
	return policy.Measure{Top1: share(v.correct), KL: divergence(c.logits[teacher], v.logits, len(c.run.State.Classes)), Cost: c.costs[teacher]}, nil
}

// divergence is κ/(κ + log k), κ the mean of KL(softmax(t) ‖ softmax(s)), in nats; logits are [N,k].
func divergence(t, s []float32, k int) float64 {
	sum, p, q := 0.0, make([]float64, k), make([]float64, k)
	for at := 0; at < len(t); at += k {
		metrics.LogSoftmax(p, t[at:][:k])
		metrics.LogSoftmax(q, s[at:][:k])
		for i, log := range p {
			if e := math.Exp(log); e > 0 {
				sum += e * (log - q[i])
			}
		}
	}
	kl := sum / float64(len(t)/k)
	if math.IsNaN(kl) || math.IsInf(kl, 0) { // of logits that are not finite
		return 1
	}
	kl = max(0, kl) // rounding may leave it below
	return kl / (kl + math.Log(float64(k)))
}

// fitting reports whether a checkpoint's choices are such as the recipe's run has made by its step.
func (run *Run) fitting() bool {
	s := run.State
	p, ok := run.Recipe.Combine.Rule.(policy.Policy)
	if !ok || !run.phase.NeedsTeacher {
		return len(s.Choices) == 0
	}
	n := run.phase.round(p)
	begun := (s.Step + n - 1) / n
	if len(s.Choices) != begun && !(len(s.Choices) == begun+1 && s.Step%n == 0) {
		return false
	}
	for i, c := range s.Choices {
		over := s.Step >= min(c.Step+n, run.phase.steps())
		if c.Step != i*n || c.Teacher < 0 || c.Teacher >= len(run.Recipe.Teachers) || over != (c.Reward != nil) {
			return false
		}
	}
	return true
}

// feed makes the batches from the run's step on; where a policy picks teachers, those of the round under way.
func (run *Run) feed(c *chooser) (*feed, error) {
	s, ask := run.phase.ahead(run.State.Step), run.answers()
	if c != nil && s.from < s.to {
		choice, err := c.choose()
		if err != nil {
			return nil, fmt.Errorf("train: choose a teacher: %w", err)
		}
		s.to, ask = c.end(choice)*run.phase.Batches, run.answersOf(choice.Teacher)
	}
	return newFeed(run.phase.Loader, run.Recipe.Preprocess, ask, run.asked(), s, run.Threads.Data), nil
}
