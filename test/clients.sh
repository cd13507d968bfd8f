#!/bin/bash
# Installs what the tests want and a fresh Debian machine lacks: the real clients
# that drive the cluster, Swift itself to compare rings with, what makes and mounts
# disks, and a C compiler for the race detector. Further clients can be named: their
# packages have their names. Does nothing where all of it is there.
set -euo pipefail

declare -A package=([gcc]=gcc [curl]=curl [swift]=python3-swiftclient [rclone]=rclone [mkfs.xfs]=xfsprogs [mount]=mount)
for command; do package[$command]=$command; done
missing=()
for command in "${!package[@]}"; do
	command -v "$command" >/dev/null || missing+=("${package[$command]}")
done
[ -e /usr/lib/python3/dist-packages/swift/common/ring/ring.py ] || missing+=(python3-swift)
[ -e /usr/include/stdlib.h ] || missing+=(libc6-dev)
[ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
	echo "the tests need these programs of Debian's, or the same from elsewhere: ${missing[*]}" >&2
	exit 1
fi
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
echo "installing for the tests: ${missing[*]}"
"${as_root[@]}" apt-get update -q
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
