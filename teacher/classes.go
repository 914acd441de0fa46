package teacher

import (
	"fmt"
	"slices"
	"strings"

	"distill/internal/hint"
	"distill/runtime/graph"
	"distill/runtime/graph/onnx"
)

// pick settles which of the file's logits are the teacher's; none given are all. The index of a class is given once, and not
// below 0.
func (t *Teacher) pick(classes []int) error {
	t.width = t.classes
	if len(classes) == 0 {
		return nil
	}
	for i, class := range classes {
		if class >= t.width {
			return hint.Wrap(fmt.Errorf("classes.%d: it has no class %d", i, class), "its %d classes are 0 to %d", t.width, t.width-1)
		}
	}
	if len(classes) < 2 {
		return fmt.Errorf("classes: %d class tells nothing apart", len(classes))
	}
	t.picked, t.classes = slices.Clone(classes), len(classes)
	return nil
}

// ClassMap are the classes of the file that the teacher's are, in order; nil where they are the file's own.
func (t *Teacher) ClassMap() []int { return slices.Clone(t.picked) }

// pickLogits are those of the teacher's classes, [N,K], of the file's.
func (t *Teacher) pickLogits(rows []float32) []float32 {
	if t.picked == nil {
		return rows
	}
	z := make([]float32, 0, len(rows)/t.width*t.classes)
	for row := range slices.Chunk(rows, t.width) {
		for _, class := range t.picked {
			z = append(z, row[class])
		}
	}
	return z
}

// pickRows is the layer that gives the logits of the teacher's classes.
func (t *Teacher) pickRows(c onnx.Classifier) onnx.Classifier {
	if t.picked == nil {
		return c
	}
	of := func(all graph.Tensor) graph.Tensor {
		shape := all.Shape.Clone()
		shape[0] = t.classes
		rows, size := graph.NewTensor(graph.Float32, shape...), len(all.F)/t.width
		for i, class := range t.picked {
			copy(rows.F[i*size:][:size], all.F[class*size:])
		}
		return rows
	}
	c.Weight, c.Bias = of(c.Weight), of(c.Bias)
	return c
}

// names are those that the file has for the teacher's classes; nil where it has none.
func (t *Teacher) names() []string {
	all := t.model.card.Classes
	if t.picked == nil || all == nil {
		return all
	}
	names := make([]string, t.classes)
	for i, class := range t.picked {
		names[i] = all[class]
	}
	return names
}

func (t *Teacher) checkClasses(classes []string) error {
	if len(classes) != t.classes {
		err := fmt.Errorf("the model tells %d classes apart, the data has %d", t.classes, len(classes))
		way := fmt.Sprintf("use a model trained on the classes of the data, or data of the model's %d classes", t.classes)
		if t.width > len(classes) {
			way += "; where the data's are among the model's, name them in a recipe: " + t.way(classes)
		}
		return hint.Wrap(err, "%s", way)
	}
	own := t.names()
	if len(own) == 0 || slices.Equal(own, classes) || !slices.Equal(sorted(own), sorted(classes)) {
		return nil // two data sets may have different names for the same classes
	}
	for i, name := range own {
		if name != classes[i] {
			err := fmt.Errorf("class %d is %q to the model and %q in the data, in another order of the same names", i, name, classes[i])
			return hint.Wrap(err, "put the classes of the data in the order %.200q, or set %s in a recipe", own, t.way(classes))
		}
	}
	return nil
}

// way is the class map for the data's classes, as far as the file names its own.
func (t *Teacher) way(classes []string) string {
	indices := make([]string, len(classes))
	for i, name := range classes {
		class := slices.Index(t.model.card.Classes, name)
		if class < 0 {
			return "teacher.classes=[…], for each class of the data the index of the model's"
		}
		indices[i] = fmt.Sprint(class)
	}
	return "teacher.classes=[" + strings.Join(indices, ",") + "]"
}

func sorted(names []string) []string { return slices.Sorted(slices.Values(names)) }
