#!/usr/bin/env bash
# Puts ONNX Runtime's shared library into the cache folder, where distill looks for it.
#
#	scripts/onnxruntime.sh [MACHINE]
#
# MACHINE is x86_64 or aarch64, as uname -m names them; default this one.
#
# The library comes out of the npm package onnxruntime-node: the tarball alone, none of its
# install scripts. Both the tarball and the library are pinned by SHA-256. A library that is
# there already and whole costs one checksum. Runs at the same time do not disturb each other:
# each works in a folder of its own and renames the finished file into place.
#
# DISTILL_CACHE        the cache folder; default $XDG_CACHE_HOME/distill, else ~/.cache/distill
# DISTILL_ONNXRUNTIME  a library to use instead; then nothing is fetched
set -euo pipefail

version=1.30.0
package=onnxruntime-node@$version
tarball_sha256=6e3390d6b783e7be946fad629292799da28d0b42f84856e50d2c1b0383291e75

fail() { # error, hint
	printf 'distill: error: %s\ndistill: hint: %s\n' "$1" "$2" >&2
	exit 1
}

own="set DISTILL_ONNXRUNTIME to a libonnxruntime.so.1 of your own, version 1.24 or newer"

[ -n "${1:-}" ] || [ -z "${DISTILL_ONNXRUNTIME:-}" ] || exit 0
[ "$(uname -s)" = Linux ] || fail "set up ONNX Runtime: $(uname -s) is not supported" "$own"
machine=${1:-$(uname -m)}
case "$machine" in
x86_64) arch=x64 library_sha256=ffb75a925ba05e47b235bb66e3e3911714a80b328a9c9425539feb204aa32a23 ;;
aarch64) arch=arm64 library_sha256=1f549d46250b005580b597f4164984aaf75b3bcb9f3aeb07c7f8a8fe60b23c76 ;;
*) fail "set up ONNX Runtime: no library for the $machine architecture" "$own" ;;
esac

cache=${DISTILL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/distill}
folder=$cache/onnxruntime-$version/$arch
library=$folder/libonnxruntime.so.1

sha256() { sha256sum -- "$1" | cut -d' ' -f1; }

if [ -f "$library" ] && [ "$(sha256 "$library")" = "$library_sha256" ]; then
	exit 0
fi

command -v npm >/dev/null || fail "set up ONNX Runtime: npm is not installed" "install npm (it comes with Node.js), or $own"
mkdir -p "$folder" && work=$(mktemp -d "$folder/.fetch-XXXXXXXX") ||
	fail "set up ONNX Runtime: cannot write in $folder" "set DISTILL_CACHE to a folder that can be written"
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

echo "distill: fetching ONNX Runtime $version ($package, 113 MB)" >&2
npm pack "$package" --ignore-scripts --loglevel=error --pack-destination "$work" >"$work/name" ||
	fail "set up ONNX Runtime: npm could not fetch $package" "check the network and npm's settings, or $own"
tarball=$work/$(tail -n 1 "$work/name")

check() { # file, expected checksum, what it is
	local found
	found=$(sha256 "$1")
	[ "$found" = "$2" ] || fail "set up ONNX Runtime: $3 has SHA-256 $found, expected $2" "run it again; if it stays, npm serves a changed package: do not use it"
}

check "$tarball" "$tarball_sha256" "the tarball of $package"
member=package/bin/napi-v6/linux/$arch/libonnxruntime.so.1
tar -xzf "$tarball" -C "$work" "$member"
check "$work/$member" "$library_sha256" "$member"
chmod 755 "$work/$member"
mv -f "$work/$member" "$library"
echo "distill: installed $library" >&2
