package data

import (
	"fmt"
	"math"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// selector chooses records: those of the files that match a glob, in the order of the files' names, from from up to but
// without to.
type selector struct {
	glob     string // slash-separated, inside the source's folder
	from, to int    // to is math.MaxInt where the range is open
}

// parseSelector reads GLOB or GLOB[from:to], where from and to may be left out.
func parseSelector(text string) (selector, error) {
	s := selector{glob: text, to: math.MaxInt}
	if open := strings.LastIndexByte(text, '['); open >= 0 && strings.HasSuffix(text, "]") {
		from, to, ranged := strings.Cut(text[open+1:len(text)-1], ":")
		if ranged {
			s.glob = text[:open]
			var err error
			if s.from, err = bound(from, 0); err != nil {
				return selector{}, fmt.Errorf("selector %q: %w", text, err)
			}
			if s.to, err = bound(to, math.MaxInt); err != nil {
				return selector{}, fmt.Errorf("selector %q: %w", text, err)
			}
			if s.from >= s.to {
				return selector{}, fmt.Errorf("selector %q: the range is empty", text)
			}
		}
	}
	if _, err := path.Match(s.glob, ""); err != nil {
		return selector{}, fmt.Errorf("selector %q: %w", text, err)
	}
	if !filepath.IsLocal(filepath.FromSlash(s.glob)) {
		return selector{}, fmt.Errorf("selector %q leaves the source's folder", text)
	}
	return s, nil
}

// bound reads one end of a range; an empty text is the end's default.
func bound(text string, empty int) (int, error) {
	if text == "" {
		return empty, nil
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("range: %w", err)
	}
	return int(n), nil
}
