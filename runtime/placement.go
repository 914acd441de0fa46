package runtime

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Placement is where the nodes of a session ran. ONNX Runtime gives what a provider has no kernel for to the CPU, silently.
type Placement struct {
	On        int      // nodes that ran on the session's provider; copies to and from it do not count
	Elsewhere int      // nodes that ran on another
	Operators []string // what those are, each once, sorted
}

// profileLimit is the largest profile that is read, in bytes.
const profileLimit = 1 << 28

// ReadPlacement reads the profile that a session on the provider wrote when it was closed; prefix is its [Options.Profile].
func ReadPlacement(prefix string, p Provider) (Placement, error) {
	files, err := filepath.Glob(prefix + "*")
	if err != nil || len(files) != 1 {
		return Placement{}, fmt.Errorf("runtime: read profile %s: there are %d such files, not one", prefix, len(files))
	}
	info, err := os.Stat(files[0])
	if err == nil && info.Size() > profileLimit {
		err = fmt.Errorf("it has %d bytes, more than %d", info.Size(), profileLimit)
	}
	var b []byte
	if err == nil {
		b, err = os.ReadFile(files[0])
	}
	if err != nil {
		return Placement{}, fmt.Errorf("runtime: read profile %s: %w", files[0], err)
	}
	placement, err := parsePlacement(b, p)
	if err != nil {
		return Placement{}, fmt.Errorf("runtime: read profile %s: %w", files[0], err)
	}
	return placement, nil
}

func parsePlacement(profile []byte, p Provider) (Placement, error) {
	var events []struct {
		Cat  string
		Name string
		Args struct {
			Op       string `json:"op_name"`
			Provider string
		}
	}
	if err := json.Unmarshal(profile, &events); err != nil {
		return Placement{}, err
	}
	var placement Placement
	seen := map[string]bool{} // each node has an event for every run
	for _, e := range events {
		if e.Cat != "Node" || e.Args.Provider == "" || strings.HasPrefix(e.Args.Op, "Memcpy") || seen[e.Name] {
			continue
		}
		seen[e.Name] = true
		if e.Args.Provider == p.kernels() {
			placement.On++
			continue
		}
		placement.Elsewhere++
		if i, found := slices.BinarySearch(placement.Operators, e.Args.Op); !found {
			placement.Operators = slices.Insert(placement.Operators, i, e.Args.Op)
		}
	}
	return placement, nil
}
