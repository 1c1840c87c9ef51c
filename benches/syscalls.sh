#!/usr/bin/env bash
# Shows which system calls the thread that emits makes: those of its beginning and its end, and none for an emission.
# Needs strace. Fails if there are more than a hundred for 150,000 emissions.
#
#   benches/syscalls.sh [OPTION OF semj-bench emission...]
set -euo pipefail
cd "$(dirname "$0")/.."

command -v strace >/dev/null || { echo 'benches/syscalls.sh: strace is not installed' >&2; exit 1; }
cargo build --release --quiet --locked -p semj-bench
program=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release/semj-bench
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# A thread that is traced waits for the tracer at every call: a rate that the machine can keep even then.
strace -ff -qq -o "$scratch/thread" "$program" emission --rate 100000 --seconds 1 --warm-up 0.5 --wait spin --json "$@" \
    >"$scratch/row"
thread=$(grep -l 'PR_SET_NAME, "producer-0"' "$scratch"/thread.*)
calls=$(wc -l <"$thread")
echo "system calls of the thread that emitted 150,000 events: $calls"
sed 's/(.*//' "$thread" | sort | uniq -c | sort -rn
[ "$calls" -le 100 ] || { echo 'that is more than its beginning and its end need' >&2; exit 1; }
