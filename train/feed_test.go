package train

import (
	"errors"
	goruntime "runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"distill/data"
	"distill/teacher"
)

// source is four classes of 1x2x2 images whose pixels are their number.
type source struct {
	n      int
	broken int // the sample that cannot be read; -1: none
}

var errBroken = errors.New("sample is broken")

func (s source) Len() int             { return s.n }
func (s source) Shape() (c, h, w int) { return 1, 2, 2 }
func (s source) Classes() []string    { return []string{"a", "b", "c", "d"} }
func (s source) Read(i int, dst []float32) (int, error) {
	if i == s.broken {
		return 0, errBroken
	}
	for j := range dst {
		dst[j] = float32(i)
	}
	return i % 4, nil
}

func loader(s source) *data.Loader {
	return &data.Loader{Source: s, Batch: 3, Seed: 1, Shuffle: true, DropLast: true}
}

// settled waits for the goroutines of a test to end.
func settled(t *testing.T, before int) {
	t.Helper()
	for range 100 {
		if goruntime.NumGoroutine() <= before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	stacks := make([]byte, 1<<16)
	t.Errorf("%d goroutines, %d before:\n%s", goruntime.NumGoroutine(), before, stacks[:goruntime.Stack(stacks, true)])
}

func TestFeedGivesEveryBatchInOrder(t *testing.T) {
	before := goruntime.NumGoroutine()
	l := loader(source{31, -1}) // 10 steps an epoch
	for _, from := range []int{0, 7, 25} {
		for _, loaders := range []int{1, 3} {
			f := newFeed(l, data.Preprocess{Scale: 2}, nil, 1, stretch{l.Steps(), from, 30}, loaders)
			for step := from; step < 30; step++ {
				it, ok := f.next()
				if !ok || it.err != nil {
					t.Fatalf("step %d: %v, %v", step, ok, it)
				}
				var want data.Batch
				if err := l.Fill(&want, step/10, step%10); err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(it.batch.Index, want.Index) || !slices.Equal(it.batch.Y, want.Y) {
					t.Errorf("step %d has samples %v, want %v", step, it.batch.Index, want.Index)
				}
				for i, x := range it.input {
					if x != 2*want.X[i] {
						t.Fatalf("step %d: input %d is %v, want %v", step, i, x, 2*want.X[i])
					}
				}
				f.giveBack(it)
			}
			if _, ok := f.next(); ok {
				t.Error("there is a batch past the end")
			}
			f.close()
		}
	}
	settled(t, before)
}

func TestFeedClosesAtAnyMoment(t *testing.T) {
	before := goruntime.NumGoroutine()
	for taken := range 8 {
		f := newFeed(loader(source{31, -1}), data.DefaultPreprocess(), nil, 1, stretch{10, 0, 1000}, 2)
		for range taken {
			it, _ := f.next()
			f.giveBack(it)
		}
		if taken%2 == 1 {
			f.next() // a batch that is not given back
		}
		f.close()
	}
	settled(t, before)
}

func TestFeedPassesOnWhatCannotBeReadAndGoesOn(t *testing.T) {
	l := loader(source{31, 5})
	f := newFeed(l, data.DefaultPreprocess(), nil, 1, stretch{l.Steps(), 0, 30}, 2)
	defer f.close()
	failed := 0
	for step := range 30 {
		it, ok := f.next()
		var b data.Batch
		if want := l.Fill(&b, step/10, step%10); !ok || !errors.Is(it.err, want) {
			t.Fatalf("step %d: %v, %v; want %v", step, ok, it.err, want)
		}
		if errors.Is(it.err, errBroken) {
			failed++
		}
		f.giveBack(it)
	}
	if failed == 0 {
		t.Error("no step had the broken sample")
	}
}

func TestSampleThatCannotBeReadStopsTheRun(t *testing.T) {
	run := open(t, recipe(t), Options{})
	run.phase.Loader.Source = brokenCIFAR{run.phase.Loader.Source}
	before := goruntime.NumGoroutine()
	if err := run.Train(t.Context()); !errors.Is(err, errBroken) {
		t.Errorf("error %v", err)
	}
	settled(t, before)
}

// brokenCIFAR cannot be read in its second half.
type brokenCIFAR struct{ data.Source }

func (b brokenCIFAR) Read(i int, dst []float32) (int, error) {
	if i >= b.Len()/2 {
		return 0, errBroken
	}
	return b.Source.Read(i, dst)
}

// slow takes a while for each sample.
type slow struct{ source }

func (s slow) Read(i int, dst []float32) (int, error) {
	time.Sleep(2 * time.Millisecond)
	return s.source.Read(i, dst)
}

func TestFeedWaitsForTheLoaderAlone(t *testing.T) {
	l := loader(source{31, -1})
	f := newFeed(l, data.DefaultPreprocess(), nil, 1, stretch{l.Steps(), 0, 10}, 1)
	defer f.close()
	time.Sleep(50 * time.Millisecond) // for the first batches, which nothing slows down
	f.next()
	if f.wait > 5*time.Millisecond {
		t.Errorf("waited %v for a batch that was there", f.wait)
	}

	l.Source = slow{source{31, -1}}
	g := newFeed(l, data.DefaultPreprocess(), nil, 1, stretch{l.Steps(), 0, 10}, 1)
	defer g.close()
	g.next()
	if least := 3 * 2 * time.Millisecond; g.wait < least { // three samples, one after the other
		t.Errorf("waited %v for a batch that took %v to load", g.wait, least)
	}
}

func TestFeedAsksOfTheNextBatchBeforeTheLastIsAnswered(t *testing.T) {
	l := loader(source{31, -1})
	for _, asked := range []int{1, 2} {
		var begun atomic.Int32
		release := make(chan struct{})
		ask := func(b *data.Batch) (teacher.Outputs, error) {
			begun.Add(1)
			<-release
			if b.Index[0]%2 == 0 { // so that a later one may be first
				time.Sleep(time.Millisecond)
			}
			return teacher.Outputs{Logits: []float32{float32(b.Index[0])}}, nil
		}
		f := newFeed(l, data.DefaultPreprocess(), ask, asked, stretch{l.Steps(), 0, 20}, 1)
		for range 100 {
			if time.Sleep(time.Millisecond); int(begun.Load()) > asked {
				break
			}
		}
		if n := int(begun.Load()); n != asked {
			t.Errorf("the teacher is asked of %d batches at once, want %d", n, asked)
		}
		go func() {
			for range 20 {
				release <- struct{}{}
			}
		}()
		for step := range 20 {
			it, ok := f.next()
			var want data.Batch
			if err := l.Fill(&want, step/10, step%10); err != nil {
				t.Fatal(err)
			}
			if !ok || it.err != nil || it.teacher[0] != float32(want.Index[0]) {
				t.Fatalf("step %d: %v, %+v", step, ok, it)
			}
			f.giveBack(it)
		}
		f.close()
	}
}

func TestStepsLeaveThreadsFromNothingReadyToHalf(t *testing.T) {
	for _, tt := range []struct {
		name  string
		ready []int  // batches when a step begins, and after the last
		want  string // b: it leaves threads
	}{
		{"the teacher lags", []int{0, 0, 0, 0, 0}, "bbbb"},
		{"it comes up to half and falls back", []int{0, 1, 2, 1, 0, 1, 2, 3}, "bb--bb-"},
		{"it has all ready", []int{3, 3, 3, 3}, "---"},
		{"it is quick", []int{0, 3, 2, 1, 0, 3, 2, 1, 0, 3, 2, 1, 0, 0, 0}, "b---b---b-----"},
		{"it is quick twice, then not", []int{0, 3, 0, 3, 0, 2, 0, 3, 0, 3, 0}, "b-b-b-b-b-"},
	} {
		f := &feed{items: make(chan *item, ahead), free: make(chan *item, ahead)}
		set := func(n int) {
			for len(f.items) < n {
				f.items <- &item{}
			}
			for len(f.items) > n {
				<-f.items
			}
		}
		got := ""
		set(tt.ready[0])
		for _, after := range tt.ready[1:] {
			if f.beside() {
				got += "b"
			} else {
				got += "-"
			}
			set(after)
			f.giveBack(&item{})
			<-f.free
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}
