package train

import (
	"context"
	"fmt"
	"sync"
	"time"

	"distill/data"
	"distill/runtime/graph"
	"distill/teacher"
)

// item is a batch ready for a step.
type item struct {
	batch   data.Batch
	input   []float32               // [N,C,H,W], preprocessed for the student
	teacher []float32               // [N,K], the teacher's logits; nil without a teacher
	taps    map[string]graph.Tensor // [N,…] each, the teacher's inner tensors by name
	err     error
}

// answers gives what the teacher says of a batch.
type answers func(*data.Batch) (teacher.Outputs, error)

// feed makes the batches of a run ahead of the step, in order, in two stages: loading and augmentation, several batches at
// once, then the teacher's forward pass.
type feed struct {
	items chan *item
	free  chan *item // items whose buffers can be used again
	stop  context.CancelFunc
	done  chan struct{}
	wait  time.Duration // spent in next for want of a loaded batch, not of the teacher's answer

	loading stopwatch // the second stage waits for the first

	lags  bool // the teacher does: see beside
	alone bool // the step under way began with nothing ready, and left threads
	idle  int  // how many such steps in a row have seen the teacher make all that it may
}

// stopwatch counts time that one goroutine spends in something, for another to read.
type stopwatch struct {
	mu    sync.Mutex
	total time.Duration
	since time.Time // zero: not running
}

func (w *stopwatch) start() {
	w.mu.Lock()
	w.since = time.Now()
	w.mu.Unlock()
}

func (w *stopwatch) stop() {
	w.mu.Lock()
	w.total += time.Since(w.since)
	w.since = time.Time{}
	w.mu.Unlock()
}

func (w *stopwatch) read() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.since.IsZero() {
		return w.total
	}
	return w.total + time.Since(w.since)
}

// ahead is how many batches may be ready or in the making.
const ahead = 4

// stretch is a row of batches, numbered over all epochs: those before to.
type stretch struct {
	epoch    int // batches of an epoch
	from, to int
}

// newFeed makes the batches of a stretch. It loads up to loaders of them at once, and asks the teacher, if there is one, of up to
// asked.
func newFeed(l *data.Loader, pre data.Preprocess, ask answers, asked int, s stretch, loaders int) *feed {
	ctx, stop := context.WithCancel(context.Background())
	f := &feed{items: make(chan *item, ahead), free: make(chan *item, ahead), stop: stop, done: make(chan struct{})}
	for range ahead {
		f.free <- &item{}
	}
	queue := make(chan chan *item, ahead) // in order; each gets its item once that is loaded
	slots := make(chan struct{}, loaders)
	go func() {
		defer close(queue)
		for i := s.from; i < s.to; i++ {
			select {
			case <-ctx.Done():
				return
			case it := <-f.free:
				slots <- struct{}{}
				loaded := make(chan *item, 1)
				go func() {
					it.load(l, pre, i/s.epoch, i%s.epoch)
					loaded <- it
					<-slots
				}()
				queue <- loaded
			}
		}
	}()
	answered := make(chan chan *item, asked-1) // in order; one more is waited for
	go func() {
		defer close(answered)
		for loaded := range queue {
			done := make(chan *item, 1)
			answered <- done
			f.loading.start()
			it := <-loaded
			f.loading.stop()
			go func() {
				if ctx.Err() == nil && it.err == nil && ask != nil {
					it.ask(ask)
				}
				done <- it
			}()
		}
	}()
	go func() {
		defer close(f.done)
		defer close(f.items)
		for done := range answered {
			f.items <- <-done
		}
	}()
	return f
}

func (it *item) load(l *data.Loader, pre data.Preprocess, epoch, step int) {
	it.err = l.Fill(&it.batch, epoch, step)
	if it.err != nil {
		return
	}
	shape := pre.OutShape(it.batch.Shape)
	size := shape[0] * shape[1] * shape[2] * shape[3]
	if len(it.input) != size {
		it.input = make([]float32, size)
	}
	pre.Apply(it.input, it.batch.X, it.batch.Shape)
}

func (it *item) ask(ask answers) {
	out, err := ask(&it.batch)
	if err != nil {
		it.err = fmt.Errorf("train: teacher's outputs: %w", err)
		return
	}
	it.teacher, it.taps = append(it.teacher[:0], out.Logits...), out.Taps
}

// next waits for the next batch; false means there are no more. The batch is the caller's until it gives it back.
func (f *feed) next() (*item, bool) {
	before := f.loading.read()
	it, ok := <-f.items
	f.wait += f.loading.read() - before
	return it, ok
}

// behind reports whether the next batch is not ready yet.
func (f *feed) behind() bool { return len(f.items) == 0 }

// quick is how many steps in a row a teacher must have been done before, with all that it may make, to count as quick.
const quick = 3

// beside reports whether the next step, whose batch is taken already, is to leave threads to the teacher: from when nothing is ready
// until half of what may be is, since at each change some threads wait for others. None is for a quick teacher, which would leave
// its threads idle for the rest of such a step: the two lose less by turns.
func (f *feed) beside() bool {
	ready := len(f.items)
	f.lags = ready == 0 || f.lags && ready < ahead/2
	f.alone = ready == 0 && f.idle < quick
	return f.lags && f.idle < quick
}

// giveBack takes a batch back after its step.
func (f *feed) giveBack(it *item) {
	switch {
	case !f.alone:
	case len(f.items) == ahead-1:
		f.idle++
	default:
		f.idle = 0
	}
	f.alone = false
	f.free <- it
}

// close ends both stages and waits for them, so that the teacher can be closed.
func (f *feed) close() {
	f.stop()
	for range f.items {
	}
	<-f.done
}
