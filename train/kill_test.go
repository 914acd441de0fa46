package train

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"distill/internal/atomicfile"
)

// The test binary runs again as a process to kill if this names the recipe to go on with.
const recipeVar = "TRAIN_TEST_RECIPE"

func again() bool {
	path := os.Getenv(recipeVar)
	if path == "" {
		return false
	}
	r, err := LoadRecipe(path, nil)
	if err == nil {
		var run *Run
		if run, err = Open(r, Options{Resume: true}); err == nil {
			err = run.Train(context.Background())
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

// process is a training process under way.
type process struct {
	*exec.Cmd
	ended chan error
}

func start(t *testing.T, recipe string) process {
	t.Helper()
	p := process{exec.Command(os.Args[0]), make(chan error, 1)}
	p.Env = append(os.Environ(), recipeVar+"="+recipe)
	p.Stderr = os.Stderr
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.ended <- p.Wait() }()
	return p
}

// kill ends the process, and reports whether it was still at work.
func (p process) kill(t *testing.T) bool {
	t.Helper()
	p.Process.Kill() // no error but that it has ended
	err := <-p.ended
	if err != nil && p.ProcessState.Exited() {
		t.Fatalf("the process fails by itself: %v", err)
	}
	return err != nil
}

// until waits, closely, for what is to be seen in the folder; false if the process ends first.
func (p process) until(seen func() bool) bool {
	for !seen() {
		select {
		case err := <-p.ended:
			p.ended <- err
			return false
		default:
		}
	}
	return true
}

func TestRunKilledAtAnyMomentEndsInTheSameBits(t *testing.T) {
	if testing.Short() {
		t.Skip("takes more than 20 processes")
	}
	settings := []string{"epochs=30", "checkpoint.every=1", "student={arch: cnn, widths: [8, 256]}"}
	want := trained(t, recipe(t, settings...))

	r := recipe(t, settings...)
	text, err := r.Text()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "recipe.yaml")
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	f := Folder(r.Output)
	rng := rand.New(rand.NewPCG(5, 6))
	kills, inside, resumed, ends := 0, 0, 0, 0
	for kills < 20 {
		if f.has(lastFile) {
			if _, _, err := f.Load("last"); err != nil {
				t.Fatalf("after kill %d: %v", kills, err)
			}
			resumed++
		}
		before := modified(f)
		p := start(t, path)
		switch kills % 4 {
		case 0, 1: // while it trains
			p.until(func() bool { return modified(f) != before })
			time.Sleep(time.Duration(rng.IntN(120)) * time.Millisecond)
		case 2: // at any time from the start of the process
			time.Sleep(time.Duration(rng.IntN(400)) * time.Millisecond)
		case 3: // inside the write of a checkpoint
			p.until(func() bool { return modified(f) != before && len(writing(t, f)) > 0 })
		}
		if !p.kill(t) { // a fast machine came to the end: begin again
			sameEnd(t, f, want)
			if err := f.clear(); err != nil {
				t.Fatal(err)
			}
			ends++
			continue
		}
		kills++
		if len(writing(t, f)) > 0 {
			inside++
		}
	}
	t.Logf("%d kills, %d inside the write of a checkpoint; %d resumed runs, %d came to the end in between", kills, inside, resumed, ends)
	if inside == 0 || resumed == 0 {
		t.Error("no kill fell inside a write, or none on a run to resume")
	}
	if err := <-start(t, path).ended; err != nil {
		t.Fatal(err)
	}
	sameEnd(t, f, want)
}

// sameEnd fails unless the folder holds what an undisturbed run came to, and nothing else.
func sameEnd(t *testing.T, f Folder, want *Run) {
	t.Helper()
	for _, which := range []string{"last", "best"} {
		got, s, err := f.Load(which)
		if err != nil {
			t.Fatal(err)
		}
		store, state, err := want.Folder.Load(which)
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, store)
		if a, b := timeless(s.History), timeless(state.History); !reflect.DeepEqual(a, b) {
			t.Errorf("%s: metrics\n%+v, want\n%+v", which, a, b)
		}
	}
	if left, _ := filepath.Glob(f.path(".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// modified is when the last checkpoint was written, 0 where there is none.
func modified(f Folder) int64 {
	info, err := os.Stat(f.path(lastFile))
	if err != nil {
		return 0
	}
	return info.ModTime().UnixNano()
}

func writing(t *testing.T, f Folder) []string {
	t.Helper()
	names, err := filepath.Glob(atomicfile.Pattern(f.path(lastFile)))
	if err != nil {
		t.Fatal(err)
	}
	return names
}
