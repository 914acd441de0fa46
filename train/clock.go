package train

import (
	"time"
)

// clock measures speed, waiting and what is left.
type clock struct {
	run   *Run
	feed  *feed
	start time.Time // of this process's part of the run
	from  int       // its first step
	begin time.Time // of the epoch, what a checkpoint remembers of it included
}

func newClock(run *Run, f *feed) *clock {
	now := time.Now()
	return &clock{run: run, feed: f, start: now, from: run.State.Step,
		begin: now.Add(-time.Duration(run.State.Seconds * float64(time.Second)))}
}

// epoch is the time since the epoch began.
func (c *clock) epoch() float64 {
	s := time.Since(c.begin).Seconds()
	if c.run.State.Count == c.run.phase.Loader.Steps() {
		c.begin = time.Now()
	}
	return s
}

// event is that of the step just done.
func (c *clock) event(lr float64) Event {
	s, steps := c.run.State, c.run.phase.Loader.Steps()
	elapsed := time.Since(c.start)
	done := s.Step - c.from
	e := Event{
		Run: c.run.opts.Name, Epoch: (s.Step - 1) / steps, Epochs: c.run.phase.Epochs, Step: s.Step - 1, Steps: c.run.phase.steps(), LR: lr,
		Loss:  s.Sums[0] / float64(s.Count),
		Speed: float64(done*c.run.Recipe.Batch) / elapsed.Seconds(),
		Wait:  c.feed.wait.Seconds() / elapsed.Seconds(),
		ETA:   time.Duration(float64(elapsed) * float64(c.run.phase.steps()-s.Step) / float64(done)),
	}
	for i, name := range c.run.phase.Terms {
		e.Terms = append(e.Terms, Named{name, s.Sums[i+1] / float64(s.Count)})
	}
	return e
}
