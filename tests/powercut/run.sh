#!/usr/bin/env bash
# Power cuts on real file systems, as README.md beside this says: what was acknowledged must be there after each,
# and a writer that acknowledges too early must be seen to lose.
#
#   run.sh [--fs ext4|xfs] [--states N] [--seed S] [--program FILE]
#
# Without --fs both; without --states 5,000 power cuts on ext4 and 1,000 on XFS. Needs root, and what it says
# when it is missing. Prints a line for each file system. Status 0: nothing lost, and the control lost.
set -euo pipefail

usage() {
    echo "usage: $0 [--fs ext4|xfs] [--states N] [--seed S] [--program FILE]" >&2
    exit 2
}

file_systems='ext4 xfs' states='' seed=1 powercut=
while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || usage
    case $1 in
    --fs) file_systems=$2 ;;
    --states) states=$2 ;;
    --seed) seed=$2 ;;
    --program) powercut=$(realpath "$2") ;;
    *) usage ;;
    esac
    shift 2
done
case $file_systems in ext4 | xfs | 'ext4 xfs') ;; *) usage ;; esac

missing=()
[ "$(id -u)" = 0 ] || missing+=('root, to mount file systems')
need() { command -v "$1" >/dev/null || missing+=("$1 (Debian: $2)"); }
command -v cargo >/dev/null || missing+=('cargo (rustup.rs)')
need qemu-storage-daemon qemu-utils
need losetup mount
need unshare util-linux
need filefrag e2fsprogs
[ -c /dev/fuse ] || missing+=('/dev/fuse (modprobe fuse)')
[ -c /dev/loop-control ] || missing+=('/dev/loop-control (modprobe loop)')
for fs in $file_systems; do
    case $fs in
    ext4) need mkfs.ext4 e2fsprogs ;;
    xfs) need mkfs.xfs xfsprogs ;;
    esac
    grep -qw "$fs" /proc/filesystems || missing+=("the kernel's $fs (modprobe $fs)")
done
if [ ${#missing[@]} -gt 0 ]; then
    printf 'missing: %s\n' "${missing[@]}" >&2
    exit 2
fi

cd "$(dirname "$0")/../.."
if [ -z "$powercut" ]; then
    cargo build --quiet --release --locked -p semj-tests --bin powercut
    powercut=$(realpath "${CARGO_TARGET_DIR:-target}")/release/powercut
fi

# In memory: thousands of file systems are written here.
scratch=$(mktemp -d /dev/shm/semj-powercut.XXXXXX)
clean_up() {
    # The program takes down what it has put up. This is for when it was killed; mounts went with its namespace.
    losetup --list --noheadings --output NAME,BACK-FILE | while read -r device file; do
        # What was attached in a namespace that is gone has a path that begins elsewhere.
        case $file in *"/${scratch##*/}/"*) losetup --detach "$device" ;; esac
    done
    find "$scratch" -name qemu.pid | while read -r file; do
        pid=$(cat "$file")
        if grep -qsaF "$scratch" "/proc/$pid/cmdline"; then kill "$pid"; fi
    done
    rm -rf "$scratch"
}
trap clean_up EXIT

status=0
for fs in $file_systems; do
    case $fs in ext4) default=5000 ;; xfs) default=1000 ;; esac
    # With mounts of its own, which nobody else sees.
    unshare --mount "$powercut" run --fs "$fs" --states "${states:-$default}" --seed "$seed" --scratch "$scratch" || status=$?
done
if [ $status -ne 0 ]; then
    # Recordings of histories that failed, without what follows from them.
    kept=$(mktemp -d "${TMPDIR:-/tmp}/semj-powercut-failed.XXXXXX")
    find "$scratch" -name image -delete
    cp -a --sparse=always "$scratch"/. "$kept"
    echo "kept in $kept; one state again: $powercut check --recording DIR --state N --scratch EMPTY-DIR --image FILE"
fi
exit $status
