//! What a damaged compressed segment still gives back. What is in its header, block index and seal is there twice, but for
//! checksums: here each is made up for by the others, and by the blocks' own headers.

use std::ops::Range;

use semj_format::JournalHeader;
use semj_format::journal_header::{FLAG_COMPRESSED, HeaderError};

use crate::block::BlockDecoder;
use crate::header::{BLOCK_SIZE_MAX, BlockHeader, MAGIC};
use crate::segment::{FileSeal, IndexEntry, NATIVE_SIZE_MAX, entries, entries_end, is_seal_of};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remains {
    /// The native segment from its header to the end of the last block that is right, with zeros for what can't be had. What stands
    /// behind that was zero, or can't be had.
    pub native: Vec<u8>,
    /// Blocks that give back their records.
    pub blocks_kept: usize,
}

/// Where blocks stand.
struct Blocks {
    /// Each with its number, in their order.
    placed: Vec<(usize, IndexEntry)>,
    /// Where their records end in the native segment. One more where nothing says so, and some are missing: whoever reads the native
    /// header is not to take it for all.
    native_end: u64,
}

/// Bytes that a block has at most. What a codec makes of records that it can't compress is little more than they are.
const PACKED_SIZE_MAX: usize = BlockHeader::SIZE + 2 * BLOCK_SIZE_MAX;

impl Remains {
    /// Of a file that is a compressed segment, or was: `None` if neither its header nor its first block says so, if it is of
    /// another version, or if no block is right.
    pub fn of(file: &[u8]) -> Option<Self> {
        let header = match JournalHeader::parse(file) {
            Ok(header) if header.flags & FLAG_COMPRESSED == 0 => return None,
            Err(HeaderError::Version { .. }) => return None,
            Ok(header) => Some(header),
            Err(_) if is_block(file, JournalHeader::SIZE, 0).is_none() => return None,
            Err(_) => None,
        };
        // A file that has become longer ends where its header says.
        let said = header.and_then(|header| usize::try_from(header.journal_size).ok());
        let file = said.and_then(|size| file.get(..size)).unwrap_or(file);
        let seal = seal(file);
        let Blocks { placed, native_end } = by_index(file, header.as_ref(), seal.as_ref())
            .unwrap_or_else(|| by_blocks(file, header.as_ref(), seal.as_ref()));
        let native_header = match (&seal, header) {
            (Some(seal), _) => seal.native_header,
            (None, Some(header)) => native_header(header, native_end),
            (None, None) => [0; JournalHeader::SIZE],
        };
        let mut decoder = BlockDecoder::default();
        // No memory for what no block has: up to the last right one there is room for all of them, and where nothing is written
        // that takes no pages.
        let end = placed.iter().rev().find_map(|(place, entry)| {
            let (bytes, records) = parts(file, *place, entry)?;
            let mut out = vec![0; records.len()];
            entry.decode_block(*place, bytes, &mut decoder, &mut out).ok()?;
            Some(records.end)
        })?;
        let mut native = vec![0; end];
        native.get_mut(..JournalHeader::SIZE)?.copy_from_slice(&native_header);
        let mut blocks_kept = 0;
        for (place, entry) in &placed {
            let Some((bytes, records)) = parts(file, *place, entry) else { continue };
            let Some(out) = native.get_mut(records) else { continue };
            match entry.decode_block(*place, bytes, &mut decoder, out) {
                Ok(()) => blocks_kept += 1,
                Err(_) => out.fill(0),
            }
        }
        Some(Self { native, blocks_kept })
    }
}

/// A block's bytes in the file, and where its records stand in the native form, if it begins as the block that it should be.
fn parts<'a>(file: &'a [u8], place: usize, entry: &IndexEntry) -> Option<(&'a [u8], Range<usize>)> {
    let bytes = file.get(range(entry.offset, entry.block_size)?)?;
    let records = range(entry.native_offset, entry.uncompressed_size)?;
    is_block(bytes, 0, place as u64).is_some().then_some((bytes, records))
}

/// So many bytes from an offset on.
fn range(offset: u64, size: u32) -> Option<Range<usize>> {
    let start = usize::try_from(offset).ok()?;
    Some(start..start.checked_add(size as usize)?)
}

/// The seal at the end of a file, if it is right by itself.
fn seal(file: &[u8]) -> Option<FileSeal> {
    let seal = FileSeal::parse(file.last_chunk()?).ok()?;
    let native = JournalHeader::parse(&seal.native_header).ok()?;
    is_seal_of(&seal, &native).then_some(seal)
}

/// The native header that belongs to that of a compressed file.
fn native_header(header: JournalHeader, native_end: u64) -> [u8; JournalHeader::SIZE] {
    let flags = header.flags & !FLAG_COMPRESSED;
    let mut native = JournalHeader { journal_size: native_end, index_offset: 0, flags, ..header };
    native.checksum = native.computed_checksum();
    native.encode()
}

/// The blocks by the index; `None` if it is not right. Where it stands, header and seal say; that it is right, its checksum in the
/// seal and that its entries follow each other without a hole from the first byte to itself.
fn by_index(file: &[u8], header: Option<&JournalHeader>, seal: Option<&FileSeal>) -> Option<Blocks> {
    let said = header.and_then(|header| usize::try_from(header.journal_size).ok());
    let end = said.unwrap_or(file.len()).checked_sub(FileSeal::SIZE)?;
    let start = match (header, seal) {
        (Some(header), _) => usize::try_from(header.index_offset).ok()?,
        (None, Some(seal)) => end.checked_sub(index_size(seal)?)?,
        (None, None) => return None,
    };
    let index = file.get(start..end)?;
    let entries = match seal {
        Some(seal) => seal.entries(index).ok()?,
        None => entries(index).ok()?,
    };
    let (at, native_end) = entries_end(&entries)?;
    let is_right = at == start as u64
        && seal.is_none_or(|seal| native_end == seal.native_end)
        && native_end <= NATIVE_SIZE_MAX;
    is_right.then(|| Blocks { placed: entries.into_iter().enumerate().collect(), native_end })
}

/// Bytes of the index that belongs to a seal.
fn index_size(seal: &FileSeal) -> Option<usize> {
    usize::try_from(seal.block_count).ok()?.checked_mul(IndexEntry::SIZE)
}

/// A right block that stands at an offset and has this number. What it holds is not looked at.
fn is_block(file: &[u8], at: usize, block_id: u64) -> Option<BlockHeader> {
    let (header, ..) = BlockHeader::parse(file.get(at..)?).ok()?;
    (header.block_id == block_id).then_some(header)
}

/// The right block of this number that ends at an offset, and begins at another one or behind it. What can't be it by its own
/// sizes is not looked at any further: somebody may have made a file that is full of such.
fn block_before(file: &[u8], lowest: usize, end: usize, block_id: u64) -> Option<(usize, BlockHeader)> {
    let nearest = end.checked_sub(BlockHeader::SIZE)?;
    let farthest = lowest.max(end.saturating_sub(PACKED_SIZE_MAX));
    (farthest..=nearest).rev().find_map(|at| {
        let header = BlockHeader::decode(file.get(at..)?.first_chunk()?);
        let size = end - at;
        let can_be = header.block_magic == MAGIC
            && header.block_id == block_id
            && header.block_size as usize == size
            && header.compressed_size as usize == size - BlockHeader::SIZE;
        can_be.then(|| is_block(file.get(..end)?, at, block_id)).flatten().map(|header| (at, header))
    })
}

fn entry(header: &BlockHeader, offset: u64, native_offset: u64) -> IndexEntry {
    IndexEntry {
        offset,
        native_offset,
        first_event_id: header.first_event_id,
        last_event_id: header.last_event_id,
        block_size: header.block_size,
        uncompressed_size: header.uncompressed_size,
    }
}

/// The blocks that follow each other from the first one on, by their own headers; and those that follow each other up to the
/// last one, if a seal says where their records end. What is between the two can't be placed.
fn by_blocks(file: &[u8], header: Option<&JournalHeader>, seal: Option<&FileSeal>) -> Blocks {
    let native_limit = seal.map_or(NATIVE_SIZE_MAX, |seal| seal.native_end);
    let block_limit = seal.map_or(u64::MAX, |seal| seal.block_count);
    let mut placed = Vec::new();
    let (mut at, mut native_at) = (JournalHeader::SIZE, JournalHeader::SIZE as u64);
    while let Some(header) = is_block(file, at, placed.len() as u64) {
        let native_end = native_at + u64::from(header.uncompressed_size);
        if native_end > native_limit || placed.len() as u64 >= block_limit {
            break;
        }
        placed.push((placed.len(), entry(&header, at as u64, native_at)));
        at += header.block_size as usize;
        native_at = native_end;
    }
    let Some(seal) = seal else {
        let is_all = header.is_some_and(|header| header.index_offset == at as u64);
        return Blocks { placed, native_end: native_at + u64::from(!is_all) };
    };
    // The last ones first.
    let mut behind = Vec::new();
    let index_at =
        index_size(seal).and_then(|size| file.len().checked_sub(FileSeal::SIZE)?.checked_sub(size));
    let (mut end, mut native_end) = (index_at.unwrap_or(0), seal.native_end);
    for block_id in (placed.len() as u64..seal.block_count).rev() {
        let Some((start, header)) = block_before(file, at, end, block_id) else { break };
        let size = u64::from(header.uncompressed_size);
        let (Some(native_start), Ok(place)) =
            (native_end.checked_sub(size).filter(|start| *start >= native_at), usize::try_from(block_id))
        else {
            break;
        };
        (end, native_end) = (start, native_start);
        behind.push((place, entry(&header, end as u64, native_end)));
    }
    placed.extend(behind.into_iter().rev());
    Blocks { placed, native_end: seal.native_end }
}
