package runtime

import (
	"slices"
	"testing"
	"testing/synctest"
)

func TestThreadsShareOneBudget(t *testing.T) {
	for _, c := range []struct {
		n       int
		teacher bool
		want    Plan
	}{
		{1, true, Plan{Student: 1, Beside: 1, Teacher: 1, Data: 1}},
		{2, true, Plan{Student: 2, Beside: 1, Teacher: 2, Data: 1}},
		{3, true, Plan{Student: 3, Beside: 2, Teacher: 3, Data: 1}},
		{8, true, Plan{Student: 8, Beside: 4, Teacher: 8, Data: 2}},
		{1, false, Plan{Student: 1, Beside: 1, Data: 1}},
		{2, false, Plan{Student: 2, Beside: 2, Data: 1}},
		{8, false, Plan{Student: 8, Beside: 8, Data: 2}},
	} {
		if got := Threads(c.n, c.teacher); got != c.want {
			t.Errorf("%d threads, teacher %v: %+v, want %+v", c.n, c.teacher, got, c.want)
		}
	}
	if got, want := Threads(0, true), Threads(CPUs(), true); got != want {
		t.Errorf("0 threads: %+v, want all CPUs' %+v", got, want)
	}
}

func TestBudgetLetsNobodyHaveMoreThanThereIsAndTheFirstGoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(2)
		var had []string
		take := func(name string, n int, take func(int)) {
			go func() {
				take(n)
				had = append(had, name)
			}()
			synctest.Wait()
		}
		wants := func(want ...string) {
			t.Helper()
			if !slices.Equal(had, want) {
				t.Fatalf("threads went to %v, want %v", had, want)
			}
		}
		give := func(n int) {
			b.Give(n)
			synctest.Wait()
		}
		take("a", 1, b.Take)
		take("b", 1, b.Take)
		take("c", 1, b.Take)
		take("first", 2, b.TakeFirst)
		wants("a", "b")
		give(1)
		wants("a", "b") // c would fit, and lets the other go first
		give(1)
		wants("a", "b", "first")
		give(2)
		wants("a", "b", "first", "c")
		take("none", 0, b.Take)
		wants("a", "b", "first", "c", "none")
		var unbound *Budget
		unbound.Take(1000)
		unbound.TakeFirst(1000)
		unbound.Give(1)
	})
}
