#!/usr/bin/env bash
# Fills a small disk with a journal, in memory and on ext4 on a loop device: the import must end with an error that says
# so and names the file, what was kept must verify, and with room again it must go on.
#
#   sudo tests/full-disk/run.sh [PROGRAM]        PROGRAM: target/release/semj
set -euo pipefail
cd "$(dirname "$0")/../.."
semj=$(realpath "${1:-target/release/semj}")
[ "$(id -u)" = 0 ] || { echo 'full-disk: mounting needs root' >&2; exit 2; }

scratch=$(mktemp -d)
trap 'for dir in "$scratch"/*/; do umount "$dir" 2>/dev/null || true; done; rm -rf "$scratch"' EXIT
fail() { echo "full-disk: $*" >&2; exit 1; }
# 100 times the recorded events: some 200 MB of journal.
events() { for _ in $(seq 100); do zstd -dcq examples/git-worktree.jsonl.zst; done; }

try() {
    local what=$1 dir=$2
    dd if=/dev/zero of="$dir/other" bs=1M count=80 status=none
    if events | "$semj" import - --journal "$dir/journal" >"$scratch/out" 2>&1; then
        fail "$what: the disk never became full"
    fi
    grep -q 'No space left on device' "$scratch/out" || fail "$what: $(tail -n 3 "$scratch/out")"
    grep -q "$dir/journal/" "$scratch/out" || fail "$what: no file is named: $(tail -n 3 "$scratch/out")"
    local there
    "$semj" verify "$dir/journal" --json >"$scratch/verdict" || fail "$what: what was kept does not verify"
    there=$(python3 -c 'import json, sys; print(json.load(sys.stdin)["events"])' <"$scratch/verdict")
    [ "$there" -gt 0 ] || fail "$what: nothing was kept"
    rm "$dir/other"
    mv "$dir/journal"/quarantine "$scratch/" 2>/dev/null || true
    # The first segment stays; there is room for one more now.
    zstd -dcq examples/git-worktree.jsonl.zst | "$semj" import - --journal "$dir/journal" >"$scratch/out" 2>&1 ||
        fail "$what: it does not go on: $(tail -n 3 "$scratch/out")"
    "$semj" verify "$dir/journal" >/dev/null || fail "$what: it does not verify in the end"
    echo "$what: full after $there events, all of which verify; with room again it goes on"
}

mkdir "$scratch/tmpfs" "$scratch/ext4"
mount -t tmpfs -o size=230m tmpfs "$scratch/tmpfs"
try tmpfs "$scratch/tmpfs"
umount "$scratch/tmpfs"

truncate -s 260M "$scratch/disk"
mkfs.ext4 -q -F "$scratch/disk"
mount -o loop "$scratch/disk" "$scratch/ext4"
try ext4 "$scratch/ext4"
umount "$scratch/ext4"
