#!/usr/bin/env bash
# Shows which system calls a thread makes while it emits 150,000 events: there must be none. Needs strace.
#
#   benches/syscalls.sh [OPTION OF semj-bench emission...]
set -euo pipefail
cd "$(dirname "$0")/.."

command -v strace >/dev/null || { echo 'benches/syscalls.sh: strace is not installed' >&2; exit 1; }
cargo build --release --quiet --locked -p semj-bench
target=$(cargo metadata --format-version 1 --no-deps --locked | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
program=$target/release/semj-bench
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# A thread that is traced waits for the tracer at every call: a rate that the machine can keep even then.
strace -ff -qq -o "$scratch/thread" "$program" emission --rate 100000 --seconds 1 --warm-up 0.5 --wait spin --json "$@" \
    >"$scratch/row"
thread=$(grep -l 'PR_SET_NAME, "producer-0"' "$scratch"/thread.*)
# Before the first event and behind the last one the thread reads from /proc how often it lost its core.
awk '/\/proc\/thread-self/ { readings++ } readings == 1 && is_closed { print } readings == 1 && /^close\(/ { is_closed = 1 }' \
    "$thread" | sed 's/(.*//' | sort | uniq -c | sort -rn >"$scratch/calls"
[ "$(grep -c '/proc/thread-self' "$thread")" = 2 ] || { echo 'the thread did not read /proc twice' >&2; exit 1; }
if [ -s "$scratch/calls" ]; then
    echo 'system calls of a thread that emits 100,000 events each second for 1.5 s, or as many as it then can:'
    cat "$scratch/calls"
    exit 1
fi
# Those behind the warm-up.
grep -q '"call":{"count":100000,' "$scratch/row" || { echo 'not all events were emitted' >&2; exit 1; }
echo 'a thread that emitted 150,000 events made no system call while it did'
