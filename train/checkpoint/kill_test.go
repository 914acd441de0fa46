//go:build unix

package checkpoint

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test binary runs again as a process to kill, or one with a full disk, if this names the checkpoint to write.
const (
	loopVar = "CHECKPOINT_TEST_LOOP"
	fullVar = "CHECKPOINT_TEST_FULL"
)

// large makes a write take long enough to be killed in.
const large = 1 << 18

func TestMain(m *testing.M) {
	if path := os.Getenv(loopVar); path != "" {
		for step := 1; ; step++ {
			if err := Save(path, store(large), state{Step: step}); err != nil {
				panic(err)
			}
		}
	}
	if path := os.Getenv(fullVar); path != "" {
		saveOnFullDisk(path)
		return
	}
	os.Exit(m.Run())
}

func again(variable, path string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), variable+"="+path)
	cmd.Stderr = os.Stderr
	return cmd
}

func TestKilledSaveLeavesAWholeCheckpoint(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "last.ckpt")
	if err := Save(path, store(large), state{}); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(3, 4))
	inside := 0
	for i := range 20 {
		cmd := again(loopVar, path)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20*time.Millisecond + time.Duration(r.IntN(60))*time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
		if len(files(t, dir)) > 1 {
			inside++
		}
		var got state
		if _, err := Load(path, &got); err != nil {
			t.Fatalf("kill %d: %v", i, err)
		}
	}
	t.Logf("%d of 20 kills fell inside a write", inside)
	if inside == 0 {
		t.Error("no kill fell inside a write")
	}
	if err := Save(path, store(1), state{}); err != nil {
		t.Fatal(err)
	}
	if got := files(t, dir); len(got) != 1 {
		t.Errorf("the next Save left %v", got)
	}
}

func TestFullDiskLeavesTheOldCheckpoint(t *testing.T) {
	path := saved(t)
	cmd := again(fullVar, path)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := string(out); !strings.Contains(got, "checkpoint: save "+path) || !strings.Contains(got, syscall.EFBIG.Error()) {
		t.Errorf("error %q", got)
	}
	var got state
	if _, err := Load(path, &got); err != nil || got.Step != trained.Step {
		t.Errorf("the old checkpoint is at step %d, %v", got.Step, err)
	}
	if got := files(t, filepath.Dir(path)); len(got) != 1 {
		t.Errorf("left behind: %v", got)
	}
}

// saveOnFullDisk prints the error of a Save that may write only half of its file.
func saveOnFullDisk(path string) {
	signal.Ignore(syscall.SIGXFSZ)
	limit := syscall.Rlimit{Cur: large * 4 / 2, Max: large * 4 / 2}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		panic(err)
	}
	if err := Save(path, store(large), state{}); err != nil {
		os.Stdout.WriteString(err.Error())
	}
}

func TestReadOnlyFolderIsNamed(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write everywhere")
	}
	path := saved(t)
	if err := os.Chmod(filepath.Dir(path), 0o555); err != nil {
		t.Fatal(err)
	}
	if err := Save(path, store(1), state{}); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v", err)
	}
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
