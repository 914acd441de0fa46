package nearest

import (
	"slices"
	"strings"
	"testing"
)

func TestWordIsTheLikelyOneOrNone(t *testing.T) {
	known := []string{"temperature", "weight", "lr", "momentum"}
	for word, want := range map[string]string{
		"temprature": "temperature", "Temperature": "temperature", "wieght": "weight", "l": "lr", "LR": "lr",
		"x": "", "": "", "nesterov": "", "momentun": "momentum",
	} {
		if got := Word(word, known); got != want {
			t.Errorf("Word(%q) = %q, want %q", word, got, want)
		}
	}
	if got := Word("a", nil); got != "" {
		t.Errorf("Word among none is %q", got)
	}
}

func TestNamesAreNearestFirst(t *testing.T) {
	known := []string{"fc", "/layer1/relu", "/layer1/bn", "/layer3/relu"}
	for _, c := range []struct {
		n    int
		want []string
	}{
		{0, nil},
		{3, []string{"/layer1/relu", "/layer3/relu", "/layer1/bn"}},
		{9, []string{"/layer1/relu", "/layer3/relu", "/layer1/bn", "fc"}},
	} {
		if got := Names("/layer2/relu", known, c.n); !slices.Equal(got, c.want) {
			t.Errorf("the %d nearest are %q, want %q", c.n, got, c.want)
		}
	}
	if known[0] != "fc" {
		t.Error("the caller's list was sorted")
	}
}

func TestDistanceCountsRunesAndBoundsItsWork(t *testing.T) {
	endless := strings.Repeat("a", 1<<20)
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"kitten", "sitting", 3}, {"größe", "grosse", 3}, {"", "abc", 3}, {"abc", "", 3}, {endless, endless, 0}, {"\xff", "b", 1},
		{endless, "", long},
	} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("the distance of %.10q and %.10q is %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
