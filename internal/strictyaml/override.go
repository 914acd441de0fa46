package strictyaml

import (
	"strconv"
	"strings"

	"distill/internal/hint"
)

// override puts the value of "key.path=value" in the document; defaults is what dst held.
func override(root, defaults *node, text string) error {
	at := place{override: text}
	path, value, ok := strings.Cut(text, "=")
	if !ok || path == "" {
		return hint.Wrap(at.errorf("", "no key and value"), "write key.path=value, as optimizer.lr=0.05")
	}
	v, err := parse([]byte(value), at)
	if err != nil {
		return err
	}
	keys := strings.Split(path, ".")
	if len(keys) > MaxDepth {
		return treeBuilder{}.tooDeep(at)
	}
	n := root
	for i, key := range keys {
		if n.kind == null && defaults != nil && defaults.kind == list {
			*n = *defaults.clone()
		}
		if n, err = n.child(key, strings.Join(keys[:i], "."), at); err != nil {
			return err
		}
		if defaults != nil {
			defaults, _ = defaults.existing(key)
		}
	}
	*n = *v
	return nil
}

// existing returns the child of n under a key or index, nil if there is none, and the number of children.
func (n *node) existing(key string) (child *node, count int) {
	if n.kind != list {
		return n.find(key), len(n.entries)
	}
	if i, err := strconv.Atoi(key); err == nil && 0 <= i && i < len(n.items) {
		child = n.items[i]
	}
	return child, len(n.items)
}

// child returns the child of n, which is called path, to put a value in. A missing key of a section is made, and so is the
// section; a list has the items it has.
func (n *node) child(key, path string, at place) (*node, error) {
	switch n.kind {
	case null:
		*n = node{kind: dict, at: at}
	case scalar:
		short := *n
		*n = node{kind: dict, short: &short, at: at}
	}
	child, count := n.existing(key)
	if child == nil && n.kind == list {
		if count == 0 {
			return nil, at.errorf(path, "the list is empty, it has no item %q", key)
		}
		return nil, hint.Wrap(at.errorf(path, "the list has no item %q", key), "write an index from 0 to %d", count-1)
	}
	if child == nil {
		child = &node{at: at}
		n.entries = append(n.entries, entry{key, at, child})
	}
	return child, nil
}
