//! What must hold of a segment's index: it loses nothing, skips most, and no damage to a sidecar passes.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use quickcheck::{TestResult, quickcheck};
use semj_format::{CausalityLink, Context, Draft, DraftContext, EventHeader, EventType, Record, SegmentOpen};
use semj_index::{Builder, Criterion, Glob, Header, Origin, Query, Sidecar, SidecarError, Sought, Summary};

fn opening() -> SegmentOpen {
    SegmentOpen {
        wall_clock_ns: 1_700_000_000_000_000_000,
        monotonic_ns: 5_000_000_000,
        segment_number: 3,
        epoch: 2,
        journal_uuid: [7; 16],
        ..SegmentOpen::decode(&[0; 168])
    }
}

/// An event as tests write it.
#[derive(Clone, Copy)]
struct Event<'a> {
    id: u64,
    event_type: EventType,
    path: &'a str,
    inode: u64,
    link: Option<u64>,
}

impl Event<'_> {
    fn encode(&self) -> Vec<u8> {
        let header = EventHeader {
            event_id: self.id,
            ktime_ns: self.id as i64 * 1_000_000,
            process_id: (self.id / 1000) as u32,
            event_priority: if self.id.is_multiple_of(5000) { 1 } else { 3 },
            ..EventHeader::new(self.event_type.0)
        };
        let context = Context { path: self.path.as_bytes(), inode_number: self.inode, ..Context::default() };
        let link = self.link.map(|cause| CausalityLink {
            cause_event_id: cause,
            effect_event_id: self.id,
            causality_type: 0,
            causality_strength: 0,
            causality_delay_ns: 0,
            causality_description: [0; 128],
        });
        let draft = Draft {
            context: DraftContext::Fields(context),
            payload: &[b'x'; 90],
            links: link.as_slice(),
            ..Draft::new(header)
        };
        draft.to_vec().unwrap()
    }
}

struct Made {
    segment: Vec<u8>,
    sidecar: Vec<u8>,
    origin: Origin,
}

fn make(records: impl IntoIterator<Item = Vec<u8>>) -> Made {
    let mut segment = vec![0; 52];
    let mut builder = Builder::new(64 << 20);
    for bytes in records {
        let record = Record::parse(&bytes).unwrap();
        builder.push(segment.len(), &record);
        segment.extend_from_slice(&bytes);
    }
    let origin = Origin::new(&opening(), segment.len() as u64, &segment).unwrap();
    Made { sidecar: builder.finish(&origin).as_bytes().to_vec(), segment, origin }
}

/// Files that are written one after the other, so many times each, in directories of 50.
fn many(count: u64, times: u64) -> Made {
    make((1..=count).map(|id| {
        let file = id / times;
        let event_type =
            if id == count / 2 { EventType::FILESYSTEM_TRUNCATE } else { EventType::FILESYSTEM_WRITE };
        let path = format!("/project/dir{}/file{file}.rs", file / 50);
        Event {
            id,
            event_type,
            path: &path,
            inode: 1000 + file,
            link: id.is_multiple_of(100).then(|| id - 7),
        }
        .encode()
    }))
}

fn blocks_looked_at(made: &Made, query: &Query) -> (usize, usize) {
    let sidecar = Sidecar::parse(&made.sidecar, &made.origin).unwrap();
    let opening = opening();
    let plan = query.plan(&opening);
    let blocks = sidecar.blocks;
    ((0..blocks.len()).filter(|place| plan.skips_block(&blocks, *place).is_none()).count(), blocks.len())
}

#[test]
fn a_rare_type_inode_path_or_cause_is_in_few_blocks() {
    let made = many(40_000, 4);
    for query in [
        Query::new().types([EventType::FILESYSTEM_TRUNCATE]),
        Query::new().inode(1500),
        Query::new().path_glob(Glob::new("/project/dir7").unwrap()),
        Query::new().path_glob(Glob::new("/project/dir7/*.rs").unwrap()),
        Query::new().path_glob(Glob::new("file3000.rs").unwrap()),
        Query::new().path_glob(Glob::new("/project/nowhere/**").unwrap()),
        Query::new().pid(17),
        Query::new().caused_by([9_993]),
        Query::new().ids(777..=900),
        Query::new().ktime(5_000_000_000..=5_500_000_000),
        Query::new().time(1_700_000_000_000_000_000..1_700_000_000_500_000_000),
        Query::new().visible_to(0),
    ] {
        let (looked_at, all) = blocks_looked_at(&made, &query);
        assert!(all > 200 && looked_at * 20 <= all, "{looked_at} of {all} for {query:?}");
    }
    assert_eq!(blocks_looked_at(&made, &Query::new()).0, blocks_looked_at(&made, &Query::new()).1);
}

#[test]
fn a_sidecar_is_less_than_a_hundredth_of_its_segment() {
    // Events of about 300 bytes. In the worst case each has a file of its own.
    for (events_per_file, percent) in [(1, 1.0), (4, 0.9), (1000, 0.6)] {
        let made = make((1..=60_000u64).map(|id| {
            let path = format!("/project/some/where/file{}.rs", id / events_per_file);
            Event {
                id,
                event_type: EventType::FILESYSTEM_WRITE,
                path: &path,
                inode: id / events_per_file,
                link: None,
            }
            .encode()
        }));
        let share = 100.0 * made.sidecar.len() as f64 / made.segment.len() as f64;
        assert!(share < percent, "{share:.3} percent with {events_per_file} events for each file");
        assert!((250..310).contains(&(made.segment.len() / 60_000)), "{}", made.segment.len() / 60_000);
    }
}

#[test]
fn the_header_alone_says_what_the_segment_has_not() {
    // Of many different keys the segment's filter would say nothing, and be left out.
    let crowded = many(40_000, 1);
    assert_eq!(Header::parse(&crowded.sidecar, &crowded.origin).unwrap().1.len(), 0);
    let made = many(40_000, 20);
    let (header, filter) = Header::parse(&made.sidecar, &made.origin).unwrap();
    let opening = opening();
    let skips = |query: Query| query.plan(&opening).skips_segment(&header.summary(), filter);
    assert_eq!(skips(Query::new()), None);
    assert_eq!(skips(Query::new().inode(1500)), None);
    assert_eq!(skips(Query::new().inode(999_999)), Some(Criterion::Inode));
    assert_eq!(skips(Query::new().path_glob(Glob::new("/project/nowhere").unwrap())), Some(Criterion::Path));
    assert_eq!(skips(Query::new().types([EventType::AGENT_QUERY])), Some(Criterion::Type));
    assert_eq!(skips(Query::new().ids(40_001..)), Some(Criterion::Ids));
    assert_eq!(skips(Query::new().ids(..1)), Some(Criterion::Ids));
    assert_eq!(skips(Query::new().priority(0)), Some(Criterion::Priority));
    assert_eq!(skips(Query::new().ktime(..0)), Some(Criterion::Time));
    assert_eq!(skips(Query::new().time(..1_600_000_000_000_000_000)), Some(Criterion::Time));
    assert_eq!(skips(Query::new().agent("nobody")), Some(Criterion::Agent));
    assert_eq!(skips(Query::new().transaction(9)), Some(Criterion::Transaction));
    // A filter takes some keys for others.
    let skipped =
        (1..=99).filter(|id| skips(Query::new().caused_by([*id])) == Some(Criterion::Cause)).count();
    assert!((80..99).contains(&skipped), "{skipped} of 99");
    assert_eq!(skips(Query::new().caused_by([93])), None, "event 100 names it");
}

#[test]
fn every_flipped_bit_and_every_cut_is_an_error() {
    let made = many(300, 4);
    assert!(Sidecar::parse(&made.sidecar, &made.origin).is_ok());
    for bit in 0..made.sidecar.len() * 8 {
        let mut flipped = made.sidecar.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(Sidecar::parse(&flipped, &made.origin).is_err(), "bit {bit}");
    }
    for end in 0..made.sidecar.len() {
        assert!(Sidecar::parse(&made.sidecar[..end], &made.origin).is_err(), "cut at {end}");
    }
    let longer = [&made.sidecar[..], &[0]].concat();
    assert!(matches!(Sidecar::parse(&longer, &made.origin), Err(SidecarError::Size { .. })));
}

#[test]
fn a_sidecar_of_another_segment_or_state_is_refused() {
    let made = many(300, 4);
    let origin = made.origin;
    for other in [
        Origin { journal_uuid: [8; 16], ..origin },
        Origin { segment_number: 4, ..origin },
        Origin { epoch: 3, ..origin },
        Origin { end: origin.end + 1, ..origin },
        Origin { end_bytes: [1; 32], ..origin },
    ] {
        assert!(
            matches!(Sidecar::parse(&made.sidecar, &other), Err(SidecarError::Origin { .. })),
            "{other:?}"
        );
    }
    assert_eq!(Origin::new(&opening(), 31, &made.segment[..31]), None);
}

#[test]
fn a_segment_without_events_has_an_index_that_skips_all() {
    let made = make([]);
    let sidecar = Sidecar::parse(&made.sidecar, &made.origin).unwrap();
    assert_eq!((sidecar.header.summary(), sidecar.blocks.len()), (Summary::EMPTY, 0));
    assert_eq!(sidecar.places.seek(0), Sought::Behind);
    let opening = opening();
    let query = Query::new();
    assert!(query.plan(&opening).skips_segment(&sidecar.header.summary(), sidecar.filter).is_none());
}

#[test]
fn ids_in_no_order_are_looked_for_in_the_blocks() {
    let order = [5u64, 3, 9, 1];
    let made = make(order.map(|id| {
        Event { id, event_type: EventType::FILESYSTEM_READ, path: "/a", inode: 1, link: None }.encode()
    }));
    let sidecar = Sidecar::parse(&made.sidecar, &made.origin).unwrap();
    assert_eq!(sidecar.places.seek(3), Sought::Anywhere);
    assert_eq!(sidecar.places.seek(10), Sought::Behind);
    assert_eq!(sidecar.header.summary().event_ids, (1, 9));
}

#[test]
fn where_ids_jump_all_the_time_there_are_no_places() {
    let mut places = semj_index::Places::new();
    (1..1000).for_each(|n| places.push(n * 2, 52 + n as usize * 200));
    assert_eq!(places.view().seek(500), Sought::Anywhere);
    assert_eq!(places.view().seek(2000), Sought::Behind);
    assert!(places.view().is_ascending());
}

quickcheck! {
    fn seek_gives_a_place_at_or_before_the_event_and_close_to_it(steps: Vec<(u8, u8)>) -> TestResult {
        let mut id = 0;
        let mut offset = 52;
        let mut places = semj_index::Places::new();
        let mut events = Vec::new();
        for (step, size) in steps {
            // One in sixteen ids jumps.
            id += if step < 16 { u64::from(step) + 1 } else { 1 };
            places.push(id, offset);
            events.push((id, offset));
            offset += usize::from(size) * 100 + 132;
        }
        if events.is_empty() {
            return TestResult::discard();
        }
        TestResult::from_bool((0..id + 2).all(|wanted| match events.iter().position(|(id, _)| *id >= wanted) {
            None => places.view().seek(wanted) == Sought::Behind,
            Some(at) => match places.view().seek(wanted) {
                Sought::From { offset, event_id } => {
                    let from = events.iter().position(|event| *event == (event_id, offset)).unwrap();
                    from <= at && at - from < 8
                }
                _ => false,
            },
        }))
    }

    fn no_block_that_has_a_match_is_skipped(events: Vec<(u8, u8, u8)>, asked: (u8, u8, u8)) -> bool {
        let types = EventType::ALL;
        let bytes: Vec<_> = events
            .iter()
            .zip(1..)
            .map(|((event_type, directory, inode), id)| {
                let path = format!("/{}/{}", directory % 4, directory);
                let event_type = types[usize::from(*event_type) % 12];
                Event { id, event_type, path: &path, inode: u64::from(inode % 8), link: (id > 3).then_some(id / 3) }.encode()
            })
            .collect();
        let made = make(bytes.clone());
        let sidecar = Sidecar::parse(&made.sidecar, &made.origin).unwrap();
        let opening = opening();
        let path = Glob::new(&format!("/{}", asked.1 % 4)).unwrap();
        [
            Query::new().types([types[usize::from(asked.0) % 12]]),
            Query::new().path_glob(path),
            Query::new().inode(u64::from(asked.2 % 9)),
            Query::new().ids(u64::from(asked.0)..u64::from(asked.1)),
            Query::new().caused_by([u64::from(asked.2)]),
        ]
        .iter()
        .all(|query| {
            let plan = query.plan(&opening);
            let has_match = bytes.iter().any(|bytes| plan.matches(&Record::parse(bytes).unwrap(), &mut 0));
            let skips = plan.skips_segment(&sidecar.header.summary(), sidecar.filter).is_some()
                || (0..sidecar.blocks.len()).all(|place| plan.skips_block(&sidecar.blocks, place).is_some());
            !(has_match && skips)
        })
    }

    fn any_bytes_are_parsed_or_refused_without_a_panic(bytes: Vec<u8>) -> bool {
        Sidecar::parse(&bytes, &Origin { journal_uuid: [0; 16], segment_number: 0, epoch: 0, end: 0, end_bytes: [0; 32] }).is_err()
    }
}
