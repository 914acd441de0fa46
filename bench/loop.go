package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"distill/train"
)

// loop is a run of distill train that goes on step by step: its observer hands each event over, and so the training loop waits
// until somebody takes it. Meanwhile the feed fills up, then it rests too.
type loop struct {
	run    *train.Run
	events chan train.Event
	stop   context.CancelFunc
	done   chan error
}

// epochRecipe is what our side of an epoch trains; all its files are in the folder. Threads are those of the whole run.
func epochRecipe(folder string, images, threads int) (*train.Recipe, error) {
	return train.LoadRecipe("", []string{
		"output=" + filepath.Join(folder, "run"),
		"threads=" + strconv.Itoa(threads),
		"epochs=1",
		"data.source=cifar10:" + filepath.Join(folder, dataName),
		fmt.Sprintf("data.train=data_batch_*.bin*[0:%d]", images),
		"teacher.model=" + filepath.Join(folder, teacherName),
		"student=resnet20",
		"student.shortcut=B",
	})
}

// openLoop opens a run and takes its first step.
func openLoop(folder string, images, threads int) (*loop, error) {
	r, err := epochRecipe(folder, images, threads)
	if err != nil {
		return nil, err
	}
	l := &loop{events: make(chan train.Event), done: make(chan error, 1)}
	if l.run, err = train.Open(r, train.Options{Overwrite: true, Observe: func(e train.Event) { l.events <- e }}); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	go func() {
		l.done <- l.run.Train(ctx)
		close(l.events)
	}()
	if _, err := l.step(); err != nil {
		l.close() // which fails for the same reason
		return nil, err
	}
	return l, nil
}

// step is the event of the next step.
func (l *loop) step() (train.Event, error) {
	e, ok := <-l.events
	if !ok {
		err := <-l.done
		l.done <- err
		return e, errors.Join(errors.New("bench: epoch: the run has ended"), err)
	}
	return e, nil
}

// train takes settle steps untimed, of which some were made while nobody looked, and times n more. Both results are in
// milliseconds; wait is the part of the time in which step and teacher waited for data.
func (l *loop) train(settle, n int) (ms, wait float64, err error) {
	var from, to train.Event
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
	return time.Since(start).Seconds() * 1e3, waited(to, l.run.Recipe.Batch) - waited(from, l.run.Recipe.Batch), nil
}

// waited is the time, in milliseconds, that the first epoch has waited so far: an event has its share of the epoch's time, and
// that time as a speed.
func waited(e train.Event, batch int) float64 {
	return e.Wait * float64((e.Step+1)*batch) / e.Speed * 1e3
}

func (l *loop) close() error {
	l.stop()
	for range l.events {
	}
	err := <-l.done
	if errors.Is(err, train.ErrInterrupted) {
		err = nil
	}
	return errors.Join(err, l.run.Close())
}
