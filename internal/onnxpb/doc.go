// Package onnxpb is the Go form of ONNX's file format, generated from the official protobuf description.
//
//	var model onnxpb.ModelProto
//	err := proto.Unmarshal(file, &model)
//
// onnx.proto is onnx-ml.proto of ONNX 1.12 (IR version 8, operator set 17), byte for byte, Apache-2.0, copyright the ONNX
// project contributors (https://github.com/onnx/onnx). It describes a superset of what onnx.proto there does, and is what
// exporters write. Fields of later IR versions are kept as unknown fields when a model is read and written again.
package onnxpb

// Regenerating needs protoc and protoc-gen-go (google.golang.org/protobuf/cmd/protoc-gen-go) on the PATH.
//go:generate protoc --go_out=. --go_opt=paths=source_relative --go_opt=Monnx.proto=distill/internal/onnxpb onnx.proto
