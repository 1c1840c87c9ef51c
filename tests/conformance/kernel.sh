#!/usr/bin/env bash
# Holds the program against an independent implementation of the kernel's format (semj_ref.py):
#
#   kernel.sh SEMJ SHARED SCRATCH
#
# For each trace in SHARED/traces: the segment files of an imported journal are kernel-format journals; a
# kernel-format journal that the reference made comes back from import and export byte for byte; and the events
# that the reference makes of the trace are those that the journal exports.
set -euo pipefail
semj=$(realpath "$1") shared=$(realpath "$2") scratch=$3

for trace in "$shared"/traces/*.jsonl.zst; do
    name=$(basename "$trace" .jsonl.zst)
    dir=$scratch/$name
    mkdir -p "$dir"

    "$semj" import "$trace" --journal "$dir/journal" >/dev/null
    for segment in "$dir"/journal/*.semj; do
        printf '%s %s: ' "$name" "$(basename "$segment")"
        python3 "$shared/semj_ref.py" check "$segment"
    done

    zstd -dcq "$trace" >"$dir/events.jsonl"
    for context in full none; do
        python3 "$shared/semj_ref.py" make "$dir/kernel-$context" --context "$context" <"$dir/events.jsonl"
        "$semj" import "$dir/kernel-$context" --journal "$dir/again-$context" >/dev/null
        "$semj" export --journal "$dir/again-$context" --format kernel -o "$dir/back-$context"
        cmp "$dir/kernel-$context" "$dir/back-$context"
        echo "$name: kernel-format journal with context '$context' comes back byte for byte"
    done

    "$semj" export --journal "$dir/journal" --format kernel -o "$dir/exported"
    cmp "$dir/kernel-full" "$dir/exported"
    echo "$name: the imported JSON lines export as the journal that the reference makes of them"
    rm -rf "$dir"
done
