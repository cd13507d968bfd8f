#!/bin/bash
# Has a program write a small cluster, and packs the folder: written.sh PROGRAM FILE. What is in it is what
# cluster.TestWrittenBefore reads; both are changed together. One node of three devices has replicas of everything, and fragments. What
# came first was ended in good order, what came then was killed: some is in checkpoints and databases, some in logs alone.
set -euo pipefail
program=$(realpath "$1")
out=$(realpath -m "$2")
network=127.93
dir=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill -9 $pid 2>/dev/null || true; rm -rf "$dir"' EXIT
c=$dir/cluster
url=http://$network.0.1:8080

"$program" dev init --dir "$c" --nodes 1 --devices 3 --part-power 4 --policy ec21=2+1 --listen $network.0.1:8080 --network $network >"$dir/out"
sed -i 's/^segment_size = .*/segment_size = "4MiB"/' "$c/etc/storage1.toml"

start() {
	"$program" dev --dir "$c" >>"$dir/out" 2>&1 &
	pid=$!
	for _ in $(seq 300); do
		if token=$(curl -sf -i -H 'X-Auth-User: test:tester' -H 'X-Auth-Key: testing' $url/auth/v1.0 | tr -d '\r' | sed -n 's/^X-Auth-Token: //p'); then
			return
		fi
		sleep 0.1
	done
	cat "$dir/out" >&2
	exit 1
}
# send METHOD PATH [curl's arguments]
send() {
	local method=$1 path=$2
	shift 2
	curl -sSf -o /dev/null -X "$method" -H "X-Auth-Token: $token" "$@" "$url/v1/AUTH_test$path"
}
# put CONTAINER/OBJECT TEXT SIZE [curl's arguments]: TEXT and a line's end, again and again, SIZE bytes of it
put() {
	local path=$1 text=$2 size=$3
	shift 3
	{ yes "$text" || true; } | head -c "$size" >"$dir/body" || true
	send PUT "/$path" -H 'Content-Type: text/plain' -T "$dir/body" "$@"
}

start
send POST '' -H 'X-Account-Meta-Colour: blue'
send PUT /plain -H 'X-Container-Meta-Colour: green'
send PUT /coded -H 'X-Storage-Policy: ec21'
send PUT /versions -H 'X-Versions-Enabled: true'
send PUT /many
for container in plain coded; do
	put $container/empty nothing 0
	put $container/small small 10
	put $container/middle middle 100000
	put $container/large large 1100000
	put $container/overwritten first 300000
	put $container/deleted gone 20000
	put $container/posted posted 30000
done
put versions/o one 1000
seq -f "$url/v1/AUTH_test/many/row-%04g-of-a-container-that-has-outgrown-what-it-shared-with-others" 160 |
	sed 's/.*/url = "&"\noutput = "\/dev\/null"/' >"$dir/urls"
curl -sSf --no-progress-meter -X PUT -H "X-Auth-Token: $token" -H 'Content-Length: 0' --parallel --config "$dir/urls"
sleep 5 # the account hears of it
kill $pid
wait $pid || true

start
for container in plain coded; do
	put $container/overwritten second 70000
	send DELETE /$container/deleted
	send POST /$container/posted -H 'X-Object-Meta-Colour: red' -H 'Content-Type: text/html'
	put $container/late late 40000
	put $container/expires ends 5000 -H 'X-Delete-At: 4102444800'
done
put plain/segment segment 2000
printf '[{"path":"plain/segment"},{"path":"plain/small"}]' >"$dir/body"
send PUT '/plain/manifest?multipart-manifest=put' -T "$dir/body"
put versions/o two 2000
send DELETE /many/row-0160-of-a-container-that-has-outgrown-what-it-shared-with-others
kill -9 $pid
wait $pid || true
pid=
rm -rf "$c/log"
tar -C "$c" --sort=name --owner=0 --group=0 --numeric-owner -c . | gzip -9n >"$out"
ls -l "$out"
