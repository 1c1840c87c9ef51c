"""Regrouped records of storage blocks (SPEC.md 21): the native records come back."""
import struct

from semj_codecs import Undecodable, decompress
from semj_sums import digest, kernel_crc, leaf, merkle_root

U32, U64 = (1 << 32) - 1, (1 << 64) - 1
EVENT_HEADER = struct.Struct("<QIIQQIIQQIIIIIIIIIIIQQQII")
COMMIT_INTEGERS = struct.Struct("<QQQQIIQQII")
assert EVENT_HEADER.size == 132 and COMMIT_INTEGERS.size == 64
SEGMENT_COMMIT = 0x0702

(CHANGES, KIND, TIME, ORIGIN, SEQUENCE, CAUSE, HEADER, SHAPE, INTEGER, PATH, TEXT, PAYLOAD, SHARED, LENGTH, COMMIT,
 PATH_BYTES, TEXT_BYTES, PAYLOAD_BYTES, OTHER_BYTES) = STREAMS = range(19)

# The fields of `changes`, in the order of their bits.
(EVENT_ID, PROCESS_ID, CPU_ID, ROOT_CAUSE, PARENT, GLOBAL_SEQUENCE, LOCAL_SEQUENCE, TIME_SEQUENCE, SUBTYPE, FLAGS, PRIORITY,
 METADATA_SIZE, COMPRESSION, ENCRYPTION, LINK_COUNT, VISIBILITY, RELEVANCE, REPLAY, VERSION) = range(19)
STREAM_OF_FIELD = (SEQUENCE, ORIGIN, ORIGIN, CAUSE, CAUSE, SEQUENCE, SEQUENCE, SEQUENCE) + (HEADER,) * 11
WIDE_FIELDS = {EVENT_ID, ROOT_CAUSE, PARENT, GLOBAL_SEQUENCE, LOCAL_SEQUENCE, TIME_SEQUENCE, VISIBILITY}
NEW_SHAPE, COMMIT_APART = 1 << 19, 1 << 20
KNOWN_CHANGES = (1 << 21) - 1

NO_CONTEXT, COMPACT, FIXED, BYTES = range(4)
# Bytes in the fixed form, and whether it is a text (SPEC.md 5).
CONTEXT_FIELDS = ((8, 0), (8, 0), (8, 0), (4096, 1), (8, 0), (4, 0), (8, 0), (8, 0), (4, 0), (8, 0), (4, 0), (4, 0), (64, 1),
                  (256, 1), (4, 0), (4, 0), (8, 0), (4, 0), (512, 1), (256, 1), (4, 0))
PATH_BIT, INODE_BIT, FILE_TYPE_BIT, LATER_BIT = 3, 4, 5, 21


class Stream:
    def __init__(self, data):
        self.data, self.at = data, 0

    def varint(self):
        value = shift = 0
        while True:
            if self.at >= len(self.data):
                raise Undecodable("a stream ends too soon")
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                if value > U64:
                    raise Undecodable("a varint of more than 64 bits")
                return value
            if shift > 63:
                raise Undecodable("a varint of more than 64 bits")

    def difference(self, expected):
        folded = self.varint()
        return (expected + ((folded >> 1) ^ -(folded & 1))) & U64

    def narrow(self, expected):
        value = self.difference(expected)
        if value > U32:
            raise Undecodable("a value of more than 32 bits")
        return value

    def take(self, size):
        if size > len(self.data) - self.at:
            raise Undecodable("a stream ends too soon")
        self.at += size
        return self.data[self.at - size:self.at]


class Texts:
    """A list of texts, each of which knows its successor."""

    def __init__(self, numbers, raw, streams):
        self.numbers, self.raw = streams[numbers], streams[raw]
        self.shared, self.length = streams[SHARED], streams[LENGTH]
        self.texts, self.successor = [], []

    def read(self, before, other, limit):
        """The place of the next text; `before` is that of the text before, `other` that of the one which a new text
        shares its beginning with; None where there is none."""
        number = self.numbers.varint()
        if number == 0:
            shared, length = self.shared.varint(), self.length.varint()
            beginning = self.texts[other] if other is not None else b""
            if shared > len(beginning) or shared + length > limit:
                raise Undecodable("a text that is too long")
            place = len(self.texts)
            self.texts.append(beginning[:shared] + self.raw.take(length))
            self.successor.append(place)
        elif number == 1:
            if before is None:
                raise Undecodable("a successor of no text")
            place = self.successor[before]
        else:
            place = number - 2
            if place >= len(self.texts):
                raise Undecodable("a text that is not there")
        if before is not None:
            self.successor[before] = place
        return place


class Kind:
    """What is remembered of the last record of a type."""

    def __init__(self, event_type):
        self.event_type, self.fields, self.shape, self.payload = event_type, [0] * 19, (NO_CONTEXT, 0), None
        self.is_own = False  # the last record had the id 0


def split(data, uncompressed_size, compression_type):
    """The streams, and the number of records."""
    if len(data) < 12:
        raise Undecodable("regrouped data without sizes")
    numbers_size, packed_size, texts_size = struct.unpack_from("<III", data)
    if numbers_size + texts_size > uncompressed_size:
        raise Undecodable("streams of more bytes than the records")
    if packed_size > len(data) - 12:
        raise Undecodable("numbers beyond the end")
    numbers = Stream(bytes(decompress(compression_type, data[12:12 + packed_size], numbers_size)))
    texts = Stream(bytes(decompress(compression_type, data[12 + packed_size:], texts_size)))
    count = numbers.varint()
    sizes = [numbers.varint() for _ in STREAMS]
    streams = [Stream((numbers if i < PATH_BYTES else texts).take(size)) for i, size in enumerate(sizes)]
    if numbers.at != numbers_size or texts.at != texts_size:
        raise Undecodable("bytes behind the last stream")
    return streams, count


class Regrouped:
    def __init__(self, streams, size):
        self.streams, self.size = streams, size
        self.kinds, self.places = [], {}
        self.last = [0] * 19                     # of the last record; only process and CPU are looked at
        self.last_event = [0] * 19
        self.ktime = 0
        self.integers = [0] * LATER_BIT
        self.of_path, self.new_path = [], None   # [inode_number, file_type] by the path's place
        self.lists, self.used = {}, {}
        for bit, (_, is_text) in enumerate(CONTEXT_FIELDS):
            if is_text:
                self.lists[bit] = Texts(*((PATH, PATH_BYTES) if bit == PATH_BIT else (TEXT, TEXT_BYTES)), streams)
        self.lists[LATER_BIT] = Texts(TEXT, TEXT_BYTES, streams)
        self.payloads = Texts(PAYLOAD, PAYLOAD_BYTES, streams)
        self.commit, self.group = bytes(160), []

    def record(self):
        streams = self.streams
        kind = self.kind()
        changes = streams[CHANGES].varint()
        if changes & ~KNOWN_CHANGES:
            raise Undecodable("unknown changes")
        fields = self.fields(kind, changes)
        ktime = self.ktime = streams[TIME].difference(self.ktime)
        if changes & NEW_SHAPE:
            form, presence = kind.shape = (streams[SHAPE].varint(), streams[SHAPE].varint())
            if form > BYTES or presence >> (0, 32, LATER_BIT, 0)[form]:
                raise Undecodable("a shape that is none")
        context = self.context(*kind.shape)
        is_commit = fields[EVENT_ID] == 0 and kind.event_type == SEGMENT_COMMIT
        if changes & COMMIT_APART:
            if not is_commit:
                raise Undecodable("a Commit that is none")
            payload = self.commit = self.commit_body()
        else:
            kind.payload = self.payloads.read(kind.payload, kind.payload, 65536)
            payload = self.payloads.texts[kind.payload]
        metadata_size, link_count = fields[METADATA_SIZE], fields[LINK_COUNT]
        if metadata_size > 2048 or link_count > 256:
            raise Undecodable("metadata or links beyond their limits")
        rest = streams[OTHER_BYTES].take(metadata_size + 160 * link_count)
        size = 132 + len(context) + len(payload) + len(rest)
        head = EVENT_HEADER.pack(
            fields[EVENT_ID], kind.event_type, fields[SUBTYPE], ktime, fields[TIME_SEQUENCE], fields[CPU_ID],
            fields[PROCESS_ID], fields[GLOBAL_SEQUENCE], fields[LOCAL_SEQUENCE], fields[FLAGS], fields[PRIORITY], size,
            len(context), len(payload), metadata_size, fields[VERSION], 0, fields[COMPRESSION], fields[ENCRYPTION], link_count,
            fields[PARENT], fields[ROOT_CAUSE], fields[VISIBILITY], fields[RELEVANCE], fields[REPLAY])
        whole = head + context + payload + rest
        whole = whole[:84] + struct.pack("<I", kernel_crc(whole)) + whole[88:]
        if is_commit:
            self.group = []
        else:
            self.group.append(whole)
        return whole

    def kind(self):
        place = self.streams[KIND].varint()
        if place > len(self.kinds):
            raise Undecodable("a type that is not there")
        if place == len(self.kinds):
            event_type = self.streams[HEADER].varint()
            if event_type > U32:
                raise Undecodable("a type of more than 32 bits")
            self.kinds.append(Kind(event_type))
        return self.kinds[place]

    def fields(self, kind, changes):
        before, last, event = kind.fields, self.last, self.last_event
        fields = []
        for n in range(19):
            changed, stream = changes >> n & 1, self.streams[STREAM_OF_FIELD[n]]
            read = stream.difference if n in WIDE_FIELDS else stream.narrow
            if n == EVENT_ID:
                value = 0 if kind.is_own else event[n] + 1 & U64
            elif n in (GLOBAL_SEQUENCE, LOCAL_SEQUENCE, TIME_SEQUENCE):
                value = event[n] + 1 & U64 if fields[EVENT_ID] else 0
            elif n in (PROCESS_ID, CPU_ID):
                value = last[n]
            elif n == ROOT_CAUSE:
                value = fields[EVENT_ID]
            elif n == PARENT and changed:
                value = fields[EVENT_ID]
            else:
                value = before[n]
            fields.append(read(value) if changed else value)
        kind.fields = self.last = fields
        kind.is_own = fields[EVENT_ID] == 0
        if fields[EVENT_ID]:
            self.last_event = fields
        return fields

    def context(self, form, presence):
        if form == NO_CONTEXT:
            return b""
        if form == BYTES:
            length = self.streams[LENGTH].varint()
            if length > 5280:
                raise Undecodable("a context beyond its limit")
            return self.streams[OTHER_BYTES].take(length)
        out, path, is_new = [struct.pack("<I", presence)] if form == COMPACT else [], None, False
        for bit in range(32 if form == COMPACT else LATER_BIT):
            width, is_text = CONTEXT_FIELDS[bit] if bit < LATER_BIT else (0, 1)
            if not presence >> bit & 1:
                out.append(bytes(width) if form == FIXED else b"")
            elif is_text:
                texts = self.lists[min(bit, LATER_BIT)]
                count = len(texts.texts)
                place = texts.read(self.used.get(texts), count - 1 if count else None, 65535)
                self.used[texts] = place
                text = texts.texts[place]
                if bit == PATH_BIT:
                    path, is_new = place, len(texts.texts) > count
                    if is_new:
                        self.of_path.append(list(self.of_path[-1]) if self.of_path else [0, 0])
                if form == FIXED and len(text) > width:
                    raise Undecodable("a text that is longer than its field")
                out.append(text + bytes(width - len(text)) if form == FIXED else struct.pack("<H", len(text)) + text)
            else:
                of_path = path is not None and bit in (INODE_BIT, FILE_TYPE_BIT)
                memory, at = (self.of_path[path], bit - INODE_BIT) if of_path else (self.integers, bit)
                stream = self.streams[INTEGER]
                value = stream.difference(memory[at]) if width == 8 else stream.narrow(memory[at])
                memory[at] = self.integers[bit] = value
                out.append(value.to_bytes(width, "little"))
        context = b"".join(out)
        if not 0 < len(context) <= 5280:
            raise Undecodable("a context beyond its limit")
        return context

    def commit_body(self):
        stream, last = self.streams[COMMIT], COMMIT_INTEGERS.unpack_from(self.commit)
        ids = [i for i in (struct.unpack_from("<Q", record)[0] for record in self.group) if i]
        size = sum(map(len, self.group))
        expected = (last[0] + 1, last[1], min(ids, default=0), max(ids, default=0), len(self.group), len(ids), size,
                    last[7] + 1, last[8], last[9])
        values = [stream.narrow(e & U64) if n in (4, 5, 8, 9) else stream.difference(e & U64) for n, e in enumerate(expected)]
        left_out, other = stream.varint(), self.streams[OTHER_BYTES]
        if left_out > 7 or (left_out & 1 and size > 4096):
            raise Undecodable("a Commit that leaves out what can't be computed")
        body = COMMIT_INTEGERS.pack(*values)
        body += merkle_root([leaf(record) for record in self.group]) if left_out & 1 else other.take(32)
        body += self.commit[128:] if left_out & 2 else other.take(32)
        return body + (digest(2, body) if left_out & 4 else other.take(32))


def regrouped(data, uncompressed_size, compression_type):
    """The records that stand one behind the other in the native bytes."""
    streams, count = split(data, uncompressed_size, compression_type)
    reader, out, size = Regrouped(streams, uncompressed_size), [], 0
    for _ in range(count):
        out.append(reader.record())
        size += len(out[-1])
        if size > uncompressed_size:
            raise Undecodable("more records than uncompressed_size")
    if size != uncompressed_size or any(stream.at != len(stream.data) for stream in streams):
        raise Undecodable("streams that are not used up, or too few bytes")
    return out
