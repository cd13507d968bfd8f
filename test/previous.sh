#!/bin/bash
# Builds the program of another revision of this repository: previous.sh REVISION FILE. Nothing but FILE is left, and the
# repository is as it was.
set -euo pipefail
revision=${1:-$(git describe --tags --abbrev=0 2>/dev/null || true)}
out=$(realpath -m "${2:?the file to be built}")
if [ -z "$revision" ]; then
	echo "previous.sh: there is no tag yet: say which revision is the previous release (make mixed PREVIOUS=REVISION)" >&2
	exit 2
fi
if ! commit=$(git rev-parse --quiet --verify "$revision^{commit}"); then
	echo "previous.sh: $revision is not in this clone: git fetch --unshallow --tags, if it is a shallow one" >&2
	exit 2
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
git archive "$commit" | tar -x -C "$dir"
cd "$dir"
go build -trimpath -ldflags "-X main.version=$(git -C "$OLDPWD" describe --tags --always "$commit")" -o "$out" ./cmd/martlet
