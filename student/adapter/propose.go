package adapter

import (
	"fmt"

	"distill/runtime/graph"
)

// Propose chooses an adapter for a pair of shapes, and says why. The name is empty where the shapes agree, for then none is
// needed, and where no adapter can bring them together.
func Propose(student, teacher graph.Shape) (name, reason string) {
	s, t := kind(student), kind(teacher)
	switch {
	case s == "" || t == "":
		return "", "no adapter knows tensors that are not vectors [N,D], tokens [N,L,D] or maps [N,C,H,W]"
	case student[0] != teacher[0]:
		return "", "the batches differ"
	case student.Equal(teacher):
		return "", "the shapes agree: none is needed"
	case s == t && s != "maps" && (s == "vectors" || student[1] == teacher[1]):
		return "linear", fmt.Sprintf("%s that differ in width alone", s)
	case s == "maps" && t == "maps":
		return "conv", "maps: a 1x1 convolution gives the channels, resizing the pixels"
	}
	if name, ok := relaid(student, teacher); ok {
		return name, fmt.Sprintf("the tokens are those of a grid, which a student's %s can be laid on", s)
	}
	return "attention", fmt.Sprintf("a student's %s and a teacher's %s share no grid", s, t)
}

// relaid names the adapter that lays tokens and maps over each other, where the tokens have a grid.
func relaid(s, t graph.Shape) (name string, ok bool) {
	switch {
	case len(s) == 4 && len(t) == 3:
		_, ok = gridOf(t[1], s[2], s[3])
		return "tokens", ok
	case len(s) == 3 && len(t) == 3:
		_, from := gridOf(s[1], 1, 1)
		_, to := gridOf(t[1], 1, 1)
		return "tokens", from && to
	case len(s) == 3 && len(t) == 4:
		_, ok = gridOf(s[1], t[2], t[3])
		return "map", ok
	}
	return "", false
}
