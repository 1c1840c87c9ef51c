//! The log that qemu's `blklogwrites` keeps of a device, in the format of Linux's dm-log-writes: a superblock,
//! then entries in the order in which the device got them, each a header and, for a write, the data. All are
//! padded to sectors.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

pub(crate) const SECTOR: usize = 512;
const MAGIC: u64 = 0x6a_7366_7773_6872;
const VERSION: u64 = 1;
const FLUSH: u64 = 1;
const FUA: u64 = 2;

/// What the device was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Everything written before is durable when this is done.
    Flush,
    Write(Write),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Write {
    /// Offset in the device.
    pub(crate) offset: u64,
    pub(crate) data: Vec<u8>,
    /// Durable when it is done.
    pub(crate) is_fua: bool,
}

/// How many entries stand in the log, as its superblock says. qemu writes the superblock as a part of each flush
/// and not otherwise: right after a sync this counts the entries up to its flush.
pub(crate) fn entries_logged(log: &File) -> Result<u64> {
    let mut superblock = [0; SECTOR];
    log.read_exact_at(&mut superblock, 0).context("the log has no superblock yet")?;
    superblock_entries(&superblock)
}

fn superblock_entries(superblock: &[u8]) -> Result<u64> {
    ensure!(number(superblock, 0)? == MAGIC, "not a log of writes");
    ensure!(number(superblock, 8)? == VERSION, "another version of the log of writes");
    ensure!(number(superblock, 24)? & 0xFFFF_FFFF == SECTOR as u64, "another sector size");
    number(superblock, 16)
}

/// Reads a log that nobody writes to any more.
pub(crate) fn read(path: &Path) -> Result<Vec<Entry>> {
    let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    parse(&bytes).with_context(|| format!("in {}", path.display()))
}

fn parse(bytes: &[u8]) -> Result<Vec<Entry>> {
    let count = superblock_entries(bytes)?;
    let mut entries = Vec::new();
    let mut at = SECTOR;
    for index in 0..count {
        let header = bytes.get(at..).unwrap_or_default();
        let [sector, sectors, flags, inline] =
            [number(header, 0)?, number(header, 8)?, number(header, 16)?, number(header, 24)?];
        at += SECTOR;
        let size = usize::try_from(sectors)? * SECTOR;
        let data = bytes.get(at..at + size).with_context(|| format!("entry {index} is cut short"))?;
        entries.push(match flags {
            FLUSH if sectors == 0 => Entry::Flush,
            0 | FUA if inline == 0 => Entry::Write(Write {
                offset: sector * SECTOR as u64,
                data: data.to_vec(),
                is_fua: flags == FUA,
            }),
            // Discards among them: neither file system is made or mounted with them.
            _ => bail!("entry {index} is of a kind that is not known here: flags {flags}"),
        });
        at += size;
    }
    Ok(entries)
}

fn number(bytes: &[u8], at: usize) -> Result<u64> {
    let bytes = bytes.get(at..at + 8).context("the log ends in a header")?;
    Ok(u64::from_le_bytes(bytes.try_into()?))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The bytes of a log of these entries.
    pub(crate) fn encode(entries: &[Entry]) -> Vec<u8> {
        let sector = |numbers: [u64; 4]| {
            let mut bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            bytes.resize(SECTOR, 0);
            bytes
        };
        let mut bytes = sector([MAGIC, VERSION, entries.len() as u64, SECTOR as u64]);
        for entry in entries {
            match entry {
                Entry::Flush => bytes.extend(sector([0, 0, FLUSH, 0])),
                Entry::Write(Write { offset, data, is_fua }) => {
                    let flags = if *is_fua { FUA } else { 0 };
                    let sectors = [*offset, data.len() as u64].map(|bytes| bytes / SECTOR as u64);
                    bytes.extend(sector([sectors[0], sectors[1], flags, 0]));
                    bytes.extend_from_slice(data);
                }
            }
        }
        bytes
    }

    #[test]
    fn a_log_gives_its_entries_back() {
        let write = |offset, fill, sectors: usize, is_fua| {
            Entry::Write(Write { offset, data: vec![fill; sectors * SECTOR], is_fua })
        };
        let entries = [write(4096, 1, 8, false), Entry::Flush, write(0, 2, 1, true), Entry::Flush];
        let bytes = encode(&entries);
        assert_eq!(parse(&bytes).unwrap(), entries);
        assert!(parse(&bytes[..bytes.len() - 1]).is_err(), "a log that is cut short is none");
    }

    #[test]
    fn entries_behind_the_count_are_not_read() {
        let mut bytes = encode(&[Entry::Flush]);
        bytes.extend_from_slice(&[0xFF; 4096]);
        assert_eq!(parse(&bytes).unwrap(), [Entry::Flush]);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let mut discard = encode(&[Entry::Flush]);
        discard[SECTOR + 16] = 4;
        assert!(parse(&discard).is_err());
        let mut other = encode(&[]);
        other[0] ^= 1;
        assert!(parse(&other).is_err());
    }
}
