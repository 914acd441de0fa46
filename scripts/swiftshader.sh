#!/usr/bin/env bash
# Runs a command where Vulkan is software: SwiftShader, out of Debian's package chromium-common. Slow, and it needs no GPU.
#
#	scripts/swiftshader.sh COMMAND [ARGUMENT...]
#
# An installed chromium is used as it is. Else the package is fetched by apt, which checks its signature, and two
# libraries and a description are taken out of it into the cache folder; nothing is installed.
#
# VK_DRIVER_FILES  if it is set, also to nothing, no SwiftShader is looked for: the command runs on what Vulkan finds
# DISTILL_CACHE    the cache folder; default $XDG_CACHE_HOME/distill, else ~/.cache/distill
set -euo pipefail

fail() { # error, hint
	printf 'distill: error: %s\ndistill: hint: %s\n' "$1" "$2" >&2
	exit 1
}

[ $# -gt 0 ] || fail "run on SwiftShader: there is no command" "scripts/swiftshader.sh COMMAND [ARGUMENT...]"

if [ -n "${VK_DRIVER_FILES+set}" ]; then
	[ -n "$VK_DRIVER_FILES" ] || unset VK_DRIVER_FILES
	exec "$@"
fi
own="VK_DRIVER_FILES= makes it run on a GPU of this machine, VK_DRIVER_FILES=FILE.json on another driver"
[ "$(uname -sm)" = "Linux x86_64" ] || fail "set up SwiftShader: none is known for $(uname -sm)" "$own"

folder=/usr/lib/chromium
if [ ! -f $folder/vk_swiftshader_icd.json ]; then
	folder=${DISTILL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/distill}/swiftshader
fi
if [ ! -f "$folder/vk_swiftshader_icd.json" ]; then
	command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
		fail "set up SwiftShader: apt-get and dpkg-deb are not there" "put libvk_swiftshader.so, vk_swiftshader_icd.json and libvulkan.so.1 of chromium into $folder; or $own"
	mkdir -p "$folder" && work=$(mktemp -d "$folder/.fetch-XXXXXXXX") ||
		fail "set up SwiftShader: cannot write in $folder" "set DISTILL_CACHE to a folder that can be written"
	trap 'rm -rf "$work"' EXIT
	echo "distill: fetching SwiftShader (Debian's chromium-common, 32 MB)" >&2
	(cd "$work" && apt-get -qq -o APT::Sandbox::User=root download chromium-common >&2) ||
		fail "set up SwiftShader: apt could not fetch chromium-common" "try apt-get update; or $own"
	dpkg-deb --fsys-tarfile "$work"/chromium-common_*.deb | tar -x -C "$work" --strip-components=4 \
		./usr/lib/chromium/{libvk_swiftshader.so,libvulkan.so.1,vk_swiftshader_icd.json} ||
		fail "set up SwiftShader: this chromium-common is without it" "$own"
	mv -f "$work"/lib* "$folder"
	mv -f "$work/vk_swiftshader_icd.json" "$folder" # last: it says that the folder is whole
	rm -rf "$work"
	trap - EXIT
fi
export VK_DRIVER_FILES="$folder/vk_swiftshader_icd.json" VK_ICD_FILENAMES="$folder/vk_swiftshader_icd.json"
export LD_LIBRARY_PATH="$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
if [ -z "${XDG_RUNTIME_DIR:-}" ]; then # the Vulkan loader wants one
	export XDG_RUNTIME_DIR=${TMPDIR:-/tmp}
fi
exec "$@"
