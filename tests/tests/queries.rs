//! Answers equal those of a plain full scan, whatever has become of the sidecars.
//!
//! `SEMJ_SEED=n` replays a run.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use semj::format::{CausalityLink, DraftContext, EventHeader, SegmentOpen};
use semj::{
    CommitOn, Context, Draft, EventType, Glob, Journal, OpenMode, Options, Query, Reader, Record,
    SidecarState, rebuild_sidecars, verify_sidecars,
};
use semj_tests::random::Random;

fn seed() -> u64 {
    let seed = std::env::var("SEMJ_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(1, |now| now.as_nanos() as u64)
    });
    println!("SEMJ_SEED={seed}");
    seed
}

const DIRECTORIES: [&str; 6] =
    ["/project", "/project/src", "/project/src/core", "/project/doc", "/var/log", "rel/ative"];
const NAMES: [&str; 6] = ["main.rs", "lib.rs", "Makefile", "a.o", "src", "x"];
const GLOBS: [&str; 14] = [
    "/project",
    "/project/src",
    "/project/src/**",
    "/project/*/core",
    "**/Makefile",
    "*.rs",
    "/var",
    "/nowhere/at",
    "src",
    "/project/src/core/main.rs*",
    "x?",
    "/**/x1[0-4]",
    "/",
    "core/*.o",
];
const AGENTS: [&str; 3] = ["planner", "coder", "reviewer"];
const WORDS: [&str; 3] = ["refused", "p refused", "pp"];
const TYPES: [EventType; 6] = [
    EventType::FILESYSTEM_WRITE,
    EventType::FILESYSTEM_READ,
    EventType::FILESYSTEM_DELETE,
    EventType::AGENT_DECISION,
    EventType(0x0999),
    EventType(0x0998),
];

fn path(random: &mut Random) -> String {
    let directory = DIRECTORIES[random.below(6) as usize];
    let name = NAMES[random.below(6) as usize];
    match random.below(3) {
        0 => format!("{directory}/{name}"),
        _ => format!("{directory}/{name}{}", random.below(40)),
    }
}

/// One event in some hundred is rare in each respect, so that there is something to be skipped.
fn import_some(journal: &Journal, random: &mut Random, count: u64, id: &mut u64, ktime: &mut i64) {
    for _ in 0..count {
        *id += if random.one_in(50) { random.below(1000) + 1 } else { 1 };
        *ktime += random.below(2_000_000) as i64 - 500_000;
        let is_rare = random.one_in(300);
        let event_type =
            if is_rare { TYPES[2 + random.below(4) as usize] } else { TYPES[random.below(2) as usize] };
        let header = EventHeader {
            event_id: *id,
            ktime_ns: *ktime,
            process_id: if random.one_in(200) { random.below(1000) as u32 } else { 7 },
            event_priority: if random.one_in(400) {
                random.below(3) as u32
            } else {
                3 + random.below(400) as u32
            },
            parent_event_id: if random.one_in(30) { random.below(*id) } else { 0 },
            agent_visibility_mask: if random.one_in(200) { 1 << random.below(64) } else { 1 },
            ..EventHeader::new(event_type.0)
        };
        let path = path(random);
        let context = Context {
            path: if random.one_in(10) { b"" } else { path.as_bytes() },
            inode_number: if random.one_in(8) { 0 } else { 1000 + *id / 20 },
            transaction_id: if random.one_in(40) { random.below(30) } else { 0 },
            agent_id: if random.one_in(100) { AGENTS[random.below(3) as usize].as_bytes() } else { b"" },
            ..Context::default()
        };
        let link = CausalityLink {
            cause_event_id: random.below(*id),
            effect_event_id: *id,
            causality_type: 1,
            causality_strength: 50,
            causality_delay_ns: 0,
            causality_description: [0; 128],
        };
        let links = if random.one_in(60) { vec![link; 1 + random.below(2) as usize] } else { Vec::new() };
        let size_max = if random.one_in(100) { 20_000 } else { 200 };
        let mut payload = vec![b'p'; random.below(size_max) as usize];
        let word = WORDS[random.below(3) as usize].as_bytes();
        if random.one_in(60) {
            payload.extend_from_slice(word);
        }
        let metadata = if random.one_in(60) { word } else { b"" };
        // A presence bit without its field: nobody can read that.
        let unreadable = [1, 0, 0, 0, 9];
        let context = match random.below(40) {
            0 => DraftContext::None,
            1 => DraftContext::Encoded(&unreadable),
            _ => DraftContext::Fields(context),
        };
        let draft = Draft { context, payload: &payload, metadata, links: &links, ..Draft::new(header) };
        journal.import(&draft).unwrap();
    }
}

fn options() -> Options {
    Options { segment_size: 256 << 10, commit_on: CommitOn::CallersThread, ..Options::default() }
}

/// A journal of several epochs and some dozen segments, of which one was cut.
fn make(dir: &Path, random: &mut Random) -> (u64, i64) {
    let (mut id, mut ktime) = (0, 1_000_000_000);
    for epoch in 0..4 {
        let journal = Journal::open(dir, options()).unwrap();
        for _ in 0..3 {
            import_some(&journal, random, 500, &mut id, &mut ktime);
            journal.sync().unwrap();
        }
        if epoch == 1 {
            // Not closed: the next open cuts the segment.
            std::mem::forget(journal);
            fs::remove_file(dir.join("LOCK")).unwrap();
        } else {
            journal.close().unwrap();
        }
    }
    (id, ktime)
}

type Predicate = Box<dyn Fn(&Record<'_>, &SegmentOpen) -> bool>;

/// The pattern's meaning once more, by trying out everything.
fn glob_matches(pattern: &str, path: &[u8]) -> bool {
    fn name_matches(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => (0..=name.len()).any(|skip| name_matches(rest, &name[skip..])),
            ([b'?', rest @ ..], [_, others @ ..]) => name_matches(rest, others),
            ([b'[', b'0', b'-', b'4', b']', rest @ ..], [digit, others @ ..]) => {
                (b'0'..=b'4').contains(digit) && name_matches(rest, others)
            }
            ([byte, rest @ ..], [first, others @ ..]) => byte == first && name_matches(rest, others),
            _ => false,
        }
    }
    fn matches(pattern: &[&[u8]], path: &[&[u8]]) -> bool {
        match (pattern, path) {
            ([], _) => true,
            ([b"**"], _) => !path.is_empty(),
            ([b"**", rest @ ..], _) => (0..=path.len()).any(|skip| matches(rest, &path[skip..])),
            ([name, rest @ ..], [first, others @ ..]) => name_matches(name, first) && matches(rest, others),
            _ => false,
        }
    }
    let split = |text: &'static str| text.split('/').filter(|part| !part.is_empty()).map(str::as_bytes);
    let pattern: &'static str = GLOBS.iter().find(|known| **known == pattern).unwrap();
    let mut parts: Vec<&[u8]> = split(pattern).collect();
    if !pattern.starts_with('/') {
        parts.insert(0, b"**");
    }
    let path: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect();
    !path.is_empty() && matches(&parts, &path)
}

/// A question, and what it means.
fn question(
    random: &mut Random,
    last_id: u64,
    last_ktime: i64,
    opening: &SegmentOpen,
) -> (Query, Vec<Predicate>) {
    let mut query = Query::new();
    let mut all: Vec<Predicate> = Vec::new();
    let mut only_events = false;
    // Of a condition that is set twice the last one would count.
    let mut kinds: Vec<u64> = (0..=random.below(3)).map(|_| random.below(13)).collect();
    kinds.sort_unstable();
    kinds.dedup();
    for kind in kinds {
        match kind {
            0 => {
                let types: Vec<_> = (0..=random.below(2)).map(|_| TYPES[random.below(6) as usize]).collect();
                query = query.types(types.iter().copied());
                all.push(Box::new(move |record, _| types.contains(&record.event_type())));
            }
            1 => {
                let first = random.below(last_id + 10);
                let reach = if random.one_in(2) { 50 } else { last_id };
                let last = first + random.below(reach);
                query = query.ids(first..=last);
                only_events = true;
                all.push(Box::new(move |record, _| (first..=last).contains(&record.event_id())));
            }
            2 => {
                let first = random.below(last_ktime as u64 + 10_000) as i64;
                let reach = if random.one_in(2) { 10_000_000 } else { last_ktime as u64 };
                let last = first + random.below(reach) as i64;
                query = query.ktime(first..last);
                all.push(Box::new(move |record, _| (first..last).contains(&record.ktime_ns())));
            }
            3 => {
                let first = opening.wall_clock_of(random.below(last_ktime as u64) as i64);
                let last = first.saturating_add(random.below(100_000_000) as i64);
                query = query.time(first..=last);
                all.push(Box::new(move |record, opening| {
                    (first..=last).contains(&opening.wall_clock_of(record.ktime_ns()))
                }));
            }
            4 => {
                let pattern = GLOBS[random.below(14) as usize];
                query = query.path_glob(Glob::new(pattern).unwrap());
                only_events = true;
                all.push(Box::new(move |record, _| {
                    matches!(record.context(), Ok(Some(context)) if glob_matches(pattern, context.path))
                }));
            }
            5 => {
                let agent = AGENTS[random.below(3) as usize];
                query = query.agent(agent);
                only_events = true;
                all.push(Box::new(move |record, _| {
                    matches!(record.context(), Ok(Some(context)) if context.agent_id == agent.as_bytes())
                }));
            }
            6 => {
                let transaction = random.below(31);
                query = query.transaction(transaction);
                only_events = true;
                all.push(Box::new(move |record, _| {
                    matches!(record.context(), Ok(Some(context)) if context.transaction_id == transaction)
                }));
            }
            7 => {
                let inode = if random.one_in(20) { 0 } else { 1000 + random.below(last_id / 20 + 5) };
                query = query.inode(inode);
                only_events = true;
                all.push(Box::new(move |record, _| {
                    matches!(record.context(), Ok(Some(context)) if context.inode_number == inode)
                }));
            }
            8 => {
                let process = if random.one_in(4) { 7 } else { random.below(1000) as u32 };
                query = query.pid(process);
                all.push(Box::new(move |record, _| record.process_id() == process));
            }
            9 => {
                let priority = random.below(5) as u32 * if random.one_in(4) { 90 } else { 1 };
                query = query.priority(priority);
                all.push(Box::new(move |record, _| record.event_priority() <= priority));
            }
            10 => {
                let agents = 1 << random.below(64);
                query = query.visible_to(agents);
                only_events = true;
                all.push(Box::new(move |record, _| record.header().agent_visibility_mask & agents != 0));
            }
            11 => {
                let word = WORDS[random.below(3) as usize];
                query = query.containing(word);
                only_events = true;
                all.push(Box::new(move |record, _| {
                    let has_word = |part: &[u8]| part.windows(word.len()).any(|at| at == word.as_bytes());
                    has_word(record.payload()) || has_word(record.metadata())
                }));
            }
            _ => {
                let causes: Vec<_> = (0..=random.below(3)).map(|_| random.below(last_id)).collect();
                query = query.caused_by(causes.iter().copied());
                only_events = true;
                all.push(Box::new(move |record, _| {
                    causes.contains(&record.header().parent_event_id)
                        || record.links().any(|link| causes.contains(&link.cause_event_id))
                }));
            }
        }
    }
    if random.one_in(5) {
        query = query.control();
        if only_events {
            all.push(Box::new(|record, _| !record.is_control()));
        }
    } else {
        all.push(Box::new(|record, _| !record.is_control()));
    }
    (query, all)
}

/// A place in the journal, for comparison.
fn found<'r>(reader: &'r Reader, query: &Query) -> Vec<(u64, u64, &'r [u8])> {
    let matches = reader.query(query).located();
    matches
        .map(|found| found.unwrap())
        .map(|at| (at.opening.segment_number, at.offset, at.record.bytes()))
        .collect()
}

/// Questions to a reader against a scan that knows nothing of any index.
fn ask(reader: &Reader, random: &mut Random, questions: usize, last_id: u64, last_ktime: i64, state: &str) {
    let everything: Vec<_> = reader.records().map(|located| located.unwrap()).collect();
    // The first and the last id of each segment.
    let events: Vec<_> = everything.iter().filter(|at| !at.record.is_control()).collect();
    let segments = events.chunk_by(|a, b| a.opening.segment_number == b.opening.segment_number);
    let edges: Vec<_> =
        segments.flat_map(|of| [of[0].record.event_id(), of[of.len() - 1].record.event_id()]).collect();
    for number in 0..questions {
        let before = random.clone();
        let opening = everything[random.below(everything.len() as u64) as usize].opening;
        let (query, predicates) = question(random, last_id, last_ktime, opening);
        let mut expected: Vec<_> = everything
            .iter()
            .filter(|at| predicates.iter().all(|holds| holds(&at.record, at.opening)))
            .map(|at| (at.opening.segment_number, at.offset, at.record.bytes()))
            .collect();
        let mut query = query;
        if random.one_in(3) {
            query = query.reverse();
            expected.reverse();
        }
        if random.one_in(3) {
            let limit = random.below(30);
            query = query.limit(limit);
            expected.truncate(limit as usize);
        }
        let answers = found(reader, &query);
        assert!(
            answers == expected,
            "sidecars {state}, question {number} from {before:?}: {query:?} has {} answers, expected {}",
            answers.len(),
            expected.len()
        );
        let explain = reader.explain(&query).unwrap();
        assert_eq!(explain.matches, expected.len() as u64);
        assert!(explain.segments.looked_at + explain.segments.skipped() <= explain.segments.total);
        assert!(explain.blocks.looked_at + explain.blocks.skipped() <= explain.blocks.total);
        assert!(explain.bytes.looked_at + explain.bytes.skipped() <= explain.bytes.total);

        let id = match random.below(3) {
            0 => random.below(last_id + 3),
            1 => everything[random.below(everything.len() as u64) as usize].record.event_id(),
            _ => edges[random.below(edges.len() as u64) as usize],
        };
        let by_scan = everything.iter().find(|at| at.record.event_id() == id && id != 0);
        assert_eq!(
            reader.get(id).unwrap().map(|record| record.bytes()),
            by_scan.map(|at| at.record.bytes()),
            "id {id}"
        );
    }
}

fn sidecars(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "idx"));
    paths.sort();
    paths
}

#[test]
fn two_thousand_questions_are_answered_as_by_a_full_scan_whatever_the_sidecars_are() {
    let mut random = Random::new(seed());
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let (last_id, last_ktime) = make(dir, &mut random);
    assert!(sidecars(dir).is_empty(), "without threads none are written");

    let states =
        ["missing", "present", "truncated", "stale", "flipped", "garbage", "of another segment", "mixed"];
    for round in 0..24 {
        let state = states[round % states.len()];
        rebuild_sidecars(dir).unwrap();
        let paths = sidecars(dir);
        assert!(paths.len() > 8, "{} sidecars", paths.len());
        let whole: Vec<_> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
        for (i, path) in paths.iter().enumerate() {
            let mut bytes = whole[i].clone();
            let state = if state == "mixed" { states[random.below(7) as usize] } else { state };
            match state {
                "missing" => {
                    fs::remove_file(path).unwrap();
                    continue;
                }
                "truncated" => bytes.truncate(random.below(bytes.len() as u64) as usize),
                // The segment went on, or was cut, after the sidecar was made.
                "stale" => bytes = made_stale(&bytes, &mut random),
                "flipped" => {
                    for _ in 0..=random.below(3) {
                        let bit = random.below(bytes.len() as u64 * 8) as usize;
                        bytes[bit / 8] ^= 1 << (bit % 8);
                    }
                }
                "garbage" => bytes.iter_mut().for_each(|byte| *byte = random.next() as u8),
                "of another segment" => bytes.clone_from(&whole[(i + 1) % whole.len()]),
                _ => {}
            }
            fs::write(path, bytes).unwrap();
        }
        let reader = match random.below(2) {
            0 => Reader::open(dir, OpenMode::Strict).unwrap(),
            _ => Reader::open_newest(dir, OpenMode::Strict).unwrap(),
        };
        ask(&reader, &mut random, 84, last_id, last_ktime, state);
    }
}

/// A sidecar that was right for another end of its segment.
fn made_stale(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    use semj::format::checksum::kernel_crc32;
    use semj::index::Header;
    let mut header = Header::decode(bytes.first_chunk().unwrap());
    match random.below(3) {
        0 => header.end -= 292,
        1 => header.epoch -= 1,
        _ => header.end_bytes[random.below(32) as usize] ^= 1,
    }
    header.checksum = kernel_crc32(&header.encode()[..Header::SIZE - 4]);
    [&header.encode()[..], &bytes[Header::SIZE..]].concat()
}

#[test]
fn a_journal_that_is_written_answers_as_a_full_scan_does() {
    let mut random = Random::new(seed());
    let scratch = tempfile::tempdir().unwrap();
    let (mut id, mut ktime) = make(scratch.path(), &mut random);
    let journal = Journal::open(scratch.path(), options()).unwrap();
    let mut earlier: Option<(Reader, usize)> = None;
    for _ in 0..12 {
        import_some(&journal, &mut random, 150, &mut id, &mut ktime);
        journal.sync().unwrap();
        let reader = journal.reader();
        ask(&reader, &mut random, 20, id, ktime, "growing");
        // A reader sees what there was when it was made.
        if let Some((reader, count)) = &earlier {
            assert_eq!(reader.query(&Query::new()).count(), *count);
            ask(reader, &mut random, 5, id, ktime, "growing, for an earlier reader");
        }
        let count = reader.query(&Query::new()).count();
        earlier = Some((reader, count));
    }
}

#[test]
fn sidecars_are_written_by_a_journal_with_threads_and_are_right() {
    let mut random = Random::new(seed());
    let scratch = tempfile::tempdir().unwrap();
    let (mut id, mut ktime) = make(scratch.path(), &mut random);
    let journal =
        Journal::open(scratch.path(), Options { segment_size: 256 << 10, ..Options::default() }).unwrap();
    import_some(&journal, &mut random, 3000, &mut id, &mut ktime);
    journal.rotate().unwrap();
    let segments = journal.stats().segments as usize;
    let patience = std::time::Instant::now();
    while sidecars(scratch.path()).len() + 1 < segments {
        assert!(patience.elapsed().as_secs() < 60, "{} sidecars", sidecars(scratch.path()).len());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    ask(&journal.reader(), &mut random, 50, id, ktime, "written");
    journal.close().unwrap();
    let reports = verify_sidecars(scratch.path()).unwrap();
    let right = reports.iter().filter(|report| report.state == SidecarState::Right).count();
    assert!(right + 1 >= reports.len() && reports.len() == segments, "{reports:?}");
    // What is left is done after the next open; a sidecar without its segment goes.
    fs::write(scratch.path().join("0000009999-00000000000000000001.idx"), b"orphan").unwrap();
    let journal = Journal::open(scratch.path(), options()).unwrap();
    journal.close().unwrap();
    rebuild_sidecars(scratch.path()).unwrap();
    assert!(
        verify_sidecars(scratch.path()).unwrap().iter().all(|report| report.state == SidecarState::Right)
    );
    let reader = Reader::open_newest(scratch.path(), OpenMode::Strict).unwrap();
    ask(&reader, &mut random, 50, id, ktime, "present");
}

#[test]
fn a_sidecar_that_lies_with_a_right_checksum_leads_nobody_astray() {
    use semj::format::checksum::kernel_crc32;
    use semj::index::sidecar::{PLACE_SIZE, Run};
    use semj::index::{Block, Header};
    let mut random = Random::new(seed());
    let scratch = tempfile::tempdir().unwrap();
    let (last_id, last_ktime) = make(scratch.path(), &mut random);
    rebuild_sidecars(scratch.path()).unwrap();
    for path in sidecars(scratch.path()) {
        let mut bytes = fs::read(&path).unwrap();
        let mut header = Header::decode(bytes.first_chunk().unwrap());
        let blocks = header.head_size();
        let places = blocks + header.block_count as usize * Block::SIZE;
        let offsets = places + header.run_count as usize * Run::SIZE;
        let offsets_end = offsets + header.place_count as usize * PLACE_SIZE;
        // Every border between two blocks and every place is a byte off.
        let mut add = |at: usize, more: i32| {
            let found = u32::from_le_bytes(*bytes[at..].first_chunk().unwrap());
            bytes[at..at + 4].copy_from_slice(&found.wrapping_add_signed(more).to_le_bytes());
        };
        (offsets..offsets_end).step_by(PLACE_SIZE).for_each(|at| add(at, 1));
        for border in (blocks + Block::SIZE..places).step_by(Block::SIZE) {
            add(border, 1);
            // One begins later and is shorter, the one before it is longer.
            add(border + 4, -1);
            add(border + 4 - Block::SIZE, 1);
        }
        header.body_checksum = kernel_crc32(&bytes[blocks..]);
        header.checksum = kernel_crc32(&header.encode()[..Header::SIZE - 4]);
        bytes[..Header::SIZE].copy_from_slice(&header.encode());
        fs::write(&path, bytes).unwrap();
    }
    let wrong = verify_sidecars(scratch.path()).unwrap();
    assert!(wrong.iter().all(|report| report.state == SidecarState::Wrong), "{wrong:?}");
    let reader = Reader::open_newest(scratch.path(), OpenMode::Strict).unwrap();
    ask(&reader, &mut random, 100, last_id, last_ktime, "forged");
}

/// A journal of one segment that is sealed, with its sidecar, and so many events of which every tenth is a write.
fn indexed(count: u64) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { segment_size: 16 << 20, ..options() };
    let journal = Journal::open(dir.path(), options).unwrap();
    for n in 0..count {
        let kind = if n % 10 == 9 { EventType::FILESYSTEM_WRITE } else { EventType::FILESYSTEM_READ };
        journal.emit(&semj::Event::new(kind).payload(&n.to_le_bytes())).unwrap();
    }
    journal.close().unwrap();
    rebuild_sidecars(dir.path()).unwrap();
    let sidecar = sidecars(dir.path()).remove(0);
    (dir, sidecar)
}

fn writes(dir: &Path) -> usize {
    let reader = Reader::open_newest(dir, OpenMode::Strict).unwrap();
    let query = Query::new().types([EventType::FILESYSTEM_WRITE]);
    reader.query(&query).collect::<Result<Vec<_>, _>>().unwrap().len()
}

#[test]
fn a_sidecar_of_any_size_takes_no_memory_and_changes_no_answer() {
    let (dir, sidecar) = indexed(2_000);
    let file = fs::OpenOptions::new().write(true).open(&sidecar).unwrap();
    file.set_len(1 << 40).unwrap();
    // The second time it says itself that it is large, and has room for what it says: 137 GB of a filter.
    for _ in 0..2 {
        assert_eq!(writes(dir.path()), 200);
        let reader = Reader::open_newest(dir.path(), OpenMode::Strict).unwrap();
        assert_eq!(reader.get(5).unwrap().unwrap().payload(), 4u64.to_le_bytes());
        file.write_all_at(&u32::MAX.to_le_bytes(), 148).unwrap();
    }
}

#[test]
fn a_sidecar_that_leaves_out_a_block_with_right_checksums_hides_nothing() {
    use semj::index::{Builder, Origin};
    let (dir, sidecar) = indexed(20_000);
    let segment = fs::read(sidecar.with_extension("semj")).unwrap();
    let report = semj::examine_journal(dir.path(), OpenMode::Strict).unwrap();
    let found = &report.segments[0];
    let mut builder = Builder::new(found.end);
    // As one would be made by who skipped records in the middle.
    for (offset, record) in
        semj::format::Records::new(&segment[..found.end], 52).map(|record| record.unwrap())
    {
        if !(found.end / 3..found.end / 3 * 2).contains(&offset) {
            builder.push(offset, &record);
        }
    }
    let opening = found.opening.unwrap();
    let origin = Origin::new(&opening, found.end as u64, &segment[found.end - 32..found.end]).unwrap();
    fs::write(&sidecar, builder.finish(&origin).as_bytes()).unwrap();
    assert_eq!(writes(dir.path()), 2_000);
}

#[test]
fn damage_is_said_of_where_it_is_and_costs_the_rest_of_the_segment_nothing() {
    let (dir, sidecar) = indexed(20_000);
    let path = sidecar.with_extension("semj");
    let mut segment = fs::read(&path).unwrap();
    let (at, _) = semj::format::Records::new(&segment, 52)
        .map(|record| record.unwrap())
        .find(|(_, record)| record.event_id() == 4_001)
        .unwrap();
    // Its version: it is no record any more.
    segment[at + 80] ^= 2;
    fs::write(&path, segment).unwrap();
    let reader = Reader::open_newest(dir.path(), OpenMode::Strict).unwrap();
    let found = |id: u64| {
        reader
            .query(&Query::new().ids(id..=id + 2))
            .map(|found| found.map(|_| ()))
            .collect::<Result<Vec<_>, _>>()
    };
    for _ in 0..2 {
        assert_eq!(reader.get(15_000).unwrap().unwrap().event_id(), 15_000);
        assert_eq!(found(15_000).unwrap().len(), 3);
        let error = reader.get(4_001).unwrap_err();
        let semj::Error::Rotten { offset, .. } = error else { unreachable!("{error}") };
        assert_eq!(offset, at as u64);
        assert!(found(4_000).is_err());
    }
}
