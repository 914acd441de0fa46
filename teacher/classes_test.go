package teacher

import (
	"slices"
	"testing"

	"distill/data"
)

// A class map takes logits, and the rows of the layer that gives them, in its order, whatever the file ends in.
func TestClassMapTakesTheLogitsOfTheDatasClasses(t *testing.T) {
	b := smallBatch(7)
	for _, classes := range [][]int{{5, 3, 0, 1, 4, 2}, {4, 1}} {
		for _, ending := range []string{"logits", "softmax", "written out softmax", "[N,K,1,1]"} {
			path := small{ending: ending}.write(t)
			all := forward(t, open(t, Options{Model: path}), b).Logits
			teacher := open(t, Options{Model: path, Classes: classes})
			var want []float32
			for row := range slices.Chunk(all, 6) {
				for _, class := range classes {
					want = append(want, row[class])
				}
			}
			if got := forward(t, teacher, b).Logits; teacher.Classes() != len(classes) || !slices.Equal(got, want) {
				t.Errorf("%s: the classes %v have the logits %v, want %v", ending, classes, got, want)
			}
			if got := teacher.ClassMap(); !slices.Equal(got, classes) {
				t.Errorf("%s: the class map is %v", ending, got)
			}
		}
	}
}

func TestClassMapTakesTheRowsOfTheClassifier(t *testing.T) {
	path := linear(t, 1, false)
	whole, err := openPlain(t, Options{Model: path}).Classifier()
	if err != nil {
		t.Fatal(err)
	}
	part, err := openPlain(t, Options{Model: path, Classes: []int{2, 0}}).Classifier()
	if err != nil {
		t.Fatal(err)
	}
	d := whole.Weight.Shape[1]
	row := func(i int) []float32 { return whole.Weight.F[i*d:][:d] }
	if want := slices.Concat(row(2), row(0)); !slices.Equal(part.Weight.F, want) || !slices.Equal(part.Weight.Shape, []int{2, d}) {
		t.Errorf("the rows %v %v, want %v", part.Weight.F, part.Weight.Shape, want)
	}
	if want := []float32{whole.Bias.F[2], whole.Bias.F[0]}; !slices.Equal(part.Bias.F, want) {
		t.Errorf("the bias %v, want %v", part.Bias.F, want)
	}
	_, err = openPlain(t, Options{Model: path, Classes: []int{2, 0}}).Fisher(1)
	wantError(t, err, "class map")
}

func TestClassMapThatCannotBeIsRefused(t *testing.T) {
	path := small{ending: "logits"}.write(t)
	for _, tt := range []struct {
		classes []int
		words   []string
	}{
		{[]int{0, 6}, []string{"classes.1", "no class 6", "0 to 5"}},
		{[]int{0, -1}, []string{"classes.1", "-1"}},
		{[]int{3, 1, 3}, []string{"classes.2", "twice"}},
		{[]int{3}, []string{"1 class"}},
	} {
		_, err := Open(Options{Model: path, Classes: tt.classes}, data.DefaultPreprocess(), 1)
		wantError(t, err, tt.words...)
	}
}

// What a file's names say of the classes of the data, the error of a model that does not fit says, too.
func TestTheWayOutForOtherClassesIsAMap(t *testing.T) {
	card := data.Card{Preprocess: data.DefaultPreprocess(), Classes: []string{"a", "b", "c", "d", "e", "f"}}
	path := small{ending: "logits", meta: card.Metadata()}.write(t)
	teacher := open(t, Options{Model: path})
	wantError(t, teacher.Check([]string{"a", "c", "b", "d", "e", "f"}, 3, 4, 4), "teacher.classes=[0,2,1,3,4,5]")
	wantError(t, teacher.Check([]string{"f", "c"}, 3, 4, 4), "6 classes", "teacher.classes=[5,2]")
	wantError(t, teacher.Check([]string{"cat", "dog"}, 3, 4, 4), "teacher.classes=[…]")
	for _, tt := range []struct {
		classes []int
		data    []string
	}{
		{[]int{0, 2, 1, 3, 4, 5}, []string{"a", "c", "b", "d", "e", "f"}},
		{[]int{5, 2}, []string{"f", "c"}},
		{[]int{5, 2}, []string{"cat", "dog"}}, // the data may have names of their own
	} {
		if err := open(t, Options{Model: path, Classes: tt.classes}).Check(tt.data, 3, 4, 4); err != nil {
			t.Errorf("%v for %v: %v", tt.classes, tt.data, err)
		}
	}
	wantError(t, open(t, Options{Model: path, Classes: []int{5, 2}}).Check([]string{"c", "f"}, 3, 4, 4), `class 0 is "f"`, "teacher.classes=[2,5]")
}
