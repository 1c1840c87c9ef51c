#!/usr/bin/env python3
"""Makes the test vectors of SPEC.md: segments, good and damaged, and the verdict that each must get.

  make.py             write all files beside this one, and verdicts.json
  make.py --check     exit 1 if a file, verdicts.json, or SPEC.md's example or list is not what this would make
  make.py --example   print the worked example of SPEC.md
  make.py --list      print the list of the vectors in SPEC.md

Written from SPEC.md; shares no code with any reader. Verdicts are stated by hand, case by case: nothing here
reads a segment. The files are the same at every run. Only the Python standard library is needed.
"""
import hashlib
import json
import struct
import sys
import zlib
from pathlib import Path

import compressed as packing

HERE = Path(__file__).resolve().parent
SPEC = HERE.parent.parent / "SPEC.md"

# Tables of SPEC.md ------------------------------------------------------------------------------------------

JOURNAL_HEADER = struct.Struct("<IIIQQQQII")
EVENT_HEADER = struct.Struct("<QIIqQIIQQIIIIIIIIIIIQQQII")
LINK = struct.Struct("<QQIIq128s")
SEGMENT_OPEN = struct.Struct("<16sQQQIIQ32sQQqq16s32s")
COMMIT = struct.Struct("<QQQQIIQQII32s32s")           # without the digest
SEGMENT_SEAL = struct.Struct("<QQQQQQQQQQ32s32s")     # without the digest
RECOVERED = struct.Struct("<QQQQQIIII")
DAMAGED_RANGE = struct.Struct("<QQQ")
GAP = struct.Struct("<QQQII")
GAP_TYPE = struct.Struct("<IIQ")
COMPACTED = struct.Struct("<IIQQQQQQQQQIIq32s")
GONE = struct.Struct("<QQQII")
WATERMARK = struct.Struct("<IIQ16sQQQQQ32s20s")       # without the checksum
for structure, size in ((JOURNAL_HEADER, 52), (EVENT_HEADER, 132), (LINK, 160), (SEGMENT_OPEN, 168), (COMMIT, 128),
                        (SEGMENT_SEAL, 144), (RECOVERED, 56), (DAMAGED_RANGE, 24), (GAP, 32), (GAP_TYPE, 16),
                        (COMPACTED, 128), (GONE, 32), (WATERMARK, 124)):
    assert structure.size == size

SEALED, CUT, THINNED = 1, 2, 4
BY_PRIORITY = 1
TYPE_OPEN, TYPE_COMMIT, TYPE_SEAL, TYPE_RECOVERED, TYPE_GAP = 0x0701, 0x0702, 0x0703, 0x0704, 0x070B
TYPE_COMPACTED = 0x070C
CREATE, DELETE, WRITE, SYNC = 0x0101, 0x0102, 0x0104, 0x0503

CONTEXT_FIELDS = (
    ("transaction_id", 8), ("session_id", 8), ("causality_chain_id", 8), ("path", "4096s"), ("inode_number", 8),
    ("file_type", 4), ("graph_node_id", 8), ("graph_edge_id", 8), ("graph_operation_type", 4), ("vector_id", 8),
    ("vector_dimensions", 4), ("vector_element_type", 4), ("agent_id", "64s"), ("agent_intent", "256s"),
    ("agent_confidence", 4), ("system_load", 4), ("memory_usage", 8), ("io_pressure", 4), ("semantic_tags", "512s"),
    ("semantic_intent", "256s"), ("semantic_confidence", 4))

UUID = bytes.fromhex("8f0c2f6e5f0b4a6f9a3de1c04f7a5e21")
BOOT = bytes.fromhex("11d2c3b4a5968778695a4b3c2d1e0f00")
WALL_NS, MONOTONIC_NS = 1_750_000_000_000_000_000, 1_000_000_000_000
ZERO = bytes(32)


def crc(data):
    return zlib.crc32(data, 0xFFFFFFFF) ^ 0xFFFFFFFF


def sha(domain, *parts):
    return hashlib.sha256(bytes([domain]) + b"".join(parts)).digest()


def tree(leaves):
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return sha(1, tree(leaves[:k]), tree(leaves[k:]))


def root_of(records):
    return tree([sha(0, record) for record in records])


def header(total, next_id, size, flags=0, minor=0, major=1):
    head = JOURNAL_HEADER.pack(0x53454D4A, major, minor, total, next_id, size, 0, flags, 0)
    return head[:48] + hashlib.sha256(head).digest()[:4]


def resum(record):
    """The record with a checksum that is right for its bytes."""
    return record[:84] + struct.pack("<I", crc(record[:84] + bytes(4) + record[88:])) + record[88:]


def record(event_id, event_type, context=b"", payload=b"", metadata=b"", links=b"", *, subtype=0, ktime=None,
           process=4242, cpu=0, flags=0x08, priority=3, compression=0, encryption=0, parent=0, root=None,
           visibility=2**64 - 1, relevance=50, replay=3):
    size = 132 + len(context) + len(payload) + len(metadata) + len(links)
    ktime = MONOTONIC_NS + event_id * 1_000_000 if ktime is None else ktime
    head = EVENT_HEADER.pack(
        event_id, event_type, subtype, ktime, event_id, cpu, process, event_id, event_id, flags, priority, size,
        len(context), len(payload), len(metadata), 1, 0, compression, encryption, len(links) // 160, parent,
        event_id if root is None else root, visibility, relevance, replay)
    return resum(head + context + payload + metadata + links)


def control(event_type, body, subtype=0):
    return record(0, event_type, payload=body, subtype=subtype, ktime=MONOTONIC_NS, process=77, flags=0, visibility=0,
                  relevance=0)


def compact(later=(), **fields):
    """The compact form; `later` is pairs of a bit from 21 to 31 and the field's bytes."""
    presence, out = 0, b""
    for bit, (name, size) in enumerate(CONTEXT_FIELDS):
        value = fields.pop(name, None)
        if value:
            presence |= 1 << bit
            out += struct.pack("<H", len(value)) + value if isinstance(size, str) else value.to_bytes(size, "little")
    assert not fields
    for bit, value in sorted(later):
        presence |= 1 << bit
        out += struct.pack("<H", len(value)) + value
    return struct.pack("<I", presence) + out


def fixed(**fields):
    out = b""
    for name, size in CONTEXT_FIELDS:
        value = fields.pop(name, 0)
        out += struct.pack(size, value or b"") if isinstance(size, str) else value.to_bytes(size, "little")
    assert not fields and len(out) == 5280
    return out


def link(cause, effect, kind, strength, delay, description):
    return LINK.pack(cause, effect, kind, strength, delay, description)


def flip(data, offset, bit=0):
    return data[:offset] + bytes([data[offset] ^ 1 << bit]) + data[offset + 1:]


# A segment while it is written ------------------------------------------------------------------------------


class Segment:
    """Appends groups and keeps what SPEC.md's Commit and SegmentSeal say of them."""

    def __init__(self, number=1, epoch=1, previous=None, previous_end=0, next_id=1, first=(), open_subtype=0):
        """`previous` is the Segment before; `first` are records behind SegmentOpen in the first group."""
        self.number, self.epoch, self.next_id, self.minor = number, epoch, next_id, 0
        self.sequence = previous.sequence if previous else 0
        self.digest = previous.tip() if previous else ZERO
        self.synced = previous.sequence if previous else 0
        self.commits, self.records, self.events, self.ids = [], 0, 0, []
        self.seal_digest, self.last_commit_digest = None, None
        self.body, self.offsets = b"", []
        body = SEGMENT_OPEN.pack(
            UUID, number, epoch, previous.number if previous else 0, previous_end, 0, previous.end() if previous else 0,
            self.digest, next_id, self.sequence + 1, WALL_NS, MONOTONIC_NS, BOOT, b"vectors 1")
        self.group([control(TYPE_OPEN, body, open_subtype), *first])
        self.creation = header(self.records, next_id, self.end())

    def end(self):
        return 52 + len(self.body)

    def tip(self):
        return self.seal_digest or self.digest

    def commit(self, records, *, synced=None, flags=0, epoch=None, sequence=None, root=None, digest=None,
               first_last=None, subtype=0, cut_body=None, byte_count=None):
        """The Commit of a group; the arguments replace what would be right."""
        ids = [i for i in (struct.unpack_from("<Q", r)[0] for r in records) if i]
        first, last = first_last or (min(ids, default=0), max(ids, default=0))
        body = COMMIT.pack(
            sequence or self.sequence + 1, epoch or self.epoch, first, last, len(records), len(ids),
            sum(map(len, records)) if byte_count is None else byte_count,
            self.synced if synced is None else synced, flags, 0, root or root_of(records), self.digest)
        body += digest or sha(2, body)
        return control(TYPE_COMMIT, body[:cut_body], subtype)

    def group(self, records, **changes):
        """Appends records and their Commit; gives the offset of the first record."""
        commit = self.commit(records, **changes)
        ids = [i for i in (struct.unpack_from("<Q", r)[0] for r in records) if i]
        start = self.end()
        for one in (*records, commit):
            self.offsets.append((self.end(), one))
            self.body += one
        self.sequence += 1
        self.digest = self.last_commit_digest = commit[132 + 128:132 + 160]
        self.commits.append(commit)
        self.records += len(records) + 1
        self.events += len(ids)
        self.ids += ids
        return start

    def seal_record(self, **changes):
        last = max(self.ids, default=0)
        figures = dict(commit_count=len(self.commits), record_count=self.records, event_count=self.events)
        figures.update(changes)
        body = SEGMENT_SEAL.pack(
            self.number, self.epoch, self.sequence, figures["commit_count"], figures["record_count"],
            figures["event_count"], min(self.ids, default=0), last, len(self.body), self.sequence,
            root_of(self.commits), self.digest)
        return control(TYPE_SEAL, body + sha(3, body))

    def seal(self):
        one = self.seal_record()
        self.offsets.append((self.end(), one))
        self.body += one
        self.records += 1
        self.seal_digest = one[-32:]
        return self

    def final(self, flags):
        return header(self.records, max([self.next_id - 1, *self.ids]) + 1, self.end(), flags, self.minor)

    def file(self, tail=b"", flags=0, head=None):
        """The segment's file: preallocated, so zero bytes follow up to the next 1,024."""
        data = (head or (self.final(flags) if flags else self.creation)) + self.body + tail
        return data + bytes(-len(data) % 1024)


# The vectors ------------------------------------------------------------------------------------------------

FILES, CASES = {}, []


def expectation(segment, end=None):
    """What a reader must find in the accepted part."""
    return {"end": end or segment.end(), "commit_sequence": segment.sequence, "commits": len(segment.commits),
            "records": segment.records, "event_ids": segment.ids,
            "last_commit_digest": segment.last_commit_digest.hex(),
            "seal_digest": segment.seal_digest.hex() if segment.seal_digest else None}


NOTHING = {"end": None, "commit_sequence": None, "commits": 0, "records": 0, "event_ids": [],
           "last_commit_digest": None, "seal_digest": None}


def add(name, data, verdict, description, segment=None, **more):
    """A file that is judged alone. `segment` is what of it must be accepted; None: nothing."""
    FILES[name] = data
    CASES.append({"file": name, "description": description, "verdict": verdict,
                  **(expectation(segment) if segment else NOTHING), **more})


def slot(generation, segment, uuid=UUID, end=None, digest=None):
    """A slot of the watermark that says that all of `segment` was durable."""
    fields = WATERMARK.pack(0x53454D57, 1, generation, uuid, segment.epoch, segment.number,
                            segment.end() if end is None else end, segment.sequence, max(segment.ids, default=0),
                            segment.tip() if digest is None else digest, bytes(20))
    return fields + struct.pack("<I", crc(fields))


def watermark(*slots):
    return b"".join(one + bytes(4096 - len(one)) for one in (*slots, b"", b"")[:2])


def journal(name, description, segments, mark=None, leftovers=()):
    """A directory: (number in the name, first id in the name, data, verdict, accepted Segment or None, more), its
    watermark file, if it has one, and files of segments that are none of the journal's: (number, first id, data)."""
    left = []
    for number, first_id, data in leftovers:
        left.append(f"{name}/{number:010}-{first_id:020}.semj")
        FILES[left[-1]] = data
    if mark is not None:
        FILES[f"{name}/WATERMARK"] = mark
    rows = []
    for number, first_id, data, verdict, segment, more in segments:
        file = f"{name}/{number:010}-{first_id:020}.semj"
        FILES[file] = data
        rows.append({"file": file, "verdict": verdict, **(expectation(segment) if segment else NOTHING), **more})
    CASES.append({"directory": name, "description": description, "segments": rows,
                  **({"leftovers": left} if left else {})})


def event(i, event_type=CREATE, payload=b"", **more):
    context = compact(path=b"/srv/data/%d" % i, inode_number=1000 + i, file_type=0o100000)
    return record(i, event_type, context, payload, **more)


def events(first, count, payload=b'{"bytes":4096}'):
    return [event(i, WRITE, payload) for i in range(first, first + count)]


def base(epoch=1):
    """Three events committed as number 2, which number 3 with three more says is durable."""
    s = Segment(epoch=epoch)
    s.group(events(1, 3))
    s.synced = 2
    s.group(events(4, 3))
    return s


def example():
    s = Segment()
    s.group([record(1, CREATE, compact(path=b"/etc/motd", inode_number=4711, file_type=0o100000), b"hello")])
    s.synced = 2
    return s.seal()


def good():
    s = Segment()
    add("good/open-minimal.semj", s.file(), "OpenEnd", "header, SegmentOpen, its Commit, zeros", s)

    s = example()
    add("good/example.semj", s.file(flags=SEALED), "Whole", "the worked example of SPEC.md: one event, sealed", s)

    everything = dict(
        transaction_id=1, session_id=2**64 - 1, causality_chain_id=3, path=b"/caf\xc3\xa9/\xff\xfe not UTF-8",
        inode_number=5, file_type=0o040000, graph_node_id=7, graph_edge_id=8, graph_operation_type=9, vector_id=10,
        vector_dimensions=11, vector_element_type=12, agent_id=b"a" * 63, agent_intent=b"look around",
        agent_confidence=100, system_load=16, memory_usage=2**40, io_pressure=18, semantic_tags=b'{"k":"v"}',
        semantic_intent=b"test", semantic_confidence=1)
    s = Segment()
    s.group([record(1, SYNC), record(2, CREATE, compact(path=b"/a")), record(3, CREATE, compact()),
             record(4, 0x0404, compact(**everything))])
    s.group([record(5, 0x0404, fixed(**everything), b"payload")])
    s.seal()
    add("good/sealed-contexts.semj", s.file(flags=SEALED), "Whole",
        "contexts: none, compact with one field, compact without fields, compact and fixed with the same 21 fields", s)

    s = Segment()
    s.group([event(1), event(2, DELETE, b"gone", metadata=b'{"host":"a"}', flags=0x0C, parent=1, root=1,
                             links=link(1, 2, 7, 100, -5, b"because") + link(2, 1, 8, 0, 2**62, b"")),
             event(3, 0x0301, bytes(range(256)), flags=0x28, compression=3, encryption=9, priority=1, cpu=63)])
    s.seal()
    add("good/sealed-links-metadata.semj", s.file(flags=SEALED), "Whole",
        "links, metadata, a payload said to be compressed and encrypted", s)

    s = Segment()
    s.minor = 7
    later = compact(path=b"/new", later=[(21, b"field of a later version"), (31, b"")])
    s.group([record(1, 0x0FABCDEF, later, b"x", subtype=0xDEADBEEF, flags=0xFFFF0108, priority=99, relevance=1000,
                    replay=77),
             control(0x0705, b"reserved type"), control(0x07F0, b"unknown type"), control(TYPE_GAP, b"v9", 9),
             control(TYPE_RECOVERED, b"v9", 9), control(0x0101, b"event_id 0"), record(2, 0x0702, payload=b"an event"),
             record(3, CREATE, b"\x01\0")], flags=0x80000000)
    s.seal()
    add("good/sealed-unknowns.semj", s.file(flags=SEALED | 0x40000000), "Whole",
        "unknown minor version, header and Commit flags, event type, subtype, flags, priority, scores, context bits 21 "
        "and 31, control types and layout versions; event 2 has the type number of a Commit, event 3 a context that "
        "can't be read", s)

    s = Segment(next_id=10)
    s.group([event(10), event(11), event(500)])
    s.group([event(501)], synced=2)
    s.group([control(0x0706, b"no events")], synced=3)
    s.group([event(2**40)], synced=4)
    add("good/open-groups.semj", s.file(), "OpenEnd", "groups, one of them without events; ids that jump", s)

    s = Segment()
    s.group([event(1)])
    s.group([event(4, priority=1), event(2, priority=3), event(3, priority=5)], flags=BY_PRIORITY)
    s.seal()
    add("good/sealed-by-priority.semj", s.file(flags=SEALED), "Whole", "a group in the order of priorities", s)

    s = base().seal()
    add("good/sealed-header-lags.semj", s.file(), "Whole", "sealed, but the header was not rewritten any more", s)

    s = base()
    add("good/cut.semj", s.file(tail=b"".join(events(7, 2)) + b"\xA5" * 100, flags=CUT), "Whole",
        "header says CUT: what stands behind journal_size is not looked at", s)

    body = b"".join([record(5, CREATE, fixed(path=b"/k", inode_number=9)), record(9, SYNC), record(10, DELETE, b"", b"p")])
    FILES["good/kernel.semj"] = header(3, 11, 52 + len(body)) + body
    CASES.append({"file": "good/kernel.semj", "kind": "kernel", "verdict": None, "verdict_as_segment": "Corrupt",
                  "description": "a kernel journal: no records of the journal's own, so no commits and no verdict; "
                                 "as a segment its opening is bad", "records": 3, "event_ids": [5, 9, 10]})


def torn():
    s = base()
    more = events(7, 3)
    add("damaged/torn-uncommitted.semj", s.file(tail=b"".join(more)), "TornTail", "records without Commit, zeros", s)
    add("damaged/torn-half-record.semj", s.file(tail=b"".join(more)[:-20]), "TornTail",
        "the last record lacks its end", s)
    add("damaged/torn-file-end.semj", (s.creation + s.body + more[0])[:-9], "TornTail",
        "the file ends inside a record", s)
    late = s.commit(more)
    add("damaged/torn-hole.semj", s.file(tail=more[0] + bytes(len(more[1])) + more[2] + late), "TornTail",
        "a whole Commit, but zeros where one of its records should be", s)
    noise = b"".join(hashlib.sha256(bytes([i])).digest() for i in range(20))
    add("damaged/torn-garbage.semj", s.file(tail=noise), "TornTail", "noise behind the last Commit", s)
    add("damaged/torn-far.semj", s.file(tail=bytes(700) + noise[:99]), "TornTail", "zeros, then noise", s)
    big = more[0]
    for offset, value in ((64, 0xFFFFFFFF), (68, 5281), (72, 65_537), (76, 2_049), (96, 0x80000000)):
        huge = big[:offset] + struct.pack("<I", value) + big[offset + 4:]
        name = {64: "event-size", 68: "context", 72: "payload", 76: "metadata", 96: "links"}[offset]
        add(f"damaged/torn-oversize-{name}.semj", s.file(tail=resum(huge)), "TornTail",
            f"the field at offset {offset} is {value}; the checksum is right", s)
    t = base()
    at = t.group(events(7, 3), synced=2)
    t2 = base()
    add("damaged/flip-not-synced.semj", flip(t.file(), at + 140, 3), "TornTail",
        "a bit flipped in the last group; no Commit says that it was durable", t2)
    commit_at = next(o for o, r in reversed(t.offsets) if r is t.commits[-1])
    add("damaged/flip-last-commit.semj", flip(t.file(), commit_at + 132 + 70), "TornTail",
        "a bit flipped in the last Commit", t2)

    stale = Segment(epoch=1)
    stale.sequence = 8
    foreign = stale.commit(more, synced=8)
    s = base(epoch=2)
    add("damaged/stale-commit-behind.semj", s.file(tail=bytes(400) + foreign), "TornTail",
        "behind the end stands a Commit of another epoch that says much was durable: it proves nothing", s)
    s = base()
    held = Segment()
    held.sequence = 8
    piece = held.commit(more, synced=8)
    add("damaged/torn-commit-in-payload.semj", s.file(tail=event(7, WRITE, piece) + more[1]), "TornTail",
        "records without Commit; the payload of one is a Commit of this epoch that says much was durable", s)
    add("damaged/torn-commit-behind-payload.semj", s.file(tail=event(7, WRITE, piece) + bytes(9) + piece), "Corrupt",
        "the same Commit stands behind that record too", s)
    s = base(epoch=2)
    add("damaged/seal-flipped-header-lags.semj", flip(s.file(tail=s.seal_record()), s.end() + 200), "TornTail",
        "a bit flipped in the seal, header still that of creation: the crash came while sealing", s)


def ambiguous():
    def case(name, description, records, **changes):
        s = base()
        add(f"damaged/{name}.semj", s.file(tail=b"".join(records) + s.commit(records, **changes)), "Ambiguous",
            description, s)

    case("wrong-root", "Commit's checksum and digest are right, its root is not", events(7, 2), root=b"\x55" * 32)
    case("wrong-digest", "Commit's checksum is right, its digest is not", events(7, 2), digest=b"\x55" * 32)
    case("wrong-byte-count", "Commit's byte_count is one too small", events(7, 1), byte_count=len(events(7, 1)[0]) - 1)
    case("id-order", "ids go backwards inside a group that is not BY_PRIORITY", [event(8), event(7)])
    case("id-repeated", "an id of the group before once more", [event(6), event(7)])
    case("id-repeated-by-priority", "an id twice in a BY_PRIORITY group", [event(8), event(7), event(8)],
         flags=BY_PRIORITY)
    case("id-low-by-priority", "a BY_PRIORITY group whose third id is that of an event before the group",
         [event(9), event(8), event(5)], flags=BY_PRIORITY)
    case("sequence-hole", "commit_sequence jumps", events(7, 1), sequence=5)
    case("synced-itself", "a Commit that calls itself durable", events(7, 1), synced=4)
    case("commit-size", "Commit's body is 159 bytes", events(7, 1), cut_body=159)
    case("second-open", "a second SegmentOpen", [control(TYPE_OPEN, bytes(168))])
    s = base(epoch=2)
    add("damaged/stale-commit-next.semj", s.file(tail=b"".join(events(7, 1)) + s.commit(events(7, 1), epoch=1)),
        "Ambiguous", "the next Commit is of another epoch", s)
    s = base()
    add("damaged/seal-wrong-count.semj", s.file(tail=s.seal_record(event_count=7)), "Ambiguous",
        "a seal whose digest is right and whose event_count is not", s)
    add("damaged/seal-uncommitted.semj", s.file(tail=event(7) + s.seal_record()), "Ambiguous",
        "a seal behind a record without Commit", s)
    s = Segment(next_id=100)
    add("damaged/id-below-bound.semj", s.file(tail=event(99) + s.commit([event(99)])), "Ambiguous",
        "an id below SegmentOpen's next_event_id", s)


def corrupt():
    s = base()
    before = Segment()
    first = next(o for o, r in s.offsets if r == events(1, 1)[0])
    add("damaged/flip-synced.semj", flip(s.file(), first + 132 + 20), "Corrupt",
        "a bit flipped in a group that a later Commit says was durable", before)
    t = base()
    start, end = t.end(), t.group(events(7, 2)) and t.end()
    t.group(events(9, 1), synced=4)
    data = t.file()
    add("damaged/hole-synced.semj", data[:start] + bytes(end - start) + data[end:], "Corrupt",
        "zeros where a group should be that a later Commit says was durable", s)
    sealed = base().seal()
    add("damaged/seal-flipped.semj", flip(sealed.file(flags=SEALED), sealed.end() - 40), "Corrupt",
        "a bit flipped in the seal; the header says SEALED", s)
    add("damaged/sealed-end-lost.semj", base().file(head=sealed.final(SEALED)), "Corrupt",
        "the header says SEALED, zeros stand where the seal was", s)
    add("damaged/header-flipped.semj", flip(s.file(), 13, 6), "Corrupt", "a bit flipped in the journal header")
    add("damaged/header-magic.semj", b"LMTH" + s.file()[4:], "Corrupt", "another magic")
    add("damaged/open-flipped.semj", flip(s.file(), 52 + 132 + 30), "Corrupt", "a bit flipped in SegmentOpen")
    add("damaged/first-commit-flipped.semj", flip(Segment().file(), 52 + 300 + 140), "Corrupt",
        "a bit flipped in the first Commit: the opening was durable before the file got its name")
    add("damaged/zeros.semj", bytes(1024), "Corrupt", "nothing but zeros")
    add("damaged/empty.semj", b"", "Corrupt", "no bytes")


def unsupported():
    s = base()
    add("damaged/commit-version.semj", s.file(tail=event(7) + s.commit([event(7)], subtype=1)), "Unsupported",
        "a Commit of layout version 1", s)
    add("damaged/open-version.semj", Segment(open_subtype=1).file(), "Unsupported", "a SegmentOpen of layout version 1")
    newer = Segment().file()
    add("damaged/header-version.semj", header(2, 1, 644, major=2) + newer[52:], "Unsupported",
        "version_major 2, with the header's checksum right")
    add("damaged/seal-version.semj", s.file(tail=resum(flip(s.seal_record(), 12))), "Unsupported",
        "a SegmentSeal of layout version 1", s)


def journals():
    a = base().seal()
    b = Segment(2, 1, a, 1, 7)
    b.group(events(7, 2))
    b.seal()
    c = Segment(3, 2, b, 1, 9)
    c.group(events(9, 2))
    a_file, b_file, c_file = a.file(flags=SEALED), b.file(flags=SEALED), c.file()
    journal("journals/sealed-chain", "two sealed segments and an open one", [
        (1, 1, a_file, "Whole", a, {}), (2, 7, b_file, "Whole", b, {}), (3, 9, c_file, "OpenEnd", c, {})])
    journal("journals/missing-middle", "segment 2 is not there", [
        (1, 1, a_file, "Corrupt", a, {}), (3, 9, c_file, "Corrupt", c, {})])
    journal("journals/missing-first", "segment 1 is not there", [
        (2, 7, b_file, "Corrupt", b, {}), (3, 9, c_file, "OpenEnd", c, {})])
    journal("journals/swapped", "two segments under each other's name", [
        (1, 1, b_file, "Corrupt", None, {"unspecified": True}), (2, 7, a_file, "Corrupt", None, {"unspecified": True})])

    a = base()
    tail = b"".join(events(7, 2))
    recovered = RECOVERED.pack(1, 3, a.end(), len(tail), 6, 0, 2, 0, 0)
    gap = GAP.pack(7, 8, 2, 1, 1) + GAP_TYPE.pack(WRITE, 0, 2)
    b = Segment(2, 2, a, 2, 9, [control(TYPE_RECOVERED, recovered), control(TYPE_GAP, gap)])
    b.group(events(9, 1))
    journal("journals/cut-link", "a torn segment, cut by the one that follows; its header is not rewritten yet", [
        (1, 1, a.file(tail=tail), "Whole", a, {}), (2, 9, b.file(), "OpenEnd", b, {})])
    wrong = base()
    wrong.digest = b"\x77" * 32
    liar = Segment(2, 2, wrong, 2, 9)
    journal("journals/cut-link-wrong-digest", "the cut's offset is a Commit's end, its digest is another's", [
        (1, 1, a.file(tail=tail), "Corrupt", a, {}), (2, 9, liar.file(), "OpenEnd", liar, {})])

    a = base().seal()
    at, lost = next((o, r) for o, r in a.offsets if r == events(2, 1)[0])
    recovered = RECOVERED.pack(1, 3, a.end(), 0, 5, 2, 4, 1, 0) + DAMAGED_RANGE.pack(1, at, len(lost))
    b = Segment(2, 2, a, 1, 7, [control(TYPE_RECOVERED, recovered),
                                control(TYPE_GAP, GAP.pack(2, 2, 1, 1, 1) + GAP_TYPE.pack(WRITE, 0, 1))])
    damaged = flip(a.file(flags=SEALED), at + 150, 5)
    # The same, and another record lost with nothing that says so; and the first Commit's root another, all
    # checksums and its digest right.
    other = next(o for o, r in a.offsets if r == events(3, 1)[0])
    more = flip(damaged, other + 150, 5)
    commit_at = 52 + 300
    body = bytearray(damaged[commit_at + 132:commit_at + 292])
    body[64:96] = b"\x55" * 32
    body[128:] = sha(2, bytes(body[:128]))
    forged = damaged[:commit_at] + control(TYPE_COMMIT, bytes(body)) + damaged[commit_at + 292:]
    a.ids, a.records = [1, 3, 4, 5, 6], a.records - 1
    journal("journals/known-damage", "a record of a sealed segment is damaged; the next segment's Recovered says so", [
        (1, 1, damaged, "KnownDamage", a, {}), (2, 7, b.file(), "OpenEnd", b, {})])
    after = [(2, 7, b.file(), "OpenEnd", b, {})]
    journal("journals/known-damage-and-new", "known damage, and a damaged record that nobody has recorded", [
        (1, 1, more, "Corrupt", None, {"unspecified": True}), *after])
    journal("journals/known-damage-and-wrong-root", "known damage, and a root elsewhere that is not its group's", [
        (1, 1, forged, "Corrupt", None, {"unspecified": True}), *after])


def known_losses():
    """Damage that no record bounds: of a header, of a segment's end, of a whole segment."""
    def after(previous, number, lost, end=1):
        body = RECOVERED.pack(previous.number, previous.sequence, previous.end(), 0, 0, 2, 4, 1, 0)
        b = Segment(number, 2, previous, end, 7, [control(TYPE_RECOVERED, body + DAMAGED_RANGE.pack(*lost))])
        b.group(events(7, 2))
        return b

    a = base().seal()
    b = after(a, 2, (1, 0, 52))
    good = a.file(flags=SEALED)
    second = (2, 7, b.file(), "OpenEnd", b, {})
    journal("journals/known-header", "a header is damaged; the next segment's Recovered says so", [
        (1, 1, flip(good, 20), "KnownDamage", a, {}), second])
    journal("journals/known-header-figures", "a header contradicts the seal; the next segment's Recovered says so", [
        (1, 1, header(4, 7, a.end(), SEALED) + good[52:], "KnownDamage", a, {}), second])
    journal("journals/known-header-is-right", "a header is said to be damaged, and is right", [
        (1, 1, good, "Whole", a, {}), second])

    before, at = base(), None
    kept = base()
    at = kept.end()
    before.group(events(7, 2))
    before.seal()
    b = after(before, 2, (1, at, before.end() - at))
    b_file = (2, 7, b.file(), "OpenEnd", b, {})
    torn = before.file(flags=SEALED)
    torn = torn[:at] + bytes(before.end() - at) + torn[before.end():]
    end = {"end": before.end()}
    journal("journals/known-lost-end", "a segment's last group and its seal are zeros; the next segment's Recovered says so", [
        (1, 1, torn, "KnownDamage", kept, end), b_file])
    journal("journals/known-lost-end-and-new", "the same, and a record before it is damaged", [
        (1, 1, flip(torn, 52 + 300 + 292 + 150), "Corrupt", None, {"unspecified": True}), b_file])
    b = after(before, 2, (1, at, before.end() - at - 1))
    journal("journals/known-lost-end-too-short", "the range does not reach the end that the next segment names", [
        (1, 1, torn, "Corrupt", None, {"unspecified": True}), (2, 7, b.file(), "OpenEnd", b, {})])

    lost = Segment(2, 1, before, 1, 9)
    lost.seal()

    def behind_lost(size):
        body = RECOVERED.pack(2, lost.sequence, lost.end(), 0, 0, 2, 4, 2, 0)
        ranges = DAMAGED_RANGE.pack(1, at, size) + DAMAGED_RANGE.pack(2, 0, lost.end())
        c = Segment(3, 2, lost, 1, 9, [control(TYPE_RECOVERED, body + ranges)])
        c.group(events(9, 2))
        return (3, 9, c.file(), "KnownDamage", c, {})

    journal("journals/known-lost-end-lost-segment", "the end of segment 1 is zeros and segment 2 is not there; segment 3's Recovered says so of both", [
        (1, 1, torn, "KnownDamage", kept, end), behind_lost(before.end() - at)])
    journal("journals/known-lost-end-lost-segment-too-short", "the range does not reach the end that the header names", [
        (1, 1, torn, "Corrupt", None, {"unspecified": True}), behind_lost(before.end() - at - 1)])

    a = base().seal()
    b = Segment(2, 1, a, 1, 7)
    b.seal()
    first = (1, 1, good, "Whole", a, {})
    c = after(b, 3, (2, 0, b.end()))
    journal("journals/known-lost-segment", "segment 2 is not there; segment 3's Recovered says so", [
        first, (3, 7, c.file(), "KnownDamage", c, {})])
    journal("journals/known-lost-first-segment", "segments 1 and 2 are not there; segment 3's Recovered says so of 2", [
        (3, 7, c.file(), "KnownDamage", c, {})])
    journal("journals/known-lost-segment-is-there", "segment 2 is said to be lost, and is there", [
        first, (2, 7, b.file(flags=SEALED), "Whole", b, {}), (3, 7, c.file(), "OpenEnd", c, {})])
    c = Segment(3, 2, a, 1, 9, [control(TYPE_RECOVERED, RECOVERED.pack(1, a.sequence, a.end(), 0, 6, 2, 4, 1, 0)
                                        + DAMAGED_RANGE.pack(2, 0, b.end()))])
    c.group(events(9, 2))
    journal("journals/known-lost-newest-segment", "segment 2 was the newest, and is not there; segment 3's Recovered says so", [
        first, (3, 9, c.file(), "KnownDamage", c, {})])
    c = after(b, 3, (2, 0, 52))
    journal("journals/known-header-lost-segment", "segment 2 is not there; segment 3's Recovered says that its header is damaged", [
        (1, 1, good, "Corrupt", a, {}), (3, 7, c.file(), "Corrupt", c, {})])


def retired():
    """Segments that were taken out on purpose."""
    def statement(*gone, kind=1, digest=None, end=None):
        last = gone[-1]
        ids = [i for one in gone for i in one.ids]
        return control(TYPE_COMPACTED, COMPACTED.pack(
            kind, 4, last.number, last.end() if end is None else end, last.sequence, len(gone), len(ids),
            sum(one.records for one in gone), sum(one.end() for one in gone), min(ids), max(ids), 1, 0, WALL_NS,
            last.tip() if digest is None else digest))

    a = base().seal()
    b = Segment(2, 1, a, 1, 7)
    b.group(events(7, 2))
    b.seal()

    def third(*records):
        c = Segment(3, 1, b, 1, 9, records)
        c.group(events(9, 2))
        return c

    a_file, b_file = a.file(flags=SEALED), b.file(flags=SEALED)
    second = (2, 7, b_file, "Whole", b, {})
    c = third(statement(a))
    last = (3, 9, c.file(), "OpenEnd", c, {})
    journal("journals/retired", "segment 1 was retired; segment 3's Compacted says so", [second, last])
    journal("journals/retired-leftover", "segment 1 was retired, and its file is still there", [second, last],
            leftovers=[(1, 1, a_file)])
    journal("journals/retired-damaged-leftover", "segment 1 was retired, and its file is damaged", [second, last],
            leftovers=[(1, 1, flip(a_file, 60))])
    journal("journals/retired-and-missing", "segment 1 was retired, and segment 2 is not there", [
        (3, 9, c.file(), "Corrupt", c, {})])
    c = third(statement(a, digest=b"\x77" * 32))
    journal("journals/retired-other-digest", "Compacted has another digest than segment 2 goes on from", [
        (2, 7, b_file, "Corrupt", b, {}), (3, 9, c.file(), "OpenEnd", c, {})])
    c = third(statement(a, kind=0x7777))
    journal("journals/retired-unknown-kind", "a Compacted of a kind that is not known says nothing", [
        (1, 1, a_file, "Whole", a, {}), second, (3, 9, c.file(), "OpenEnd", c, {})])
    c = third(statement(a), statement(a, b))
    journal("journals/retired-twice", "of two Compacted the one counts that retires more; a file in between is still there", [
        (3, 9, c.file(), "OpenEnd", c, {})], leftovers=[(2, 7, b_file)])
    c = Segment(3, 1, b, 1, 9)
    c.group([statement(a), *events(9, 2)])
    journal("journals/retired-not-first-group", "a Compacted behind the first group says nothing", [
        (2, 7, b_file, "Corrupt", b, {}), (3, 9, c.file(), "OpenEnd", c, {})])


def thinned():
    """Events that were taken out of a segment."""
    a = Segment()
    a.group(events(1, 7))
    a.group(events(8, 2))
    whole = a
    whole.seal()
    groups = [[r for _, r in whole.offsets[first:last]] for first, last in ((0, 2), (2, 10), (10, 14))]

    def stub(gone, place, **changes):
        """The record in the place of these, which begin at this place of their group."""
        ids = [struct.unpack_from("<Q", r)[0] for r in gone]
        roots, at, end = b"", place, place + len(gone)
        while at < end:
            size = 1
            while at % (2 * size) == 0 and at + 2 * size <= end:
                size *= 2
            roots += root_of(gone[at - place:at - place + size])
            at += size
        figures = dict(first=min(ids), last=max(ids), size=sum(map(len, gone)), count=len(gone))
        figures.update(changes)
        body = GONE.pack(figures["first"], figures["last"], figures["size"], figures["count"], len(roots) // 32)
        return control(TYPE_COMPACTED, body + roots, 1)

    def without(places, **changes):
        """The segment's file without the events of these half-open runs of the second group, and its accepted part."""
        out, at = [], 0
        for first, last in places:
            out += groups[1][at:first] + [stub(groups[1][first:last], first, **changes)]
            at = last
        records = groups[0] + out + groups[1][at:] + groups[2]
        short = Segment()
        short.body, short.records = b"".join(records), len(records)
        short.ids = [i for i in (struct.unpack_from("<Q", r)[0] for r in records) if i]
        short.commits, short.sequence = whole.commits, whole.sequence
        short.last_commit_digest, short.seal_digest = whole.last_commit_digest, whole.seal_digest
        short.next_id = 10
        return short.file(flags=SEALED | THINNED), short

    def after(count, **changes):
        figures = dict(number=1, digest=whole.tip())
        figures.update(changes)
        body = COMPACTED.pack(2, 0, figures["number"], whole.end(), whole.sequence, 1, count, count, 0, 1, 9, 1, 1, WALL_NS,
                              figures["digest"]) + GAP_TYPE.pack(WRITE, 0, count)
        b = Segment(2, 1, whole, 1, 10, [control(TYPE_COMPACTED, body)])
        b.group(events(10, 2))
        return (2, 10, b.file(), "OpenEnd", b, {})

    data, short = without([(1, 4)])
    journal("journals/thinned", "three events of segment 1 were taken out; segment 2's Compacted says so", [
        (1, 1, data, "Whole", short, {}), after(3)])
    journal("journals/compressed-thinned", "the same, and segment 1 is compressed", [
        (1, 1, packing.compressed(data, short.end(), [], root_of), "Whole", short, {}), after(3)])
    data, short = without([(0, 2), (3, 7)])
    journal("journals/thinned-twice", "two runs of events were taken out of one group, up to its end", [
        (1, 1, data, "Whole", short, {}), after(6)])
    journal("journals/thinned-more-than-said", "six events of segment 1 are gone, a Compacted speaks of five", [
        (1, 1, data, "Corrupt", short, {}), after(5)])
    data, short = without([(0, 7)])
    journal("journals/thinned-whole-group", "all events of a group were taken out", [
        (1, 1, data, "Whole", short, {}), after(7)])
    journal("journals/thinned-not-said", "events of segment 1 are gone, and a Compacted speaks of another digest", [
        (1, 1, data, "Corrupt", short, {}), after(7, digest=b"\x77" * 32)])
    journal("journals/thinned-not-yet", "a Compacted says that events were taken out, and they are there", [
        (1, 1, whole.file(flags=SEALED), "Whole", whole, {}), after(9)])
    for name, what, changes in (("count", "one event more", dict(count=4)), ("size", "a byte more", dict(size=1))):
        if "size" in changes:
            changes = dict(size=sum(map(len, groups[1][1:4])) + 1)
        data, _ = without([(1, 4)], **changes)
        journal(f"journals/thinned-wrong-{name}", f"a record in the place of events speaks of {what}", [
            (1, 1, data, "Corrupt", None, {"unspecified": True}), after(9)])
    data, _ = without([(1, 4)])
    at = data.index(stub(groups[1][1:4], 1))
    record_size = len(stub(groups[1][1:4], 1))
    kept = data.index(groups[1][5])
    recovered = RECOVERED.pack(1, whole.sequence, whole.end(), 0, 8, 2, 4, 1, 0) + DAMAGED_RANGE.pack(
        1, kept, len(groups[1][5]))
    said = COMPACTED.pack(2, 0, 1, whole.end(), whole.sequence, 1, 3, 3, 0, 1, 9, 1, 0, WALL_NS, whole.tip())
    b = Segment(2, 1, whole, 1, 10, [control(TYPE_RECOVERED, recovered), control(TYPE_COMPACTED, said)])
    _, short = without([(1, 4)])
    short.ids, short.records = [i for i in short.ids if i != 6], short.records - 1
    journal("journals/thinned-known-damage", "an event is damaged in the group that others were taken out of; Recovered says so", [
        (1, 1, flip(data, kept + 150), "KnownDamage", short, {}), (2, 10, b.file(), "OpenEnd", b, {})])
    cut = Segment()
    cut.group(events(1, 7))
    said = COMPACTED.pack(2, 0, 1, cut.end(), cut.sequence, 1, 3, 3, 0, 1, 7, 2, 0, WALL_NS, cut.tip())
    b = Segment(2, 2, cut, 2, 10, [control(TYPE_COMPACTED, said)])
    left = groups[0] + groups[1][:1] + [stub(groups[1][1:4], 1)] + groups[1][4:]
    short = Segment()
    short.body, short.records, short.ids = b"".join(left), len(left), [1, 5, 6, 7]
    short.commits, short.sequence = cut.commits, cut.sequence
    short.last_commit_digest, short.next_id = cut.last_commit_digest, 8
    journal("journals/thinned-cut", "a segment that events were taken out of was cut behind its second group", [
        (1, 1, short.file(flags=CUT | THINNED), "Whole", short, {}), (2, 10, b.file(), "OpenEnd", b, {})])
    forged = data[:at] + resum(flip(data[at:at + record_size], record_size - 1)) + data[at + record_size:]
    journal("journals/thinned-wrong-root", "the root of a subtree of what was taken out is another", [
        (1, 1, forged, "Corrupt", None, {"unspecified": True}), after(3)])


def watermarks():
    a = base().seal()
    b = Segment(2, 1, a, 1, 7)
    b.group(events(7, 2))
    before = slot(1, b)
    b_was, b_end = b.file(), b.end()
    b.group(events(9, 2))
    a_file, b_file = a.file(flags=SEALED), b.file()
    first = (1, 1, a_file, "Whole", a, {})
    journal("journals/marked", "the watermark speaks of the last Commit", [
        first, (2, 7, b_file, "OpenEnd", b, {})], watermark(before, slot(2, b)))
    journal("journals/marked-lagging", "the watermark speaks of the Commit before the last, with another slot torn", [
        first, (2, 7, b_file, "OpenEnd", b, {})], watermark(before, flip(slot(2, b), 60)))
    short = Segment(2, 1, a, 1, 7)
    short.group(events(7, 2))
    rotten = flip(b_file, b_end + 150)
    journal("journals/unmarked-rot", "a bit flipped in the last group, which the watermark does not speak of", [
        first, (2, 7, rotten, "TornTail", short, {})], watermark(before))
    journal("journals/marked-rot", "a bit flipped in the last group, which was durable by the watermark", [
        first, (2, 7, rotten, "Corrupt", short, {})], watermark(before, slot(2, b)))
    journal("journals/marked-lost-group", "the last group, durable by the watermark, is all zero", [
        first, (2, 7, b_was, "Corrupt", short, {})], watermark(slot(3, b), before))
    journal("journals/marked-missing-newest", "segment 2, durable by the watermark, is not there", [
        (1, 1, a_file, "Corrupt", a, {})], watermark(slot(2, b)))
    journal("journals/marked-other-journal", "the watermark of another journal", [
        first, (2, 7, b_file, "Corrupt", b, {})], watermark(slot(2, b, uuid=bytes(16))))
    journal("journals/marked-other-digest", "the watermark has another digest for the last Commit", [
        first, (2, 7, b_file, "Corrupt", b, {})], watermark(slot(2, b, digest=b"\x77" * 32)))
    c = Segment(3, 2, short, 2, 11)
    journal("journals/mark-superseded", "a segment of a later epoch has cut what the watermark speaks of", [
        first, (2, 7, rotten, "Whole", short, {}), (3, 11, c.file(), "OpenEnd", c, {})], watermark(slot(2, b)))
    journal("journals/marked-other-journal-before", "the watermark of another journal, of an earlier epoch", [
        first, (2, 7, rotten, "Whole", short, {}), (3, 11, c.file(), "Corrupt", c, {})],
        watermark(slot(2, b, uuid=bytes(16))))
    journal("journals/mark-garbage", "a watermark file of which no slot is right", [
        first, (2, 7, b_file, "OpenEnd", b, {})], b"\xa5" * 100)
    sealed = Segment(2, 1, a, 1, 7)
    sealed.group(events(7, 2))
    unsealed, was = sealed.file(), sealed.end()
    sealed.seal()
    journal("journals/marked-lost-seal", "a seal, durable by the watermark, is not there", [
        first, (2, 7, unsealed, "Corrupt", None, {**expectation(short), "seal_digest": None})],
        watermark(slot(2, sealed)))
    assert was == short.end()


def compressed():
    """Sealed segments in their compressed form. A block that is not right reads as zeros."""
    def groups(count):
        s = Segment()
        for i in range(1, count):
            s.group(events(3 * i - 2, 3))
            s.synced = i + 1
        return s

    def pack(s, cuts, kind=packing.NONE, version=packing.REGROUPED, flags=SEALED, **lies):
        return packing.compressed(s.file(flags=flags), s.end(), cuts, root_of, kind, version, **lies)

    # Blocks: two groups; one; the last one and the seal.
    whole = groups(4).seal()
    cuts = [groups(2).end(), groups(3).end()]
    first, second = groups(2), groups(3)
    forms = ((packing.PLAIN, "plain", "the records as they are"), (packing.REGROUPED, "regrouped", "the records regrouped"))
    for version, name, what in forms:
        for kind, codec in enumerate(packing.CODEC_NAMES):
            add(f"good/compressed-{name}-{codec}.semj", pack(whole, cuts, kind, version), "Whole",
                f"a compressed segment of three blocks; {what}, compression_type {kind}", whole)
    add("good/compressed-one-block.semj", packing.compressed(whole.final(SEALED) + whole.body, whole.end(), [], root_of), "Whole",
        "a compressed segment of one block, nothing behind the native end", whole)
    add("good/compressed-other-digest.semj", pack(whole, cuts, seal_changes={"file_digest": b"\x77" * 32}), "Whole",
        "a compressed segment whose file_digest is another: what it gives back is proven by its own digests", whole)

    everything = dict(
        transaction_id=1, session_id=2**64 - 1, causality_chain_id=3, path=b"/caf\xc3\xa9/\xff\xfe not UTF-8",
        inode_number=5, file_type=0o040000, graph_node_id=7, graph_edge_id=8, graph_operation_type=9, vector_id=10,
        vector_dimensions=11, vector_element_type=12, agent_id=b"a" * 63, agent_intent=b"look around",
        agent_confidence=100, system_load=16, memory_usage=2**40, io_pressure=18, semantic_tags=b'{"k":"v"}',
        semantic_intent=b"test", semantic_confidence=1)
    later = compact(path=b"/new", later=[(21, b"field of a later version"), (31, b""), (30, b"field of a")])
    s = Segment()
    s.group([record(1, SYNC), record(2, CREATE, compact(path=b"/a")), record(3, CREATE, compact()),
             record(4, 0x0404, compact(**everything)), record(5, 0x0404, fixed(**everything), b"payload"),
             record(6, CREATE, fixed(path=b"/a")), record(7, CREATE, fixed()), record(8, CREATE, b"\x01\0")])
    s.group([record(9, 0x0FABCDEF, later, b"x", subtype=0xDEADBEEF, flags=0xFFFF0108, priority=99, relevance=1000, replay=77),
             record(10, 0x0FABCDEF, later, b"x"), record(2**40, 0x0702, payload=bytes(160)),
             control(0x07F0, b"unknown type"), control(TYPE_GAP, b"v9", 9)], flags=0x80000000)
    s.group([record(2**40 + 3, 0xFFFFFFFF, payload=b"p" * 300, parent=7, root=1, ktime=-2**63),
             record(2**40 + 2, DELETE, b"", b"gone", metadata=b'{"host":"a"}', ktime=2**63 - 1,
                    links=link(1, 2, 7, 100, -5, b"because") + link(2, 1, 8, 0, 2**62, b"")),
             record(2**40 + 1, DELETE, b"", b"gone", compression=3, encryption=2**32 - 1, cpu=63, process=0)],
            flags=BY_PRIORITY, synced=1)
    # The same paths again, in the same order and in another one; inode numbers and types that stay and that change.
    again = [11, 12, 13, 11, 12, 13, 13, 11, 12]
    s.group([record(2**41 + i, WRITE, compact(path=b"/srv/%d" % n, inode_number=n + (i == 7), file_type=0o100000),
                    b'{"bytes":%d}' % (n * 4096)) for i, n in enumerate(again)])
    s.group([control(0x0706, b"no events")])
    s.seal()
    commits = [o + len(r) for o, r in s.offsets if r in s.commits]
    for kind, codec in enumerate(packing.CODEC_NAMES):
        add(f"good/compressed-everything-{codec}.semj", pack(s, [], kind), "Whole",
            f"contexts in all forms, links, unknown values, ids out of order, in one regrouped block of compression_type {kind}", s)
    add("good/compressed-everything-blocks.semj", pack(s, [commits[1] + 132 + len(later) + 1, *commits[2:]], packing.LZ4), "Whole",
        "the same in blocks that begin inside a group and behind each Commit", s)

    def damaged(name, description, data, kept=None):
        add(f"damaged/compressed-{name}.semj", data, "Corrupt", description, kept)

    good = pack(whole, cuts)
    places, at = [], 52
    while good[at:at + 4] == b"BMES":
        places.append(at)
        at += struct.unpack_from("<I", good, at + 16)[0]
    index, seal_at, size = at, len(good) - 296, places[2] - places[1]
    damaged("header-flipped", "a bit flipped in a compressed segment's header", flip(good, 40))
    damaged("first-block-flipped", "a bit flipped in the first block", flip(good, places[0] + 200))
    damaged("block-flipped", "a bit flipped in a block", flip(good, places[1] + 130), first)
    damaged("block-header-flipped", "a bit flipped in a block's header", flip(good, places[1] + 21), first)
    damaged("last-block-flipped", "a bit flipped in the last block", flip(good, index - 1), second)
    damaged("index-flipped", "a bit flipped in the block index", flip(good, index + 3))
    damaged("seal-flipped", "a bit flipped in the file seal", flip(good, seal_at + 230))
    damaged("truncated", "a compressed segment without its last byte", good[:-1])
    damaged("truncated-seal", "a compressed segment without its seal", good[:seal_at])
    damaged("longer", "a byte behind the file seal", good + b"\0")

    def lies(name, description, kept=None, version=packing.REGROUPED, kind=packing.NONE, **what):
        damaged(name, description, pack(whole, cuts, kind, version, **what), kept)

    native = packing.header((0x53454D4A, 1, 0, whole.records + 1, 10, whole.end(), 0, SEALED))
    block_size = len(whole.body) - (cuts[1] - 52)
    lies("seal-magic", "another magic in the file seal", seal_changes={"magic": 0x53454D42})
    lies("seal-version", "version 2 of the file seal", seal_changes={"version": 2})
    lies("block-count", "block_count is one too large", seal_changes={"block_count": 4})
    lies("native-end", "native_end is one too small", seal_changes={"native_end": whole.end() - 1})
    lies("native-size-small", "native_size is less than is in use", seal_changes={"native_size": whole.end() - 1})
    lies("native-size-huge", "native_size is 4 GiB and a byte", seal_changes={"native_size": 2**32 + 1})
    lies("native-header", "the native header has another total_events", seal_changes={"native_header": native})
    lies("native-header-flipped", "a bit flipped in the native header", seal_changes={"native_header": flip(whole.final(SEALED), 13)})
    lies("not-sealed", "header and native header without SEALED", native_flags=0)
    lies("cut", "CUT in header and native header", native_flags=CUT)
    lies("twice", "the native header says COMPRESSED too", native_flags=SEALED | 8)
    lies("flags-differ", "THINNED in the header, not in the native one", header_changes={"flags": SEALED | THINNED | 8})
    lies("index-offset", "index_offset is four bytes too small", header_changes={"index_offset": index - 4})
    lies("index-offset-huge", "index_offset is 2⁶⁴ - 1", header_changes={"index_offset": 2**64 - 1})
    lies("index-lies-offset", "the index has another offset for the second block", entry_changes={1: {"offset": places[1] + 1}})
    lies("index-lies-native-offset", "the index has a hole in the native bytes", entry_changes={1: {"native_offset": cuts[0] + 8}})
    lies("index-lies-size", "the index has 103 bytes for a block", entry_changes={1: {"block_size": 103}})
    lies("index-lies-ids", "the index has another last_event_id for the second block", first, entry_changes={1: {"last_id": 7}})
    moved = {1: {"uncompressed_size": cuts[1] - cuts[0] + 8}, 2: {"native_offset": cuts[1] + 8, "uncompressed_size": block_size - 8}}
    lies("index-lies-bytes", "the index gives eight bytes of the third block to the second", first, entry_changes=moved)
    for name, what, changes in (
            ("magic", "another magic", {"magic": 0x53454D43}), ("version", "version 3", {"version": 3}),
            ("id", "the block_id of another block", {"block_id": 2}), ("kind", "compression_type 5", {"kind": 5}),
            ("size", "a block_size that is a byte too small", {"block_size": size - 1}),
            ("compressed-size", "a compressed_size that is a byte too small", {"compressed_size": size - 105}),
            ("bytes", "an uncompressed_size that is a byte too large", {"uncompressed_size": cuts[1] - cuts[0] + 1}),
            ("bomb", "an uncompressed_size of 4 GiB", {"uncompressed_size": 2**32 - 1}),
            ("count", "an event_count that is one too large", {"event_count": 5}),
            ("first-time", "another first_event_time", {"first_time": bytes(24)}),
            ("last-time", "another last_event_time", {"last_time": bytes(24)}),
            ("ids", "another first_event_id, in the index too", {"first_id": 3})):
        entries = {1: {"uncompressed_size": cuts[1] - cuts[0], "block_size": size}}
        lies(f"block-lies-{name}", f"a block with {what}", first, block_changes={1: changes}, entry_changes=entries)
    bomb = {1: {"uncompressed_size": 2**20 + 1}, 2: {"native_offset": cuts[0] + 2**20 + 1}}
    lies("index-bomb", "the index has a block of 1,048,577 bytes", entry_changes=bomb,
         seal_changes={"native_end": cuts[0] + 2**20 + 1 + block_size, "native_size": 2**32})
    for kind, codec in enumerate(packing.CODEC_NAMES):
        more = {1: lambda records: packing.PACK[kind](records + bytes(99999))}
        less = {1: lambda records: packing.PACK[kind](records[:-132])}
        tail = {1: lambda records: packing.PACK[kind](records) + b"\0"}
        cut = {1: lambda records: packing.PACK[kind](records)[:-1]}
        for name, what, data in (("bomb", "data of which more comes out than is said", more),
                                 ("short", "data of which less comes out than is said", less),
                                 ("tail", "a byte behind the data", tail), ("cut", "data that lack their last byte", cut)):
            if kind == packing.NONE and name in ("bomb", "tail", "cut"):
                continue
            lies(f"{name}-{codec}", f"a block with {what}, compression_type {kind}", first, packing.PLAIN, kind, data=data)
    two = {1: lambda records: packing.zstd_frame(records[:500]) + packing.zstd_frame(records[500:])}
    lies("two-frames", "a block whose data are two zstd frames", first, packing.PLAIN, packing.ZSTD, data=two)
    rotten = {1: lambda records: flip(records, 150)}
    lies("record-flipped", "a block with a record whose checksum is wrong", first, packing.PLAIN, data=rotten)
    frame = {1: lambda records: flip(records, 80)}
    lies("record-frame", "a block with a record whose frame is wrong", first, packing.PLAIN, data=frame)

    def stream(name, change):
        """The data of a block of which one stream is another."""
        return lambda r, kind: r.data(kind, {**r.streams, name: change(bytes(r.streams[name]))})

    for name, what, change in (
            ("too-soon", "a stream of times that ends too soon", stream("time", lambda b: b[:-1])),
            ("left-over", "a byte left over in a stream", stream("origin", lambda b: b + b"\0")),
            ("changes", "an unknown bit of changes", stream("changes", lambda b: b[:-1] + packing.varint(b[-1] & 127 | 1 << 21))),
            ("varint", "a number of more than 64 bits", stream("time", lambda b: b"\xff" * 9 + b"\x02" + b[1:])),
            ("endless", "a number of eleven bytes", stream("time", lambda b: b"\x80" * 10 + b"\0" + b[1:])),
            ("kind", "a type that is not there", stream("kind", lambda b: b[:-1] + b"\x09")),
            ("text", "a text that is not there", stream("path", lambda b: b[:-1] + b"\x09")),
            ("shared", "a text that shares more than the other has", stream("shared", lambda b: b[:-1] + b"\x7f")),
            ("length", "a text longer than its bytes", stream("length", lambda b: b[:-1] + b"\x7f")),
            ("shape", "a context of form 4", stream("shape", lambda b: b"\x04" + b[1:])),
            ("commit", "a Commit that leaves out what there is not", stream("commit", lambda b: b[:-1] + b"\x08")),
            ("digest", "a Commit whose digest is not left out, and is not there", stream("commit", lambda b: b[:-1] + b"\x01")),
            ("other-digest", "a Commit with another digest comes out", stream("commit", lambda b: b[:-1] + b"\x03")),
            ("count", "a record more than there is", lambda r, kind: r.data(kind, count=r.count + 1)),
            ("fewer", "a record less than there is", lambda r, kind: r.data(kind, count=r.count - 1)),
            ("sizes", "numbers that end behind the data", lambda r, kind: struct.pack("<I", 2**32 - 1) + r.data(kind)[4:]),
            ("no-data", "eleven bytes of data", lambda r, kind: r.data(kind)[:11])):
        lies(f"regrouped-{name}", f"a regrouped block: {what}", first, regroup={1: change})

    big = Segment()
    big.group([event(1)])
    kept = big.end()
    big.group([event(2, payload=b"x" * 4096)])
    commit_at, big_end = big.end() - len(big.commits[-1]), big.seal()
    before = Segment()
    before.group([event(1)])

    def without_root(r, kind):
        # The root is in its place in the other bytes, which have nothing else but what is not computed.
        others = bytes(r.streams["other_bytes"]).replace(big.commits[-1][132 + 64:132 + 96], b"")
        return r.data(kind, {**r.streams, "other_bytes": others, "commit": r.streams["commit"][:-1] + b"\x05"})

    damaged("regrouped-root", "a regrouped block: a Commit leaves out the root of a group of more than 4,096 bytes",
            pack(big, [kept], regroup={1: without_root}), before)

    # In journals.
    a, b = whole, Segment(2, 1, whole, 1, 10)
    b.group(events(10, 2))
    b.seal()
    c = Segment(3, 2, b, 1, 12)
    c.group(events(12, 2))
    second_file, third = pack(b, [], packing.ZSTD), (3, 12, c.file(), "OpenEnd", c, {})
    journal("journals/compressed-chain", "two compressed segments and an open one", [
        (1, 1, pack(a, cuts, packing.LZ4), "Whole", a, {}), (2, 10, second_file, "Whole", b, {}), third])
    journal("journals/compressed-and-native", "a compressed segment behind a native one", [
        (1, 1, a.file(flags=SEALED), "Whole", a, {}), (2, 10, second_file, "Whole", b, {}), third])
    journal("journals/compressed-newest", "the newest segment is compressed, and the watermark speaks of its seal", [
        (1, 1, a.file(flags=SEALED), "Whole", a, {}), (2, 10, second_file, "Whole", b, {})], watermark(slot(2, b)))
    journal("journals/compressed-newest-rot", "the same, its last block damaged", [
        (1, 1, a.file(flags=SEALED), "Whole", a, {}),
        (2, 10, flip(second_file, struct.unpack_from("<Q", second_file, 36)[0] - 1), "Corrupt", None, {})], watermark(slot(2, b)))
    journal("journals/compressed-swapped", "two compressed segments under each other's name", [
        (1, 1, second_file, "Corrupt", None, {"unspecified": True}),
        (2, 10, pack(a, cuts), "Corrupt", None, {"unspecified": True})])

    def after(lost, sequence):
        """A segment that says what is lost of the first."""
        body = RECOVERED.pack(1, sequence, whole.end(), 0, 0, 2, 4, 1, 0) + DAMAGED_RANGE.pack(1, *lost)
        d = Segment(2, 2, whole, 1, 10, [control(TYPE_RECOVERED, body)])
        d.group(events(10, 2))
        return (2, 10, d.file(), "OpenEnd", d, {})

    block_lost = groups(4).seal()
    block_lost.ids, block_lost.records = [1, 2, 3, 7, 8, 9], block_lost.records - 4
    del block_lost.commits[2]
    middle = (cuts[0], cuts[1] - cuts[0])
    journal("journals/compressed-known-damage", "a block is damaged; the next segment's Recovered says so", [
        (1, 1, flip(good, places[1] + 130), "KnownDamage", block_lost, {}), after(middle, 4)])
    journal("journals/compressed-known-damage-and-new", "the same, and the last block is damaged", [
        (1, 1, flip(flip(good, places[1] + 130), index - 1), "Corrupt", None, {"unspecified": True}), after(middle, 4)])
    journal("journals/compressed-known-lost-end", "the last block is damaged; the next segment's Recovered says so", [
        (1, 1, flip(good, index - 1), "KnownDamage", second, {"end": whole.end()}),
        after((cuts[1], whole.end() - cuts[1]), 4)])


# The worked example -----------------------------------------------------------------------------------------


def hexdump(data, offset, fields):
    """Rows `offset  bytes  field`, at most 16 bytes each; runs of whole zero rows in one field are shortened."""
    rows = []
    for size, name in fields:
        part, data = data[:size], data[size:]
        if size > 32 and not any(part[32:]) or (size >= 32 and not any(part)):
            shown = [] if not any(part) else [part[:16]]
            for row in shown:
                rows.append((offset, row.hex(" "), name))
            zeros = size - 16 * len(shown)
            rows.append((offset + 16 * len(shown), f"{zeros} × 00", "" if shown else name))
        else:
            for i in range(0, size, 16):
                rows.append((offset + i, part[i:i + 16].hex(" "), name if i == 0 else ""))
        offset += size
    assert not data
    return [f"{o:5}  {b:<47}  {n}".rstrip() for o, b, n in rows]


def example_text():
    s = example()
    data = s.file(flags=SEALED)
    head = ((8, "event_id {id}"), (4, "event_type {name}"), (4, "event_subtype"), (8, "timestamp.ktime"),
            (8, "timestamp.sequence"), (8, "cpu_id, process_id"), (8, "global_sequence"), (8, "local_sequence"),
            (8, "event_flags, event_priority"), (4, "event_size {size}"), (4, "context_size {context}"),
            (8, "payload_size {payload}, metadata_size"), (4, "event_version"), (4, "checksum"),
            (8, "compression_type, encryption_type"), (4, "causality_link_count"), (8, "parent_event_id"),
            (8, "root_cause_event_id"), (8, "agent_visibility_mask"), (8, "agent_relevance_score, replay_priority"))
    bodies = {
        TYPE_OPEN: ("SegmentOpen", ((16, "journal_uuid"), (8, "segment_number"), (8, "epoch"), (8, "previous_segment"),
                    (8, "previous_end, reserved"), (8, "previous_end_offset"), (32, "previous_digest"),
                    (8, "next_event_id"), (8, "next_commit_sequence"), (8, "wall_clock_ns"), (8, "monotonic_ns"),
                    (16, "boot_id"), (32, "writer"))),
        TYPE_COMMIT: ("Commit", ((8, "commit_sequence"), (8, "epoch"), (8, "first_event_id"), (8, "last_event_id"),
                      (8, "record_count, event_count"), (8, "byte_count"), (8, "synced_upto"), (8, "flags, reserved"),
                      (32, "root"), (32, "previous_digest"), (32, "digest"))),
        TYPE_SEAL: ("SegmentSeal", ((8, "segment_number"), (8, "epoch"), (8, "commit_sequence"), (8, "commit_count"),
                    (8, "record_count"), (8, "event_count"), (8, "first_event_id"), (8, "last_event_id"),
                    (8, "byte_count"), (8, "synced_upto"), (32, "root"), (32, "previous_digest"), (32, "digest"))),
        CREATE: ("FilesystemCreate", ((4, "context: bits 3, 4, 5"), (2, "path: 9 bytes"), (9, "/etc/motd"),
                 (8, "inode_number"), (4, "file_type S_IFREG"), (5, "payload \"hello\"")))}
    lines = ["journal header"]
    lines += hexdump(data[:52], 0, (
        (4, "magic"), (8, "version 1.0"), (8, f"total_events {s.records}"), (8, "next_event_id 2"),
        (8, f"journal_size {s.end()}"), (8, "index_offset"), (4, "flags SEALED"), (4, "checksum")))
    for offset, one in s.offsets:
        event_id, kind = struct.unpack_from("<QI", one)
        size, context, payload = struct.unpack_from("<III", one, 64)
        name, body = bodies[kind]
        facts = dict(id=event_id, name=name, size=size, context=context, payload=payload)
        lines += ["", name]
        lines += hexdump(one, offset, [(n, t.format(**facts)) for n, t in head] + list(body))
    lines += ["", "tail", f"{s.end():5}  {len(data) - s.end()} × 00"]
    return "\n".join(lines) + "\n"


def list_text():
    lines = ["| file or directory | verdict | what it is |", "| --- | --- | --- |"]
    for case in CASES:
        name = case.get("file") or case["directory"] + "/"
        verdict = ", ".join(one["verdict"] or "none" for one in case.get("segments", [case]))
        lines.append(f"| `{name}` | {verdict} | {case['description']} |")
    return "\n".join(lines) + "\n"


def main(argv):
    if argv[1:] == ["--example"]:
        print(example_text(), end="")
        return 0
    for make in (good, torn, ambiguous, corrupt, unsupported, journals, known_losses, retired, thinned, watermarks,
                 compressed):
        make()
    if argv[1:] == ["--list"]:
        print(list_text(), end="")
        return 0
    verdicts = {"about": "Made by make.py. Fields: SPEC.md, Test vectors.", "cases": CASES}
    FILES["verdicts.json"] = (json.dumps(verdicts, indent=1, ensure_ascii=True) + "\n").encode()
    if argv[1:] == ["--check"]:
        wrong = [name for name, data in FILES.items() if not (HERE / name).is_file() or (HERE / name).read_bytes() != data]
        wrong += [str(p.relative_to(HERE)) for p in (*HERE.rglob("*.semj"), *HERE.rglob("WATERMARK")) if str(p.relative_to(HERE)) not in FILES]
        spec = SPEC.read_text()
        wrong += [f"SPEC.md: {what}" for what, text in (("worked example", example_text()), ("list", list_text()))
                  if text not in spec]
        for name in wrong:
            print(f"make.py: {name} is not as made", file=sys.stderr)
        return 1 if wrong else 0
    if len(argv) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    for name, data in FILES.items():
        (HERE / name).parent.mkdir(parents=True, exist_ok=True)
        (HERE / name).write_bytes(data)
    print(f"{len(FILES) - 1} files, {sum(map(len, FILES.values()))} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
