// Package hint attaches the way out to an error, apart from its text.
//
//	return hint.Wrap(err, "run %q", "make setup")
package hint

import (
	"errors"
	"fmt"
)

type hinted struct {
	error
	hint string
}

func (e *hinted) Unwrap() error { return e.error }

// Wrap returns err with a hint formatted as by [fmt.Sprintf]. The error's text
// stays err's own; [Of] returns the hint. A nil err stays nil.
func Wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &hinted{err, fmt.Sprintf(format, args...)}
}

// Of returns the outermost hint in err's chain, or "" when there is none.
func Of(err error) string {
	var h *hinted
	if errors.As(err, &h) {
		return h.hint
	}
	return ""
}
