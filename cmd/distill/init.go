package main

import (
	"embed"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"distill/internal/atomicfile"
	"distill/internal/hint"
	"distill/internal/nearest"
)

// recipes are those that the program comes with.
//
//go:embed recipes/*.yaml
var recipes embed.FS

// template is a recipe to start from.
type template struct{ name, doc string }

var templates = []template{
	{"starter", "every key with its default, and what it is for; a convolutional teacher and student"},
	{"cnn_to_vit", "a convolutional teacher and a vision transformer: soft labels and features, through adapters"},
	{"vit_to_cnn", "a vision transformer as teacher and a convolutional student, likewise"},
	{"efficientnet_to_resnet", "convolutional networks of different make, likewise"},
}

// text is the template's recipe.
func (t template) text() (string, error) {
	b, err := recipes.ReadFile("recipes/" + t.name + ".yaml")
	return string(b), err
}

// templateNamed finds a template.
func templateNamed(name string) (template, error) {
	i := slices.IndexFunc(templates, func(t template) bool { return t.name == name })
	if i >= 0 {
		return templates[i], nil
	}
	var names []string
	for _, t := range templates {
		names = append(names, t.name)
	}
	return template{}, hint.Wrap(fmt.Errorf("init: there is no template %q", name), "they are %s", strings.Join(nearest.Names(name, names, len(names)), ", "))
}

// templateHelp lists the templates.
func templateHelp() string {
	var rows [][]string
	for _, t := range templates {
		rows = append(rows, []string{"  " + t.name, t.doc})
	}
	return table(rows)
}

type initOptions struct {
	global
	file     string
	template string
	force    bool // overwrite the file
}

func newInit(g *global) *cobra.Command {
	var o initOptions
	c := &cobra.Command{
		Use:   "init [FILE]",
		Short: "Write a recipe to start from",
		Long: `Write a recipe to start from, in FILE or recipe.yaml: every key with its default, and what it is for; or with --template
one for networks of different kinds.

Templates (--template):
` + templateHelp() + `
JSON keys: file.`,
		Example: "  distill init recipe.yaml\n  distill init --template cnn_to_vit vit.yaml",
		Args:    wantArgs(0, 1, "one file at most"),
		RunE: func(c *cobra.Command, args []string) error {
			o.global, o.file = *g, "recipe.yaml"
			if len(args) > 0 {
				o.file = args[0]
			}
			return runInit(o, c.OutOrStdout())
		},
	}
	c.Flags().StringVar(&o.template, "template", templates[0].name, "`NAME` of the recipe to start from")
	c.Flags().BoolVar(&o.force, "force", false, "overwrite FILE")
	return c
}

func runInit(o initOptions, stdout io.Writer) error {
	t, err := templateNamed(o.template)
	if err != nil {
		return err
	}
	text, err := t.text()
	if err != nil {
		return fmt.Errorf("init: %w", err)
	}
	if _, err := os.Lstat(o.file); err == nil && !o.force {
		return hint.Wrap(fmt.Errorf("init: write %s: %w", o.file, fs.ErrExist), "overwrite it with --force, or name another file")
	}
	err = atomicfile.Write(o.file, func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	})
	if err != nil {
		return fmt.Errorf("init: %w", err)
	}
	if o.json {
		return writeJSON(stdout, struct {
			File string `json:"file"`
		}{o.file})
	}
	_, err = fmt.Fprintf(stdout, "Wrote %s. Edit it, then run: distill train --recipe %s\n", printable(o.file), shellWord(o.file))
	return err
}
