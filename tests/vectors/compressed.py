"""Makes compressed segments for make.py from native ones: SPEC.md 21. Shares no code with any reader.

The codecs are the smallest that make right data: zlib in stored blocks, zstd in raw and repeated-byte blocks; LZ4 and
snappy with matches. What a real codec makes of the same bytes is another matter, and tested elsewhere.
"""
import hashlib
import struct
import zlib

JOURNAL_HEADER = struct.Struct("<IIIQQQQII")
BLOCK = struct.Struct("<IIQIIIIII24s24sQQ")
ENTRY = struct.Struct("<QQQQII")
FILE_SEAL = struct.Struct("<IIQQQ52sI16sQQQ32s32s32s36s32sI")
assert (BLOCK.size, ENTRY.size, FILE_SEAL.size) == (104, 40, 296)
BLOCK_FIELDS = ("magic version block_id block_size event_count kind compressed_size uncompressed_size checksum first_time "
                "last_time first_id last_id").split()
ENTRY_FIELDS = "offset native_offset first_id last_id block_size uncompressed_size".split()
SEAL_FIELDS = ("magic version native_size native_end block_count native_header index_checksum uuid segment_number commit_count "
               "commit_sequence root previous_digest seal_digest reserved file_digest checksum").split()
COMPRESSED = 8
NONE, ZLIB, LZ4, ZSTD, SNAPPY = range(5)
CODEC_NAMES = ("none", "zlib", "lz4", "zstd", "snappy")
PLAIN, REGROUPED = 1, 2


def crc(data):
    return zlib.crc32(data, 0xFFFFFFFF) ^ 0xFFFFFFFF


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out) + bytes([value])


# Codecs -----------------------------------------------------------------------------------------------------


def zlib_stream(data):
    parts = [data[at:at + 65535] for at in range(0, len(data), 65535)] or [b""]
    out = b"\x78\x01"
    for i, part in enumerate(parts):
        out += struct.pack("<BHH", i + 1 == len(parts), len(part), len(part) ^ 0xFFFF) + part
    return out + struct.pack(">I", zlib.adler32(data))


def zstd_frame(data):
    """One segment; runs of a byte as such."""
    size = len(data)
    field = bytes([size]) if size < 256 else struct.pack("<H", size - 256) if size < 65792 else struct.pack("<I", size)
    out = b"\x28\xb5\x2f\xfd" + bytes([{1: 0, 2: 1, 4: 2}[len(field)] << 6 | 0x20]) + field

    def raws(start, end):
        return ((0, data[at:min(at + 65536, end)], min(65536, end - at)) for at in range(start, end, 65536))

    blocks, at, raw = [], 0, 0
    while at < size:
        end = at + 1
        while end < size and data[end] == data[at] and end - at < 65536:
            end += 1
        if end - at >= 16:
            blocks += [*raws(raw, at), (1, data[at:at + 1], end - at)]
            raw = end
        at = end
    blocks += list(raws(raw, size)) or [(0, b"", 0)] * (not blocks)
    for i, (kind, content, count) in enumerate(blocks):
        out += (count << 3 | kind << 1 | (i + 1 == len(blocks))).to_bytes(3, "little") + content
    return out


def matches(data, limit):
    """(literals, distance, length): what is copied from before, none of it from `limit` on; then what is left."""
    seen, at, start = {}, 0, 0
    while at + 4 <= limit:
        before, seen[data[at:at + 4]] = seen.get(data[at:at + 4]), at
        if before is None or at - before > 65535:
            at += 1
            continue
        length = 4
        while at + length < limit and data[before + length] == data[at + length]:
            length += 1
        yield data[start:at], at - before, length
        at = start = at + length
    yield data[start:], 0, 0


def lz4_block(data):
    def more(length):
        return b"" if length < 15 else b"\xff" * ((length - 15) // 255) + bytes([(length - 15) % 255])

    out = b""
    # The last five bytes are literals, and the last match begins twelve bytes before the end or sooner.
    for literals, distance, length in matches(data, max(0, len(data) - 12)):
        count = length - 4 if length else 0
        out += bytes([min(len(literals), 15) << 4 | min(count, 15)]) + more(len(literals)) + literals
        if length:
            out += struct.pack("<H", distance) + more(count)
    return out


def raw_snappy(data):
    out = varint(len(data))
    for literals, distance, length in matches(data, len(data)):
        if literals:
            count = len(literals) - 1
            size = (count.bit_length() + 7) // 8
            out += bytes([count << 2]) if count < 60 else bytes([(59 + size) << 2]) + count.to_bytes(size, "little")
            out += literals
        while length:
            part = min(length, 64)
            if 4 <= part <= 11 and distance < 2048:
                out += bytes([distance >> 8 << 5 | (part - 4) << 2 | 1, distance & 255])
            elif length % 3:
                out += bytes([(part - 1) << 2 | 2]) + struct.pack("<H", distance)
            else:
                out += bytes([(part - 1) << 2 | 3]) + struct.pack("<I", distance)
            length -= part
    return out


PACK = {NONE: bytes, ZLIB: zlib_stream, LZ4: lz4_block, ZSTD: zstd_frame, SNAPPY: raw_snappy}

# Regrouped records ------------------------------------------------------------------------------------------

STREAMS = ("changes kind time origin sequence cause header shape integer path text payload shared length commit path_bytes "
           "text_bytes payload_bytes other_bytes").split()
FIELDS = [  # offset and size in the event header, what is expected, stream
    (0, 8, "following", "sequence"), (36, 4, "last", "origin"), (32, 4, "last", "origin"), (108, 8, "id", "cause"),
    (100, 8, "kind", "cause"), (40, 8, "following", "sequence"), (48, 8, "following", "sequence"),
    (24, 8, "following", "sequence")] + [(offset, 8 if offset == 116 else 4, "kind", "header") for offset in (
        12, 56, 60, 76, 88, 92, 96, 116, 124, 128, 80)]
PARENT = 100
CONTEXT = [(8, 0), (8, 0), (8, 0), (4096, 1), (8, 0), (4, 0), (8, 0), (8, 0), (4, 0), (8, 0), (4, 0), (4, 0), (64, 1), (256, 1),
           (4, 0), (4, 0), (8, 0), (4, 0), (512, 1), (256, 1), (4, 0)]
PATH, LATER = 3, 21
COMMIT_TYPE = 0x0702
COMMIT_NUMBERS = struct.Struct("<QQQQIIQQII")


def read(data, at, size):
    return int.from_bytes(data[at:at + size], "little")


def frames(records):
    """Each record that stands in these bytes."""
    at = 0
    while at < len(records):
        size = read(records, at + 64, 4)
        yield records[at:at + size]
        at += size


def context_parts(context):
    """Form, presence bits, and the present fields: (bit, integer or text)."""
    if not context:
        return 0, 0, []
    presence, at, parts = 0, 0, []
    if len(context) == 5280:
        for bit, (size, is_text) in enumerate(CONTEXT):
            field = context[at:at + size]
            if any(field):
                presence |= 1 << bit
                parts.append((bit, field.rstrip(b"\0") if is_text else read(field, 0, size)))
            at += size
        return 2, presence, parts
    presence, at = read(context, 0, 4), 4
    for bit in range(32):
        if len(context) < 4 or not presence >> bit & 1:
            continue
        size, is_text = CONTEXT[bit] if bit < LATER else (0, 1)
        if is_text:
            size, at = read(context, at, 2), at + 2
            parts.append((bit, context[at:at + size]))
        else:
            parts.append((bit, read(context, at, size)))
        at += size
    return (1, presence, parts) if at == len(context) else (3, 0, [])


class Regrouper:
    def __init__(self, tree_root):
        self.tree_root = tree_root
        self.streams = {name: bytearray() for name in STREAMS}
        self.kinds, self.last, self.last_event, self.ktime = {}, bytes(132), bytes(132), 0
        self.integers, self.by_path = {}, []
        self.lists = {}     # by field: texts, the successor of each, the one that was used last
        self.payloads, self.after_payload = [], []
        self.commit, self.group, self.count = bytes(160), [], 0

    def put(self, stream, number):
        self.streams[stream] += varint(number)

    def difference(self, stream, value, expected):
        d = value - expected + 2**63 & 2**64 - 1
        d -= 2**63
        self.put(stream, d << 1 if d >= 0 else -d * 2 - 1)

    def add(self, record):
        event_type, event_id = read(record, 8, 4), read(record, 0, 8)
        if event_type not in self.kinds:
            self.kinds[event_type] = dict(place=len(self.kinds), record=bytes(132), is_event=True, shape=(0, 0), payload=None)
            self.put("header", event_type)
        kind = self.kinds[event_type]
        self.put("kind", kind["place"])
        changes = 0
        # The type of a new kind stands in its stream before the fields.
        for n, (offset, size, expectation, stream) in enumerate(FIELDS):
            value = read(record, offset, size)
            is_event = kind["is_event"] if n == 0 else event_id != 0
            following = read(self.last_event, offset, size) + 1 & 2**64 - 1 if is_event else 0
            expected = {"following": following, "last": read(self.last, offset, size), "id": event_id,
                        "kind": read(kind["record"], offset, size)}[expectation]
            if value != expected:
                changes |= 1 << n
                self.difference(stream, value, event_id if offset == PARENT else expected)
        ktime = read(record, 16, 8)
        self.difference("time", ktime, self.ktime)
        self.ktime = ktime

        context_size, payload_size = read(record, 68, 4), read(record, 72, 4)
        context = record[132:132 + context_size]
        payload = record[132 + context_size:132 + context_size + payload_size]
        form, presence, parts = context_parts(context)
        if (form, presence) != kind["shape"]:
            changes |= 1 << 19
            self.put("shape", form)
            self.put("shape", presence)
            kind["shape"] = form, presence
        if form == 3:
            self.put("length", len(context))
            self.streams["other_bytes"] += context
        path = None
        for bit, value in parts:
            if isinstance(value, bytes):
                place = self.text(min(bit, LATER), value)
                path = place if bit == PATH else path
            else:
                of_path = path is not None and bit in (4, 5)
                memory = self.by_path[path] if of_path else self.integers
                self.difference("integer", value, memory.get(bit, 0))
                memory[bit] = self.integers[bit] = value

        is_commit = event_id == 0 and event_type == COMMIT_TYPE
        if is_commit and payload_size == 160:
            changes |= 1 << 20
            self.commit_body(payload)
        else:
            kind["payload"] = self.text_number(self.payloads, self.after_payload, payload, kind["payload"], kind["payload"],
                                               "payload", "payload_bytes")
        self.streams["other_bytes"] += record[132 + context_size + payload_size:]
        self.put("changes", changes)
        kind["record"], kind["is_event"] = record[:132], event_id != 0
        self.last = record[:132]
        self.last_event = record[:132] if event_id else self.last_event
        self.group = [] if is_commit else self.group + [record]
        self.count += 1

    def text(self, field, value):
        texts, after, used = self.lists.setdefault(field, ([], [], [None]))
        if field == PATH and value not in texts:
            self.by_path.append(dict(self.by_path[-1]) if self.by_path else {})
        streams = ("path", "path_bytes") if field == PATH else ("text", "text_bytes")
        used[0] = self.text_number(texts, after, value, used[0], len(texts) - 1 if texts else None, *streams)
        return used[0]

    def text_number(self, texts, after, value, before, other, numbers, raw):
        if before is not None and texts[after[before]] == value:
            place = after[before]
            self.put(numbers, 1)
        elif value in texts:
            place = texts.index(value)
            self.put(numbers, place + 2)
        else:
            place = len(texts)
            self.put(numbers, 0)
            beginning, shared = texts[other] if other is not None else b"", 0
            while shared < min(len(beginning), len(value)) and beginning[shared] == value[shared]:
                shared += 1
            self.put("shared", shared)
            self.put("length", len(value) - shared)
            self.streams[raw] += value[shared:]
            texts.append(value)
            after.append(place)
        if before is not None:
            after[before] = place
        return place

    def commit_body(self, body):
        last = COMMIT_NUMBERS.unpack_from(self.commit)
        ids = [i for i in (read(record, 0, 8) for record in self.group) if i]
        size = sum(map(len, self.group))
        expected = (last[0] + 1, last[1], min(ids, default=0), max(ids, default=0), len(self.group), len(ids), size, last[7] + 1,
                    last[8], last[9])
        for value, one in zip(COMMIT_NUMBERS.unpack_from(body), expected):
            self.difference("commit", value, one)
        digest = hashlib.sha256(b"\2" + body[:128]).digest()
        left_out = 0
        for bit, at, found in ((1, 64, self.tree_root(self.group) if size <= 4096 else None), (2, 96, self.commit[128:]),
                               (4, 128, digest)):
            if body[at:at + 32] == found:
                left_out |= bit
            else:
                self.streams["other_bytes"] += body[at:at + 32]
        self.put("commit", left_out)
        self.commit = body

    def data(self, kind, streams=None, count=None):
        """The block's data; `streams` and `count` replace what they are."""
        parts = [bytes((streams or self.streams)[name]) for name in STREAMS]
        numbers = varint(self.count if count is None else count) + b"".join(varint(len(part)) for part in parts)
        numbers, texts = numbers + b"".join(parts[:15]), b"".join(parts[15:])
        packed = PACK[kind](numbers)
        return struct.pack("<III", len(numbers), len(packed), len(texts)) + packed + PACK[kind](texts)


# The file ---------------------------------------------------------------------------------------------------


def header(fields):
    head = JOURNAL_HEADER.pack(*fields, 0)
    return head[:48] + hashlib.sha256(head).digest()[:4]


def block(place, records, data, kind, version, changes=()):
    """A storage block, with `changes` of its header's fields; the checksum is right."""
    parts = list(frames(records))
    ids = [i for i in (read(one, 0, 8) for one in parts) if i]
    fields = dict(magic=0x53454D42, version=version, block_id=place, block_size=BLOCK.size + len(data), event_count=len(parts),
                  kind=kind, compressed_size=len(data), uncompressed_size=len(records), checksum=0, first_time=parts[0][16:40],
                  last_time=parts[-1][16:40], first_id=min(ids, default=0), last_id=max(ids, default=0))
    fields.update(changes)
    whole = BLOCK.pack(*(fields[name] for name in BLOCK_FIELDS)) + data
    return whole[:36] + struct.pack("<I", crc(whole)) + whole[40:], fields


def compressed(native, size, cuts, tree_root, kind=NONE, version=REGROUPED, *, data=None, block_changes=None,
               entry_changes=None, seal_changes=(), header_changes=(), regroup=None, native_flags=None):
    """The compressed form of a native segment's file, of which `size` bytes are in use. `cuts` are the offsets where blocks
    begin, but for the first. The other arguments lie: by the block's place `data` has functions of the records that make
    the data, `regroup` of a Regrouper, `block_changes` and `entry_changes` the fields of its header and its index entry;
    all checksums behind a lie are right. `native_flags` are other flags of the native header."""
    *fields, _ = JOURNAL_HEADER.unpack(native[:52])
    native_header = native[:52] if native_flags is None else header((*fields[:7], native_flags))
    bounds = [52, *cuts, size]
    out, entries = b"", b""
    for place, (start, end) in enumerate(zip(bounds, bounds[1:])):
        records = native[start:end]
        if data and place in data:
            content = data[place](records)
        elif version == PLAIN:
            content = PACK[kind](records)
        else:
            regrouper = Regrouper(tree_root)
            for one in frames(records):
                regrouper.add(one)
            content = (regroup or {}).get(place, Regrouper.data)(regrouper, kind)
        one, made = block(place, records, content, kind, version, (block_changes or {}).get(place, ()))
        entry = dict(offset=52 + len(out), native_offset=start, first_id=made["first_id"], last_id=made["last_id"],
                     block_size=made["block_size"], uncompressed_size=made["uncompressed_size"])
        entry.update((entry_changes or {}).get(place, ()))
        out += one
        entries += ENTRY.pack(*(entry[name] for name in ENTRY_FIELDS))
    opening, sealing = next(frames(native[52:size]))[132:], native[size - 176:size]
    seal = dict(magic=0x53454D43, version=1, native_size=len(native), native_end=size, block_count=len(bounds) - 1,
                native_header=native_header, index_checksum=crc(entries), uuid=opening[:16], segment_number=read(opening, 16, 8),
                commit_count=read(sealing, 24, 8), commit_sequence=read(sealing, 16, 8), root=sealing[80:112],
                previous_digest=opening[56:88], seal_digest=sealing[144:], reserved=bytes(36), file_digest=bytes(32), checksum=0)
    seal.update(seal_changes)
    index_offset = 52 + len(out)
    head = dict(zip(("magic", "major", "minor", "total", "next_id", "size", "index_offset", "flags"), fields))
    flags = (fields[7] if native_flags is None else native_flags) | COMPRESSED
    head.update(size=index_offset + len(entries) + FILE_SEAL.size, index_offset=index_offset, flags=flags)
    head.update(header_changes)
    whole = header(head.values()) + out + entries + FILE_SEAL.pack(*(seal[name] for name in SEAL_FIELDS))
    if "file_digest" not in dict(seal_changes):
        whole = whole[:-36] + hashlib.sha256(whole[:-36]).digest() + whole[-4:]
    return whole[:-4] + struct.pack("<I", crc(whole[-FILE_SEAL.size:-4]))
