package runtime

import goruntime "runtime"

// CPUs is the number of threads this process can run at once: the CPUs of the machine, less what an affinity mask or a
// container's quota withholds, or GOMAXPROCS if it is set.
func CPUs() int { return goruntime.GOMAXPROCS(0) }

// Plan shares one budget of threads among what works at the same time; each share is at least 1.
type Plan struct {
	Student int // the training step
	Teacher int // the teacher's forward pass, which runs ahead of the step; 0 without a teacher
	Data    int // decoding and augmentation
}

// Threads plans for n threads; n below 1 means [CPUs]. A quarter goes to the data, the rest to the student and the teacher
// in equal parts, the odd one to the student; without a teacher, all the rest to the student. On fewer than four threads the
// data share is one that comes on top: it mostly waits.
func Threads(n int, teacher bool) Plan {
	if n < 1 {
		n = CPUs()
	}
	p := Plan{Data: max(1, n/4)}
	rest := n
	if n >= 4 {
		rest -= p.Data
	}
	if teacher {
		p.Teacher = max(1, rest/2)
	}
	p.Student = max(1, rest-p.Teacher)
	return p
}
