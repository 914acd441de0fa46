package data

import (
	"fmt"
	"os"
	"strings"

	"distill/internal/hint"
)

// Options says where the three splits come from: the data section of a recipe.
//
//	data:
//	  source: cifar10:testdata/cifar10
//	  val: valid_10000.bin[0:5000]
//	  test: valid_10000.bin[5000:10000]
//	  augment: {crop: 4, flip: true}
type Options struct {
	Source string `yaml:"source"` // KIND:PATH, where KIND is one of Kinds

	// Train, Val and Test select a split inside PATH. Empty selectors take the kind's own.
	//
	// cifar10: a glob of files in the folder, with an optional range [from:to] of the records of all its matches in
	// the order of their names; default data_batch_*.bin*, val*.bin* and test_batch*.bin*. Where no val file
	// exists and none is asked for, the last tenth of train is held out as val.
	//
	// mnist: the same for files of images; default train-images?idx3-ubyte*, val*-images?idx3-ubyte* and
	// t10k-images?idx3-ubyte*. The labels are in the file with "labels" for "images" and "idx1" for "idx3" in its name.
	//
	// folder: a sub-folder with one folder of images per class; default train, val and test. Where no val folder
	// exists and none is asked for, every tenth training image of each class is held out as val. A folder with none
	// of the three, only class folders, is split 80/10/10 by a hash of each image's class and file name.
	Train string `yaml:"train"`
	Val   string `yaml:"val"`
	Test  string `yaml:"test"`

	// Size is the height and width that the images of a folder are brought to: scaled so that they cover it,
	// with bilinear filtering, and cropped about their centre. Empty: all images must have the size of the first one.
	Size []int `yaml:"size"`

	// Stretch brings the images of a folder to Size as Preprocess brings them to its own: stretched bilinearly, whatever
	// their proportions, and not cropped. No key of a recipe.
	Stretch bool

	Augment Augment `yaml:"augment"` // of training images; a Loader applies it
}

// kind is a format of data sets: how to open its three splits, and one of them.
type kind struct {
	name  string
	open  func(path string, o Options) (Splits, error)
	split func(path, split string, o Options) (Split, error)
}

// kinds lists every format. A new one is a file and a row.
var kinds = []kind{
	{"cifar10", cifar.open, cifar.openSplit},
	{"mnist", mnist.open, mnist.openSplit},
	{"folder", openFolder, openFolderSplit},
}

// Kinds lists the formats that a source may name.
func Kinds() []string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = k.name
	}
	return names
}

// Open opens the three splits of o.Source. It refuses splits that share a sample, splits without one and, in a folder, files
// that by their first bytes are no images, or not of the size they must have.
func Open(o Options) (Splits, error) {
	k, path, err := o.kind()
	if err != nil {
		return Splits{}, err
	}
	s, err := k.open(path, o)
	if err != nil {
		return Splits{}, fmt.Errorf("data: open %s: %w", o.Source, err)
	}
	for i, src := range []Source{s.Train, s.Val, s.Test} {
		if src.Len() == 0 {
			err := fmt.Errorf("data: open %s: the %s split is empty", o.Source, splitNames[i])
			return Splits{}, hint.Wrap(err, "set data.%s, or add images", splitNames[i])
		}
	}
	return s, nil
}

// OpenSplit opens one split of o.Source, "train", "val" or "test", as Open would, without needing the others.
// An empty name means test where the data set is laid out in splits, and every image where it is not: for the kind
// cifar10 and mnist, PATH may be a single file, with an optional range of records as in valid_10000.bin[5000:10000], which is
// taken whole whatever the split; for the kind folder, PATH may hold nothing but class folders.
func OpenSplit(o Options, split string) (Split, error) {
	k, path, err := o.kind()
	if err != nil {
		return Split{}, err
	}
	switch split {
	case "", "train", "val", "test":
	default:
		err := fmt.Errorf("data: open %s: unknown split %q", o.Source, split)
		return Split{}, hint.Wrap(err, "the splits are %s", strings.Join(splitNames[:], ", "))
	}
	src, err := k.split(path, split, o)
	if err != nil {
		return Split{}, fmt.Errorf("data: open %s: %w", o.Source, err)
	}
	if src.Len() == 0 {
		return Split{}, fmt.Errorf("data: open %s: no images", o.Source)
	}
	return src, nil
}

// splitNames are the names of the splits, in the order of Splits' fields.
var splitNames = [3]string{"train", "val", "test"}

// everything is the name of a Split that holds every image.
const everything = "all"

// selectors returns the selectors as given, in the order of splitNames.
func (o Options) selectors() [3]string { return [3]string{o.Train, o.Val, o.Test} }

// kind splits o.Source and checks the options that do not depend on the kind.
func (o Options) kind() (kind, string, error) {
	name, path, ok := strings.Cut(o.Source, ":")
	if !ok || path == "" {
		err := fmt.Errorf("data: open %q: want KIND:PATH", o.Source)
		return kind{}, "", hint.Wrap(err, "for example cifar10:DIR or folder:DIR")
	}
	if err := checkSize(o.Size); err != nil {
		return kind{}, "", fmt.Errorf("data: open %s: %w", o.Source, err)
	}
	for _, k := range kinds {
		if k.name == name {
			return k, path, nil
		}
	}
	err := fmt.Errorf("data: open %s: unknown kind %q", o.Source, name)
	return kind{}, "", hint.Wrap(err, "the kinds are %s", strings.Join(Kinds(), ", "))
}

// maxSide bounds the height and width that images may be resized to, so that a typing error is no allocation.
const maxSide = 8192

func checkSize(size []int) error {
	if len(size) == 0 {
		return nil
	}
	if len(size) != 2 || size[0] < 1 || size[0] > maxSide || size[1] < 1 || size[1] > maxSide {
		return fmt.Errorf("size %v: want a height and a width from 1 to %d", size, maxSide)
	}
	return nil
}

func checkFolder(dir string) error {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is not a folder", dir)
	}
	return err
}
