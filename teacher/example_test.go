package teacher_test

import (
	"fmt"

	"distill/data"
	"distill/metrics"
	"distill/runtime"
	"distill/teacher"
)

func Example() {
	preprocess, err := data.Preset("imagenet") // what this teacher was trained with
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := runtime.Init(""); err != nil {
		fmt.Println(err)
		return
	}
	t, err := teacher.Open(teacher.Options{Model: "../models/cifar10_resnet56.onnx", Taps: []string{"*layer3.8*Relu_1*"}}, preprocess, 2)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer t.Close()
	pixels, err := data.ReadImage("../testdata/images/ship.png", 3, 32, 32)
	if err != nil {
		fmt.Println(err)
		return
	}
	out, err := t.Forward(&data.Batch{X: pixels, Shape: [4]int{1, 3, 32, 32}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("class", metrics.Argmax(out.Logits), "of", t.Classes())
	for _, name := range t.Taps() {
		fmt.Println(name, out.Taps[name].Shape)
	}
	// Output:
	// class 8 of 10
	// /layer3/layer3.8/Relu_1_output_0 [1,64,8,8]
}
