#!/bin/sh
# A version of Debian's form, which begins with a digit and rises, of what `git describe` says:
#   v1.2.3 -> 1.2.3, v1.2.3-4-gabcdef -> 1.2.3+4.gabcdef, abcdef -> 0~abcdef, -dirty -> +dirty
set -eu
v=$(printf %s "$1" | sed -E 's/-dirty$/+dirty/; s/-([0-9]+)-g([0-9a-f]+)/+\1.g\2/; s/^v([0-9])/\1/; s/[^A-Za-z0-9.+~]/./g')
case $v in
[0-9]*.*) printf '%s\n' "$v" ;;
*) printf '0~%s\n' "$v" ;;
esac
