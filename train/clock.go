package train

import (
	"time"
)

// clock measures speed, waiting and what is left.
type clock struct {
	run  *Run
	feed *feed

	began time.Time // this process's part of the phase
	first int       // its first step

	epoch  time.Time     // this process's part of the epoch
	from   int           // its first step
	waited time.Duration // the feed's wait before it
	before float64       // seconds of the epoch in processes before this one
}

func newClock(run *Run, f *feed) *clock {
	now := time.Now()
	return &clock{run: run, feed: f, began: now, first: run.State.Step, epoch: now, from: run.State.Step, before: run.State.Seconds}
}

// seconds is the time since the epoch began.
func (c *clock) seconds() float64 { return c.before + time.Since(c.epoch).Seconds() }

// turn begins the next epoch.
func (c *clock) turn() {
	c.epoch, c.from, c.waited, c.before = time.Now(), c.run.State.Step, c.feed.wait, 0
}

// event is that of the step just done.
func (c *clock) event(lr float64) Event {
	s, steps := c.run.State, c.run.phase.epoch()
	all, epoch := time.Since(c.began), time.Since(c.epoch)
	e := Event{
		Run: c.run.opts.Name, Epoch: (s.Step - 1) / steps, Epochs: c.run.phase.Epochs, Step: s.Step - 1, Steps: c.run.phase.steps(), LR: lr,
		Loss:  s.Sums[0] / float64(s.Count),
		Speed: float64((s.Step-c.from)*c.run.Recipe.Batch*c.run.Recipe.Accumulate) / epoch.Seconds(),
		Wait:  (c.feed.wait - c.waited).Seconds() / epoch.Seconds(),
		ETA:   time.Duration(float64(all) * float64(c.run.phase.steps()-s.Step) / float64(s.Step-c.first)),
	}
	for i, name := range c.run.phase.Terms {
		e.Terms = append(e.Terms, Named{name, s.Sums[i+1] / float64(s.Count)})
	}
	if s.Scale != nil {
		e.LossScale, e.Skipped = s.Scale.Value, s.Scale.Epoch
	}
	return e
}
