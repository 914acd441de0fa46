package onnx

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"distill/internal/hint"
	spelling "distill/internal/nearest"
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

// Data lists those of Taps that are computed of what the inputs hold, not of shapes and weights alone.
func (m *Model) Data() []Tap {
	data := map[string]bool{}
	for _, in := range m.Inputs() {
		data[in.Name] = true
	}
	for _, n := range m.proto.Graph.Node { // the order is topological
		if is(n, "Shape") || is(n, "Size") {
			continue
		}
		of := false
		reads(n, func(name string) { of = of || name != "" && data[name] })
		for _, out := range n.Output {
			data[out] = of
		}
	}
	return slices.DeleteFunc(m.Taps(), func(t Tap) bool { return !data[t.Tensor] })
}

// Glob lists the tensors of Taps whose names match a pattern, in the order of Taps: as in path.Match, "*" stands for any
// characters, here "/" as well, "?" for any one, "[a-c]" for one of a class, and "\" takes away the meaning of what follows.
// A pattern that is the name of a tensor matches that one alone. It is an error, which names the nearest tensors, if nothing
// matches.
func (m *Model) Glob(pattern string) ([]string, error) {
	var names []string
	for _, t := range m.Taps() {
		names = append(names, t.Tensor)
	}
	matched, err := glob(pattern, names)
	if err != nil {
		return nil, fmt.Errorf("onnx: tap %q of %s: %w", pattern, m.name, err)
	}
	if len(matched) == 0 {
		return nil, m.noTensor(pattern, names)
	}
	return matched, nil
}

// glob lists the names that a pattern, or else the name that it is, matches.
func glob(pattern string, names []string) ([]string, error) {
	if slices.Contains(names, pattern) {
		return []string{pattern}, nil
	}
	var matched []string
	flat := func(s string) string { return strings.ReplaceAll(s, "/", "\x00") } // only "/" is special to path.Match
	for _, name := range names {
		ok, err := path.Match(flat(pattern), flat(name))
		if err != nil {
			return nil, err
		}
		if ok {
			matched = append(matched, name)
		}
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

// nearest quotes the k names most like the wanted one, near ones first.
func nearest(wanted string, names []string, k int) []string {
	near := spelling.Names(wanted, names, k)
	for i, name := range near {
		near[i] = strconv.Quote(name)
	}
	return near
}
