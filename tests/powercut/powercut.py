#!/usr/bin/env python3
"""Power cuts on a real file system: nothing that was acknowledged may be lost.

  sudo tests/powercut/powercut.py [--fs ext4|xfs] [--states N] [--seed S] [--rounds R] [--jobs J]
  sudo tests/powercut/powercut.py --state K ...        one state again, with what it says

A journal is written on a file system on a disk whose every write and flush is logged (qemu-storage-daemon, blklogwrites).
The writer notes, behind each sync, the last id that was acknowledged and how many entries stood in the log. Then, for
each of N states, the log is replayed up to a random cut: all writes before the last flush, and of those after it a random
subset, torn at 512 bytes. The file system is mounted and repairs itself, the journal is opened, recovered and held against
what was acknowledged by the cut and what was emitted (invariants I1 to I4 of docs/durability.md); for one state in eight
the power fails a second time behind the recovery (I5).

The same is done with a writer that acknowledges before it syncs: if that loses nothing, the test is worth nothing, and fails.

Needs root, qemu-storage-daemon, losetup, mkfs.ext4 or mkfs.xfs, /dev/fuse, and target/release/powercut
(cargo build --release -p semj-tests --bin powercut).
"""
import argparse
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = ROOT / "target/release/powercut"
BLOCK, SECTOR = 4096, 512
FLUSH, FUA, DISCARD = 1, 2, 4
SIZES = {"ext4": 64 << 20, "xfs": 320 << 20}
MKFS = {"ext4": ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", "-J", "size=4"],
        "xfs": ["mkfs.xfs", "-q", "-f", "-K"]}
MOUNT = {"ext4": "noatime", "xfs": "noatime,nouuid"}


def run(*command, **options):
    return subprocess.run([str(word) for word in command], check=True, **options)


class Disk:
    """A file system on a disk whose writes are logged, mounted while the `with` lasts."""

    def __init__(self, scratch, fs):
        self.scratch, self.fs = scratch, fs
        self.log, self.export, self.mountpoint = scratch / "log", scratch / "export", scratch / "mnt"
        self.daemon = self.loop = None
        self.is_mounted = False

    def __enter__(self):
        try:
            with open(self.scratch / "disk", "wb") as disk:
                disk.truncate(SIZES[self.fs])
            run(*MKFS[self.fs], self.scratch / "disk", stdout=subprocess.DEVNULL)
            self.made = blocks_of(self.scratch / "disk")
            self.log.touch()
            self.export.touch()
            self.mountpoint.mkdir()
            self.daemon = subprocess.Popen([
                "qemu-storage-daemon",
                "--blockdev", f"driver=file,node-name=disk,filename={self.scratch / 'disk'}",
                "--blockdev", f"driver=file,node-name=log,filename={self.log}",
                "--blockdev", "driver=blklogwrites,node-name=logged,file=disk,log=log,log-super-update-interval=1",
                "--export", f"type=fuse,id=export,node-name=logged,mountpoint={self.export},writable=on"])
            for _ in range(200):
                if os.stat(self.export).st_size == SIZES[self.fs]:
                    break
                time.sleep(0.05)
            self.loop = run("losetup", "-f", "--show", self.export, capture_output=True,
                            text=True).stdout.strip()
            run("mount", "-o", MOUNT[self.fs], self.loop, self.mountpoint)
            self.is_mounted = True
            run("sync", "-f", self.mountpoint)
            return self
        except BaseException:
            self.__exit__()
            raise

    def entries(self):
        with open(self.log, "rb") as log:
            return struct.unpack_from("<Q", log.read(24), 16)[0]

    def __exit__(self, *_):
        if self.is_mounted:
            run("umount", self.mountpoint)
        if self.loop:
            run("losetup", "-d", self.loop)
        if self.daemon:
            self.daemon.terminate()
            self.daemon.wait()


def read_log(path):
    """The log's entries: (offset, data or None, flags)."""
    data = path.read_bytes()
    magic, version, count, sector_size = struct.unpack_from("<QQQI", data)
    assert magic == 0x6A736677736872 and version == 1, "not a log of writes"
    entries, at = [], sector_size
    for _ in range(count):
        sector, sectors, flags, _ = struct.unpack_from("<QQQQ", data, at)
        at += sector_size
        size = 0 if flags & DISCARD else sectors * sector_size
        entries.append((sector * sector_size, data[at:at + size], flags))
        at += size
    return entries


def blocks_of(path):
    """The blocks of a disk that are not zero."""
    data, zero = path.read_bytes(), bytes(BLOCK)
    return {at // BLOCK: data[at:at + BLOCK] for at in range(0, len(data), BLOCK) if data[at:at + BLOCK] != zero}


class Base:
    """The disk as it is when everything up to some flush has reached it."""

    def __init__(self, made, entries):
        self.entries, self.blocks, self.done = entries, dict(made), 0

    def advance(self, upto):
        for offset, data, _ in self.entries[self.done:upto]:
            apply(self.blocks, offset, data)
        self.done = upto


def apply(blocks, offset, data):
    at = 0
    while at < len(data):
        number, inside = divmod(offset + at, BLOCK)
        size = min(BLOCK - inside, len(data) - at)
        if size == BLOCK:
            blocks[number] = data[at:at + size]
        else:
            block = blocks.get(number) or bytes(BLOCK)
            blocks[number] = block[:inside] + data[at:at + size] + block[inside + size:]
        at += size


def cut_of(state, seed, first, count):
    """Where the power fails in a state: behind so many entries."""
    return random.Random(f"{seed} {state}").randint(first, count)


def last_flush(entries, cut):
    at = cut
    while at > 0 and not entries[at - 1][2] & FLUSH:
        at -= 1
    return at


def make_image(path, size, base, entries, cut, rng):
    """Writes the disk that a power cut leaves: `base`, and some of what came behind the last flush."""
    blocks = dict(base)
    keep = rng.random()
    for offset, data, flags in entries:
        if flags & FUA:
            apply(blocks, offset, data)
        elif rng.random() < keep:
            if rng.random() < 0.2:
                for at in range(0, len(data), SECTOR):
                    if rng.random() < 0.5:
                        apply(blocks, offset + at, data[at:at + SECTOR])
            else:
                apply(blocks, offset, data)
    with open(path, "wb") as image:
        image.truncate(size)
        for number in sorted(blocks):
            if any(blocks[number]):
                image.seek(number * BLOCK)
                image.write(blocks[number])


def check(image, fs, mountpoint, acknowledged, dies):
    """Mounts an image and has the journal on it checked. Gives what is wrong, how many events there are, and with
    `dies` a copy of the image as it was when the process died."""
    mountpoint.mkdir(exist_ok=True)
    copy = None
    try:
        run("mount", "-o", f"loop,{MOUNT[fs]}", image, mountpoint, stderr=subprocess.PIPE)
    except subprocess.CalledProcessError as error:
        return f"it can't be mounted: {error.stderr.decode().strip()}", 0, None
    try:
        command = [PROGRAM, "check", mountpoint / "journal", str(acknowledged)] + (["--die"] if dies else [])
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
        words = result.stdout.split("\n")
        if dies:
            copy = image.with_suffix(".second")
            run("cp", "--sparse=always", image, copy)
        elif result.returncode != 0:
            return result.stdout.strip() + result.stderr.strip(), 0, None
        if not words[0].isdigit():
            return result.stdout.strip() + result.stderr.strip(), 0, None
        return None, int(words[0]), copy
    finally:
        run("umount", mountpoint)


def one_state(work):
    state, args, size, base, entries, cut, flush, acknowledged, scratch = work
    rng = random.Random(f"{args.seed} {state} subset")
    image, mountpoint = scratch / f"state-{state}", scratch / f"mnt-{state}"
    try:
        make_image(image, size, base, entries[flush:cut], cut, rng)
        dies = state % 8 == 0
        what, events, copy = check(image, args.fs, mountpoint, acknowledged, dies)
        if what is None and copy is not None:
            again, _, _ = check(copy, args.fs, mountpoint, max(events, acknowledged), False)
            what = again and f"I5: after a second power cut: {again}"
        return state, cut, what
    finally:
        for path in (image, image.with_suffix(".second")):
            path.unlink(missing_ok=True)
        if mountpoint.exists():
            mountpoint.rmdir()


def history(args, scratch, early):
    """Writes a journal and looks at what power cuts leave. Gives figures and the states that lost something."""
    scratch.mkdir()
    with Disk(scratch, args.fs) as disk:
        first = disk.entries()
        run(PROGRAM, "write", disk.mountpoint / "journal", scratch / "notes", disk.log, args.rounds, args.seed,
            *(["--acknowledge-early"] if early else []))
    entries = read_log(disk.log)
    notes = [tuple(map(int, line.split())) for line in (scratch / "notes").read_text().splitlines()]
    flushes = sum(1 for entry in entries if entry[2] & FLUSH)
    states = [args.state] if args.state is not None else range(args.states if not early else args.control)
    cuts = sorted((cut_of(state, args.seed, first, len(entries)), state) for state in states)
    base, bad = Base(disk.made, entries), []
    started = time.time()

    def works():
        for cut, state in cuts:
            flush = last_flush(entries, cut)
            base.advance(flush)
            acknowledged = max((last for last, at in notes if at <= cut), default=0)
            yield state, args, SIZES[args.fs], dict(base.blocks), entries, cut, flush, acknowledged, scratch

    with ThreadPoolExecutor(args.jobs) as pool:
        pending = []
        for work in works():
            pending.append(pool.submit(one_state, work))
            if len(pending) >= 2 * args.jobs:
                bad += filter(lambda found: found[2], [pending.pop(0).result()])
                if early and bad:
                    break
        bad += filter(lambda found: found[2], (future.result() for future in pending))
    seconds = time.time() - started
    return dict(states=len(cuts), seconds=seconds, entries=len(entries) - first, flushes=flushes,
                acknowledged=notes[-1][0] if notes else 0, bad=bad)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fs", choices=SIZES, default="ext4")
    parser.add_argument("--states", type=int, default=100)
    parser.add_argument("--control", type=int, default=400, help="states in which the control may show its loss")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=300, help="syncs of the writer")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--state", type=int, help="only this one")
    args = parser.parse_args()
    missing = [tool for tool in ("qemu-storage-daemon", "losetup", MKFS[args.fs][0]) if not shutil.which(tool)]
    if os.geteuid() != 0 or missing or not PROGRAM.exists():
        print("powercut.py: needs root" if os.geteuid() else f"powercut.py: not found: {missing or PROGRAM}",
              file=sys.stderr)
        return 2
    # In memory where there is room: the disk's own speed does not matter here.
    parent = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="powercut-", dir=parent) as scratch:
        found = history(args, Path(scratch) / "writer", False)
        for state, cut, what in found["bad"]:
            print(f"LOST in state {state} (cut behind entry {cut}): {what}")
        control = dict(bad=[]) if args.state is not None else history(args, Path(scratch) / "control", True)
    print(f"{args.fs}, seed {args.seed}: {found['states']} states in {found['seconds']:.0f} s, {found['entries']} writes "
          f"and {found['flushes']} flushes logged, {found['acknowledged']} events acknowledged: {len(found['bad'])} "
          f"states lost something")
    if args.state is None:
        if not control["bad"]:
            print("the control, which acknowledges before it syncs, lost nothing: this test can't see a loss")
            return 1
        state, _, what = control["bad"][0]
        print(f"the control, which acknowledges before it syncs, lost: state {state}: {what}")
    return 1 if found["bad"] else 0


if __name__ == "__main__":
    sys.exit(main())
