//! Any bytes as a segment's sidecar, as they are and with checksums made right: decoding allocates nothing, and what is
//! looked up in it lies in bounds. And any records as a segment: what its index skips has no match.
#![no_main]

use libfuzzer_sys::fuzz_target;
use semj_format::checksum::kernel_crc32;
use semj_format::{EventType, Records, SegmentOpen};
use semj_fuzz::{MEMORY_BASE, within};
use semj_index::{Builder, Glob, Header, Origin, Query, Sidecar, Sought};

/// Of the segment that a sidecar says it is of.
fn origin(data: &[u8]) -> Origin {
    match data.first_chunk() {
        Some(header) => Header::decode(header).origin(),
        None => Origin { journal_uuid: [0; 16], segment_number: 0, epoch: 0, end: 0, end_bytes: [0; 32] },
    }
}

fn repaired(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    let Some(header) = bytes.first_chunk().map(Header::decode) else { return bytes };
    let filter_size = (header.filter_units as usize * 32).min(bytes.len() - Header::SIZE);
    let (filter, body) = bytes[Header::SIZE..].split_at(filter_size);
    let mut header = Header {
        magic: semj_index::sidecar::MAGIC,
        version: semj_index::sidecar::VERSION,
        filter_checksum: kernel_crc32(filter),
        body_checksum: kernel_crc32(body),
        ..header
    };
    header.checksum = kernel_crc32(&header.encode()[..Header::SIZE - 4]);
    bytes[..Header::SIZE].copy_from_slice(&header.encode());
    bytes
}

fn queries(data: &[u8]) -> [Query; 7] {
    let number = u64::from(data.first().copied().unwrap_or(0));
    let path = data.get(1..).and_then(|rest| std::str::from_utf8(&rest[..rest.len().min(12)]).ok());
    let path = path.and_then(|path| Glob::new(path).ok());
    [
        Query::new().types([EventType(0x0100 + data.len() as u32 % 16)]),
        Query::new().ids(number..number * 3),
        Query::new().ktime(number as i64 * 1000..),
        Query::new().inode(number),
        Query::new().pid(number as u32).priority(number as u32 % 6),
        Query::new().caused_by([number]).visible_to(number),
        path.map_or(Query::new().control(), |path| Query::new().path_glob(path)),
    ]
}

fn look_up(sidecar: &Sidecar<'_>, opening: &SegmentOpen, queries: &[Query]) {
    let end = sidecar.header.end;
    let mut at = 0;
    for place in 0..sidecar.blocks.len() {
        let block = sidecar.blocks.get(place).expect("a block by its place");
        assert!(
            block.offset as usize >= at && block.end() > block.offset as usize && block.end() as u64 <= end
        );
        at = block.end();
        assert_eq!(sidecar.blocks.at(block.offset as usize), place);
        for query in queries {
            let _ = query.plan(opening).skips_block(&sidecar.blocks, place);
        }
    }
    for id in [0, 1, sidecar.header.lowest_event_id, sidecar.header.highest_event_id, u64::MAX] {
        if let Sought::Behind = sidecar.places.seek(id) {
            assert!(
                id > sidecar.header.highest_event_id
                    || sidecar.header.highest_event_id < sidecar.header.lowest_event_id
            );
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let queries = queries(data);
    let opening = SegmentOpen::decode(&[0; 168]);
    for bytes in [data.to_vec(), repaired(data)] {
        let origin = origin(&bytes);
        within(0, || {
            let head = Header::parse(&bytes, &origin);
            if let Ok(sidecar) = Sidecar::parse(&bytes, &origin) {
                assert!(head.is_ok());
                look_up(&sidecar, &opening, &queries);
            }
        });
    }

    // The same bytes as records, behind whatever is no record.
    let records: Vec<_> = Records::new(data, 0).map_while(Result::ok).collect();
    let Some((last, record)) = records.last() else { return };
    let end = last + record.len();
    let Some(origin) = Origin::new(&opening, end as u64, &data[..end]) else { return };
    let bytes = within(96 * data.len() + MEMORY_BASE, || {
        let mut builder = Builder::new(data.len());
        records.iter().for_each(|(offset, record)| builder.push(*offset, record));
        builder.finish(&origin).as_bytes().to_vec()
    });
    let sidecar = Sidecar::parse(&bytes, &origin).expect("what was encoded can be read");
    look_up(&sidecar, &opening, &queries);
    for query in &queries {
        let plan = query.plan(&opening);
        for (offset, record) in records.iter().filter(|(_, record)| plan.matches(record, &mut 0)) {
            assert_eq!(
                plan.skips_segment(&sidecar.header.summary(), sidecar.filter),
                None,
                "{record:?} at {offset}"
            );
            let place = sidecar.blocks.at(*offset);
            assert_eq!(plan.skips_block(&sidecar.blocks, place), None, "{record:?} at {offset}");
        }
    }
    for (offset, record) in records.iter().filter(|(_, record)| !record.is_control()) {
        match sidecar.places.seek(record.event_id()) {
            Sought::From { offset: from, .. } => assert!(from <= *offset),
            Sought::Anywhere => assert!(!sidecar.places.is_ascending()),
            Sought::Behind => panic!("an event that is there is not behind the last"),
        }
    }
});
