package data_test

import (
	"fmt"

	"distill/data"
)

func Example() {
	splits, err := data.Open(data.Options{
		Source: "cifar10:../testdata/cifar10",
		Val:    "val.bin.gz[0:500]",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	train := &data.Loader{Source: splits.Train, Batch: 64, Seed: 1, Shuffle: true, Augment: data.Augment{Crop: 4, Flip: true}}
	var b data.Batch
	if err := train.Fill(&b, 0, train.Steps()-1); err != nil { // the last batch of the first epoch
		fmt.Println(err)
		return
	}
	fmt.Println(b.Shape, splits.Train.Len(), splits.Val.Len(), splits.Test.Len())
	// Output: [8 3 32 32] 5000 500 1000
}

func ExamplePreprocess() {
	pixels, err := data.ReadImage("../testdata/images/ship.png", 3, 32, 32)
	if err != nil {
		fmt.Println(err)
		return
	}
	p, err := data.Preset("imagenet")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("red %v", pixels[0])
	p.Apply(pixels, pixels, [4]int{1, 3, 32, 32})
	fmt.Printf(" becomes %.3f\n", pixels[0])
	// Output: red 235 becomes 1.906
}
