#!/usr/bin/env bash
# Installs the peer of `make bench-pytorch`: Debian's PyTorch and torchvision, with OpenBLAS as its BLAS.
#
#	scripts/pytorch.sh
#
# What is there already is left as it is. apt-get asks for root: sudo is used where this is not root.
set -euo pipefail

fail() { # error, hint
	printf 'distill: error: %s\ndistill: hint: %s\n' "$1" "$2" >&2
	exit 1
}

ready() {
	/usr/bin/python3 -c 'import torch, torchvision' 2>/dev/null && dpkg -s libopenblas0-pthread >/dev/null 2>&1
}

if ! ready; then
	command -v apt-get >/dev/null || fail "install PyTorch: there is no apt-get" "install PyTorch and torchvision for /usr/bin/python3 and OpenBLAS for it"
	root=()
	[ "$(id -u)" = 0 ] || root=(sudo)
	"${root[@]}" apt-get update -q >&2
	"${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
		python3-torch python3-torchvision libopenblas0-pthread >&2
fi
# Without OpenBLAS products of matrices would run in the reference BLAS, many times slower, and the comparison would be worth nothing.
blas=/usr/lib/$(uname -m)-linux-gnu/libblas.so.3
case "$(readlink -f "$blas")" in
*openblas*) ;;
*) fail "set up PyTorch: its BLAS is $(readlink -f "$blas"), not OpenBLAS" "update-alternatives --config libblas.so.3-$(uname -m)-linux-gnu" ;;
esac
