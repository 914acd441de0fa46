package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"distill/data"
	"distill/teacher"
	"distill/train"
)

// way is one of our ways through an epoch. All see the same images in the same order.
type way string

const (
	live        way = "live"    // the teacher runs ahead of the student
	writing     way = "writing" // the same, and what it says is kept
	warm        way = "warm"    // what was kept is read
	labelsAlone way = "labels"  // no teacher
	building    way = "build"   // distill cache build
	raw         way = "teacher" // forward passes of one batch, again and again
)

// ways are what ours times.
var ways = []way{live, writing, warm, labelsAlone, building, raw}

// loop goes on step by step: after each it waits until somebody takes its report. Meanwhile queues fill up, then they rest too.
type loop struct {
	reports chan float64 // for how long step and teacher have waited for data so far, in milliseconds
	stop    context.CancelFunc
	done    chan error
}

// epochRecipe is what our side of an epoch trains; all its files are in the folder. Threads are those of the whole run.
func epochRecipe(w way, folder string, images, threads int) (*train.Recipe, error) {
	output := filepath.Join(folder, "run-"+string(w))
	sets := []string{
		"output=" + output,
		"threads=" + strconv.Itoa(threads),
		"epochs=1",
		"data.source=cifar10:" + filepath.Join(folder, dataName),
		fmt.Sprintf("data.train=data_batch_*.bin*[0:%d]", images),
		"teacher.model=" + filepath.Join(folder, teacherName),
		"student=resnet20",
		"student.shortcut=B",
	}
	switch w {
	case warm:
		sets = append(sets, "teacher.cache.folder="+filepath.Join(folder, cacheName))
	case writing:
		sets = append(sets, "teacher.cache.folder="+filepath.Join(folder, "written"), "teacher.cache.write=true")
	}
	r, err := train.LoadRecipe("", sets)
	if err == nil && w == labelsAlone {
		r = r.LabelsOnly(output)
	}
	return r, err
}

// openLoop opens one of the ways and takes its first step.
func openLoop(w way, folder string, images, threads int) (*loop, error) {
	r, err := epochRecipe(w, folder, images, threads)
	if err != nil {
		return nil, err
	}
	var run pace
	switch w {
	case live, writing, warm, labelsAlone:
		run, err = trainingRun(r)
	case building:
		run, err = cacheBuild(r, filepath.Join(folder, "built"))
	case raw:
		run, err = forwardPasses(r)
	default:
		err = fmt.Errorf("bench: epoch: there is no way %q", w)
	}
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	l := &loop{make(chan float64), stop, make(chan error, 1)}
	go func() {
		l.done <- run(ctx, func(waited float64) { l.reports <- waited })
		close(l.reports)
	}()
	if _, err := l.step(); err != nil {
		l.close() // which fails for the same reason
		return nil, err
	}
	return l, nil
}

// pace runs until the context ends or there is nothing more to do, and reports after each step.
type pace func(ctx context.Context, report func(waited float64)) error

// trainingRun is distill train's own loop.
func trainingRun(r *train.Recipe) (pace, error) {
	var report func(waited float64)
	run, err := train.Open(r, train.Options{Overwrite: true, Observe: func(e train.Event) { report(waited(e, r.Batch)) }})
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, to func(waited float64)) error {
		report = to
		err := run.Train(ctx)
		if errors.Is(err, train.ErrInterrupted) {
			err = nil
		}
		return errors.Join(err, run.Close())
	}, nil
}

// waited is the time, in milliseconds, that the first epoch has waited so far: an event has its share of the epoch's time, and
// that time as a speed.
func waited(e train.Event, batch int) float64 {
	return e.Wait * float64((e.Step+1)*batch) / e.Speed * 1e3
}

// cacheBuild is that of distill cache build.
func cacheBuild(r *train.Recipe, folder string) (pace, error) {
	c, err := train.OpenCaching(r)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, report func(waited float64)) error {
		err := c.Build(ctx, folder, func(_, _ int) { report(0) })
		if errors.Is(err, context.Canceled) {
			err = nil
		}
		return errors.Join(err, c.Close())
	}, nil
}

// forwardPasses are the teacher's, of the first batch of images.
func forwardPasses(r *train.Recipe) (pace, error) {
	b, err := firstBatch(r)
	if err != nil {
		return nil, err
	}
	t, err := teacher.Open(r.Teacher, r.Preprocess, r.Threads)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, report func(waited float64)) error {
		for ctx.Err() == nil {
			if _, err := t.Forward(b); err != nil {
				return errors.Join(err, t.Close())
			}
			report(0)
		}
		return t.Close()
	}, nil
}

// firstBatch holds the first training images, as they are.
func firstBatch(r *train.Recipe) (*data.Batch, error) {
	splits, err := data.Open(r.Data)
	if err != nil {
		return nil, err
	}
	b := &data.Batch{}
	return b, (&data.Loader{Source: splits.Train, Batch: r.Batch}).Fill(b, 0, 0)
}

// step is the report of the next step.
func (l *loop) step() (waited float64, err error) {
	waited, ok := <-l.reports
	if !ok {
		err := <-l.done
		l.done <- err
		return 0, errors.Join(errors.New("bench: epoch: the run has ended"), err)
	}
	return waited, nil
}

// train takes settle steps untimed, of which some were made while nobody looked, and times n more. Both results are in
// milliseconds; wait is the part of the time in which step and teacher waited for data.
func (l *loop) train(settle, n int) (ms, wait float64, err error) {
	var from, to float64
	for range settle {
		if from, err = l.step(); err != nil {
			return 0, 0, err
		}
	}
	start := time.Now()
	for range n {
		if to, err = l.step(); err != nil {
			return 0, 0, err
		}
	}
	return time.Since(start).Seconds() * 1e3, to - from, nil
}

func (l *loop) close() error {
	l.stop()
	for range l.reports {
	}
	return <-l.done
}
