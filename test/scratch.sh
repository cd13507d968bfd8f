#!/bin/bash
# Runs a command whose temporary files are in a folder of their own: in memory if there is plenty, else where they go
# anyhow. What the go command compiles stays out of it.
set -euo pipefail

enough=$((6 << 30)) # bytes; tests have less than a tenth of it at a time
free=$(df -B1 --output=avail /dev/shm 2>/dev/null | tail -n 1)
have=$(sed -nE 's/^MemAvailable: *([0-9]+) kB/\1/p' /proc/meminfo)
in=${TMPDIR:-/tmp}
export GOTMPDIR=${GOTMPDIR:-$in}
if [ "${free:-0}" -ge "$enough" ] && [ $((${have:-0} << 10)) -ge "$enough" ] && [ -w /dev/shm ]; then
	in=/dev/shm
fi
TMPDIR=$(mktemp -d "$in/martlet-XXXXXX")
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
"$@"
