#!/bin/bash
# Writes the configuration and the rings of a cluster of NODES storage nodes with DEVICES devices each and PROXIES
# proxies into a folder, and marks the devices of the nodes that are below ROOT/storageN. What is there already stays.
#
#   cluster.sh FOLDER ROOT
#
# Addresses: proxies are PROXY_NET.(10+N), storage nodes STORAGE_NET.(100+N) and REPLICATION_NET.(100+N).
set -euo pipefail
folder=$1 root=$2
NODES=${NODES:-4} DEVICES=${DEVICES:-2} PROXIES=${PROXIES:-2} REPLICAS=${REPLICAS:-3} PART_POWER=${PART_POWER:-10}
PROXY_NET=${PROXY_NET:-172.30.0} STORAGE_NET=${STORAGE_NET:-172.30.1} REPLICATION_NET=${REPLICATION_NET:-172.30.2}
USER_NAME=${USER_NAME:-admin} USER_ACCOUNT=${USER_ACCOUNT:-test} USER_KEY=${USER_KEY:?the password of the first user}
martlet=${MARTLET:-martlet}

if [ -e "$folder/complete" ]; then
	echo "$folder has a cluster already"
	exit 0
fi
umask 077
mkdir -p "$folder/rings"
names=()
for d in $(seq "$DEVICES"); do names+=("d$d"); done
devices=$(IFS=,; echo "${names[*]}")

# Text in TOML: backslashes and quotes are escaped.
quoted() { local s=${1//\\/\\\\}; printf '"%s"' "${s//\"/\\\"}"; }

first=$folder/proxy1.toml
for n in $(seq "$PROXIES"); do
	file=$folder/proxy$n.toml
	[ -e "$file" ] && continue
	like=()
	[ "$n" -eq 1 ] || like=(--like "$first")
	"$martlet" config init proxy "${like[@]}" --listen ":8080" >"$file.new"
	cat >>"$file.new" <<EOF

[[auth.users]]
account = $(quoted "$USER_ACCOUNT")
user = $(quoted "$USER_NAME")
key = $(quoted "$USER_KEY")
groups = [".admin"]
EOF
	sed -i 's/^# listen = "127.0.0.1:6209"/listen = ":6209"/' "$file.new"
	mv "$file.new" "$file"
done
[ -e "$folder/cluster.key" ] || { head -c 32 /dev/urandom | base64 >"$folder/cluster.key.new" && mv "$folder/cluster.key.new" "$folder/cluster.key"; }
for n in $(seq "$NODES"); do
	file=$folder/storage$n.toml
	[ -e "$file" ] && continue
	"$martlet" config init storage --like "$first" --address "$STORAGE_NET.$((100 + n))" \
		--replication-address "$REPLICATION_NET.$((100 + n))" --devices "$devices" >"$file.new"
	sed -i 's/^# listen = "127.0.0.1:6209"/listen = ":6209"/; s/^# key_file = ""/key_file = "cluster.key"/' "$file.new"
	mv "$file.new" "$file"
done

for kind in account:6202 container:6201 object:6200; do
	builder=$folder/rings/${kind%:*}.builder port=${kind#*:}
	rm -f "$builder" # one that is not whole; the ring is made last
	"$martlet" ring create "$builder" --part-power "$PART_POWER" --replicas "$REPLICAS" --min-part-hours 1
	for n in $(seq "$NODES"); do
		for d in "${names[@]}"; do
			"$martlet" ring add "$builder" "r1z$n-$STORAGE_NET.$((100 + n)):${port}R$REPLICATION_NET.$((100 + n)):6203/$d" 100
		done
	done
	"$martlet" ring rebalance "$builder"
done

# The folders of a container's volumes are its devices: none of them is a disk of its own, which is said here.
for n in $(seq "$NODES"); do
	for d in "${names[@]}"; do mkdir -p "$root/storage$n/$d"; done
	at=$(mktemp "$folder/at.XXXXXX.toml")
	sed "s#^root = .*#root = \"$root/storage$n\"#" "$folder/storage$n.toml" >"$at"
	"$martlet" device init --config "$at" --all
	rm "$at"
done
touch "$folder/complete"
