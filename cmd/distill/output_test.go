package main

import (
	"math"
	"strings"
	"testing"
)

func TestThousandsAreSetApart(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0", 999: "999", 1000: "1,000", 850986: "850,986", 125485696: "125,485,696", -100: "-100", -1000: "-1,000",
		math.MinInt64: "-9,223,372,036,854,775,808",
	} {
		if got := grouped(n); got != want {
			t.Errorf("%d came out as %s, want %s", n, got, want)
		}
	}
}

func TestTableAlignsColumnsAndQuotesControlCharacters(t *testing.T) {
	var b strings.Builder
	err := writeTable(&b, [][]string{{"name", "Größe", "last"}, {"a longer name", "1", ""}, {"\x1b[2Jx\ny", "2", "z"}})
	if err != nil {
		t.Fatal(err)
	}
	want := "name           Größe  last\n" +
		"a longer name  1\n" +
		"\"\\x1b[2Jx\\ny\"  2      z\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}
