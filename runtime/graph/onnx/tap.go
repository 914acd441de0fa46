package onnx

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"distill/internal/hint"
)

// Tap is a tensor inside a model that can be made an output.
type Tap struct {
	Tensor string `json:"tensor"`
	Op     string `json:"op"`   // type of the node that computes it
	Node   string `json:"node"` // name of that node; may be empty
}

// Taps lists the tensors that nodes of the graph compute, in the order of the file, without those of Constant nodes.
func (m *Model) Taps() []Tap {
	var taps []Tap
	for _, n := range m.proto.Graph.Node {
		if is(n, "Constant") {
			continue
		}
		for _, out := range n.Output {
			if out != "" {
				taps = append(taps, Tap{Tensor: out, Op: n.GetOpType(), Node: n.GetName()})
			}
		}
	}
	return taps
}

// Glob lists the tensors of Taps whose names match a pattern, in the order of Taps: as in path.Match, "*" stands for any
// characters, here "/" as well, "?" for any one, "[a-c]" for one of a class, and "\" takes away the meaning of what follows.
// A pattern that is the name of a tensor matches that one alone. It is an error, which names the nearest tensors, if nothing
// matches.
func (m *Model) Glob(pattern string) ([]string, error) {
	var names, matched []string
	for _, t := range m.Taps() {
		names = append(names, t.Tensor)
	}
	if slices.Contains(names, pattern) {
		return []string{pattern}, nil
	}
	flat := func(s string) string { return strings.ReplaceAll(s, "/", "\x00") } // only "/" is special to path.Match
	for _, name := range names {
		ok, err := path.Match(flat(pattern), flat(name))
		if err != nil {
			return nil, fmt.Errorf("onnx: tap %q of %s: %w", pattern, m.name, err)
		}
		if ok {
			matched = append(matched, name)
		}
	}
	if len(matched) == 0 {
		return nil, m.noTensor(pattern, names)
	}
	return matched, nil
}

// noTensor is the error for a name or pattern that fits none of the names.
func (m *Model) noTensor(wanted string, names []string) error {
	err := fmt.Errorf("onnx: tap %q of %s: no such tensor", wanted, m.name)
	if near := nearest(wanted, names, 3); len(near) > 0 {
		return hint.Wrap(err, "nearest are %s", strings.Join(near, ", "))
	}
	return err
}

// nearest picks the k names with the smallest edit distance, near ones first.
func nearest(wanted string, names []string, k int) []string {
	const long = 128 // bytes compared: names come from a file
	clip := func(s string) string { return s[:min(len(s), long)] }
	type scored struct {
		name     string
		distance int
	}
	near := make([]scored, len(names))
	for i, name := range names {
		near[i] = scored{name, distance(clip(wanted), clip(name))}
	}
	slices.SortStableFunc(near, func(a, b scored) int { return cmp.Compare(a.distance, b.distance) })
	var out []string
	for _, s := range near[:min(k, len(near))] {
		out = append(out, fmt.Sprintf("%q", s.name))
	}
	return out
}

// distance is Levenshtein's, in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substitute := diagonal
			if a[i] != b[j] {
				substitute++
			}
			diagonal = row[j+1]
			row[j+1] = min(substitute, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
