package strictyaml

import (
	"strings"
	"unicode/utf8"
)

// Nearest returns the one of known that word was most likely meant to be: the first with the least Levenshtein distance,
// upper and lower case being alike. It is empty when none is near: within two edits, or a third of the longer word if that is
// more, and not a wholly different word.
func Nearest(word string, known []string) string {
	best, least := "", -1
	for _, k := range known {
		d := distance([]rune(strings.ToLower(word)), []rune(strings.ToLower(k)))
		longer := max(utf8.RuneCountInString(word), utf8.RuneCountInString(k))
		if d <= max(2, longer/3) && d < longer && (least < 0 || d < least) {
			best, least = k, d
		}
	}
	return best
}

// distance is the number of runes to insert, delete or replace to make b of a (Levenshtein 1966).
func distance(a, b []rune) int {
	row := make([]int, len(b)+1) // row[j] is the distance of a[:i] and b[:j]
	for j := range row {
		row[j] = j
	}
	for i := range a {
		diagonal := row[0]
		row[0] = i + 1
		for j := range b {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
