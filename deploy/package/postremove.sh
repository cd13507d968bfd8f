#!/bin/sh
# Configuration, with the secret that everything is found by, and devices stay, even where the package is purged.
set -e
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
