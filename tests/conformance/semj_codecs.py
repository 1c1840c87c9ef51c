"""The codecs of storage blocks (SPEC.md 21): zlib, LZ4 blocks, zstd frames, raw snappy.

`decompress` makes no more than `size` bytes and refuses data of which more, or less, comes out. zstd is not in the
standard library everywhere: the program `zstd` stands in, for many frames in one call.
"""
import subprocess
import threading
import zlib


class Undecodable(Exception):
    """Data from which the bytes that they should give do not come."""


def decompress(kind, data, size):
    if kind not in CODECS:
        raise Undecodable(f"compression_type {kind} is not known")
    out = CODECS[kind](data, size)
    if len(out) != size:
        raise Undecodable(f"{len(out)} bytes came out, expected {size}")
    return out


def stored(data, size):
    return bytes(data)


def zlib_stream(data, size):
    stream = zlib.decompressobj()
    try:
        out = stream.decompress(data, size + 1)
    except zlib.error as error:
        raise Undecodable(str(error)) from None
    if not stream.eof or stream.unused_data:
        raise Undecodable("the zlib stream does not end where the data do")
    return out


def copy_match(out, distance, length):
    """Repeats what stands `distance` bytes back, which may reach into what is written meanwhile."""
    if not 0 < distance <= len(out):
        raise Undecodable(f"a match {distance} bytes back in {len(out)} bytes")
    start = len(out) - distance
    piece = bytes(out[start:start + length])
    out += piece * (length // len(piece)) + piece[:length % len(piece)]


def lz4_block(data, size):
    out, at = bytearray(), 0

    def extended(length, at):
        while length >= 15:
            more = data[at]
            at, length = at + 1, length + more
            if more < 255:
                break
        return length, at

    try:
        while True:
            token, at = data[at], at + 1
            literals, at = extended(token >> 4, at)
            if literals > len(data) - at or literals > size - len(out):
                raise Undecodable("literals beyond the end")
            out += data[at:at + literals]
            at += literals
            if at == len(data):
                return out
            distance = data[at] | data[at + 1] << 8
            length, at = extended(token & 15, at + 2)
            if length + 4 > size - len(out):
                raise Undecodable("a match beyond the end")
            copy_match(out, distance, length + 4)
    except IndexError:
        raise Undecodable("the LZ4 block ends inside a sequence") from None


def raw_snappy(data, size):
    out, at, length, shift = bytearray(), 0, 0, 0
    try:
        while True:
            byte, at = data[at], at + 1
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        if length != size:
            raise Undecodable(f"snappy data of {length} bytes, expected {size}")
        while at < len(data):
            tag, at = data[at], at + 1
            kind, count, distance = tag & 3, (tag >> 2) + 1, 0
            if kind == 0:
                if count > 60:
                    extra = count - 60
                    count = int.from_bytes(data[at:at + extra], "little") + 1
                    at += extra
                if count > len(data) - at:
                    raise Undecodable("a literal beyond the end")
                literal, at = data[at:at + count], at + count
            elif kind == 1:
                count, distance, at = (tag >> 2 & 7) + 4, tag >> 5 << 8 | data[at], at + 1
            else:
                bytes_of_distance = 2 if kind == 2 else 4
                if bytes_of_distance > len(data) - at:
                    raise IndexError
                distance, at = int.from_bytes(data[at:at + bytes_of_distance], "little"), at + bytes_of_distance
            if count > size - len(out):
                raise Undecodable("more bytes than said")
            if kind == 0:
                out += literal
            else:
                copy_match(out, distance, count)
    except IndexError:
        raise Undecodable("the snappy data end inside an element") from None
    return out


def zstd_frame_size(data):
    """Where the zstd frame at the beginning ends, and how many bytes it says that it gives (RFC 8878, 3.1.1)."""
    if len(data) < 5 or data[:4] != b"\x28\xb5\x2f\xfd":
        raise Undecodable("no zstd frame")
    descriptor = data[4]
    single, has_sum, at = descriptor >> 5 & 1, descriptor >> 2 & 1, 5
    at += (1 - single) + (0, 1, 2, 4)[descriptor & 3]
    width = (single, 2, 4, 8)[descriptor >> 6]
    content = int.from_bytes(data[at:at + width], "little") + (256 if width == 2 else 0) if width else None
    at += width
    while True:
        block = int.from_bytes(data[at:at + 3], "little")
        if len(data) < at + 3:
            raise Undecodable("the zstd frame ends too soon")
        at += 3 + (1 if block >> 1 & 3 == 1 else block >> 3)
        if block & 1:
            break
    at += 4 * has_sum
    if at > len(data):
        raise Undecodable("the zstd frame ends too soon")
    return at, content


def run_zstd(data, size):
    """What the program gives, `size` + 1 bytes at most; None where it finds something wrong."""
    with subprocess.Popen(["zstd", "-dcq", "--no-sparse", "--long=31"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL) as program:
        out = write_and_read(program, data, size + 1)
        program.stdout.close()
        return out if program.wait() == 0 and len(out) <= size else None


def write_and_read(program, data, most):
    def write():
        try:
            program.stdin.write(data)
            program.stdin.close()
        except OSError:
            pass  # the program has stopped reading, which its exit status says

    writer = threading.Thread(target=write)
    writer.start()
    out = program.stdout.read(most)
    if len(out) == most:
        program.kill()
    writer.join()
    return out


def zstd_frame(data, size):
    data = bytes(data)
    if data in ZSTD_AHEAD:
        return ZSTD_AHEAD[data]
    end, content = zstd_frame_size(data)
    if end != len(data) or content not in (None, size):
        raise Undecodable("no zstd frame of the right size")
    out = run_zstd(data, size)
    if out is None:
        raise Undecodable("the zstd frame is damaged")
    return out


ZSTD_AHEAD = {}


def zstd_ahead(frames):
    """Decompresses many (data, size) in one call, for `zstd_frame` to find; what is not right is left to it."""
    ZSTD_AHEAD.clear()
    good = []
    for data, size in frames:
        try:
            if zstd_frame_size(data) == (len(data), size):
                good.append((bytes(data), size))
        except Undecodable:
            pass
    out = run_zstd(b"".join(data for data, _ in good), sum(size for _, size in good)) if good else None
    if out is None or len(out) != sum(size for _, size in good):
        return
    at = 0
    for data, size in good:
        ZSTD_AHEAD[data] = out[at:at + size]
        at += size


CODECS = {0: stored, 1: zlib_stream, 2: lz4_block, 3: zstd_frame, 4: raw_snappy}
