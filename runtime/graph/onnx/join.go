package onnx

import (
	"cmp"
	"slices"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
)

// join is a sum of gradients whose terms lie beside one another among zeros and make up the whole: what was split. Joining the
// parts is one pass over them, where each term would be padded and then added.
type join struct {
	axis  int
	parts []*G.Node
}

// joins finds these sums, and the nodes that nothing reads once they are joins.
func joins(p *graph.Program, steps []graph.Step) (map[*G.Node]join, map[*G.Node]bool) {
	made, reads := map[*G.Node]graph.Step{}, map[*G.Node]int{}
	for _, s := range steps {
		made[s.Node] = s
		for _, in := range s.Inputs {
			reads[in]++
		}
	}
	for _, o := range p.Outputs {
		reads[o.Node]++
	}
	for _, u := range p.Updates {
		reads[u.Node]++
	}
	found, unread := map[*G.Node]join{}, map[*G.Node]bool{}
	for _, s := range slices.Backward(steps) { // a sum comes after those that are its terms
		if !s.Sum || unread[s.Node] {
			continue
		}
		var terms []graph.Step
		var inner []*G.Node
		for todo := slices.Clone(s.Inputs); len(todo) > 0; todo = todo[1:] {
			n := todo[0]
			inner = append(inner, n)
			if made[n].Sum && reads[n] == 1 {
				todo = append(todo, made[n].Inputs...)
			} else {
				terms = append(terms, made[n])
			}
		}
		if j, ok := joinOf(terms, s.Shapes[0], reads); ok {
			found[s.Node] = j
			for _, n := range inner {
				unread[n] = true
			}
		}
	}
	return found, unread
}

// joinOf are terms as the parts of a whole, which they are where they are placed one after the other on one axis and nothing
// else reads them.
func joinOf(terms []graph.Step, whole graph.Shape, reads map[*G.Node]int) (j join, ok bool) {
	type part struct {
		from, size int
		node       *G.Node
	}
	var parts []part
	for i, t := range terms {
		placer, ok := t.Op.(graph.Placer)
		if !ok || reads[t.Node] != 1 {
			return j, false
		}
		shape := graph.ShapeOf(t.Inputs[0])
		axis, from, ok := placer.Place(shape)
		if !ok || i > 0 && axis != j.axis {
			return j, false
		}
		j.axis = axis
		parts = append(parts, part{from, shape[axis], t.Inputs[0]})
	}
	slices.SortFunc(parts, func(a, b part) int { return cmp.Compare(a.from, b.from) })
	at := 0
	for _, p := range parts {
		if p.from != at {
			return j, false
		}
		at += p.size
		j.parts = append(j.parts, p.node)
	}
	return j, at == whole[j.axis]
}
