#!/usr/bin/env bash
# Fills a small disk with a journal, in memory and on ext4 on a loop device: whoever writes must get an error that says so
# and names the file, what was acknowledged must stay, opening must be refused while there is no room and change nothing,
# and with room again it must go on. First a writer and a recovery in tests/src/bin/full_disk.rs, then an import.
#
#   sudo tests/full-disk/run.sh [PROGRAMS]       PROGRAMS: target/release, with semj and full_disk
set -euo pipefail
cd "$(dirname "$0")/../.."
programs=$(realpath "${1:-target/release}")
semj=$programs/semj
for program in semj full_disk; do
    [ -x "$programs/$program" ] || {
        echo "full-disk: no $programs/$program: cargo build --release && cargo build --release -p semj-tests" >&2
        exit 2
    }
done
[ "$(id -u)" = 0 ] || { echo 'full-disk: mounting needs root' >&2; exit 2; }

scratch=$(mktemp -d)
trap 'for dir in "$scratch"/*/; do umount "$dir" 2>/dev/null || true; done; rm -rf "$scratch"' EXIT
fail() { echo "full-disk: $*" >&2; exit 1; }
# 100 times the recorded events: some 200 MB of journal.
events() { for _ in $(seq 100); do zstd -dcq examples/git-worktree.jsonl.zst; done; }

try() {
    local what=$1 dir=$2
    "$programs/full_disk" "$dir" >"$scratch/out" || fail "$what: $(cat "$scratch/out")"
    sed "s/^/$what: /" "$scratch/out"
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
    echo "$what: an import: full after $there events, all of which verify; with room again it goes on"
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
