//! What a power cut leaves of a device: everything up to the last flush, and of the writes after it any part.
//!
//! Blocks of the journal's files may be torn at every 512 bytes. Blocks of the file system's own are written
//! whole or not at all: ext4 and XFS rely on that, and what they make of a disk that does less is not the
//! question here.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, Result};
use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use rustix::io::Errno;
use semj_tests::random::Random;

use crate::log::{Entry, SECTOR, Write};

/// What the file systems write at once.
pub(crate) const BLOCK: usize = 4096;

/// Ranges of a device that hold data of the journal's files, in sectors.
pub(crate) type DataExtents = Vec<Range<u64>>;

/// What stands on a sparse file: ranges and their bytes.
pub(crate) type Content = Vec<(u64, Vec<u8>)>;

/// A device's bytes in memory, which grows by the writes of a log.
pub(crate) struct Device {
    bytes: Vec<u8>,
    /// Which blocks may hold something else than zeros.
    used: Vec<bool>,
    /// Entries that have been applied.
    applied: usize,
}

impl Device {
    /// What stands in a file.
    pub(crate) fn read(file: &File) -> Result<Self> {
        let size = usize::try_from(file.metadata()?.len())?;
        let mut device = Self { bytes: vec![0; size], used: vec![false; size / BLOCK], applied: 0 };
        for (offset, data) in read_content(file)? {
            for (chunk, bytes) in data.chunks(BLOCK).enumerate() {
                if bytes.iter().any(|byte| *byte != 0) {
                    device.write(offset as usize + chunk * BLOCK, bytes);
                }
            }
        }
        Ok(device)
    }

    fn write(&mut self, offset: usize, data: &[u8]) {
        if let Some(target) = self.bytes.get_mut(offset..offset + data.len()) {
            target.copy_from_slice(data);
            self.used[offset / BLOCK..(offset + data.len()).div_ceil(BLOCK)].fill(true);
        }
    }

    /// Applies all entries of the log up to this one.
    pub(crate) fn advance(&mut self, log: &[Entry], upto: usize) {
        for entry in log.get(self.applied..upto).unwrap_or_default() {
            if let Entry::Write(write) = entry {
                self.write(write.offset as usize, &write.data);
            }
        }
        self.applied = self.applied.max(upto);
    }

    /// Makes a file hold this and nothing else.
    pub(crate) fn write_to(&self, file: &File) -> Result<()> {
        clear(file, self.bytes.len() as u64)?;
        let mut at = 0;
        for run in self.used.chunk_by(|a, b| a == b) {
            let range = at * BLOCK..(at + run.len()) * BLOCK;
            if run.first() == Some(&true) {
                file.write_all_at(&self.bytes[range.clone()], range.start as u64)?;
            }
            at += run.len();
        }
        Ok(())
    }

    /// Where a file differs.
    pub(crate) fn differs_from(&self, other: &Self) -> Option<usize> {
        let mut blocks = self.bytes.chunks(BLOCK).zip(other.bytes.chunks(BLOCK));
        blocks.position(|(one, other)| one != other).map(|block| block * BLOCK)
    }
}

/// Makes a file hold so many zeros.
fn clear(file: &File, size: u64) -> Result<()> {
    file.set_len(size)?;
    fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, size).context("punch a hole")
}

/// Reads a sparse file.
pub(crate) fn read_content(file: &File) -> Result<Content> {
    let mut content = Content::new();
    let mut at = 0;
    loop {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(content),
            Err(error) => return Err(error).context("look for data"),
        };
        at = seek(file, SeekFrom::Hole(start)).context("look for a hole")?;
        let mut bytes = vec![0; usize::try_from(at - start)?];
        file.read_exact_at(&mut bytes, start)?;
        content.push((start, bytes));
    }
}

/// Makes a file of this size hold this and nothing else.
pub(crate) fn write_content(file: &File, size: u64, content: &Content) -> Result<()> {
    clear(file, size)?;
    for (offset, bytes) in content {
        file.write_all_at(bytes, *offset)?;
    }
    Ok(())
}

/// One power cut.
#[derive(Clone, Debug)]
pub(crate) struct PowerCut {
    /// Entries of the log that the device had been asked for.
    pub(crate) entries: usize,
    /// How many of eight writes (or parts of them) survive of those after the last flush.
    kept_of_8: u64,
    tear: Tear,
    random: Random,
}

#[derive(Clone, Copy, Debug)]
enum Tear {
    /// A write survives or doesn't.
    Whole,
    /// Of a write that survives, some beginning does.
    Prefix,
    /// Each part of a write survives or doesn't.
    Scattered,
}

impl PowerCut {
    /// The power cut of this number in a log.
    pub(crate) fn new(seed: u64, number: u64, log: &[Entry]) -> Self {
        let mut random = Random::new(Random::new(seed).next() ^ number);
        let entries = random.below(log.len() as u64 + 1) as usize;
        let kept_of_8 = [0, 1, 4, 4, 7, 8][random.below(6) as usize];
        let tear = [Tear::Whole, Tear::Prefix, Tear::Scattered][random.below(3) as usize];
        Self { entries, kept_of_8, tear, random }
    }

    /// The entries that are durable for certain: up to the last flush that was done.
    pub(crate) fn durable(&self, log: &[Entry]) -> usize {
        let issued = log.get(..self.entries).unwrap_or(log);
        issued.iter().rposition(|entry| *entry == Entry::Flush).map_or(0, |flush| flush + 1)
    }

    /// The parts of later writes that survive, in the order in which they were written.
    pub(crate) fn survivors<'l>(&self, log: &'l [Entry], data: &DataExtents) -> Vec<(u64, &'l [u8])> {
        let mut random = self.random.clone();
        let mut survivors = Vec::new();
        for entry in log.get(self.durable(log)..self.entries).unwrap_or_default() {
            let Entry::Write(write) = entry else { continue };
            let parts = parts(write, data);
            let is_lucky = |random: &mut Random| random.below(8) < self.kept_of_8;
            if write.is_fua {
                survivors.extend(parts);
                continue;
            }
            match self.tear {
                Tear::Whole if is_lucky(&mut random) => survivors.extend(parts),
                Tear::Prefix if is_lucky(&mut random) => {
                    let kept = 1 + random.below(parts.len().max(1) as u64);
                    survivors.extend(parts.into_iter().take(kept as usize));
                }
                Tear::Whole | Tear::Prefix => {}
                Tear::Scattered => {
                    survivors.extend(parts.into_iter().filter(|_| is_lucky(&mut random)));
                }
            }
        }
        survivors
    }

    /// Makes `image` what this power cut left. `device` is brought up to the last flush for that, and must not be
    /// behind it.
    pub(crate) fn write_to(
        &self,
        image: &File,
        device: &mut Device,
        log: &[Entry],
        data: &DataExtents,
    ) -> Result<()> {
        device.advance(log, self.durable(log));
        device.write_to(image)?;
        for (offset, bytes) in self.survivors(log, data) {
            image.write_all_at(bytes, offset)?;
        }
        Ok(())
    }
}

/// The parts of a write that are written whole or not at all.
fn parts<'w>(write: &'w Write, data: &DataExtents) -> Vec<(u64, &'w [u8])> {
    let mut parts = Vec::new();
    let (mut offset, mut rest) = (write.offset, &*write.data);
    while !rest.is_empty() {
        let in_block = BLOCK - offset as usize % BLOCK;
        let sector = offset / SECTOR as u64;
        let size = if data.iter().any(|extent| extent.contains(&sector)) { SECTOR } else { in_block };
        let (part, behind) = rest.split_at(size.min(rest.len()));
        parts.push((offset, part));
        offset += part.len() as u64;
        rest = behind;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(offset: u64, fill: u8, size: usize) -> Entry {
        Entry::Write(Write { offset, data: vec![fill; size], is_fua: false })
    }

    fn image_of(cut: &PowerCut, log: &[Entry], data: &DataExtents) -> Vec<u8> {
        let file = tempfile::tempfile().unwrap();
        file.set_len(16 * BLOCK as u64).unwrap();
        let mut device = Device::read(&file).unwrap();
        cut.write_to(&file, &mut device, log, data).unwrap();
        Device::read(&file).unwrap().bytes
    }

    #[test]
    fn what_was_flushed_survives_every_cut_and_later_writes_only_in_part() {
        let log = [
            write(0, 1, BLOCK),
            Entry::Flush,
            write(0, 2, BLOCK),
            write(4096, 3, 2 * BLOCK),
            Entry::Flush,
            write(4096, 4, 2 * BLOCK),
        ];
        let data = vec![8..12, 12..16];
        let (mut torn, mut lost, mut whole) = (0, 0, 0);
        for number in 0..500 {
            let cut = PowerCut::new(1, number, &log);
            let bytes = image_of(&cut, &log, &data);
            let [first, second, third] = [0, 1, 2].map(|block| &bytes[block * BLOCK..(block + 1) * BLOCK]);
            let has = |block: &[u8], fill: u8| block.contains(&fill);
            assert!(cut.entries < 2 || !has(first, 0), "what was flushed is there");
            assert!(cut.entries < 5 || (!has(first, 1) && !has(second, 0) && !has(third, 0)));
            assert!(cut.entries >= 3 || !has(first, 2), "what was not yet written is not there");
            assert!(cut.entries >= 6 || (!has(second, 4) && !has(third, 4)));
            assert!(third.iter().all(|byte| *byte == third[0]), "the file system's blocks are not torn");
            assert!(second.chunks(SECTOR).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
            if cut.entries == 6 {
                let kept = second.iter().filter(|byte| **byte == 4).count();
                *(if kept == 0 {
                    &mut lost
                } else if kept == BLOCK {
                    &mut whole
                } else {
                    &mut torn
                }) += 1;
            }
        }
        assert!(torn > 5 && lost > 5 && whole > 5, "{torn} {lost} {whole}");
    }

    #[test]
    fn writes_to_one_sector_are_not_reordered() {
        let log: Vec<_> = (1..=5).map(|fill| write(0, fill, SECTOR)).collect();
        for number in 0..200 {
            let cut = PowerCut::new(2, number, &log);
            let survivors = cut.survivors(&log, &DataExtents::new());
            let fills: Vec<_> = survivors.iter().map(|(_, bytes)| bytes[0]).collect();
            assert!(fills.is_sorted());
            assert_eq!(image_of(&cut, &log, &DataExtents::new())[0], fills.last().copied().unwrap_or(0));
        }
    }

    #[test]
    fn a_write_that_went_through_survives() {
        let log = [Entry::Write(Write { offset: 0, data: vec![1; BLOCK], is_fua: true })];
        for number in 0..50 {
            let cut = PowerCut::new(3, number, &log);
            assert_eq!(image_of(&cut, &log, &DataExtents::new())[0], u8::from(cut.entries == 1));
        }
    }

    #[test]
    fn a_state_follows_from_its_number() {
        let log: Vec<_> = (0..60u64).map(|at| write(at % 8 * 4096, at as u8, BLOCK)).collect();
        let image = |number| image_of(&PowerCut::new(4, number, &log), &log, &vec![0..16, 16..32]);
        assert!((0..20).all(|number| image(number) == image(number)));
        assert!((0..20).any(|number| image(number) != image(number + 1)));
    }
}
