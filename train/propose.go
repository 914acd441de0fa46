package train

import (
	"fmt"
	"slices"

	"distill/losses"
	"distill/teacher"
)

// propose chooses the tensors that a loss compares, from input to output: of the student's taps, and of the teacher's tensors,
// in the order of its file. features is the tensor that the teacher's classifier reads, "" where that is not known.
//
//   - Pooled: the student's last vector and what the teacher's classifier reads.
//   - Last: the last level of each, see levels.
//   - Stages: the levels. Maps of equal size are compared; where no sizes agree, as for networks that see the images in
//     different sizes or of which one is a transformer, the levels are matched in order from the output.
//   - Tokens: the last tokens of each.
//   - Heads: the student's levels, each and the teacher's logits.
func propose(what losses.Taps, ours []inner, tensors []teacher.Tensor, features string) ([]Tap, error) {
	theirs := candidates(tensors)
	var s, t []inner
	switch what {
	case losses.Pooled:
		s, t = last(ofRank(ours, 1)), named(tensors, features)
	case losses.Last:
		s, t = last(levels(ours, ofRank(ours, 2))), last(levels(theirs, stream(tensors, features)))
	case losses.Stages:
		s, t = levels(ours, ofRank(ours, 2)), levels(theirs, stream(tensors, features))
	case losses.Tokens:
		s, t = last(ofRank(ours, 2)), last(tokens(theirs, tensors, features))
	case losses.Heads:
		s, t = levels(ours, ofRank(ours, 2)), last(theirs)
	}
	kind := map[losses.Taps]string{
		losses.Pooled: "vector that is classified", losses.Tokens: "sequence of tokens",
		losses.Last: "map or a sequence of tokens", losses.Stages: "map or a sequence of tokens", losses.Heads: "map or a sequence of tokens",
	}[what]
	switch {
	case len(s) == 0:
		return nil, fmt.Errorf("the student has no tap that is a %s", kind)
	case len(t) == 0:
		return nil, fmt.Errorf("no tensor of the teacher is known to be a %s", kind)
	}
	var pairs [][2]inner
	if what == losses.Stages {
		pairs = matched(s, t)
	} else {
		for _, a := range s {
			pairs = append(pairs, [2]inner{a, t[0]})
		}
	}
	taps := make([]Tap, len(pairs))
	for i, p := range pairs {
		taps[i] = Tap{Student: p[0].name, Teacher: p[1].name}
	}
	return taps, nil
}

// moves are operators that make no features, only move them.
var moves = []string{"Pad", "Reshape", "Slice", "Transpose"}

// candidates leaves out what has the rank of a map and is none, or is one moved. In a network that multiplies tensors of that
// rank, as attention does head by head, only what a convolution gives is taken for a map.
func candidates(tensors []teacher.Tensor) []inner {
	product := func(t teacher.Tensor) bool { return t.Op == "MatMul" && len(t.Shape) == 3 }
	attends := slices.ContainsFunc(tensors, product)
	var all []inner
	for _, t := range tensors {
		if len(t.Shape) != 3 || !slices.Contains(moves, t.Op) && (!attends || t.Op == "Conv") {
			all = append(all, inner{t.Name, t.Shape})
		}
	}
	return all
}

// levels are what a network has made of an image on the way to its output: of a transformer, which has tokens, their last
// tensor in each quarter of its depth; of another network the last map of each resolution.
func levels(tensors, tokens []inner) []inner {
	if len(tokens) > 0 {
		return quarters(tokens)
	}
	return stages(tensors)
}

// stream are the tokens of a teacher, a transformer, on the way past its blocks: sums that are normalised next, of the width of
// the features that are classified where that is known. Another network has none, nor one that keeps tokens as maps with the
// channels last, as Swin does.
func stream(tensors []teacher.Tensor, features string) []inner {
	var sums []inner
	for i := 1; i < len(tensors); i++ {
		t, next := tensors[i-1], tensors[i].Op
		if t.Op == "Add" && (next == "LayerNormalization" || next == "ReduceMean") {
			sums = append(sums, inner{t.Name, t.Shape})
		}
	}
	return tokens(sums, tensors, features)
}

// stages are the last maps [C,H,W] of each resolution, from input to output. A map of one pixel is none, if there are others.
func stages(tensors []inner) []inner {
	var all []inner
	for _, t := range ofRank(tensors, 3) {
		same := func(o inner) bool { return o.shape[1:].Equal(t.shape[1:]) }
		all = append(slices.DeleteFunc(all, same), t)
	}
	if wide := slices.DeleteFunc(slices.Clone(all), func(t inner) bool { return t.shape[1:].Size() == 1 }); len(wide) > 0 {
		return wide
	}
	return all
}

// matched pairs maps [C,H,W] of equal size, or else levels in order from the end.
func matched(s, t []inner) (pairs [][2]inner) {
	for _, a := range s {
		same := func(b inner) bool { return len(a.shape) == 3 && len(b.shape) == 3 && b.shape[1:].Equal(a.shape[1:]) }
		if i := slices.IndexFunc(t, same); i >= 0 {
			pairs = append(pairs, [2]inner{a, t[i]})
		}
	}
	if len(pairs) > 0 {
		return pairs
	}
	n := min(len(s), len(t))
	for i := range n {
		pairs = append(pairs, [2]inner{s[len(s)-n+i], t[len(t)-n+i]})
	}
	return pairs
}

// tokens are the tensors [L,D] of the width of the features that are classified, where that is known.
func tokens(theirs []inner, tensors []teacher.Tensor, features string) []inner {
	all := ofRank(theirs, 2)
	classified := named(tensors, features)
	if len(classified) == 0 {
		return all
	}
	f := classified[0].shape
	return slices.DeleteFunc(all, func(t inner) bool { return t.shape[1] != f[len(f)-1] })
}

// quarters are the last tensors of each quarter of a network's depth; all where there are fewer than four.
func quarters(tensors []inner) []inner {
	n := min(4, len(tensors))
	var all []inner
	for i := range n {
		all = append(all, tensors[(i+1)*len(tensors)/n-1])
	}
	return all
}

func ofRank(tensors []inner, rank int) []inner {
	return slices.DeleteFunc(slices.Clone(tensors), func(t inner) bool { return len(t.shape) != rank })
}

func last(tensors []inner) []inner { return tensors[max(0, len(tensors)-1):] }

func named(tensors []teacher.Tensor, name string) []inner {
	for _, t := range tensors {
		if t.Name == name {
			return []inner{{t.Name, t.Shape}}
		}
	}
	return nil
}
