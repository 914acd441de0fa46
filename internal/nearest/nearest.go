// Package nearest finds the names that a misspelt one was meant to be.
//
//	nearest.Word("temprature", []string{"temperature", "weight"}) // "temperature"
package nearest

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"
)

// long bounds the bytes of each name that are compared: names come from files.
const long = 128

// Word returns the one of known that word was most likely meant to be: the first with the least edit distance, upper and
// lower case being alike. It is empty when none is near: within two edits, or a third of the longer word if that is more, and
// not a wholly different word.
func Word(word string, known []string) string {
	best, least := "", -1
	for _, k := range known {
		d := distance(strings.ToLower(word), strings.ToLower(k))
		longer := max(utf8.RuneCountInString(word), utf8.RuneCountInString(k))
		if d <= max(2, longer/3) && d < longer && (least < 0 || d < least) {
			best, least = k, d
		}
	}
	return best
}

// Names returns the n of known with the least edit distance from name, near ones first; all, where there are fewer.
func Names(name string, known []string, n int) []string {
	distances := make(map[string]int, len(known))
	for _, k := range known {
		distances[k] = distance(name, k)
	}
	near := slices.Clone(known)
	slices.SortStableFunc(near, func(a, b string) int { return cmp.Compare(distances[a], distances[b]) })
	return near[:min(n, len(near))]
}

// distance is the number of runes to insert, delete or replace to make b of a (Levenshtein 1966).
func distance(a, b string) int {
	from, to := []rune(a[:min(len(a), long)]), []rune(b[:min(len(b), long)])
	row := make([]int, len(to)+1) // row[j] is the distance of from[:i] and to[:j]
	for j := range row {
		row[j] = j
	}
	for i := range from {
		diagonal := row[0]
		row[0] = i + 1
		for j := range to {
			change := diagonal
			if from[i] != to[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(to)]
}
