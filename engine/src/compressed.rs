//! A compressed segment as readers see it: the native bytes, decoded a block at a time when they are asked for.
//!
//! A record that was given out is borrowed for as long as its reader lives, so what a reader has decoded stays in memory as
//! long; each reader has pieces of its own ([`Map::anew`]), which go with it. Behind them all stands one small cache of fixed
//! size, for whoever comes next and asks for the same.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use semj_blocks::{BlockDecoder, DecodeError, Layout};
use semj_format::JournalHeader;
use semj_format::SegmentOpen;
use semj_format::control::{self, SegmentSeal};
use semj_recovery::Packed;

use crate::error::Error;
use crate::medium::Map;

/// Blocks that the cache holds: 4 MiB of them as they are made unless asked otherwise.
const CACHED_BLOCKS: usize = 64;
/// And not more bytes than this, whatever their size.
const CACHED_BYTES: usize = 8 << 20;
/// Decoders that are kept for the next one who needs one.
const IDLE_DECODERS: usize = 8;

/// The records of a block.
type Block = Arc<[u8]>;

/// Numbers the files that were opened, so that the cache can tell their blocks apart.
static NEXT_FILE: AtomicU64 = AtomicU64::new(0);
/// Blocks that were decoded last, the newest behind.
static CACHE: Mutex<VecDeque<Cached>> = Mutex::new(VecDeque::new());
static DECODERS: Mutex<Vec<BlockDecoder>> = Mutex::new(Vec::new());

struct Cached {
    file: u64,
    place: usize,
    block: Block,
}

/// With a decoder that others may have used before.
fn with_decoder<T>(work: impl FnOnce(&mut BlockDecoder) -> T) -> T {
    let idle = DECODERS.lock().pop();
    let mut decoder = idle.unwrap_or_default();
    let done = work(&mut decoder);
    let mut idle = DECODERS.lock();
    if idle.len() < IDLE_DECODERS {
        idle.push(decoder);
    }
    done
}

/// Copies as much as there is, and as there is room for.
fn copy(from: &[u8], to: &mut [u8]) -> usize {
    let size = from.len().min(to.len());
    to[..size].copy_from_slice(&from[..size]);
    size
}

/// A compressed file and what is known of it.
struct Packing {
    file: Box<dyn Map>,
    number: u64,
    layout: Layout,
    native_end: usize,
    native_size: usize,
    /// The header and the first block; the last record. Whoever opens a journal looks at them.
    first: Box<[u8]>,
    last_record: Box<[u8]>,
    /// The highest id of an event in each block and before it, if no block has one that is lower than those before.
    highest_ids: Option<Box<[u64]>>,
    /// Why the file could not be read, when it could not.
    failure: Mutex<Option<io::Error>>,
}

/// Why native bytes can't be had.
#[derive(Debug)]
pub(crate) enum Unreadable {
    Io(io::Error),
    Damaged(DecodeError),
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<DecodeError> for Unreadable {
    fn from(error: DecodeError) -> Self {
        Self::Damaged(error)
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Damaged(error) => error.fmt(f),
        }
    }
}

impl Unreadable {
    /// As the error of somebody who wanted to read what stands at `offset` of the segment.
    pub(crate) fn at(self, path: &Path, offset: u64) -> Error {
        match self {
            Self::Io(source) => Error::io("read", path)(source),
            Self::Damaged(source) => Error::RottenBlock { path: path.to_owned(), offset, source },
        }
    }
}

/// The native bytes of a compressed segment. Its pieces are the blocks, the first one together with the header.
#[derive(Clone)]
pub(crate) struct CompressedMap {
    packing: Arc<Packing>,
    /// Room for them, from the first one on that is asked for: a reader has a map of each segment, and looks into few.
    pieces: Arc<OnceLock<Pieces>>,
}

type Pieces = Box<[OnceLock<Option<Block>>]>;

/// The native bytes of whatever form a segment's file has.
pub(crate) fn unpacking(map: Box<dyn Map>) -> Box<dyn Map> {
    match CompressedMap::found(map) {
        Ok(compressed) => Box::new(compressed),
        Err(map) => map,
    }
}

/// Bytes that the file whose native bytes these are would have now: fewer only if it was made shorter.
pub(crate) fn native_file_size(file: &dyn Map, native_size: usize, path: &Path) -> io::Result<u64> {
    let packed_size = file.file_size(path)?;
    let is_cut = packed_size < file.size() as u64;
    Ok(if is_cut { packed_size } else { native_size as u64 })
}

impl CompressedMap {
    /// Of a file that is a compressed segment; any other is given back. One that is damaged so far that its blocks can't be
    /// found is none: its header contradicts what stands behind it, as that of a damaged native segment.
    pub(crate) fn found(file: Box<dyn Map>) -> Result<Self, Box<dyn Map>> {
        if !Layout::is_compressed(file.bytes(0..JournalHeader::SIZE)) {
            return Err(file);
        }
        Self::open(file).map_err(|(file, error)| {
            tracing::warn!(%error, "a compressed segment can't be read");
            file
        })
    }

    /// Of a file that is a compressed segment; one that is none, or is damaged, is given back.
    pub(crate) fn open(file: Box<dyn Map>) -> Result<Self, (Box<dyn Map>, Unreadable)> {
        match Opened::of(&*file) {
            Ok(Opened { layout, first, last_record, native_end, native_size }) => {
                let number = NEXT_FILE.fetch_add(1, Ordering::Relaxed);
                let failure = Mutex::new(None);
                let highest_ids = layout.highest_ids();
                let packing = Packing {
                    file,
                    number,
                    layout,
                    native_end,
                    native_size,
                    first,
                    last_record,
                    highest_ids,
                    failure,
                };
                Ok(Self::with(Arc::new(packing)))
            }
            Err(error) => Err((file, error)),
        }
    }

    fn with(packing: Arc<Packing>) -> Self {
        Self { packing, pieces: Arc::default() }
    }

    pub(crate) fn native_header(&self) -> [u8; JournalHeader::SIZE] {
        self.packing.layout.seal().native_header
    }

    /// Whether this is the segment that was opened so and ends there.
    pub(crate) fn is_of(&self, opening: &SegmentOpen, end: usize) -> bool {
        let seal = self.packing.layout.seal();
        (seal.journal_uuid, seal.segment_number, seal.previous_digest)
            == (opening.journal_uuid, opening.segment_number, opening.previous_digest)
            && self.packing.native_end == end
    }

    /// A block that is not the first.
    fn piece(&self, block: usize) -> Option<&[u8]> {
        let none = || self.packing.layout.entries().iter().map(|_| OnceLock::new()).collect();
        let pieces = self.pieces.get_or_init(none);
        pieces.get(block)?.get_or_init(|| self.packing.block(block)).as_deref()
    }

    /// Copies native bytes from an offset on, as many as its piece has; none behind the segment's end. Nothing stays in memory
    /// but what the cache holds.
    pub(crate) fn read_at(&self, offset: usize, out: &mut [u8]) -> Result<usize, Unreadable> {
        let packing = &*self.packing;
        let (start, block);
        let piece = if offset < packing.first.len() {
            start = 0;
            &*packing.first
        } else {
            let Some(place) = packing.layout.find(offset) else { return Ok(0) };
            start = packing.layout.native_range(place).map_or(offset, |range| range.start);
            block = packing.try_block(place)?;
            &*block
        };
        Ok(copy(piece.get(offset - start..).unwrap_or_default(), out))
    }
}

/// What is read of a file when it is opened.
struct Opened {
    layout: Layout,
    first: Box<[u8]>,
    last_record: Box<[u8]>,
    native_end: usize,
    native_size: usize,
}

impl Opened {
    fn of(file: &dyn Map) -> Result<Self, Unreadable> {
        let empty = || DecodeError::Contradiction { what: "a block index" };
        let head = file.read(0..JournalHeader::SIZE)?;
        let index_offset = Layout::index_offset(&head, file.size() as u64)?;
        let tail = usize::try_from(index_offset).map_err(|_| empty())?..file.size();
        let layout = Layout::parse_ends(&head, &file.read(tail)?)?;
        let seal = layout.seal();
        let size = |size: u64| usize::try_from(size).map_err(|_| empty());
        let (native_end, native_size) = (size(seal.native_end)?, size(seal.native_size)?);
        let mut first = seal.native_header.to_vec();
        first.resize(layout.native_range(0).ok_or_else(empty)?.end, 0);
        let last = layout.entries().len().saturating_sub(1);
        let mut block = vec![0; layout.native_range(last).ok_or_else(empty)?.len()];
        let read = |place| file.read(layout.file_range(place).unwrap_or(0..0));
        let (first_block, last_block) = (read(0)?, read(last)?);
        with_decoder(|decoder| {
            let records = first.get_mut(JournalHeader::SIZE..).unwrap_or_default();
            layout.decode_block(&first_block, 0, decoder, records)?;
            if let Err(error) = layout.decode_block(&last_block, last, decoder, &mut block) {
                // The others are as good as they were: no last record makes whoever asks for it look at all of them.
                tracing::warn!(block = last, %error, "a block of a compressed segment can't be read");
                block.clear();
            }
            Ok::<_, DecodeError>(())
        })?;
        let start = block.len().saturating_sub(control::record_size::<SegmentSeal>());
        let last_record = block.get(start..).unwrap_or_default().into();
        Ok(Self { layout, first: first.into(), last_record, native_end, native_size })
    }
}

impl Packing {
    /// A block, from the cache or decoded; `None` if it is damaged.
    fn block(&self, block: usize) -> Option<Block> {
        let failed = |error| {
            tracing::warn!(block, %error, "a block of a compressed segment can't be read");
            if let Unreadable::Io(error) = error {
                *self.failure.lock() = Some(error);
            }
        };
        self.try_block(block).map_err(failed).ok()
    }

    fn try_block(&self, place: usize) -> Result<Block, Unreadable> {
        let is_it = |cached: &&Cached| (cached.file, cached.place) == (self.number, place);
        let cached = CACHE.lock().iter().rev().find(is_it).map(|cached| Arc::clone(&cached.block));
        if let Some(block) = cached {
            return Ok(block);
        }
        let range = self.layout.native_range(place);
        let mut bytes = vec![0; range.ok_or(DecodeError::Contradiction { what: "a block index" })?.len()];
        let packed = self.file.read(self.layout.file_range(place).unwrap_or(0..0))?;
        with_decoder(|decoder| self.layout.decode_block(&packed, place, decoder, &mut bytes))?;
        let block: Block = bytes.into();
        let mut cache = CACHE.lock();
        cache.push_back(Cached { file: self.number, place, block: Arc::clone(&block) });
        while cache.len() > CACHED_BLOCKS
            || cache.iter().map(|cached| cached.block.len()).sum::<usize>() > CACHED_BYTES
        {
            cache.pop_front();
        }
        Ok(block)
    }
}

impl Map for CompressedMap {
    fn size(&self) -> usize {
        self.packing.native_size
    }

    fn bytes(&self, range: Range<usize>) -> &[u8] {
        let packing = &*self.packing;
        let (start, piece) = match packing.first.len() {
            first if range.start < first => (0, &*packing.first),
            _ => {
                let Some(block) = packing.layout.find(range.start) else { return &[] };
                let Some(native) = packing.layout.native_range(block) else { return &[] };
                (native.start, self.piece(block).unwrap_or_default())
            }
        };
        let end = range.end.saturating_sub(start).min(piece.len());
        piece.get(range.start - start..end).unwrap_or_default()
    }

    fn piece_end(&self, offset: usize) -> usize {
        let native = self.packing.layout.find(offset.max(JournalHeader::SIZE));
        let native = native.and_then(|block| self.packing.layout.native_range(block));
        native.map_or(self.size(), |native| native.end)
    }

    fn seek(&self, event_id: u64) -> Option<usize> {
        let packing = &*self.packing;
        let place = packing.highest_ids.as_ref()?.partition_point(|highest| *highest < event_id);
        Some(match place {
            // With it stands the header.
            0 => JournalHeader::SIZE,
            place => packing.layout.native_range(place).map_or(packing.native_end, |range| range.start),
        })
    }

    fn packed_size(&self) -> Option<usize> {
        Some(self.packing.file.size())
    }

    fn unload(&self) {
        self.packing.file.unload();
    }

    fn anew(&self) -> Option<Box<dyn Map>> {
        Some(Box::new(Self::with(Arc::clone(&self.packing))))
    }

    fn is_intact(&self) -> bool {
        self.packing.file.is_intact()
    }

    fn failure(&self) -> Option<io::Error> {
        // An error can't be copied; who asks next is told as much.
        let failure = &mut *self.packing.failure.lock();
        let again = failure.as_ref().map(|error| io::Error::new(error.kind(), error.to_string()));
        std::mem::replace(failure, again).or_else(|| self.packing.file.failure())
    }

    fn file_size(&self, path: &Path) -> io::Result<u64> {
        native_file_size(&*self.packing.file, self.size(), path)
    }
}

impl Packed for CompressedMap {
    fn packed_size(&self) -> u64 {
        self.packing.file.size() as u64
    }

    fn last_record(&self) -> &[u8] {
        &self.packing.last_record
    }

    fn unpack(&self) -> Vec<u8> {
        let packing = &*self.packing;
        let mut native = vec![0; packing.native_end];
        let file = match packing.file.read(0..packing.file.size()) {
            Ok(file) => file,
            Err(error) => {
                tracing::warn!(%error, "a compressed segment can't be read");
                *packing.failure.lock() = Some(error);
                return native;
            }
        };
        if let Err(error) = packing.layout.verify_digest(&file) {
            // What it says is held against its own digests by whoever asks.
            tracing::warn!(%error, "a compressed segment's file is not what was written");
        }
        copy(&packing.first, &mut native);
        with_decoder(|decoder| {
            for block in 1..packing.layout.entries().len() {
                let Some(out) = packing.layout.native_range(block).and_then(|range| native.get_mut(range))
                else {
                    continue;
                };
                if let Err(error) = packing.layout.decode(&file, block, decoder, out) {
                    tracing::warn!(block, %error, "a block of a compressed segment can't be read");
                    // Memory that nothing was written to stays memory that is not had.
                    if out.iter().any(|byte| *byte != 0) {
                        out.fill(0);
                    }
                }
            }
        });
        native
    }
}

impl fmt::Debug for CompressedMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blocks = self.packing.layout.entries().len();
        f.debug_struct("CompressedMap").field("size", &self.size()).field("blocks", &blocks).finish()
    }
}
