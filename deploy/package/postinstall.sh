#!/bin/sh
# Makes the user and the folders. Nothing is started, but what ran before the update is handed over to the new program.
set -e
[ "$1" = configure ] || exit 0
systemd-sysusers martlet.conf
systemd-tmpfiles --create martlet.conf || true
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
[ -n "$2" ] || exit 0
for unit in martlet-proxy martlet-storage; do
	if systemctl is-active --quiet "$unit"; then
		systemctl reload "$unit" || systemctl restart "$unit"
	fi
done
