package runtime

import (
	goruntime "runtime"
	"sync"
)

// CPUs is the number of threads this process can run at once: the CPUs of the machine, less what an affinity mask or a
// container's quota withholds, or GOMAXPROCS if it is set.
func CPUs() int { return goruntime.GOMAXPROCS(0) }

// Plan shares one budget of threads among what works at the same time; each share is at least 1.
type Plan struct {
	Student int // the training step
	Beside  int // the training step while the teacher works; Student without a teacher
	Teacher int // all runs of the teacher that are made at once; 0 without a teacher
	Data    int // batches decoded and augmented at once
}

// Threads plans for n threads; n below 1 means [CPUs]. Threads that share a run wait for one another after every operator: so the step
// leaves half of them to the teacher. Whoever would be left waiting has all. A quarter may load data, which mostly waits.
func Threads(n int, teacher bool) Plan {
	if n < 1 {
		n = CPUs()
	}
	p := Plan{Student: n, Beside: n, Data: max(1, n/4)}
	if teacher {
		p.Beside, p.Teacher = (n+1)/2, n
	}
	return p
}

// Budget is a number of threads that are shared by what computes at the same time. Nil sets no bounds.
type Budget struct {
	mu      sync.Mutex
	changed *sync.Cond
	free    int
	first   int // how many wait in TakeFirst
}

// NewBudget has n threads, 1 or more.
func NewBudget(n int) *Budget {
	b := &Budget{free: n}
	b.changed = sync.NewCond(&b.mu)
	return b
}

// Take waits until n threads are free, no more than there are, and nobody waits in TakeFirst.
func (b *Budget) Take(n int) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.free < n || b.first > 0 {
		b.changed.Wait()
	}
	b.free -= n
}

// TakeFirst is Take before all who wait there: for few who do, as each threads that become free stay idle until they are enough.
func (b *Budget) TakeFirst(n int) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.first++
	for b.free < n {
		b.changed.Wait()
	}
	b.first--
	b.free -= n
	b.changed.Broadcast()
}

// Give gives n threads back.
func (b *Budget) Give(n int) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free += n
	b.changed.Broadcast()
}
