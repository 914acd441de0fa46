#!/usr/bin/env bash
# Tries the WebGPU provider: every operator and tiny students beside the CPU, then a run of distill that trains there, with a
# teacher on the CPU, exports, and checks the exported file on both.
#
#	scripts/webgpu.sh    after make build, in the repository's root
#
# VK_DRIVER_FILES  as in swiftshader.sh, which it runs on
set -euo pipefail

run=$(mktemp -d)
trap 'rm -rf "$run"' EXIT
on=$(dirname "$0")/swiftshader.sh

$on bin/distill verify provider webgpu
$on bin/distill train --teacher models/cifar10_resnet56.onnx --student resnet8 --data cifar10:testdata/cifar10 \
	--provider webgpu --output "$run/run" --epochs 2 student.width=8 batch=8 \
	'data.train=data_batch_1.bin.gz[0:32]' 'data.val=val.bin.gz[0:8]' 'data.test=test_batch.bin.gz[0:8]'
$on bin/distill predict "$run/run/student.onnx" testdata/images/*.png --provider webgpu
