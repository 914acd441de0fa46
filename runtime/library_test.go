package runtime

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"sync"
	"testing"

	"distill/internal/hint"
)

// testInit loads ONNX Runtime. A test that needs it fails without it, and says how to get it.
func testInit(t testing.TB) {
	t.Helper()
	if err := Init(""); err != nil {
		t.Fatalf("%v\n%s", err, hint.Of(err))
	}
}

func TestInitLoadsOneLibraryOnce(t *testing.T) {
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if err := Init(""); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	testInit(t)
	if err := Init(LibraryPath()); err != nil {
		t.Errorf("the same library again: %v", err)
	}
	if err := Init("/another/library"); err == nil || !strings.Contains(err.Error(), "is loaded already") {
		t.Errorf("another library: %v, want it refused", err)
	}
	if !filepath.IsAbs(LibraryPath()) || !strings.HasPrefix(Version(), "1.") {
		t.Errorf("loaded %q version %q", LibraryPath(), Version())
	}
}

func TestUnusableLibraryIsNamedWithItsCause(t *testing.T) {
	if goruntime.GOOS != "linux" {
		t.Skip("libraries are examined on Linux only")
	}
	testInit(t)
	whole, err := os.ReadFile(LibraryPath())
	if err != nil {
		t.Fatal(err)
	}
	header := make([]byte, 64)
	copy(header, whole)
	binary.LittleEndian.PutUint16(header[18:], uint16(elf.EM_S390))
	clear(header[32:48]) // no program headers, no section headers
	binary.LittleEndian.PutUint16(header[56:], 0)
	binary.LittleEndian.PutUint16(header[60:], 0)
	binary.LittleEndian.PutUint16(header[62:], 0)
	version := []byte("VERS_" + Version() + "\x00")

	for _, c := range []struct {
		name    string
		content []byte
		cause   string
	}{
		{"missing", nil, "no such file"},
		{"text", []byte("#!/bin/sh\n"), "not a shared library"},
		{"empty", []byte{}, "not a shared library"},
		{"truncated", whole[:len(whole)/2], "a damaged one"},
		{"another architecture", header, "is for another architecture: EM_S390"},
		{"too old", bytes.ReplaceAll(whole, version, bytes.Replace(version, []byte("1.3"), []byte("1.2"), 1)), "is ONNX Runtime 1.20.0, needed is 1.24 or newer"},
		{"another library", bytes.ReplaceAll(whole, []byte("OrtGetApiBase"), []byte("XxxGetApiBase")), "is not ONNX Runtime"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "too old" && Version() != pinnedVersion {
				t.Skip("the loaded library is not the pinned one")
			}
			path := filepath.Join(t.TempDir(), "libonnxruntime.so.1")
			if c.content != nil {
				if err := os.WriteFile(path, c.content, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			_, err := Find(path)
			if err == nil || !strings.Contains(err.Error(), path+": ") || !strings.Contains(err.Error(), c.cause) {
				t.Errorf("got %v, want %q and the path", err, c.cause)
			}
			if !strings.Contains(hint.Of(err), "make setup") {
				t.Errorf("hint %q does not say how to get one", hint.Of(err))
			}
		})
	}
}

func TestLibraryIsLookedForInOrder(t *testing.T) {
	testInit(t)
	real := LibraryPath()
	link := func(folder string) string {
		path := filepath.Join(folder, "libonnxruntime.so.1")
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(real, path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	root := t.TempDir()
	system := link(filepath.Join(root, "system"))
	cached := link(filepath.Join(root, "cache", "onnxruntime-"+pinnedVersion, npmArch()))
	named := link(filepath.Join(root, "named"))
	explicit := link(filepath.Join(root, "explicit"))
	for _, c := range []struct{ name, explicit, env, cache, loader, want string }{
		{"explicit path first", explicit, named, filepath.Join(root, "cache"), filepath.Dir(system), explicit},
		{"then the environment", "", named, filepath.Join(root, "cache"), filepath.Dir(system), named},
		{"then the cache", "", "", filepath.Join(root, "cache"), filepath.Dir(system), cached},
		{"then the system", "", "", filepath.Join(root, "none"), filepath.Dir(system), system},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv(LibraryEnv, c.env)
			t.Setenv(CacheEnv, c.cache)
			t.Setenv("LD_LIBRARY_PATH", c.loader)
			if got, err := Find(c.explicit); got != c.want || err != nil {
				t.Errorf("found %q, %v; want %q", got, err, c.want)
			}
		})
	}
}

func TestNothingFoundListsEveryPlace(t *testing.T) {
	root := t.TempDir()
	t.Setenv(LibraryEnv, "")
	t.Setenv(CacheEnv, filepath.Join(root, "cache"))
	t.Setenv("LD_LIBRARY_PATH", filepath.Join(root, "loader"))
	path, err := Find("")
	if err == nil {
		t.Skipf("this system has %s", path)
	}
	for _, place := range append(candidates(), LibraryEnv+": not set") {
		if !strings.Contains(err.Error(), place) {
			t.Errorf("%v\ndoes not name %s", err, place)
		}
	}
}

func TestNamedLibraryIsNotPassedOver(t *testing.T) {
	t.Setenv(LibraryEnv, filepath.Join(t.TempDir(), "gone.so"))
	if _, err := Find(""); err == nil || !strings.Contains(err.Error(), LibraryEnv) || !strings.Contains(err.Error(), "gone.so") {
		t.Errorf("got %v, want an error that names the variable and the file", err)
	}
}
