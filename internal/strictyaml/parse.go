package strictyaml

import (
	"errors"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"distill/internal/hint"
)

// parse reads one YAML document; places in it are base with line and column. An empty document is null.
func parse(src []byte, base place) (*node, error) {
	if len(src) > MaxSize {
		return nil, base.errorf("", "%d bytes are more than the %d a document may have", len(src), MaxSize)
	}
	for i, line, col := 0, 1, 1; i < len(src); {
		r, size := utf8.DecodeRune(src[i:])
		if r == utf8.RuneError && size == 1 {
			base.line, base.col = line, col
			return nil, hint.Wrap(base.errorf("", "byte %d is not UTF-8 text", i), "is this a YAML file?")
		}
		if i, col = i+size, col+1; r == '\n' {
			line, col = line+1, 1
		}
	}
	p := treeBuilder{base}
	tokens := lexer.Tokenize(string(src))
	if err := p.check(tokens); err != nil {
		return nil, err
	}
	// Duplicate keys are refused by the builder, which knows that "a" and a are the same.
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		var syntax yaml.Error
		if errors.As(err, &syntax) { // its own text quotes half the file
			return nil, p.place(syntax.GetToken()).errorf("", "%s", syntax.GetMessage())
		}
		return nil, base.errorf("", "%w", err)
	}
	root := &node{at: base}
	for _, doc := range file.Docs {
		switch {
		case doc.Body == nil:
		case root.kind != null:
			return nil, p.place(doc.Body.GetToken()).errorf("", "a second document; only one is read")
		default:
			if root, err = p.build(doc.Body, base, 0); err != nil {
				return nil, err
			}
		}
	}
	return root, nil
}

// treeBuilder turns the library's syntax tree into nodes.
type treeBuilder struct {
	base place
}

func (b treeBuilder) place(t *token.Token) place {
	p := b.base
	if t != nil && t.Position != nil {
		p.line, p.col = t.Position.Line, t.Position.Column
	}
	return p
}

// check refuses what has no place in a recipe, and nesting that the library's recursive parser should not meet.
func (b treeBuilder) check(tokens token.Tokens) error {
	flow, run := 0, 0
	var last token.Type
	for _, t := range tokens {
		switch t.Type {
		case token.AnchorType, token.AliasType:
			return b.place(t).errorf("", "anchors and aliases are not supported")
		case token.TagType, token.DirectiveType:
			return b.place(t).errorf("", "tags and directives are not supported")
		case token.MergeKeyType, token.MappingKeyType:
			return b.place(t).errorf("", "merge keys and keys after %q are not supported", "?")
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow--
		}
		if run++; t.Type != last {
			last, run = t.Type, 1
		}
		if flow > MaxDepth || run > MaxDepth && (last == token.SequenceEntryType || last == token.MappingValueType) {
			return b.tooDeep(b.place(t))
		}
	}
	return nil
}

func (b treeBuilder) tooDeep(at place) error {
	return at.errorf("", "nested deeper than %d", MaxDepth)
}

// build returns the node for n, which stands at at or nearby.
func (b treeBuilder) build(n ast.Node, at place, depth int) (*node, error) {
	if depth > MaxDepth {
		return nil, b.tooDeep(at)
	}
	if n == nil {
		return &node{at: at}, nil
	}
	switch n := n.(type) {
	case *ast.NullNode:
		return &node{at: at}, nil
	case *ast.StringNode:
		t := n.GetToken()
		quoted := t.Type == token.SingleQuoteType || t.Type == token.DoubleQuoteType
		return &node{kind: scalar, text: n.Value, quoted: quoted, at: b.place(t)}, nil
	case *ast.LiteralNode:
		return &node{kind: scalar, text: n.Value.Value, quoted: true, at: b.place(n.GetToken())}, nil
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		t := n.GetToken()
		return &node{kind: scalar, text: t.Value, at: b.place(t)}, nil
	case *ast.SequenceNode:
		out := &node{kind: list, at: b.place(n.GetToken())}
		for _, value := range n.Values {
			item, err := b.build(value, out.at, depth+1)
			if err != nil {
				return nil, err
			}
			out.items = append(out.items, item)
		}
		return out, nil
	case *ast.MappingNode:
		return b.dict(n.Values, b.place(n.GetToken()), depth)
	case *ast.MappingValueNode:
		return b.dict([]*ast.MappingValueNode{n}, at, depth)
	}
	return nil, b.place(n.GetToken()).errorf("", "%s is not supported", n.Type())
}

func (b treeBuilder) dict(values []*ast.MappingValueNode, at place, depth int) (*node, error) {
	out := &node{kind: dict, at: at}
	seen := map[string]place{}
	for i, value := range values {
		t := value.Key.GetToken()
		at := b.place(t)
		if i == 0 {
			out.at = at
		}
		if first, ok := seen[t.Value]; ok {
			return nil, hint.Wrap(at.errorf("", "duplicate key %q", t.Value), "it is first written at line %d", first.line)
		}
		seen[t.Value] = at
		child, err := b.build(value.Value, at, depth+1)
		if err != nil {
			return nil, err
		}
		out.entries = append(out.entries, entry{t.Value, at, child})
	}
	return out, nil
}
