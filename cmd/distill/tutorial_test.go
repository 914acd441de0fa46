package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"distill/runtime"
)

// A block of commands of the tutorial, with the word after "sh" and the commands.
var shellBlock = regexp.MustCompile("(?ms)^```sh ?(\\w*)\n(.*?)^```$")

// TestTutorialRunsWordForWord has a shell run the blocks of docs/tutorial.md one after the other in one folder. Training is cut
// short unless DISTILL_LONG is set, and blocks for Python need a python3 with the tutorial's PyTorch; with it, the network
// exported must be the one that lies there.
func TestTutorialRunsWordForWord(t *testing.T) {
	t.Setenv(runtime.LibraryEnv, findLibrary(t))
	folder := tutorialFolder(t)
	text, err := os.ReadFile("../../docs/tutorial.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := shellBlock.FindAllSubmatch(text, -1)
	if len(blocks) == 0 {
		t.Fatal("the tutorial has no commands")
	}
	python := hasPyTorch()
	for _, b := range blocks {
		commands := string(b[2])
		if string(b[1]) == "python" && !python {
			t.Logf("skipped, for lack of PyTorch 1.13: %s", commands)
			continue
		}
		if os.Getenv("DISTILL_LONG") == "" {
			commands = cutShort(commands)
		}
		c := exec.Command("sh", "-e", "-c", commands)
		c.Dir = folder
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s\n%s", err, commands, out)
		}
		t.Logf("%s\n%s", commands, out)
	}
	const network = "docs/tutorial/net.onnx"
	want, err := os.ReadFile(filepath.Join("../..", network))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(folder, network)); err != nil || !bytes.Equal(got, want) {
		t.Errorf("export.py writes another network than %s (%v)", network, err)
	}
}

// tutorialFolder looks like the repository's after make build, but for what the tutorial does not need.
func tutorialFolder(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	if err := linkRepository(folder); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(folder, "docs/tutorial"), os.DirFS("../../docs/tutorial")); err != nil {
		t.Fatal(err)
	}
	binary, err := exec.LookPath("distill")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(folder, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(binary, filepath.Join(folder, "bin/distill")); err != nil {
		t.Fatal(err)
	}
	return folder
}

// hasPyTorch reports whether python3 can write the tutorial's network byte for byte.
func hasPyTorch() bool {
	const program = `import onnx, torch; raise SystemExit(not torch.__version__.startswith("1.13.0"))`
	return exec.Command("python3", "-c", program).Run() == nil
}

// cutShort appends overrides to the lines that train.
func cutShort(commands string) string {
	var b strings.Builder
	for line := range strings.Lines(commands) {
		if strings.HasPrefix(line, "bin/distill train ") {
			line = strings.TrimSuffix(line, "\n") + " epochs=1"
			if strings.Contains(line, "cifar10:") {
				line += " batch=16 'data.train=data_batch_1.bin.gz[0:32]' 'data.val=val.bin.gz[0:16]' 'data.test=test_batch.bin.gz[0:16]'"
			}
			line += "\n"
		}
		b.WriteString(line)
	}
	return b.String()
}
