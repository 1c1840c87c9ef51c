#!/usr/bin/env bash
# Holds compressed segments against the independent reader (semj_read.py):
#
#   compressed.sh SEMJ JOURNAL SCRATCH
#
# For each codec: what the program compacts of a closed journal is read by the independent reader, which gives the
# native segments back byte for byte and finds the journal whole. Needs the program zstd.
set -euo pipefail
semj=$(realpath "$1") journal=$(realpath "$2") scratch=$3
reader=$(realpath "$(dirname "$0")/semj_read.py")
dir=$scratch/compressed
trap 'rm -rf "$dir"' EXIT

for codec in none zlib lz4 zstd zstd:19 snappy; do
    rm -rf "$dir"
    mkdir -p "$scratch"
    cp -r --sparse=always "$journal" "$dir"
    "$semj" compact "$dir" --codec "$codec" >/dev/null
    for segment in "$journal"/*.semj; do
        name=$(basename "$segment")
        if [ "$(stat -c %s "$dir/$name")" -ge "$(stat -c %s "$segment")" ]; then
            echo "$codec: $name is not compressed" >&2
            exit 1
        fi
        python3 "$reader" native "$dir/$name" | cmp - "$segment"
    done
    python3 "$reader" verify --no-events "$dir" >/dev/null
    echo "$codec: every native byte comes back, $(du -s --apparent-size -B1 "$dir" | cut -f1) bytes"
done
