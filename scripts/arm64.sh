#!/usr/bin/env bash
# Tries distill on arm64, in an emulator: cross-compiles it, trains a tiny student for three steps with a teacher and exports
# it there, and has both classify images there and on this machine, with the same labels. It takes some minutes.
#
#	scripts/arm64.sh    after make build, in the repository's root
#
# It needs what Debian calls qemu-user and gcc-aarch64-linux-gnu; without them it says so and succeeds.
#
# DISTILL_CACHE  the cache folder; default $XDG_CACHE_HOME/distill, else ~/.cache/distill
set -euo pipefail

for tool in qemu-aarch64 aarch64-linux-gnu-gcc; do
	command -v $tool >/dev/null || {
		echo "distill: arm64 was not tried: there is no $tool (apt install qemu-user gcc-aarch64-linux-gnu)"
		exit 0
	}
done
scripts/onnxruntime.sh aarch64
cache=${DISTILL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/distill}
library=$(ls -t "$cache"/onnxruntime-*/arm64/libonnxruntime.so.1 | head -1)
CGO_ENABLED=1 GOOS=linux GOARCH=arm64 CC=aarch64-linux-gnu-gcc go build -o bin/distill-arm64 ./cmd/distill

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# ONNX Runtime asks the kernel's text files for the processor, which qemu passes on from this machine.
mkdir -p "$work/root/proc" "$work/root/lib"
ln -s /usr/aarch64-linux-gnu/lib/* "$work/root/lib"
{
	echo 'processor	: 0'
	echo 'Features	: fp asimd'
	printf 'CPU %s\n' 'implementer	: 0x41' 'architecture: 8' 'variant	: 0x0' 'part	: 0xd08' 'revision	: 3'
} >"$work/root/proc/cpuinfo"
arm64() { qemu-aarch64 -L "$work/root" bin/distill-arm64 --onnxruntime "$library" "$@"; }

labels() { # distill, here or there
	local top=(testdata/images/*.png --top 1 --json)
	{
		"$1" predict "$work/run/student.onnx" "${top[@]}"
		"$1" predict models/cifar10_resnet56.onnx "${top[@]}" --preset imagenet --classes testdata/cifar10/batches.meta.txt
	} | grep -oE '"(file|label)": .*'
}

arm64 train --teacher models/cifar10_resnet56.onnx --student resnet8 --data cifar10:testdata/cifar10 \
	--threads 1 --output "$work/run" --epochs 1 student.width=4 batch=8 \
	'data.train=data_batch_1.bin.gz[0:24]' 'data.val=val.bin.gz[0:4]' 'data.test=test_batch.bin.gz[0:4]'
labels arm64 >"$work/arm64"
labels bin/distill >"$work/here"
diff "$work/here" "$work/arm64" || {
	echo "distill: error: student or teacher give other labels on arm64 than here" >&2
	exit 1
}
echo "distill: arm64 trains, exports, and gives the labels of this machine"
