"""Compressed segments (SPEC.md 21): the native bytes come back."""
import hashlib
import mmap
import struct

from semj_codecs import Undecodable, decompress, zstd_ahead
from semj_regroup import EVENT_HEADER, regrouped
from semj_sums import kernel_crc

SEALED, COMPRESSED = 0x1, 0x8
HEADER = struct.Struct("<IIIQQQQII")
BLOCK = struct.Struct("<IIQIIIIII24s24sQQ")
ENTRY = struct.Struct("<QQQQII")
FILE_SEAL = struct.Struct("<IIQQQ52sI16sQQQ32s32s32s36s32sI")
assert (HEADER.size, BLOCK.size, ENTRY.size, FILE_SEAL.size) == (52, 104, 40, 296)
BLOCK_MAGIC, SEAL_MAGIC = 0x53454D42, 0x53454D43
PLAIN, REGROUPED = 1, 2
BLOCK_SIZE_MAX, NATIVE_SIZE_MAX = 1 << 20, 4 << 30
BLOCKS_AHEAD = 64


def header_is_right(data):
    return (len(data) == HEADER.size and data[:8] == b"JMES\x01\0\0\0"
            and data[48:] == hashlib.sha256(data[:48] + bytes(4)).digest()[:4])


def is_compressed(data, size):
    """Whether a file's header is right and says COMPRESSED."""
    head = data[:HEADER.size] if size >= HEADER.size else b""
    return header_is_right(head) and HEADER.unpack(head)[7] & COMPRESSED != 0


class Compressed:
    """What seal and index of a compressed segment say. `Undecodable` if they are not right."""

    def __init__(self, data, size):
        head = HEADER.unpack(data[:HEADER.size])
        _, _, _, total_events, next_event_id, journal_size, index_offset, flags, _ = head
        self.data, seal_at = data, size - FILE_SEAL.size
        self.require(journal_size == size and 52 <= index_offset <= seal_at, "the header's figures")
        seal_bytes = data[seal_at:]
        (magic, version, self.native_size, self.native_end, block_count, self.native_header, index_checksum, *_,
         self.file_digest, checksum) = FILE_SEAL.unpack(seal_bytes)
        self.require(checksum == kernel_crc(seal_bytes[:-4]), "the seal's checksum")
        self.require((magic, version) == (SEAL_MAGIC, 1), "the seal's magic or version")
        index = data[index_offset:seal_at]
        self.require(len(index) == block_count * ENTRY.size and block_count > 0, "block_count")
        self.require(kernel_crc(index) == index_checksum, "the index's checksum")
        self.entries = list(ENTRY.iter_unpack(index))
        at = native_at = 52
        for offset, native_offset, _, _, block_size, uncompressed_size in self.entries:
            self.require((offset, native_offset) == (at, native_at), "an offset in the index")
            self.require(block_size >= BLOCK.size and 0 < uncompressed_size <= BLOCK_SIZE_MAX, "a size in the index")
            at, native_at = at + block_size, native_at + uncompressed_size
        self.require(at == index_offset and native_at == self.native_end, "the index's end")
        self.require(header_is_right(self.native_header), "native_header")
        native = HEADER.unpack(self.native_header)
        self.require(native[7] & SEALED and native[7] | COMPRESSED == flags and native[7] != flags, "the flags")
        self.require(native[3:6] == (total_events, next_event_id, self.native_end), "native_header's figures")
        self.require(self.native_end <= self.native_size <= NATIVE_SIZE_MAX, "native_size")

    @staticmethod
    def require(holds, what):
        if not holds:
            raise Undecodable(f"{what} of a compressed segment")

    def is_as_made(self):
        return hashlib.sha256(self.data[:-36]).digest() == self.file_digest

    def native(self):
        """The native bytes, zeros where a block is not right."""
        out = mmap.mmap(-1, self.native_size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        out[:52] = self.native_header
        for first in range(0, len(self.entries), BLOCKS_AHEAD):
            places = range(first, min(first + BLOCKS_AHEAD, len(self.entries)))
            zstd_ahead([part for place in places for part in self.zstd_frames(place)])
            for place in places:
                try:
                    start = self.entries[place][1]
                    records = self.records(place)
                    out[start:start + len(records)] = records
                except Undecodable:
                    pass
        return out

    def block(self, place):
        """A block's header and data, everything that can be seen without decoding being right."""
        offset, _, first_id, last_id, block_size, uncompressed_size = self.entries[place]
        whole = bytes(self.data[offset:offset + block_size])
        head, data = BLOCK.unpack_from(whole), whole[BLOCK.size:]
        (magic, version, block_id, size, _, _, compressed_size, uncompressed, checksum, _, _, first_in, last_in) = head
        self.require(checksum == kernel_crc(whole[:36], bytes(4), whole[40:]), "a block's checksum")
        self.require(magic == BLOCK_MAGIC and version in (PLAIN, REGROUPED), "a block's magic or version")
        self.require((block_id, size, uncompressed) == (place, block_size, uncompressed_size), "a block's figures")
        self.require(compressed_size == len(data), "a block's compressed_size")
        self.require((first_in, last_in) == (first_id, last_id), "a block's ids")
        return head, data

    def zstd_frames(self, place):
        """The zstd frames in a block, and how many bytes each should give."""
        try:
            head, data = self.block(place)
        except Undecodable:
            return
        if head[5] == 3 and head[1] == PLAIN:
            yield data, head[7]
        elif head[5] == 3 and len(data) >= 12:
            numbers, packed, texts = struct.unpack_from("<III", data)
            if numbers + texts <= head[7] and packed <= len(data) - 12:
                yield data[12:12 + packed], numbers
                yield data[12 + packed:], texts

    def records(self, place):
        """The bytes of a block's records."""
        head, data = self.block(place)
        _, version, _, _, event_count, kind, _, size, _, first_time, last_time, first_id, last_id = head
        if version == REGROUPED:
            out = b"".join(regrouped(data, size, kind))
        else:
            out = bytes(decompress(kind, data, size))
        heads = list(frames(out))
        ids = [one[0] for _, one in heads if one[0]]
        self.require(len(heads) == event_count, "a block's event_count")
        self.require((min(ids, default=0), max(ids, default=0)) == (first_id, last_id), "a block's ids")
        times = out[heads[0][0] + 16:][:24], out[heads[-1][0] + 16:][:24]
        self.require(times == (first_time, last_time), "a block's times")
        return out


def frames(data):
    """Offset and header of each record; the checksums are not looked at."""
    at = 0
    while at < len(data):
        Compressed.require(len(data) - at >= EVENT_HEADER.size, "a record's frame")
        head = EVENT_HEADER.unpack_from(data, at)
        size, context, payload, metadata, version, links = *head[11:16], head[19]
        parts = 132 + context + payload + metadata + 160 * links
        Compressed.require(version == 1 and context <= 5280 and payload <= 65536 and metadata <= 2048 and links <= 256
                           and size == parts and parts <= len(data) - at, "a record's frame")
        yield at, head
        at += parts
