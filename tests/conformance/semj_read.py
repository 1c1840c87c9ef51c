#!/usr/bin/env python3
"""An independent reader of SEMJ journals, written from SPEC.md alone. Python standard library only.

  semj_read.py verify [--no-events] FILE|DIR   verdicts, faults and events as one JSON object; with --no-events
                                               the number of ids in their place
  semj_read.py native FILE                     the bytes of a segment, of a compressed one those that it stands for
  semj_read.py check VECTORS                   hold the verdicts of tests/vectors/verdicts.json against this reader

Exit status: 0 good, 1 damage found or a vector disagrees, 2 wrong use or an unreadable file.
"""
import hashlib
import json
import mmap
import re
import struct
import sys
from collections import namedtuple
from pathlib import Path

from semj_codecs import Undecodable
from semj_compressed import Compressed, is_compressed
from semj_sums import digest, kernel_crc, leaf, merkle_root

# Structures (SPEC.md 3 to 6, 11) ----------------------------------------------------------------------------


class Layout:
    """A packed little-endian structure as a named tuple."""

    CODES = {"u32": "I", "u64": "Q", "i64": "q", "uuid": "16s", "digest": "32s", "text20": "20s", "text32": "32s", "text128": "128s"}

    def __init__(self, name, size, fields):
        pairs = [field.split(":") for field in fields.split()]
        self.struct = struct.Struct("<" + "".join(self.CODES[kind] for _, kind in pairs))
        self.tuple = namedtuple(name, [field for field, _ in pairs])
        self.size = size
        assert self.struct.size == size, name

    def read(self, data, at=0):
        return self.tuple._make(self.struct.unpack_from(data, at))


HEADER = Layout("Header", 52, "magic:u32 version_major:u32 version_minor:u32 total_events:u64 next_event_id:u64 "
                              "journal_size:u64 index_offset:u64 flags:u32 checksum:u32")
EVENT = Layout("Event", 132, "event_id:u64 event_type:u32 event_subtype:u32 ktime:i64 sequence:u64 cpu_id:u32 "
                             "process_id:u32 global_sequence:u64 local_sequence:u64 event_flags:u32 "
                             "event_priority:u32 event_size:u32 context_size:u32 payload_size:u32 metadata_size:u32 "
                             "event_version:u32 checksum:u32 compression_type:u32 encryption_type:u32 "
                             "causality_link_count:u32 parent_event_id:u64 root_cause_event_id:u64 "
                             "agent_visibility_mask:u64 agent_relevance_score:u32 replay_priority:u32")
LINK = Layout("Link", 160, "cause_event_id:u64 effect_event_id:u64 causality_type:u32 causality_strength:u32 "
                           "causality_delay:i64 causality_description:text128")
OPEN = Layout("SegmentOpen", 168, "journal_uuid:uuid segment_number:u64 epoch:u64 previous_segment:u64 "
                                  "previous_end:u32 reserved:u32 previous_end_offset:u64 previous_digest:digest "
                                  "next_event_id:u64 next_commit_sequence:u64 wall_clock_ns:i64 monotonic_ns:i64 "
                                  "boot_id:uuid writer:text32")
COMMIT = Layout("Commit", 160, "commit_sequence:u64 epoch:u64 first_event_id:u64 last_event_id:u64 record_count:u32 "
                               "event_count:u32 byte_count:u64 synced_upto:u64 flags:u32 reserved:u32 root:digest "
                               "previous_digest:digest digest:digest")
SEAL = Layout("SegmentSeal", 176, "segment_number:u64 epoch:u64 commit_sequence:u64 commit_count:u64 "
                                  "record_count:u64 event_count:u64 first_event_id:u64 last_event_id:u64 "
                                  "byte_count:u64 synced_upto:u64 root:digest previous_digest:digest digest:digest")
RECOVERED = Layout("Recovered", 56, "segment_number:u64 commit_sequence:u64 cut_offset:u64 quarantined_bytes:u64 "
                                    "kept_events:u64 mode:u32 verdict:u32 range_count:u32 reserved:u32")
RANGE = Layout("DamagedRange", 24, "segment_number:u64 offset:u64 length:u64")
COMPACTED = Layout("Compacted", 128, "kind:u32 reason:u32 segment_number:u64 end_offset:u64 commit_sequence:u64 "
                                     "segment_count:u64 event_count:u64 record_count:u64 byte_count:u64 "
                                     "first_event_id:u64 last_event_id:u64 end:u32 type_count:u32 wall_clock_ns:i64 "
                                     "digest:digest")
GAP_TYPE_SIZE, RETIRED, THINNED = 16, 1, 2
GONE = Layout("Thinned", 32, "first_event_id:u64 last_event_id:u64 byte_count:u64 event_count:u32 subtree_count:u32")

WATERMARK = Layout("Watermark", 128, "magic:u32 version:u32 generation:u64 journal_uuid:uuid epoch:u64 "
                                     "segment_number:u64 end:u64 commit_sequence:u64 last_event_id:u64 digest:digest "
                                     "reserved:text20 checksum:u32")

MAGIC, SEALED, CUT, SHORTENED, BY_PRIORITY = 0x53454D4A, 1, 2, 4, 1
VERSION = bytes((1, 0, 0, 0))
SEGMENT_OPEN, SEGMENT_COMMIT, SEGMENT_SEAL, JOURNAL_RECOVERED = 0x0701, 0x0702, 0x0703, 0x0704
JOURNAL_COMPACTED = 0x070C
ZEROS = bytes(1 << 20)

CONTEXT_FIELDS = [  # name, bytes in the fixed form, whether it is a text
    ("transaction_id", 8, 0), ("session_id", 8, 0), ("causality_chain_id", 8, 0), ("path", 4096, 1),
    ("inode_number", 8, 0), ("file_type", 4, 0), ("graph_node_id", 8, 0), ("graph_edge_id", 8, 0),
    ("graph_operation_type", 4, 0), ("vector_id", 8, 0), ("vector_dimensions", 4, 0), ("vector_element_type", 4, 0),
    ("agent_id", 64, 1), ("agent_intent", 256, 1), ("agent_confidence", 4, 0), ("system_load", 4, 0),
    ("memory_usage", 8, 0), ("io_pressure", 4, 0), ("semantic_tags", 512, 1), ("semantic_intent", 256, 1),
    ("semantic_confidence", 4, 0)]

CATEGORIES = {
    1: "Filesystem Create Delete Read Write Rename Chmod Chown Truncate Mkdir Rmdir Symlink Hardlink",
    2: "Graph NodeCreate NodeDelete NodeUpdate EdgeCreate EdgeDelete EdgeUpdate PropertySet PropertyDelete Traverse Query",
    3: "Vector Create Delete Update Search Index Similarity Cluster Embed",
    4: "Agent Query Reasoning Decision Orchestration Learning Interaction",
    5: "System Mount Unmount Sync Checkpoint Recovery Optimization",
    6: "Semantic TransactionBegin TransactionEnd CausalityLink IntentCapture ContextSwitch SemanticLink",
    7: "Journal SegmentOpen Commit SegmentSeal Recovered Checkpoint KernelSync BoundaryBegin BoundaryPrepare "
       "BoundaryCommit BoundaryAbort Gap Compacted",
    8: "Observability MetricCollected LogGenerated TraceSpanStart TraceSpanEnd AlertTriggered HealthCheck "
       "PerformanceCounter ErrorReported AuditEvent SystemStatus ResourceUsage Threshold"}
TYPE_NAMES = {}
for _category, _line in CATEGORIES.items():
    _prefix, *_rest = _line.split()
    for _i, _name in enumerate(_rest, 1):
        TYPE_NAMES[_category << 8 | _i] = _name if _name == "SemanticLink" else _prefix + _name
assert len(TYPE_NAMES) == 72

# Trees and records (SPEC.md 4, 10) ---------------------------------------------------------------------------


class Tree:
    """The same tree while its leaves come in, with whole subtrees among them: its complete subtrees, the largest first."""

    def __init__(self):
        self.count, self.peaks = 0, []

    def push(self, root, level=0):
        assert self.count % (1 << level) == 0
        self.count += 1 << level
        while self.peaks and self.peaks[-1][0] == level:
            root, level = digest(1, self.peaks.pop()[1] + root), level + 1
        self.peaks.append((level, root))

    def root(self):
        if not self.peaks:
            return merkle_root([])
        root = self.peaks[-1][1]
        for _, left in reversed(self.peaks[:-1]):
            root = digest(1, left + root)
        return root


def group_root(records):
    """The root over a group, some of whose records are gone and stand in it by the roots of their subtrees."""
    tree = Tree()
    for record in records:
        gone = events_gone(record)
        if gone is None:
            tree.push(leaf(record.bytes))
            continue
        end, at = tree.count + gone.event_count, GONE.size
        while tree.count < end and at < len(record.payload):
            level = (end - tree.count).bit_length() - 1
            while tree.count % (1 << level):
                level -= 1
            tree.push(record.payload[at:at + 32], level)
            at += 32
    return tree.root()


def events_gone(record):
    """What a record that stands in the place of events says of them; None if it is another."""
    head = record.head
    if (head.event_id, head.event_type, head.event_subtype) != (0, JOURNAL_COMPACTED, 1):
        return None
    if len(record.payload) < GONE.size:
        return None
    gone = GONE.read(record.payload)
    right = gone.event_count > 0 and len(record.payload) == GONE.size + 32 * gone.subtree_count
    return gone if right else None


class Bad(Exception):
    """Bytes that are not what they should be."""

    def __init__(self, offset, what):
        super().__init__(what)
        self.offset, self.what = offset, what


class Torn(Bad):
    pass


class Broken(Bad):
    pass


class Unsupported(Bad):
    pass


def parse_header(data, size):
    if size < HEADER.size:
        raise Bad(size, f"{size} bytes are shorter than a journal header")
    header = HEADER.read(data)
    if header.magic != MAGIC:
        raise Bad(0, f"magic {header.magic:#010x}, expected {MAGIC:#010x}")
    computed = int.from_bytes(hashlib.sha256(data[:48] + bytes(4)).digest()[:4], "little")
    if header.checksum != computed:
        raise Bad(48, f"header checksum {header.checksum:#010x}, computed {computed:#010x}")
    if header.version_major != 1:
        raise Unsupported(4, f"version_major {header.version_major}, expected 1")
    return header


Record = namedtuple("Record", "offset end head bytes payload")


def parse_record(data, at, end):
    """The record at `at`; nothing from `end` on is looked at."""
    if end - at < EVENT.size:
        raise Torn(at, f"{end - at} bytes are left, a record has 132 or more")
    head = EVENT.read(data, at)
    if head.event_version != 1:
        raise Torn(at, f"event_version {head.event_version}, expected 1")
    for field, limit in (("context_size", 5280), ("payload_size", 65536), ("metadata_size", 2048),
                         ("causality_link_count", 256)):
        if getattr(head, field) > limit:
            raise Torn(at, f"{field} {getattr(head, field)}, its limit is {limit}")
    parts = 132 + head.context_size + head.payload_size + head.metadata_size + 160 * head.causality_link_count
    if head.event_size != parts:
        raise Torn(at, f"event_size {head.event_size}, its parts make {parts}")
    if parts > end - at:
        raise Torn(at, f"a record of {parts} bytes, {end - at} are left")
    whole = data[at:at + parts]
    computed = kernel_crc(whole[:84], bytes(4), whole[88:])
    if head.checksum != computed:
        raise Torn(at, f"checksum {head.checksum:#010x}, computed {computed:#010x}")
    start = 132 + head.context_size
    return Record(at, at + parts, head, whole, whole[start:start + head.payload_size])


def records_behind(data, at, end):
    """The records from `at` on, wherever they begin, none inside another."""
    while True:
        try:
            record = parse_record(data, at, end)
        except Bad:
            found = data.find(VERSION, at + 1 + 80, end)  # where a record has it
            if found < 0:
                return
            at = found - 80
            continue
        yield record
        at = record.end


def parse_body(record, layout):
    """The body of a SegmentOpen, Commit or SegmentSeal."""
    if record.head.event_subtype != 0:
        raise Unsupported(record.offset, f"{layout.tuple.__name__} of layout version {record.head.event_subtype}")
    if len(record.payload) != layout.size:
        raise Broken(record.offset, f"{layout.tuple.__name__} of {len(record.payload)} bytes, expected {layout.size}")
    return layout.read(record.payload)


def is_zero(data, start, end):
    if any(data[start:min(end, start + 132)]):
        return False  # where a record stands, as almost always, nothing more is read
    for at in range(start, end, len(ZEROS)):
        piece = data[at:min(end, at + len(ZEROS))]
        if piece != ZEROS[:len(piece)]:
            return False
    return True


# One segment (SPEC.md 15, 16) -------------------------------------------------------------------------------


class Segment:
    """One scan of one segment's file."""

    def __init__(self, data, size, last_id=0, following=None, ranges=(), groups=None, mark=None, headless=False,
                 before_a_lost_one=False):
        """`following` is the SegmentOpen of the next segment; `ranges` are known damage to be passed over; `groups`
        is how many groups to read at most; `mark` is the watermark, given with the newest segment alone; `headless`
        leaves the header out of account; `before_a_lost_one` says that the segment that followed is known to be lost."""
        self.data, self.size, self.following, self.mark = data, size, following, mark
        self.before_a_lost_one = before_a_lost_one
        self.ranges = {offset: length for offset, length in ranges if length > 0}
        self.passed, self.opening, self.opening_is_good, self.header = 0, None, False, None
        self.accepted, self.commits, self.leaves = [], 0, []
        self.p, self.end, self.fault, self.seal, self.last_commit = None, None, None, None, None
        self.limit, self.named_end, self.header_is_wrong, self.seal_offset = None, False, False, None
        self.gone = []
        try:
            self.header = None if headless else parse_header(data, size)
            self.read_opening()
        except Unsupported as fault:
            self.opening_is_good, self.end, self.fault = True, "Unsupported", fault
            return
        except Bad as fault:
            self.end, self.fault, self.header_is_wrong = "Torn", fault, not headless and self.header is None
            return
        self.flags = self.header.flags if self.header else 0
        self.stop, thinned = size, self.flags & SHORTENED
        if following is not None:
            if following.previous_end == 2:
                self.limit = following.previous_end_offset
                self.stop = size if thinned else min(size, self.limit)
        elif self.flags & CUT:
            self.stop = min(size, self.header.journal_size)
        self.p = 52
        self.sequence = self.opening.next_commit_sequence - 1
        self.digest = self.opening.previous_digest
        self.last_id = max(self.opening.next_event_id - 1, last_id)
        try:
            while self.end is None and self.commits != groups:
                self.step()
        except Unsupported as fault:
            self.end, self.fault = "Unsupported", fault
        except Broken as fault:
            self.end, self.fault = "Broken", fault
        except Torn as fault:
            self.end, self.fault = "Torn", fault
        self.opening_is_good = self.commits > 0 or self.end == "Unsupported"

    def read_opening(self):
        record = parse_record(self.data, 52, self.size)
        if record.head.event_id != 0 or record.head.event_type != SEGMENT_OPEN:
            raise Bad(52, "the first record is not a SegmentOpen")
        self.opening = parse_body(record, OPEN)

    def step(self):
        if self.p in self.ranges and self.is_lost_up_to_the_named_end():
            self.end = "Sealed" if self.following.previous_end == 1 else "Cut"
            self.p, self.named_end = self.end_that_is_named(), True
            self.passed += 1
        elif self.p in self.ranges and self.is_lost_before_a_lost_segment():
            self.end, self.p = "Cut", self.last_end()
            self.passed += 1
        elif self.is_at_limit():
            self.end = "Cut"
        elif self.limit is not None and self.flags & SHORTENED and self.original(self.p) > self.limit:
            raise Broken(self.p, f"the segment behind it names {self.limit} as its end, within the last group")
        elif is_zero(self.data, self.p, self.stop):
            self.end = "Zeros"
        else:
            self.walk_group()

    def is_at_limit(self):
        if self.following is None and self.flags & CUT and self.p == self.header.journal_size:
            return True
        return self.limit is not None and self.original(self.p) == self.limit

    def end_that_is_named(self):
        """Where the following segment says that this one ends, as the file is: nothing is known to be gone behind p."""
        return self.following.previous_end_offset - (self.original(self.p) - self.p)

    def is_lost_up_to_the_named_end(self):
        following = self.following
        return (self.commits > 0 and following is not None and self.names(following)
                and following.previous_end in (1, 2) and following.next_commit_sequence > self.sequence
                and self.p < self.end_that_is_named() <= self.p + self.ranges[self.p])

    def last_end(self):
        """Where everything ends that the segment had, where the one that followed it is lost."""
        said = self.header.journal_size if self.flags & (SEALED | CUT) else 0
        end = self.size
        while end > self.p:
            start = max(self.p, end - 4096)
            used = self.data[start:end].rstrip(b"\0")
            if used:
                return max(said, start + len(used))
            end = start
        return said

    def is_lost_before_a_lost_segment(self):
        return (self.commits > 0 and self.before_a_lost_one
                and self.p < self.last_end() <= self.p + self.ranges[self.p])

    def walk_group(self):
        at, records, behind_range = self.p, [], None
        while True:
            if at in self.ranges and self.ranges[at] <= self.stop - at:
                at += self.ranges[at]
                self.passed += 1
                behind_range = at
                continue
            record = parse_record(self.data, at, self.stop)
            kind = record.head.event_type if record.head.event_id == 0 else None
            if kind == SEGMENT_COMMIT:
                commit = parse_body(record, COMMIT)
                self.check_commit(record, commit, records, behind_range)
                return
            if kind == SEGMENT_SEAL:
                seal = parse_body(record, SEAL)
                if records:
                    raise Broken(at, "SegmentSeal behind records without Commit")
                self.check_seal(record, seal)
                return
            if kind == SEGMENT_OPEN and at != 52:
                raise Broken(at, "second SegmentOpen")
            records.append(record)
            at = record.end

    def require(self, record, name, found, expected):
        if found != expected:
            show = [v.hex() if isinstance(v, bytes) else v for v in (found, expected)]
            raise Broken(record.offset, f"{name} is {show[0]}, expected {show[1]}")

    def check_commit(self, record, commit, records, behind_range):
        require = self.require
        require(record, "Commit digest", commit.digest, digest(2, record.payload[:128]))
        require(record, "Commit epoch", commit.epoch, self.opening.epoch)
        if commit.synced_upto >= commit.commit_sequence:
            raise Broken(record.offset, f"Commit {commit.commit_sequence} has synced_upto {commit.synced_upto}")
        start, complete = self.p, True
        gone = [(r, events_gone(r)) for r in records if events_gone(r)]
        if behind_range is not None:
            chained = commit.commit_sequence == self.sequence + 1 and commit.previous_digest == self.digest
            if not chained:
                shorter = sum(g.byte_count - len(r.bytes) for r, g in gone if r.offset >= behind_range)
                start = record.offset - commit.byte_count + shorter
            complete = start == behind_range
            if not self.p <= start <= behind_range or any(r.offset < start for r in records):
                raise Broken(record.offset, f"Commit's group begins at {start}, not behind what was accepted")
            if commit.commit_sequence <= self.sequence:
                raise Broken(record.offset, f"commit_sequence {commit.commit_sequence} behind {self.sequence}")
        if start == self.p:
            require(record, "commit_sequence", commit.commit_sequence, self.sequence + 1)
            require(record, "Commit previous_digest", commit.previous_digest, self.digest)
        ids = self.ids_with(records)
        events = len([r for r in records if r.head.event_id]) + sum(g.event_count for _, g in gone)
        others = sum(g.event_count - 1 for _, g in gone)
        if complete:
            shorter = sum(g.byte_count - len(r.bytes) for r, g in gone)
            require(record, "Commit byte_count", commit.byte_count, record.offset - start + shorter)
            require(record, "Commit record_count", commit.record_count, len(records) + others)
            require(record, "Commit event_count", commit.event_count, events)
            require(record, "Commit root", commit.root, group_root(records))
            in_order = sorted(ids) if commit.flags & BY_PRIORITY else ids
            for before, event_id in zip([self.last_id, *in_order], in_order):
                if event_id <= before:
                    raise Broken(record.offset, f"event id {event_id} behind {before}")
            require(record, "Commit first_event_id", commit.first_event_id, min(ids, default=0))
            require(record, "Commit last_event_id", commit.last_event_id, max(ids, default=0))
        else:
            if len(records) + others > commit.record_count:
                raise Broken(record.offset, f"Commit record_count {commit.record_count}, {len(records) + others} are left")
            for event_id in ids:
                if not max(self.last_id + 1, commit.first_event_id) <= event_id <= commit.last_event_id:
                    raise Broken(record.offset, f"event id {event_id} is none of the Commit's")
            in_order = sorted(ids) if commit.flags & BY_PRIORITY else ids
            for before, event_id in zip(in_order, in_order[1:]):
                if event_id <= before:
                    raise Broken(record.offset, f"event id {event_id} behind {before}")
        self.accepted += [*records, record]
        self.gone += gone
        self.leaves.append(leaf(record.bytes))
        self.commits += 1
        self.sequence, self.digest, self.p = commit.commit_sequence, commit.digest, record.end
        self.last_id = max(self.last_id, commit.last_event_id)
        self.last_commit = commit

    def check_seal(self, record, seal):
        require = self.require
        require(record, "SegmentSeal digest", seal.digest, digest(3, record.payload[:144]))
        require(record, "SegmentSeal segment_number", seal.segment_number, self.opening.segment_number)
        require(record, "SegmentSeal epoch", seal.epoch, self.opening.epoch)
        require(record, "SegmentSeal commit_sequence", seal.commit_sequence, self.sequence)
        require(record, "SegmentSeal previous_digest", seal.previous_digest, self.digest)
        count = len(self.accepted)
        others = sum(gone.event_count - 1 for _, gone in self.gone)
        if not self.passed:
            ids = self.ids_with(self.accepted)
            events = len(self.event_ids()) + self.events_gone()
            require(record, "SegmentSeal commit_count", seal.commit_count, self.commits)
            require(record, "SegmentSeal record_count", seal.record_count, count + others)
            require(record, "SegmentSeal event_count", seal.event_count, events)
            require(record, "SegmentSeal byte_count", seal.byte_count, self.original(record.offset) - 52)
            require(record, "SegmentSeal first_event_id", seal.first_event_id, min(ids, default=0))
            require(record, "SegmentSeal last_event_id", seal.last_event_id, max(ids, default=0))
            require(record, "SegmentSeal root", seal.root, merkle_root(self.leaves))
        self.p, self.seal, self.seal_offset = record.end, seal, record.offset
        self.accepted.append(record)
        if self.flags & SEALED and not self.passed:
            self.header_is_wrong = True
            require(record, "header total_events", self.header.total_events, count + 1)
            require(record, "header journal_size", self.header.journal_size, record.end)
            self.header_is_wrong = False
        self.end = "Sealed"

    def events_gone(self):
        return sum(gone.event_count for _, gone in self.gone)

    def original(self, offset):
        """An offset as it was before events were taken out. Of what is lost it is not known; the seal says what it came to."""
        if self.seal is not None and self.passed:
            return offset + self.seal.byte_count - (self.seal_offset - 52)
        return offset + sum(gone.byte_count - len(record.bytes) for record, gone in self.gone)

    @staticmethod
    def ids_with(records):
        """The ids of events, and the lowest and highest of those that are gone, in their order."""
        ids = []
        for record in records:
            gone = events_gone(record)
            if gone:
                ids += [gone.first_event_id] + [gone.last_event_id] * (gone.event_count > 1)
            elif record.head.event_id:
                ids.append(record.head.event_id)
        return ids

    def event_ids(self):
        return [r.head.event_id for r in self.accepted if r.head.event_id]

    def durable_behind(self):
        mark = self.mark
        if mark and mark.segment_number == self.opening.segment_number and mark.end > self.original(self.p):
            return True
        if self.flags & (SEALED | CUT) and self.header.journal_size > self.p:
            return True
        for record in records_behind(self.data, self.p, self.stop):
            kind = record.head.event_type if record.head.event_id == 0 else None
            if kind not in (SEGMENT_COMMIT, SEGMENT_SEAL):
                continue
            layout, domain = {SEGMENT_COMMIT: (COMMIT, 2), SEGMENT_SEAL: (SEAL, 3)}[kind]
            try:
                body = parse_body(record, layout)
            except Bad:
                continue
            if body.digest == digest(domain, record.payload[:-32]) and body.epoch == self.opening.epoch:
                proves = (body.commit_sequence > self.sequence and body.synced_upto < body.commit_sequence
                          if kind == SEGMENT_COMMIT else body.commit_sequence >= self.sequence)
                if proves and body.synced_upto > self.sequence:
                    return True
        return False

    def link(self):
        following = self.following
        if following is None:
            return "Missing" if self.mark and self.contradicts(self.mark) else "Newest"
        if self.named_end:
            return "Matches"
        matches = (
            self.names(following)
            and following.previous_end == (1 if self.seal else 2)
            and following.previous_end_offset == self.original(self.p)
            and following.previous_digest == (self.seal.digest if self.seal else self.digest)
            and following.next_commit_sequence == self.sequence + 1)
        return "Matches" if matches else "Differs"

    def names(self, following):
        opening = self.opening
        return (following.journal_uuid == opening.journal_uuid
                and following.previous_segment == opening.segment_number < following.segment_number
                and following.epoch >= opening.epoch)

    def contradicts(self, mark):
        opening = self.opening
        if mark.journal_uuid != opening.journal_uuid:
            return True
        if mark.epoch > opening.epoch or mark.segment_number > opening.segment_number:
            return True
        if mark.segment_number < opening.segment_number:
            return False
        if mark.end > self.original(self.p):
            return self.end in ("Sealed", "Cut")
        return mark.end == self.original(self.p) and mark.digest != (self.seal.digest if self.seal else self.digest)

    def verdict(self):
        if not self.opening_is_good:
            return "Corrupt"
        if self.end == "Unsupported":
            return "Unsupported"
        link = self.link()
        if link in ("Differs", "Missing"):
            return "Corrupt"
        if self.end in ("Sealed", "Cut"):
            return "Whole"
        if link == "Matches" or self.durable_behind():
            return "Corrupt"
        return {"Zeros": "OpenEnd", "Torn": "TornTail", "Broken": "Ambiguous"}[self.end]


CODES = {"Whole": 0, "OpenEnd": 1, "TornTail": 2, "Ambiguous": 3, "Corrupt": 4, "Unsupported": 5, "KnownDamage": 6}
GOOD = ("Whole", "OpenEnd", "TornTail", "KnownDamage")

# A journal ---------------------------------------------------------------------------------------------------


class KnownDamage:
    """The ranges that the Recovered records of a journal list."""

    def __init__(self, files):
        scans = [Segment(data, size, groups=1, headless=True) for _, _, data, size in files]
        self.ranges = [entry for scan in scans for entry in known_damage(scan)]

    def of(self, number):
        return [(offset, length) for segment, offset, length in self.ranges if segment == number]

    def covers(self, number, start, end):
        return any(offset <= start and end <= offset + length for offset, length in self.of(number))

    def covers_header(self, opening):
        return opening is not None and self.covers(opening.segment_number, 0, HEADER.size)

    def lost_newest_before(self, opening):
        return any(offset == 0 and length > 0 and opening.previous_segment < number < opening.segment_number
                   for number, offset, length in self.ranges)

    def covers_segment_before(self, opening):
        return self.covers(opening.previous_segment, 0, opening.previous_end_offset)


def opening_of(data, size, known):
    """The SegmentOpen where it is right, and with it the header unless that is known to be damaged."""
    opening = segment_open(data, size)
    try:
        parse_header(data, size)
    except Unsupported:
        return None
    except Bad:
        return opening if known.covers_header(opening) else None
    return opening


def segment_open(data, size):
    try:
        record = parse_record(data, 52, size)
        if record.head.event_id == 0 and record.head.event_type == SEGMENT_OPEN:
            return parse_body(record, OPEN)
    except Bad:
        pass
    return None


def in_first_group(segment, event_type):
    """Records of one of the journal's own types, layout version 0, in the first group of a segment."""
    for record in segment.accepted:
        if record.head.event_id == 0 and record.head.event_type == SEGMENT_COMMIT:
            return
        if (record.head.event_id, record.head.event_type, record.head.event_subtype) == (0, event_type, 0):
            yield record


def retired(files):
    """The Compacted that the journal begins behind, and the index of the first file of the journal."""
    scans = [Segment(data, size, groups=1, headless=True) for _, _, data, size in files]
    found = compacted(scans, RETIRED)
    for body, uuid in sorted(found, key=lambda pair: -pair[0].segment_number):
        first = next((i for i, file in enumerate(files) if file[0] is not None and file[0] > body.segment_number), None)
        opening = scans[first].opening if first is not None else None
        if opening and opening.journal_uuid == uuid and opening.segment_number > body.segment_number and (
                opening.previous_segment, opening.previous_end, opening.previous_end_offset, opening.previous_digest,
                opening.next_commit_sequence) == (
                body.segment_number, body.end, body.end_offset, body.digest, body.commit_sequence + 1):
            return body, first
    return None, 0


def compacted(scans, kind):
    """What Compacted records in first groups say of earlier segments, with the UUID of the journal that they are in."""
    for scan in scans:
        for record in in_first_group(scan, JOURNAL_COMPACTED):
            if len(record.payload) < COMPACTED.size:
                continue
            body = COMPACTED.read(record.payload)
            if len(record.payload) == COMPACTED.size + GAP_TYPE_SIZE * body.type_count and body.kind == kind:
                if body.segment_number < scan.opening.segment_number:
                    yield body, scan.opening.journal_uuid


def known_damage(segment):
    """The ranges that Recovered records in the first group of a segment name, as (segment, offset, length)."""
    for record in in_first_group(segment, JOURNAL_RECOVERED):
        if len(record.payload) < RECOVERED.size:
            continue
        count = RECOVERED.read(record.payload).range_count
        if len(record.payload) == RECOVERED.size + RANGE.size * count:
            for i in range(count):
                yield tuple(RANGE.read(record.payload, RECOVERED.size + RANGE.size * i))


def read_watermark(path):
    """The slot of a watermark file that counts; None where there is none."""
    data = path.read_bytes() if path.is_file() else b""
    slots = [data[at:at + WATERMARK.size] for at in (0, 4096)]
    right = [WATERMARK.read(slot) for slot in slots if len(slot) == WATERMARK.size and any(slot)
             and kernel_crc(slot[:124]) == int.from_bytes(slot[124:], "little")]
    right = [mark for mark in right if mark.magic == 0x53454D57 and mark.version == 1]
    return max(right, key=lambda mark: mark.generation, default=None)


def judge(files, mark=None, unretired=False):
    """`files` is (number in the name or None, name, data, size) in order; gives for each that is a segment of the
    journal its scan and a report."""
    beginning, first = (None, 0) if unretired else retired(files)
    files = files[first:]
    thinned = list(compacted([Segment(data, size, groups=1, headless=True) for _, _, data, size in files], THINNED))
    known = KnownDamage(files)
    openings = [opening_of(data, size, known) for _, _, data, size in files]
    if mark and any(opening and opening.journal_uuid == mark.journal_uuid and opening.epoch > mark.epoch
                    for opening in openings):
        mark = None
    out, previous, last_id = [], None, 0
    for i, (number, name, data, size) in enumerate(files):
        following = openings[i + 1] if i + 1 < len(files) else None
        opening = openings[i]
        arguments = {"mark": mark if i + 1 == len(files) else None}
        if (following and opening and opening.segment_number < following.previous_segment
                and known.covers_segment_before(following)):
            following, arguments["before_a_lost_one"] = None, True
        scan = Segment(data, size, last_id, following, **arguments)
        verdict, first_fault = scan.verdict(), scan.fault
        is_known = scan.header_is_wrong and known.covers_header(segment_open(data, size))
        if is_known:
            arguments["headless"] = True
            scan = Segment(data, size, last_id, following, **arguments)
            verdict = scan.verdict()
        mine = known.of(scan.opening.segment_number) if scan.opening else []
        if mine and scan.end in ("Zeros", "Torn", "Broken"):
            again = Segment(data, size, last_id, following, mine, **arguments)
            if again.passed:
                scan, verdict, is_known = again, again.verdict(), True
        if is_known:
            scan.fault = scan.fault or first_fault
            if verdict in ("Whole", "OpenEnd", "TornTail"):
                verdict = "KnownDamage"
        last_id = last_id if scan.p is None else scan.last_id
        fault = {"offset": scan.fault.offset, "what": scan.fault.what} if scan.fault else None
        if number is not None and not unretired and scan.gone and verdict in GOOD:
            last = scan.seal.digest if scan.seal else scan.digest
            said = any((body.segment_number, body.digest, uuid) == (scan.opening.segment_number, last,
                       scan.opening.journal_uuid) and body.event_count >= scan.events_gone() for body, uuid in thinned)
            if not said:
                verdict, fault = "Corrupt", {"offset": 52, "what": "events are gone, and nothing says that they were taken out"}
        if number is not None and scan.opening:
            wrong = None
            if scan.opening.segment_number != number:
                wrong = f"segment_number {scan.opening.segment_number}, the file's name says {number}"
            elif i == 0 and scan.opening.previous_end != 0 and not beginning and not unretired:
                wrong = f"segment {scan.opening.previous_segment} should stand before this one"
            elif i > 0 and previous and scan.opening.previous_segment != previous.segment_number:
                wrong = (f"previous_segment {scan.opening.previous_segment}, the file before has "
                         f"{previous.segment_number}")
            is_lost = (wrong and scan.opening.segment_number == number and known.covers_segment_before(scan.opening)
                       and (not previous or previous.segment_number < scan.opening.previous_segment))
            if is_lost:
                verdict = "KnownDamage" if verdict in GOOD else verdict
                fault = fault or {"offset": 52, "what": wrong}
            elif wrong:
                verdict, fault = "Corrupt", {"offset": 52, "what": wrong}
            elif known.lost_newest_before(scan.opening) and verdict in GOOD:
                verdict = "KnownDamage"
        if fault is None and verdict == "Corrupt":
            fault = {"offset": scan.p, "what": "the segment ends here, other evidence says that it does not"}
        previous = scan.opening
        accepted = scan.accepted
        out.append((scan, {
            "file": name, "verdict": verdict, "code": CODES[verdict], "fault": fault,
            "segment_number": scan.opening.segment_number if scan.opening else None,
            "scan_end": scan.end, "end": scan.p if scan.commits else None, "commits": scan.commits,
            "commit_sequence": scan.sequence if scan.commits else None, "records": len(accepted),
            "event_ids": scan.event_ids(),
            "last_commit_digest": scan.last_commit.digest.hex() if scan.last_commit else None,
            "seal_digest": scan.seal.digest.hex() if scan.seal else None}))
    return out


# Events as JSON ----------------------------------------------------------------------------------------------


def text(data):
    """Bytes as text from which they can be had back: what is not UTF-8 as lone surrogates."""
    return data.decode("utf-8", "surrogateescape")


def read_context(data):
    """The fields that are set, and what could not be read."""
    if len(data) == 5280:
        out, at = {}, 0
        for name, size, is_text in CONTEXT_FIELDS:
            part = data[at:at + size]
            value = text(part.split(b"\0", 1)[0]) if is_text else int.from_bytes(part, "little")
            if value:
                out[name] = value
            at += size
        return out

    at = 0

    def take(size):
        nonlocal at
        if size > len(data) - at:
            raise ValueError(f"the context ends inside a field at offset {at}")
        at += size
        return data[at - size:at]

    presence, out = int.from_bytes(take(4), "little"), {}
    for bit, (name, size, is_text) in enumerate(CONTEXT_FIELDS):
        if presence >> bit & 1:
            if is_text:
                out[name] = text(take(int.from_bytes(take(2), "little")))
            else:
                out[name] = int.from_bytes(take(size), "little")
    for bit in range(21, 32):
        if presence >> bit & 1:
            out[f"unknown_bit_{bit}"] = take(int.from_bytes(take(2), "little")).hex()
    if at != len(data):
        raise ValueError(f"{len(data) - at} bytes behind the context's last field")
    return out


def event_json(record):
    head = record.head
    out = head._asdict()
    out["event_type"] = TYPE_NAMES.get(head.event_type, f"{head.event_type:#06x}")
    out["offset"] = record.offset
    at = 132 + head.context_size
    if head.context_size:
        try:
            out["context"] = read_context(record.bytes[132:at])
        except ValueError as error:
            out["context_unreadable"] = str(error)
    if record.payload:
        out["payload"] = text(record.payload)
    at += head.payload_size
    if head.metadata_size:
        out["metadata"] = text(record.bytes[at:at + head.metadata_size])
    at += head.metadata_size
    if head.causality_link_count:
        links = [LINK.read(record.bytes, at + 160 * i)._asdict() for i in range(head.causality_link_count)]
        for one in links:
            one["causality_description"] = text(one["causality_description"].split(b"\0", 1)[0])
        out["links"] = links
    return out


# The program -------------------------------------------------------------------------------------------------


def load(path):
    size = path.stat().st_size
    if size == 0:
        return b"", 0
    with open(path, "rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return native(data, size)


def native(data, size):
    """The native bytes of a segment and how many they are. What is damaged so far that they can't be found stays as it
    is: no record stands where its SegmentOpen should be."""
    if not is_compressed(data, size):
        return data, size
    try:
        compressed = Compressed(data, size)
    except Undecodable:
        return data, size
    return compressed.native(), compressed.native_size


def is_kernel_journal(data, size):
    """Header right, records, but no SegmentOpen at the beginning."""
    try:
        header = parse_header(data, size)
        if header.total_events == 0:
            return True
        head = parse_record(data, 52, size).head
        return not (head.event_id == 0 and head.event_type == SEGMENT_OPEN)
    except Bad:
        return False


def read_kernel_journal(data, size):
    header = parse_header(data, size)
    at, records, fault = 52, [], None
    try:
        if header.journal_size > size:
            raise Torn(28, f"journal_size {header.journal_size}, the file has {size} bytes")
        for _ in range(header.total_events):
            records.append(parse_record(data, at, header.journal_size))
            at = records[-1].end
        if at != header.journal_size:
            raise Torn(at, f"{header.journal_size - at} bytes behind the last record")
    except Torn as error:
        fault = {"offset": error.offset, "what": error.what}
    return records, fault


def verify(path, with_events=True):
    if path.is_dir():
        names = sorted(p for p in path.iterdir() if re.fullmatch(r"\d{10}-\d{20}\.semj", p.name))
        mark = read_watermark(path / "WATERMARK")
        unretired = (path / "UNRETIRED").exists()
        files = [(int(p.name[:10]), p.name, *load(p)) for p in names]
    else:
        mark, unretired = None, False
        files = [(None, path.name, *load(path))]
        if is_kernel_journal(*files[0][2:]):
            records, fault = read_kernel_journal(*files[0][2:])
            out = {"kind": "kernel", "good": fault is None, "fault": fault, "verdict": None, "records": len(records),
                   "event_ids": [r.head.event_id for r in records]}
            if with_events:
                out["events"] = [event_json(r) for r in records]
            return out
    judged = judge(files, mark, unretired)
    reports = [report for _, report in judged]
    out = {"kind": "journal", "good": all(r["verdict"] in GOOD for r in reports) and not (mark and not reports),
           "segments": reports}
    if with_events:
        out["events"] = [event_json(r) for scan, _ in judged for r in scan.accepted if r.head.event_id]
    else:
        for report in reports:
            report["event_ids"] = len(report["event_ids"])
    return out


def check(vectors):
    """Each case of verdicts.json, held against what `verify` says."""
    cases = json.loads((vectors / "verdicts.json").read_text())["cases"]
    wrong = files = 0
    for case in cases:
        name = case.get("file") or case["directory"]
        found = verify(vectors / name)
        if case.get("kind") == "kernel":
            pairs = [(case, found)]
            if judge([(None, name, *load(vectors / name))])[0][1]["verdict"] != case["verdict_as_segment"]:
                wrong += 1
                print(f"{name}: as a segment", file=sys.stderr)
        else:
            expected = case.get("segments") or [case]
            if len(expected) != len(found["segments"]):
                wrong += 1
                print(f"{name}: {len(found['segments'])} segments, expected {len(expected)}", file=sys.stderr)
            pairs = zip(expected, found["segments"])
        for want, got in pairs:
            files += 1
            fields = ("verdict",) if want.get("unspecified") else (
                "verdict", "end", "commits", "commit_sequence", "records", "event_ids", "last_commit_digest", "seal_digest")
            for field in fields:
                if field in want and want[field] != got[field]:
                    wrong += 1
                    print(f"{name}: {want['file']}: {field} is {got[field]}, expected {want[field]} "
                          f"({got.get('fault')})", file=sys.stderr)
    print(f"{files} files in {len(cases)} cases, {wrong} differences")
    return 1 if wrong else 0


def main(argv):
    options = [a for a in argv[1:] if a.startswith("--")]
    words = [a for a in argv[1:] if not a.startswith("--")]
    if len(words) != 2 or words[0] not in ("verify", "native", "check") or set(options) - {"--no-events"}:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        if words[0] == "check":
            return check(Path(words[1]))
        if words[0] == "native":
            sys.stdout.buffer.write(load(Path(words[1]))[0])
            return 0
        found = verify(Path(words[1]), "--no-events" not in options)
    except OSError as error:
        print(f"semj_read: {error}", file=sys.stderr)
        return 2
    json.dump(found, sys.stdout, indent=1)
    print()
    return 0 if found["good"] else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv))
    except BrokenPipeError:
        sys.exit(0)
