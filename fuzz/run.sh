#!/usr/bin/env bash
# Runs the fuzz targets, one after the other, and says for each what it came to.
#
#   fuzz/run.sh --runs N [TARGET...]       so many inputs each: the short form, the same each time
#   fuzz/run.sh --seconds S [TARGET...]    so long each; the corpus in fuzz/corpus grows
#
# Needs cargo-fuzz (cargo install cargo-fuzz). With a nightly toolchain the targets are built with AddressSanitizer,
# else without one. `operations` and `reopen` drive the whole engine on a simulated disk and have no unsafe code to
# watch: in the long form they are built without, which is three times as fast; of N inputs they get a fortieth, for which
# a build of their own would take longer than it saves. The short form is mostly building: it is optimised less.
# What a target finds is kept in fuzz/artifacts/TARGET; run it again with
#   cargo fuzz run TARGET fuzz/artifacts/TARGET/crash-…
set -euo pipefail
cd "$(dirname "$0")"

usage() { sed -n '4,5s/^# *//p' "$0" >&2; exit 2; }
[ $# -ge 2 ] || usage
case $1 in
    --runs)
        runs=$2 limit=(-runs="$2" -seed=1)
        export CARGO_PROFILE_RELEASE_OPT_LEVEL=1
        ;;
    --seconds) limit=(-max_total_time="$2") ;;
    *) usage ;;
esac
amount=$1
shift 2
command -v cargo-fuzz >/dev/null || { echo 'fuzz/run.sh: cargo-fuzz is not installed: cargo install cargo-fuzz' >&2; exit 1; }
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cargo fuzz list)
toolchain=()
sanitizer=none
if rustup run nightly cargo --version >/dev/null 2>&1; then
    toolchain=(+nightly)
    sanitizer=address
fi

# Of all at once every core has something to build.
if [ "$amount" = --runs ] && [ ${#targets[@]} -gt 1 ]; then
    cargo "${toolchain[@]}" fuzz build -s "$sanitizer" --target-dir target >&2
fi

printf '%-16s %12s %9s %8s %9s  %s\n' target executions each/s corpus 'peak RSS' result
failed=0
log=$(mktemp)
scratch=$(mktemp -d)
trap 'rm -rf "$log" "$scratch"' EXIT
for target in "${targets[@]}"; do
    options=(-max_len=16384 -rss_limit_mb=1024 -timeout=20 -print_final_stats=1)
    with=$sanitizer
    dir=target
    of_target=("${limit[@]}")
    case $target in operations | reopen)
        if [ "$amount" = --seconds ]; then
            with=none
            dir=target/plain
        else
            of_target[0]=-runs=$((runs / 40))
        fi
        ;;
    esac
    [ "$target" != operations ] || options[0]=-max_len=2048
    corpus=corpus/$target
    if [ "$amount" = --runs ]; then
        # The short form leaves the corpus as it is.
        cp -r "$corpus" "$scratch/$target"
        corpus=$scratch/$target
    fi
    mkdir -p "$corpus" "artifacts/$target"
    result=ok
    cargo "${toolchain[@]}" fuzz run -s "$with" --target-dir "$dir" "$target" "$corpus" -- \
        "${options[@]}" "${of_target[@]}" >"$log" 2>&1 || result=FAILED
    stat() { sed -n "s/^stat::$1: *//p" "$log"; }
    printf '%-16s %12s %9s %8s %6s MB  %s\n' "$target" "$(stat number_of_executed_units)" \
        "$(stat average_exec_per_sec)" "$(find "$corpus" -type f | wc -l)" "$(stat peak_rss_mb)" "$result"
    if [ $result = FAILED ]; then
        failed=1
        grep -E 'panicked|ERROR|written to|error' -A 2 "$log" | cut -c1-400 >&2 || tail -n 5 "$log" >&2
    fi
done
exit $failed
