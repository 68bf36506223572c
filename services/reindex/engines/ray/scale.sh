#!/bin/sh
# How embedding scales with nodes on one machine: a head without cores, then 1 and 2 workers of one core each.
#
#     scale.sh PYTHON BOWERBIRD POSTS
#
# PYTHON is the interpreter that has ray, POSTS a directory of parts. Prints the driver's summary for each number of workers.
# Workers share the cores of this machine, so the figure says what the engine costs and not what more machines would give.
set -eu
python=$1 bowerbird=$2 posts=$3
ray=$(dirname "$python")/ray
here=$(dirname "$0")
home=$(mktemp -d /tmp/rayXXXXXX)
RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')
export RAY_AUTH_MODE RAY_AUTH_TOKEN
nodes=
stop() {
    for node in $nodes; do
        kill "$node" 2>/dev/null || true
        wait "$node" 2>/dev/null || true
    done
    nodes=
}
trap 'stop; rm -rf "$home"' EXIT

start() { # LOG ARGUMENT...
    log=$home/$1
    shift
    : >"$log"
    "$ray" start --block --disable-usage-stats --object-store-memory=80000000 "$@" >"$log" 2>&1 &
    nodes="$! $nodes"
    tries=0
    until grep -q "Ray runtime started" "$log"; do
        tries=$((tries + 1))
        [ "$tries" -lt 300 ] || { cat "$log" >&2; exit 1; }
        sleep 0.2
    done
}

for workers in 1 2; do
    start "head$workers" --head --port=$((26370 + workers)) --num-cpus=0 --include-dashboard=false --temp-dir="$home"
    for worker in $(seq "$workers"); do
        start "worker$workers-$worker" --address=127.0.0.1:$((26370 + workers)) --num-cpus=1
    done
    printf '%s workers: ' "$workers"
    "$python" "$here/embed_parts.py" --parts "$posts" --out "$home/vectors$workers" --bowerbird "$bowerbird" \
        --address 127.0.0.1:$((26370 + workers)) 2>/dev/null | tail -n 1
    stop
done
