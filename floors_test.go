package distill_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The floors of the house, from the roof down. A package may import what lies on floors below its own, and on its own only
// what lies in the same folder: neighbours are strangers. The longest folder that holds a package is its place.
var floors = [][]string{
	{"cmd", "bench"},
	{"train/monitor", "train/search"},
	{"train"},
	{"train/optim", "train/schedule", "train/policy", "train/checkpoint", "train/parallel"},
	{"teacher", "student", "losses", "synth"},
	{"runtime", "internal/safetensors"},
	{"runtime/graph", "data", "metrics"},
	{"internal"},
}

// The doors: each dependency and the packages that may import it, "x/..." meaning x and all that is in it.
// What has no row may not be imported at all.
var doors = map[string][]string{
	"github.com/yalue/onnxruntime_go":    {"runtime"},
	"github.com/spf13/cobra":             {"cmd/..."},
	"github.com/schollz/progressbar/v3":  {"cmd/..."},
	"github.com/rogpeppe/go-internal":    {"cmd/..."},
	"github.com/goccy/go-yaml":           {"internal/strictyaml"},
	"google.golang.org/protobuf":         {"runtime/graph/onnx", "internal/onnxpb"},
	"distill/internal/onnxpb":            {"runtime/graph/onnx"},
	"gorgonia.org/gorgonia":              {"runtime/...", "student/...", "losses/...", "synth", "train/optim"},
	"gorgonia.org/tensor":                {"runtime/..."},
	"github.com/chewxy/hm":               {"runtime/graph"}, // the types that Gorgonia's ops state
	"go4.org/unsafe/assume-no-moving-gc": {"runtime/..."},
	"golang.org/x/image":                 {"data"},
	"golang.org/x/sync":                  {"runtime", "teacher"},
	"golang.org/x/sys":                   {"..."},
	"gonum.org/v1/gonum":                 {"..."},
}

type imported struct {
	from string // the folder of the importing file; "." for the module's root
	path string
	test bool
}

// imports reads the import lines of every Go file of the module.
func imports(t *testing.T) []imported {
	t.Helper()
	var all []imported
	err := filepath.WalkDir(".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := entry.Name(); entry.IsDir() && file != "." && (name[0] == '.' || name[0] == '_' || name == "testdata") {
			return filepath.SkipDir
		}
		if entry.IsDir() || path.Ext(file) != ".go" {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range f.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			from := filepath.ToSlash(filepath.Dir(file))
			all = append(all, imported{from, name, strings.HasSuffix(file, "_test.go")})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// within reports whether the slash-separated name is the folder or lies in it.
func within(name, folder string) bool { return name == folder || strings.HasPrefix(name, folder+"/") }

// place returns the number of a package's floor and its folder there; the folder is "" for a package on no floor.
func place(pkg string) (floor int, folder string) {
	for i, folders := range floors {
		for _, f := range folders {
			if within(pkg, f) && len(f) > len(folder) {
				floor, folder = i, f
			}
		}
	}
	return floor, folder
}

func mayImport(from, to string) bool {
	fromFloor, fromFolder := place(from)
	toFloor, toFolder := place(to)
	return fromFolder != "" && toFolder != "" && (toFloor > fromFloor || toFolder == fromFolder)
}

// mayUse reports whether a door lets the package import the path, which is not of the standard library.
func mayUse(pkg, name string) bool {
	for dependency, at := range doors {
		if within(name, dependency) {
			return slices.ContainsFunc(at, func(door string) bool {
				tree, whole := strings.CutSuffix(door, "/...")
				return door == "..." || door == pkg || whole && within(pkg, tree)
			})
		}
	}
	return within(name, "distill")
}

func TestImportsPointDownwards(t *testing.T) {
	for _, i := range imports(t) {
		// Tests may climb: nothing imports them.
		if to, ours := strings.CutPrefix(i.path, "distill/"); ours && !i.test && !mayImport(i.from, to) {
			t.Errorf("%s imports %s, which is not below it", i.from, to)
		}
	}
}

func TestEveryDependencyHasOneDoor(t *testing.T) {
	for _, i := range imports(t) {
		first, _, _ := strings.Cut(i.path, "/")
		if (strings.Contains(first, ".") || first == "distill") && !mayUse(i.from, i.path) {
			t.Errorf("%s imports %s, which has no door there", i.from, i.path)
		}
	}
}

func TestRulesKnowUpFromDown(t *testing.T) {
	for _, c := range []struct {
		from, to string
		want     bool
	}{
		{"cmd/distill", "train", true},
		{"train", "train/optim", true},
		{"train/optim", "train", false},
		{"train/optim", "train/schedule", false},
		{"train/search", "train", true},
		{"student/adapter", "student", true},
		{"student", "losses", false},
		{"losses", "runtime", true},
		{"runtime", "runtime/graph/onnx", true},
		{"runtime/graph/onnx", "runtime", false},
		{"runtime/graph/nn", "runtime/graph/op", true},
		{"data", "metrics", false},
		{"data", "internal/hint", true},
		{"train/checkpoint", "internal/safetensors", true},
		{"internal/safetensors", "runtime/graph", true},
		{"internal/hint", "runtime/graph", false},
		{"elsewhere", "data", false},
	} {
		if got := mayImport(c.from, c.to); got != c.want {
			t.Errorf("%s may import %s: %v, want %v", c.from, c.to, got, c.want)
		}
	}
	for _, c := range []struct {
		pkg, path string
		want      bool
	}{
		{"runtime", "github.com/yalue/onnxruntime_go", true},
		{"runtime/graph", "github.com/yalue/onnxruntime_go", false},
		{"cmd/distill", "github.com/spf13/cobra", true},
		{"train", "github.com/spf13/cobra", false},
		{"student/adapter", "gorgonia.org/gorgonia", true},
		{"teacher", "gorgonia.org/gorgonia", false},
		{"metrics", "gonum.org/v1/gonum/stat", true},
		{"data", "distill/internal/onnxpb", false},
		{"data", "distill/internal/hint", true},
		{"data", "example.com/unknown", false},
	} {
		if got := mayUse(c.pkg, c.path); got != c.want {
			t.Errorf("%s may use %s: %v, want %v", c.pkg, c.path, got, c.want)
		}
	}
}
