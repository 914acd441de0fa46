package losses_test

import (
	"cmp"
	"flag"
	"fmt"
	"go/ast"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"distill/internal/strictyaml"
	"distill/losses"
	"distill/losses/verify"
)

var update = flag.Bool("update", false, "write docs/losses.md")

// tapNames say which inner tensors a loss compares.
var tapNames = map[losses.Taps]string{
	losses.None: "–", losses.Last: "last map", losses.Stages: "maps of all stages", losses.Pooled: "pooled vector", losses.Tokens: "tokens",
	losses.Heads: "stages, classified",
}

// document writes the table of losses for people.
func document(t *testing.T) string {
	var b strings.Builder
	b.WriteString(`# Losses

What a recipe's ` + "`losses`" + ` can name, generated from the code by ` + "`go test ./losses -run Documented -update`" + `. They are summed by weight:

` + "```yaml" + `
losses:
  - {loss: ce, weight: 1}
  - {loss: dkd, beta: 2}                 # at its published weight
  - loss: at
    taps:                                # left out, they are chosen by their shapes
      - {student: layer3, teacher: /layer3/layer3.8/Relu_1_output_0}
` + "```" + `

- **Weight**: the published one, for the reduction that the loss has here. It is the default.
- **Taps**: the inner tensors of student and teacher that are compared, where a recipe does not name them.
- **Adapter**: what brings the student's tensor to the teacher's shape, if taps do not say otherwise. Adapters are trained with the
  student and not exported.
- Any loss takes ` + "`standardize: true`" + `, which brings each image's logits, student's and teacher's, to mean 0 and deviation 1 before the
  loss sees them (Sun et al. 2024, arXiv:2403.01427). Of two classes, standardised logits say only which is larger.

Each has values and gradients by PyTorch in float64 for each of its variants, with which ` + "`distill verify losses`" + ` compares both
engines.

| loss | what it is | weight | taps | adapter |
|---|---|---|---|---|
`)
	for _, row := range losses.Table {
		fmt.Fprintf(&b, "| [%s](#%[1]s) | %s | %v | %s | %s |\n", row.Name, cell(row.Doc), row.Weight, tapNames[row.Taps], cmp.Or(row.Adapter, "–"))
	}
	cases, err := verify.Goldens()
	if err != nil {
		t.Fatal(err)
	}
	types := declared(t)
	for _, row := range losses.Table {
		fmt.Fprintf(&b, "\n## %s\n\n%s", row.Name, explained(t, row, types, cases))
	}
	return b.String()
}

// explained is what there is to say of a loss: its type's comment, its settings and variants.
func explained(t *testing.T, row losses.Row, types map[string]declaration, cases []verify.Case) string {
	var b strings.Builder
	d, ok := types[reflect.TypeOf(row.New()).Elem().Name()]
	if !ok || d.doc == "" {
		t.Errorf("%s: its type has no comment", row.Name)
	}
	text := new(comment.Printer).Markdown(new(comment.Parser).Parse(d.doc))
	b.WriteString(strings.ReplaceAll(string(text), "\\`", "`")) // quotes in a comment are meant so
	if row.Relational {
		b.WriteString("\nIt compares the samples of a batch with one another, so that a batch cannot be taken in parts.\n")
	}
	if _, ok := row.New().(losses.Deployed); ok {
		b.WriteString("\nWhat it learns stays in the network that is exported.\n")
	}
	if len(d.settings) > 0 {
		b.WriteString("\n| key | default | |\n|---|---|---|\n" + rowsOfSettings(t, row, d.settings))
	}
	fmt.Fprintf(&b, "\nSource: %s.\n", row.Source)
	if v := variants(row.Name, cases); v != "" {
		fmt.Fprintf(&b, "\nVariants compared with PyTorch: %s.\n", v)
	}
	return b.String()
}

// rowsOfSettings are a loss's keys and defaults, with the comments of their fields.
func rowsOfSettings(t *testing.T, row losses.Row, comments map[string]string) string {
	var b strings.Builder
	defaults, err := strictyaml.Encode(row.New())
	if err != nil {
		t.Fatalf("%s: %v", row.Name, err)
	}
	for line := range strings.Lines(string(defaults)) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok || comments[key] == "" {
			t.Errorf("%s: the setting %q has no comment", row.Name, line)
		}
		fmt.Fprintf(&b, "| `%s` | `%s` | %s |\n", key, value, cell(comments[key]))
	}
	return b.String()
}

// variants are a loss's in the goldens, with their settings.
func variants(loss string, cases []verify.Case) string {
	var list []string
	seen := map[string]bool{}
	for _, c := range cases {
		if c.Loss != loss || seen[c.Variant] {
			continue
		}
		seen[c.Variant] = true
		text := c.Variant
		if c.Settings != "" {
			text += " `" + c.Settings + "`"
		}
		if c.Standardize {
			text += " `standardize: true`"
		}
		list = append(list, text)
	}
	return strings.Join(list, ", ")
}

// declaration is a struct type of the package, as its source explains it.
type declaration struct {
	doc      string
	settings map[string]string // a comment by the YAML key of the field
}

// declared reads the package's source, by the names of types.
func declared(t *testing.T) map[string]declaration {
	t.Helper()
	paths, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	types := map[string]declaration{}
	for _, path := range paths {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			general, ok := decl.(*ast.GenDecl)
			if !ok || general.Tok != token.TYPE {
				continue
			}
			spec := general.Specs[0].(*ast.TypeSpec)
			if s, ok := spec.Type.(*ast.StructType); ok {
				types[spec.Name.Name] = declaration{general.Doc.Text(), settings(s)}
			}
		}
	}
	return types
}

// settings are the comments of the fields that have a YAML key, by it.
func settings(s *ast.StructType) map[string]string {
	comments := map[string]string{}
	for _, f := range s.Fields.List {
		if f.Tag == nil {
			continue
		}
		tag := reflect.StructTag(strings.Trim(f.Tag.Value, "`"))
		text := f.Doc.Text() + f.Comment.Text()
		comments[tag.Get("yaml")] = strings.Join(strings.Fields(text), " ")
	}
	return comments
}

// cell is text in a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

func TestLossesAreDocumented(t *testing.T) {
	const path = "../docs/losses.md"
	want := document(t)
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s is not what the table says (%v); write it by -update", path, err)
	}
}
