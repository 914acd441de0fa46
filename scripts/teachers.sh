#!/usr/bin/env bash
# What `make results-teachers` does: one recipe with its teacher live, writing a cache, and reading it, which must end in the same file;
# all CIFAR-10 teachers judged; and three of them combined and chosen while training. Stopped, the last goes on.
#
#	scripts/teachers.sh CIFAR10 TEACHERS    after make build, in the repository's root
#
# CIFAR10   folder with data_batch_1.bin and valid_10000.bin
# TEACHERS  folder with cifar10_resnet56.onnx, cifar10_efficientnet_small.onnx and cifar10_vit_small.onnx
set -euo pipefail

cifar10=$1 teachers=$(realpath "$2") runs=runs/teachers
for file in "$cifar10"/{data_batch_1,valid_10000}.bin "$teachers"/cifar10_{resnet56,efficientnet_small,vit_small}.onnx; do
	[ -f "$file" ] || { echo "teachers.sh: error: there is no $file" >&2; exit 1; }
done
mkdir -p "$runs"
ln -sfn "$teachers" runs/from

rm -rf "$runs/exact"
for way in live cold warm; do
	set -- teacher.cache.folder="$runs/exact/cache"
	case $way in
	live) set -- ;;
	cold) set -- "$@" teacher.cache.write=true ;;
	esac
	SECONDS=0
	bin/distill train --recipe cmd/distill/recipes/results.yaml --data "cifar10:$cifar10" --output "$runs/exact/$way" \
		data.train=data_batch_1.bin 'data.val=valid_10000.bin[0:1000]' "$@"
	echo "$way: $SECONDS s" >>"$runs/exact/table.txt"
done
(cd "$runs/exact" && sha256sum {live,cold,warm}/student.onnx >>table.txt && cat table.txt)
cmp "$runs"/exact/{live,cold}/student.onnx
cmp "$runs"/exact/{live,warm}/student.onnx

bin/distill teacher eval "$teachers"/cifar10_*.onnx --data cifar10:testdata/cifar10 --preset imagenet --fisher 500 | tee "$runs/judged.txt"

bin/distill compare cmd/distill/recipes/teachers.yaml --data "cifar10:$cifar10"
