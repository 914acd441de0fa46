package strictyaml

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// node is a part of a document. Scalars keep their text, because only the Go type they are decoded into says what they are:
// the YAML library takes 1e-3 for a string.
type node struct {
	kind    kind
	text    string  // of a scalar
	quoted  bool    // a scalar that is a string, whatever it looks like
	items   []*node // of a list
	entries []entry // of a dict, as ordered in the document
	short   *node   // of a dict that an override made of a scalar: the scalar, which may be shorthand for a choice
	at      place
}

type entry struct {
	key   string
	at    place
	value *node
}

type kind int

const (
	null kind = iota
	scalar
	list
	dict
)

// find returns the value under key in a dict, nil if there is none.
func (n *node) find(key string) *node {
	for _, e := range n.entries {
		if e.key == key {
			return e.value
		}
	}
	return nil
}

func (n *node) clone() *node {
	c := *n
	c.items, c.entries = nil, nil
	for _, item := range n.items {
		c.items = append(c.items, item.clone())
	}
	for _, e := range n.entries {
		e.value = e.value.clone()
		c.entries = append(c.entries, e)
	}
	return &c
}

// isText reports whether a scalar is a string and nothing else.
func (n *node) isText() bool {
	return n.quoted || !isNumber(n.text) && !isBool(n.text)
}

// String describes n for an error message.
func (n *node) String() string {
	switch {
	case n.kind == null:
		return "nothing"
	case n.kind == list:
		return "a list of " + strconv.Itoa(len(n.items))
	case n.kind == dict:
		return "a section"
	case n.isText():
		return "the text " + strconv.Quote(clip(n.text))
	default:
		return clip(n.text)
	}
}

func clip(s string) string {
	if r := []rune(s); len(r) > 60 {
		return string(r[:60]) + "…"
	}
	return s
}

// The core schema of YAML 1.2.2, section 10.3.2, less octal and hexadecimal.
var (
	finite   = regexp.MustCompile(`^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`)
	infinite = regexp.MustCompile(`^[-+]?\.(inf|Inf|INF)$`)
	nan      = regexp.MustCompile(`^\.(nan|NaN|NAN)$`)
)

func isNumber(s string) bool {
	return finite.MatchString(s) || infinite.MatchString(s) || nan.MatchString(s)
}

func isBool(s string) bool {
	return s == "true" || s == "false"
}

// place is where something was written.
type place struct {
	file      string
	line, col int    // from 1; 0 for the file as a whole
	override  string // not empty: in this override, not in the file
}

func (p place) String() string {
	switch {
	case p.override != "":
		return fmt.Sprintf("override %q", p.override)
	case p.line == 0:
		return p.file
	default:
		return fmt.Sprintf("%s:%d:%d", p.file, p.line, p.col)
	}
}

// errorf reports what is wrong at p, under the key path if that is not the root.
func (p place) errorf(path, format string, args ...any) error {
	if path != "" {
		format = strings.ReplaceAll(path, "%", "%%") + ": " + format
	}
	return fmt.Errorf("%v: "+format, append([]any{p}, args...)...)
}

// join appends a key to a key path.
func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
