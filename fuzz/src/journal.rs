//! One input as the files of a journal.
//!
//! ```text
//! input   = flags (u8) || [watermark (128 bytes)] || file* || damage (4 bytes)*
//! file    = length and form (u16) || that many bytes, or what is left
//! damage  = place (u16), what, how much
//!
//! flags     0x01 checksums and digests are made right
//!           0x02 there is a watermark, whose checksum is made right
//!           0x04, 0x08, 0x10 figures, links, the header's figures too: see `repair`
//!           0x20 the files are named by their own segment numbers, and not 1, 2, …
//!           0xC0 how often damage follows
//! form      0x8000 the file is compressed, if it is a sealed segment; how, its length says, which is in the other bits
//! ```
//!
//! Damage is done after the repair and the compression: it is what a disk does to a journal that was right.

use semj_blocks::{BlockDecoder, Codec, Compressor, Layout};
use semj_format::{Watermark, WatermarkFile};
use semj_recovery::{Scanner, SegmentInput};

use crate::repair::{self, Layers};

/// Files that an input is cut into at most.
const FILES_MAX: usize = 5;
/// Bytes that say what one damage is.
const DAMAGE_SIZE: usize = 4;
/// Bytes of the watermark.
const MARK_SIZE: usize = 128;

/// The flag for a watermark.
pub const MARKED: u8 = 0x02;
/// The flag for the segments' own numbers.
pub const OWN_NUMBERS: u8 = 0x20;
/// The flags for one damage.
pub const DAMAGED: u8 = 0x40;
/// The bit of a file's length for its compressed form.
pub const COMPRESSED: u16 = 0x8000;
/// The bits of a file's length that are its length.
const LENGTH: u16 = 0x7FFF;
/// Bytes of records in a block, so that small segments have some.
const BLOCK_TARGET: usize = 600;
const CODECS: [Codec; 5] = [Codec::None, Codec::Zlib(1), Codec::Lz4, Codec::Zstd(1), Codec::Snappy];

/// One file of a journal.
#[derive(Clone, Debug)]
pub struct File {
    /// Its name.
    pub name: String,
    /// The number that the name says.
    pub number: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The segment's bytes: of a compressed one those that it gives back, with zeros for a block that is damaged.
    pub native: Vec<u8>,
}

impl File {
    /// The file as recovery takes it.
    pub fn input(&self) -> SegmentInput<'_> {
        SegmentInput::new(&self.name, Some(self.number), &self.native)
    }
}

/// What an input stands for.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    /// The segments, in the order of their numbers.
    pub files: Vec<File>,
    /// The newest watermark.
    pub mark: Option<Watermark>,
}

impl Journal {
    /// The journal that an input stands for.
    pub fn of_input(input: &[u8]) -> Self {
        let Some((&flags, mut rest)) = input.split_first() else {
            return Self::default();
        };
        let mut mark = None;
        if flags & MARKED != 0
            && let Some((slot, behind)) = rest.split_first_chunk::<MARK_SIZE>()
        {
            mark = Some(Watermark::decode(slot).with_checksum());
            rest = behind;
        }
        let (mut rest, damages) = split_damage(flags, rest);
        let (mut files, mut forms) = (Vec::new(), Vec::new());
        while let Some((length, behind)) = rest.split_first_chunk()
            && files.len() < FILES_MAX
        {
            let length = u16::from_le_bytes(*length);
            let (file, behind) = behind.split_at(usize::from(length & LENGTH).min(behind.len()));
            files.push(file.to_vec());
            forms.push(Some(CODECS[usize::from(length) % CODECS.len()]).filter(|_| length & COMPRESSED != 0));
            rest = behind;
        }
        let mut end = None;
        for file in &mut files {
            repair::segment(file, Layers::from_flags(flags), end.as_ref());
            end = repair::end_of(file);
        }
        for (file, codec) in files.iter_mut().zip(forms) {
            compress(file, codec);
        }
        damage(&mut files, damages);
        let mut numbers = Numbers { last: 0, own: flags & OWN_NUMBERS != 0 };
        Self { files: files.into_iter().map(|bytes| numbers.name(bytes)).collect(), mark }
    }

    /// The segments as recovery takes them.
    pub fn inputs(&self) -> Vec<SegmentInput<'_>> {
        self.files.iter().map(File::input).collect()
    }

    /// The watermark as recovery takes it.
    pub fn watermark(&self) -> WatermarkFile {
        self.mark.map(|mark| WatermarkFile::parse(&mark.encode())).unwrap_or_default()
    }

    /// Bytes of all segments.
    pub fn size(&self) -> usize {
        self.files.iter().map(|file| file.bytes.len()).sum()
    }
}

/// Compresses a file if it is a sealed segment.
fn compress(file: &mut Vec<u8>, codec: Option<Codec>) {
    let Some(codec) = codec else { return };
    let compressor = Compressor::with_target(file, file.len() as u64, codec, BLOCK_TARGET);
    if let Ok(compressed) = compressor.and_then(Compressor::finish) {
        *file = compressed;
    }
}

/// The bytes of a segment whatever form its file has. Of a compressed one that is damaged so far that its blocks can't be
/// found these are the file's.
fn native(file: &[u8]) -> Vec<u8> {
    let Some(layout) =
        Some(file).filter(|file| Layout::is_compressed(file)).and_then(|file| Layout::parse(file).ok())
    else {
        return file.to_vec();
    };
    let mut native = layout.seal().native_header.to_vec();
    let mut decoder = BlockDecoder::default();
    for block in 0..layout.entries().len() {
        let size = layout.native_range(block).map_or(0, |range| range.len());
        let mut records = vec![0; size];
        if layout.decode(file, block, &mut decoder, &mut records).is_err() {
            records.fill(0);
        }
        native.extend_from_slice(&records);
    }
    native
}

/// What stands before the damages, and the damages.
pub fn split_damage(flags: u8, rest: &[u8]) -> (&[u8], &[[u8; DAMAGE_SIZE]]) {
    let size = usize::from(flags >> 6) * DAMAGE_SIZE;
    let (rest, damages) = rest.split_at(rest.len().saturating_sub(size));
    (rest, damages.as_chunks().0)
}

/// Damages files, whose offsets are counted on from one to the next.
pub fn damage(files: &mut [Vec<u8>], damages: &[[u8; DAMAGE_SIZE]]) {
    for [low, high, what, how_much] in damages {
        let size: usize = files.iter().map(Vec::len).sum();
        if size == 0 {
            return;
        }
        let mut at = usize::from(u16::from_le_bytes([*low, *high])) % size;
        let file = files.iter_mut().find_map(|file| {
            let is_here = at < file.len();
            at -= if is_here { 0 } else { file.len() };
            is_here.then_some(file)
        });
        let Some(file) = file else { return };
        let end = file.len().min(at + 8 * (usize::from(*how_much) + 1));
        match what % 4 {
            // Bits of one byte.
            0 => file[at] ^= how_much.max(&1),
            // A hole.
            1 => file[at..end].fill(0),
            // Writes that never came.
            2 => file[at..].fill(0),
            // A file that is shorter.
            _ => file.truncate(at),
        }
    }
}

/// The files of a directory come in the order of their numbers, and no number comes twice.
struct Numbers {
    last: u64,
    own: bool,
}

impl Numbers {
    fn name(&mut self, bytes: Vec<u8>) -> File {
        let native = native(&bytes);
        let opening = Scanner::new(&native, 0).ok().map(|scanner| *scanner.opening());
        let own = opening.filter(|_| self.own).map_or(0, |opening| opening.segment_number);
        let number = own.max(self.last.saturating_add(1));
        self.last = number;
        let first_id = opening.map_or(1, |opening| opening.next_event_id);
        File { name: format!("{number:010}-{first_id:020}.semj"), number, bytes, native }
    }
}
