#!/bin/bash
# Installs what the lab wants and a fresh Debian machine lacks. Does nothing where all of it is there.
#
# Debian starts the services that it installs. The lab runs its own, so what is installed here is neither
# started nor enabled.
set -euo pipefail

declare -A package=(
	[ip]=iproute2 [tc]=iproute2 [mkfs.xfs]=xfsprogs [mount]=mount
	[haproxy]=haproxy [prometheus]=prometheus [tcpdump]=tcpdump
)
missing=()
for command in "${!package[@]}"; do
	PATH=$PATH:/usr/sbin:/sbin command -v "$command" >/dev/null || missing+=("${package[$command]}")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
	echo "the lab needs these packages of Debian's, or the same from elsewhere: ${missing[*]}" >&2
	exit 1
fi
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
echo "installing for the lab: ${missing[*]}"
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	trap '"${as_root[@]}" rm -f $policy' EXIT
	printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee $policy >/dev/null
	"${as_root[@]}" chmod 755 $policy
fi
"${as_root[@]}" apt-get update -q
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
for service in haproxy prometheus; do
	if [[ " ${missing[*]} " == *" $service "* ]] && command -v systemctl >/dev/null; then
		"${as_root[@]}" systemctl --quiet disable $service || echo "$service is enabled: it will start with the machine" >&2
	fi
done
