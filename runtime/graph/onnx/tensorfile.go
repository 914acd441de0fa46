package onnx

import (
	"errors"
	"fmt"
	"os"

	"google.golang.org/protobuf/proto"

	pb "distill/internal/onnxpb"
	"distill/runtime/graph"
)

// ReadTensor loads a file that holds one tensor, as the inputs and outputs of ONNX's backend tests are kept (.pb). The types
// are those of [Model.Initializer]. Its errors name the file and what is wrong with it.
func ReadTensor(path string) (graph.Tensor, error) {
	t, err := readTensor(path)
	if err != nil {
		return graph.Tensor{}, fmt.Errorf("onnx: read tensor %s: %w", path, err)
	}
	return t, nil
}

func readTensor(path string) (graph.Tensor, error) {
	info, err := os.Stat(path)
	if err != nil {
		return graph.Tensor{}, bare(err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxSize {
		return graph.Tensor{}, fmt.Errorf("not a regular file of at most %d bytes", maxSize)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return graph.Tensor{}, bare(err)
	}
	return parseTensor(b)
}

func parseTensor(b []byte) (graph.Tensor, error) {
	var t pb.TensorProto
	if err := (proto.UnmarshalOptions{RecursionLimit: maxDepth}).Unmarshal(b, &t); err != nil {
		return graph.Tensor{}, fmt.Errorf("not a tensor, or a damaged one: %w", err)
	}
	if t.DataType == nil { // protobuf takes many a stray file for a message of unknown fields
		return graph.Tensor{}, errors.New("not a tensor: it states no type")
	}
	return decode(&t)
}
