package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"distill/runtime"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"distill": main}) }

// TestScripts runs each script of testdata/script in a folder of its own, where models and testdata are the repository's.
func TestScripts(t *testing.T) {
	library := findLibrary(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv(runtime.LibraryEnv, library)
			return linkRepository(e.WorkDir)
		},
	})
}

// findLibrary is the path of ONNX Runtime's library: a script's home folder is not where its cache folder is.
func findLibrary(t *testing.T) string {
	t.Helper()
	path, err := runtime.Find("")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// linkRepository makes the paths of help texts good in a folder.
func linkRepository(folder string) error {
	for _, name := range []string{"models", "testdata"} {
		path, err := filepath.Abs(filepath.Join("../..", name))
		if err != nil {
			return err
		}
		if err := os.Symlink(path, filepath.Join(folder, name)); err != nil {
			return err
		}
	}
	return nil
}
