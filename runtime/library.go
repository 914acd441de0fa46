package runtime

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	ort "github.com/yalue/onnxruntime_go"

	"distill/internal/hint"
)

const (
	// LibraryEnv is the environment variable that names the shared library.
	LibraryEnv = "DISTILL_ONNXRUNTIME"
	// CacheEnv is the environment variable that names the cache folder.
	CacheEnv = "DISTILL_CACHE"

	pinnedVersion = "1.30.0" // what set-up puts into the cache folder
	oldestMinor   = 24       // ONNX Runtime 1.24: the C API version of onnxruntime_go
)

var library struct {
	sync.Mutex
	path string // "" until the library is loaded
}

// Init loads ONNX Runtime's shared library, once for the whole process. An empty path means the one that [Find] finds.
// Calling it again with the same path, or an empty one, does nothing; another path is an error. It is safe for concurrent use.
func Init(path string) error {
	library.Lock()
	defer library.Unlock()
	if library.path != "" {
		if path == "" || sameFile(path, library.path) {
			return nil
		}
		return fmt.Errorf("runtime: load %s: %s is loaded already", path, library.path)
	}
	path, err := Find(path)
	if err != nil {
		return err
	}
	ort.SetSharedLibraryPath(path)
	// Every failure comes back as an error; what the library would print besides is noise.
	if err := ort.InitializeEnvironment(ort.WithLogLevelFatal()); err != nil {
		return hint.Wrap(fmt.Errorf("runtime: load %s: %w", path, err), libraryHint)
	}
	if err := shareMemory(); err != nil {
		return hint.Wrap(fmt.Errorf("runtime: load %s: share memory: %w", path, err), libraryHint)
	}
	library.path = path
	return nil
}

// shareMemory makes the allocator of the CPU that all sessions share: those that do not run at the same time compute in the same
// memory.
func shareMemory() error {
	info, err := ort.GetMemoryInfo()
	if err != nil {
		return err
	}
	return ort.CreateAndRegisterAllocator(info, nil)
}

// LibraryPath is the absolute path of the loaded library; "" before [Init].
func LibraryPath() string {
	library.Lock()
	defer library.Unlock()
	return library.path
}

// Version is the version of the loaded library, such as "1.30.0"; "" before [Init].
func Version() string {
	if LibraryPath() == "" {
		return ""
	}
	return ort.GetVersion()
}

const libraryHint = `run "make setup", or name a libonnxruntime.so.1 with --onnxruntime or ` + LibraryEnv

// Find returns the absolute path of the ONNX Runtime library to load, without loading it: the explicit path if there is one,
// else the one that DISTILL_ONNXRUNTIME names, else the one in the cache folder, else the first in the system's library folders.
//
// A library that was named must be usable; the others are passed over when they are not. A library is usable if it is a
// shared library for this machine, is ONNX Runtime, and is new enough. The error lists each place and its cause.
func Find(explicit string) (string, error) {
	if named := os.Getenv(LibraryEnv); explicit == "" && named != "" {
		path, err := check(named)
		if err != nil {
			err = hint.Wrap(fmt.Errorf("runtime: find ONNX Runtime: %s: %w", LibraryEnv, err), libraryHint)
		}
		return path, err
	}
	if explicit != "" {
		path, err := check(explicit)
		if err != nil {
			err = hint.Wrap(fmt.Errorf("runtime: find ONNX Runtime: %w", err), libraryHint)
		}
		return path, err
	}
	causes := []string{LibraryEnv + ": not set"}
	for _, candidate := range candidates() {
		path, err := check(candidate)
		if err == nil {
			return path, nil
		}
		causes = append(causes, err.Error())
	}
	return "", hint.Wrap(fmt.Errorf("runtime: find ONNX Runtime: looked at\n  %s", strings.Join(causes, "\n  ")), libraryHint)
}

// candidates lists the paths to try when none was named, best first.
func candidates() []string {
	var paths []string
	if folder, err := CacheFolder(); err == nil {
		paths = append(paths, filepath.Join(folder, "onnxruntime-"+pinnedVersion, npmArch(), "libonnxruntime.so.1"))
	}
	folders := filepath.SplitList(os.Getenv("LD_LIBRARY_PATH"))
	folders = append(folders, "/usr/local/lib", "/usr/lib/"+gnuArch()+"-linux-gnu", "/usr/lib64", "/usr/lib")
	for _, folder := range folders {
		for _, name := range []string{"libonnxruntime.so.1", "libonnxruntime.so"} {
			if folder != "" {
				paths = append(paths, filepath.Join(folder, name))
			}
		}
	}
	return paths
}

// CacheFolder is where set-up keeps what it fetched: what the environment variable [CacheEnv] names, or a folder of the user's.
func CacheFolder() (string, error) {
	if folder := os.Getenv(CacheEnv); folder != "" {
		return folder, nil
	}
	folder, err := os.UserCacheDir()
	return filepath.Join(folder, "distill"), err
}

// npmArch names this machine's architecture as npm packages do.
func npmArch() string {
	if goruntime.GOARCH == "amd64" {
		return "x64"
	}
	return goruntime.GOARCH
}

// gnuArch names this machine's architecture as GNU triplets do.
func gnuArch() string {
	switch goruntime.GOARCH {
	case "amd64":
		return "x86_64"
	case "arm64":
		return "aarch64"
	}
	return goruntime.GOARCH
}

// check returns path made absolute if a usable library lies there. It reads the file's ELF headers and loads nothing:
// loading a library runs its code, and one that is too old prints and cannot say its version.
func check(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%s: no such file", path)
		}
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s: not a file", path)
	}
	if goruntime.GOOS != "linux" {
		return path, nil
	}
	f, err := elf.Open(path)
	if err != nil {
		return "", fmt.Errorf("%s: not a shared library, or a damaged one: %w", path, err)
	}
	defer f.Close()
	if err := checkELF(f); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return path, nil
}

var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

func checkELF(f *elf.File) error {
	if f.Type != elf.ET_DYN {
		return errors.New("not a shared library")
	}
	if want, ok := machines[goruntime.GOARCH]; ok && f.Machine != want {
		return fmt.Errorf("is for another architecture: %v, this machine is %v", f.Machine, want)
	}
	symbols, err := f.DynamicSymbols()
	if err != nil {
		return fmt.Errorf("a damaged shared library: %w", err)
	}
	if !slices.ContainsFunc(symbols, func(s elf.Symbol) bool { return s.Name == "OrtGetApiBase" }) {
		return errors.New("is not ONNX Runtime: it lacks the symbol OrtGetApiBase")
	}
	versions, err := f.DynamicVersions()
	if err != nil {
		return fmt.Errorf("a damaged shared library: %w", err)
	}
	for _, v := range versions {
		if version, ok := strings.CutPrefix(v.Name, "VERS_"); ok && tooOld(version) {
			return fmt.Errorf("is ONNX Runtime %s, needed is 1.%d or newer", version, oldestMinor)
		}
	}
	return nil
}

// tooOld reports whether a version such as 1.22.0 is known to lack the C API in use. What it cannot read, it lets pass:
// loading the library will tell.
func tooOld(version string) bool {
	rest, ok := strings.CutPrefix(version, "1.")
	if !ok {
		return false
	}
	minor, _, _ := strings.Cut(rest, ".")
	n, err := strconv.Atoi(minor)
	return err == nil && n < oldestMinor
}

func sameFile(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}
