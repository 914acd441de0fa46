package adapter_test

import (
	"errors"
	"strings"
	"testing"

	G "gorgonia.org/gorgonia"

	"distill/runtime/graph"
	"distill/student/adapter"
)

func nothing(*graph.Graph, *G.Node) {}

func TestPairThatDoesNotFitNamesBothShapesAndTheWayOut(t *testing.T) {
	for _, c := range []struct {
		adapter          string
		student, teacher graph.Shape
		want             string
	}{
		{"linear", graph.Shape{2, 3}, graph.Shape{2, 4, 5}, "not a student's vectors and a teacher's tokens; use the adapter attention"},
		{"linear", graph.Shape{2, 4, 3}, graph.Shape{2, 5, 3}, "tokens of one number, not a student's tokens and a teacher's tokens; use the adapter tokens"},
		{"linear", graph.Shape{2, 4, 3, 3}, graph.Shape{2, 5, 3, 3}, "use the adapter conv"},
		{"conv", graph.Shape{2, 4, 3}, graph.Shape{2, 4, 3, 3}, "a teacher's maps; use the adapter map"},
		{"conv", graph.Shape{2, 3, 4, 4}, graph.Shape{3, 3, 4, 4}, "of one batch"},
		{"convreg", graph.Shape{2, 3, 4, 4}, graph.Shape{2, 3, 7, 7}, "use the adapter conv"},
		{"convreg", graph.Shape{2, 3, 4, 4}, graph.Shape{2, 3, 2, 3}, "use the adapter conv"},
		{"convreg", graph.Shape{2, 3, 4, 4}, graph.Shape{2, 3, 2, 8}, "use the adapter conv"},
		{"convreg", graph.Shape{2, 3, 224, 224}, graph.Shape{2, 3, 7, 7}, "a kernel of 218x218, above 32x32; use the adapter conv"},
		{"convreg", graph.Shape{2, 3}, graph.Shape{2, 3, 7, 7}, "it takes maps"},
		{"tokens", graph.Shape{2, 3, 4, 4}, graph.Shape{2, 7, 4}, "7 tokens fill no grid of the aspect 4:4, with or without a class token; use the adapter attention"},
		{"tokens", graph.Shape{2, 7, 4}, graph.Shape{2, 4, 4}, "7 tokens fill no grid"},
		{"tokens", graph.Shape{2, 3}, graph.Shape{2, 4, 4}, "use the adapter attention"},
		{"map", graph.Shape{2, 3, 4}, graph.Shape{2, 4, 4, 4}, "3 tokens fill no grid of the aspect 4:4"},
		{"map", graph.Shape{2, 3, 4, 4}, graph.Shape{2, 4, 4, 4}, "it takes a student's tokens and a teacher's maps"},
		{"ofa", graph.Shape{2, 3}, graph.Shape{2, 10}, "use the adapter linear"},
		{"ofa", graph.Shape{2, 3, 4, 4}, graph.Shape{2, 10, 4, 4}, "the teacher's logits [N,K]"},
		{"ofa", graph.Shape{2, 7, 4}, graph.Shape{2, 10}, "7 tokens fill no square"},
		{"attention", graph.Shape{64, 3, 56, 56}, graph.Shape{64, 3, 56, 56}, "tap smaller maps"},
		{"attention", graph.Shape{2, 3}, graph.Shape{2}, "must be vectors [N,D], tokens [N,L,D] or maps [N,C,H,W]"},
		{"attention", graph.Shape{2, 3, 4, 5, 6}, graph.Shape{2, 3}, "must be vectors [N,D], tokens [N,L,D] or maps [N,C,H,W]"},
	} {
		a, err := adapter.New(c.adapter)
		if err != nil {
			t.Fatal(err)
		}
		_, err = build(a, graph.Training, c.student, c.teacher, nothing)
		var typed *graph.Error
		if !errors.As(err, &typed) {
			t.Errorf("%s of %v and %v: %v", c.adapter, c.student, c.teacher, err)
			continue
		}
		for _, want := range []string{"adapter a (" + c.adapter + ") of [" + c.student.String() + " " + c.teacher.String() + "]", c.want} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%v: does not say %q", err, want)
			}
		}
	}
}

func TestSettingsAreCheckedWhereNoRecipeWas(t *testing.T) {
	for _, c := range []struct {
		adapter          adapter.Adapter
		student, teacher graph.Shape
		want             string
	}{
		{&adapter.Attention{}, graph.Shape{2, 3}, graph.Shape{2, 4}, "query must be"},
		{&adapter.Attention{Query: "teacher"}, graph.Shape{2, 3}, graph.Shape{2, 4}, "heads must be"},
		{&adapter.OFA{Stage: 9}, graph.Shape{2, 3, 4, 4}, graph.Shape{2, 4}, "stage must be"},
		{&adapter.OFA{Width: 5}, graph.Shape{2, 4, 6}, graph.Shape{2, 4}, "leave the setting width out"},
	} {
		if _, err := build(c.adapter, graph.Training, c.student, c.teacher, nothing); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c.adapter, err)
		}
	}
}

func TestProposalIsBuiltAndGivesTheTeachersShape(t *testing.T) {
	for _, c := range []struct {
		student, teacher graph.Shape
		name, reason     string
	}{
		{graph.Shape{2, 3}, graph.Shape{2, 5}, "linear", "width alone"},
		{graph.Shape{2, 4, 3}, graph.Shape{2, 4, 5}, "linear", "width alone"},
		{graph.Shape{2, 7, 3}, graph.Shape{2, 7, 5}, "linear", "width alone"}, // 7 need no grid
		{graph.Shape{2, 4, 3}, graph.Shape{2, 5, 3}, "tokens", "grid"},
		{graph.Shape{2, 4, 3}, graph.Shape{2, 7, 3}, "attention", "no grid"},
		{graph.Shape{2, 3, 8, 8}, graph.Shape{2, 5, 8, 8}, "conv", "maps"},
		{graph.Shape{2, 3, 8, 8}, graph.Shape{2, 3, 4, 4}, "conv", "maps"},
		{graph.Shape{2, 3, 8, 8}, graph.Shape{2, 17, 6}, "tokens", "grid"},
		{graph.Shape{2, 3, 8, 4}, graph.Shape{2, 32, 6}, "tokens", "grid"},
		{graph.Shape{2, 3, 8, 4}, graph.Shape{2, 16, 6}, "attention", "no grid"},
		{graph.Shape{2, 17, 6}, graph.Shape{2, 3, 8, 8}, "map", "grid"},
		{graph.Shape{2, 6, 6}, graph.Shape{2, 3, 8, 8}, "attention", "no grid"},
		{graph.Shape{2, 6}, graph.Shape{2, 3, 8, 8}, "attention", "no grid"},
		{graph.Shape{2, 3, 8, 8}, graph.Shape{2, 6}, "attention", "no grid"},
		{graph.Shape{2, 3}, graph.Shape{2, 3}, "", "agree"},
		{graph.Shape{2, 3, 4, 4}, graph.Shape{2, 3, 4, 4}, "", "agree"},
		{graph.Shape{2, 3}, graph.Shape{3, 4}, "", "batches differ"},
		{graph.Shape{2}, graph.Shape{2, 4}, "", "no adapter knows"},
		{graph.Shape{}, graph.Shape{2, 4}, "", "no adapter knows"},
	} {
		name, reason := adapter.Propose(c.student, c.teacher)
		if name != c.name || !strings.Contains(reason, c.reason) {
			t.Errorf("%v and %v: %q, %q", c.student, c.teacher, name, reason)
		}
		if name == "" {
			continue
		}
		a, err := adapter.New(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := build(a, graph.Training, c.student, c.teacher, func(g *graph.Graph, y *G.Node) {
			if s := graph.ShapeOf(y); !s.Equal(c.teacher) {
				t.Errorf("%s of %v and %v gives %v", name, c.student, c.teacher, s)
			}
		}); err != nil {
			t.Error(err)
		}
	}
}
