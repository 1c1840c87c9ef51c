#!/usr/bin/env bash
# The concurrent and the unsafe code under tools that see what tests can't.
#
#   tests/sanitizers.sh [loom] [miri] [thread]      all three by default
#
# loom    every interleaving of the races of ring and group commit (engine/src/front/ring.rs, engine/src/group_commit.rs),
#         on the stable toolchain
# miri    undefined behaviour in the slab, the front end's memory; needs nightly with miri (format, recovery and index
#         have no unsafe code)
# thread  data races in the engine's tests, ThreadSanitizer; needs nightly with rust-src
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- loom miri thread
for what in "$@"; do
    echo "== $what"
    case $what in
        loom)
            # Nothing is compressed here.
            RUSTFLAGS='--cfg loom' CARGO_TARGET_DIR=target/loom cargo test --quiet -p semj --lib \
                --config profile.dev.package.zstd-sys.opt-level=0 -- ring group_commit
            ;;
        miri)
            MIRIFLAGS=-Zmiri-disable-isolation cargo +nightly miri test --quiet -p semj --lib front::slab
            ;;
        thread)
            RUSTFLAGS=-Zsanitizer=thread CARGO_TARGET_DIR=target/thread cargo +nightly test --quiet \
                -Zbuild-std --target "$(rustc -vV | sed -n 's/^host: //p')" -p semj --lib --tests
            ;;
        *) echo "usage: tests/sanitizers.sh [loom] [miri] [thread]" >&2; exit 2 ;;
    esac
done
