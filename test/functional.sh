#!/bin/bash
# Installs what Swift's functional tests import and a fresh Debian machine lacks.
# Does nothing where all of it is there.
set -euo pipefail

missing=()
for package in python3-swift python3-swiftclient python3-keystoneclient python3-boto3 python3-mock python3-pytest; do
	dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
	echo "Swift's functional tests need these packages of Debian's, or the same from elsewhere: ${missing[*]}" >&2
	exit 1
fi
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
echo "installing for Swift's functional tests: ${missing[*]}"
"${as_root[@]}" apt-get update -q
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
