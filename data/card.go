package data

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"distill/internal/hint"
)

// Card is what a model file says of itself, so that whoever runs it feeds it what it was trained on. It travels in the
// metadata_props of an ONNX file, which map strings to strings:
//
//	distill.version         the version of this schema: "1"
//	distill.preprocess      Preprocess as a JSON object, {"mean": [C numbers], "std": [C numbers], "scale": s, "size": [h, w]}:
//	                        a pixel x of 0..255 becomes (x·scale − mean) / std. Without mean, 0; std, 1; scale, 1/255; size, any
//	distill.classes         JSON array of the names of the classes, in the order of the logits; may be absent
//	distill.recipe_sha256   SHA-256 of the recipe, 64 hexadecimal digits in lower case; may be absent
//	distill.teacher_sha256  SHA-256 of the teacher's file, likewise
//
// An object has no other keys. A file has all of version and preprocess, or none of these properties.
type Card struct {
	Preprocess    Preprocess
	Classes       []string // in the order of the logits; empty: not known
	RecipeSHA256  string   // of the recipe that trained the model; "" where there is none
	TeacherSHA256 string   // of the file of the model's teacher, of several with spaces between them; "" where there is none
}

// The properties of a card, and the version of their schema.
const (
	cardVersion    = "distill.version"
	cardPreprocess = "distill.preprocess"
	cardClasses    = "distill.classes"
	cardRecipe     = "distill.recipe_sha256"
	cardTeacher    = "distill.teacher_sha256"

	cardSchema = "1"
)

// maxCardText bounds each property, in bytes: many times what the names of ImageNet's 21,841 classes take.
const maxCardText = 4 << 20

// Metadata writes the card as properties. It panics on a Preprocess with numbers that are not finite, which Validate refuses.
func (c Card) Metadata() map[string]string {
	meta := map[string]string{cardVersion: cardSchema, cardPreprocess: mustJSON(c.Preprocess)}
	if len(c.Classes) > 0 {
		meta[cardClasses] = mustJSON(c.Classes)
	}
	if c.RecipeSHA256 != "" {
		meta[cardRecipe] = c.RecipeSHA256
	}
	if c.TeacherSHA256 != "" {
		meta[cardTeacher] = c.TeacherSHA256
	}
	return meta
}

func mustJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("data: write card: %v", err))
	}
	return string(text)
}

// ReadCard reads the card among a model's properties; ok is false where there is none, as in a file of another program.
// A card that is incomplete, damaged or of another version of the schema is an error, which names the property.
func ReadCard(meta map[string]string) (card Card, ok bool, err error) {
	keys := []string{cardVersion, cardPreprocess, cardClasses, cardRecipe, cardTeacher}
	for _, key := range keys {
		text, found := meta[key]
		ok = ok || found
		if len(text) > maxCardText {
			return Card{}, false, fmt.Errorf("data: read card: %s has %d bytes, %d at most are read", key, len(text), maxCardText)
		}
	}
	if !ok {
		return Card{}, false, nil
	}
	version, found := meta[cardVersion]
	switch {
	case !found:
		err = fmt.Errorf("data: read card: %s is missing", cardVersion)
		return Card{}, false, hint.Wrap(err, "export the model again")
	case version != cardSchema:
		err = fmt.Errorf("data: read card: %s is %.20q, this program reads %q", cardVersion, version, cardSchema)
		return Card{}, false, hint.Wrap(err, "use the distill that wrote the model, or export the model again with this one")
	}
	card.Preprocess = DefaultPreprocess()
	for _, part := range []struct {
		key      string
		optional bool
		read     func(text string) error
	}{
		{cardPreprocess, false, card.readPreprocess},
		{cardClasses, true, func(text string) error { return decodeJSON(text, &card.Classes) }},
		{cardRecipe, true, readSHA256(&card.RecipeSHA256)},
		{cardTeacher, true, readSHA256s(&card.TeacherSHA256)},
	} {
		text, found := meta[part.key]
		if !found && part.optional {
			continue
		}
		err := errors.New("it is missing")
		if found {
			err = part.read(text)
		}
		if err != nil {
			err = fmt.Errorf("data: read card: %s: %w", part.key, err)
			return Card{}, false, hint.Wrap(err, "export the model again")
		}
	}
	return card, true, nil
}

func (c *Card) readPreprocess(text string) error {
	if err := decodeJSON(text, &c.Preprocess); err != nil {
		return err
	}
	return c.Preprocess.Validate(max(1, len(c.Preprocess.Mean), len(c.Preprocess.Std)))
}

// decodeJSON reads one JSON value of exactly the form of what v points to.
func decodeJSON(text string, v any) error {
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		if errors.Is(err, io.EOF) {
			return errors.New("it is empty")
		}
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON value")
	}
	return nil
}

func readSHA256(dst *string) func(string) error {
	return func(text string) error {
		sum, err := hex.DecodeString(text)
		if err != nil || len(sum) != 32 || hex.EncodeToString(sum) != text {
			return fmt.Errorf("%.70q is not 64 hexadecimal digits in lower case", text)
		}
		*dst = text
		return nil
	}
}

// readSHA256s is readSHA256 for one or more, with a space between each two.
func readSHA256s(dst *string) func(string) error {
	return func(text string) error {
		var one string
		for sum := range strings.SplitSeq(text, " ") {
			if err := readSHA256(&one)(sum); err != nil {
				return err
			}
		}
		*dst = text
		return nil
	}
}
