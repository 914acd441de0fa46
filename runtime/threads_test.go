package runtime

import "testing"

func TestThreadsShareOneBudget(t *testing.T) {
	for _, c := range []struct {
		n       int
		teacher bool
		want    Plan
	}{
		{1, true, Plan{Student: 1, Teacher: 1, Data: 1}},
		{2, true, Plan{Student: 2, Teacher: 2, Data: 1}},
		{3, true, Plan{Student: 3, Teacher: 3, Data: 1}},
		{8, true, Plan{Student: 8, Teacher: 8, Data: 2}},
		{1, false, Plan{Student: 1, Data: 1}},
		{2, false, Plan{Student: 2, Data: 1}},
		{8, false, Plan{Student: 8, Data: 2}},
	} {
		if got := Threads(c.n, c.teacher); got != c.want {
			t.Errorf("%d threads, teacher %v: %+v, want %+v", c.n, c.teacher, got, c.want)
		}
	}
	if got, want := Threads(0, true), Threads(CPUs(), true); got != want {
		t.Errorf("0 threads: %+v, want all CPUs' %+v", got, want)
	}
}
