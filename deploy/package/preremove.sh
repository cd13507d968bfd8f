#!/bin/sh
# An update goes on with what runs; a removal ends it.
set -e
[ "$1" = remove ] || exit 0
[ -d /run/systemd/system ] || exit 0
systemctl disable --now martlet-proxy.service martlet-storage.service || true
