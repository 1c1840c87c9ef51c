//! What an open that accepts damage sees of a compressed segment whose blocks can't be found the usual way: its header, block
//! index or seal is damaged, or its first block. All of it is in memory, for as long as somebody reads it; a journal that is opened
//! for writing has the native bytes in the file's place from then on.

use std::io;
use std::ops::Range;
use std::path::Path;

use semj_blocks::Remains;
use semj_format::JournalHeader;

use crate::medium::Map;

/// See the module.
#[derive(Debug)]
pub(crate) struct RestoredMap {
    file: Box<dyn Map>,
    native: Vec<u8>,
}

impl RestoredMap {
    /// Of a file that is, or was, a compressed segment; any other is given back.
    pub(crate) fn found(file: Box<dyn Map>) -> Result<Self, Box<dyn Map>> {
        match Remains::of(file.bytes(0..file.size())) {
            Some(Remains { native, blocks_kept }) => {
                tracing::warn!(
                    blocks_kept,
                    bytes = native.len(),
                    "a damaged compressed segment gives back its blocks"
                );
                Ok(Self { file, native })
            }
            None => Err(file),
        }
    }

    pub(crate) fn native_header(&self) -> Option<[u8; JournalHeader::SIZE]> {
        self.native.first_chunk().copied()
    }
}

impl Map for RestoredMap {
    fn size(&self) -> usize {
        self.native.len()
    }

    fn bytes(&self, range: Range<usize>) -> &[u8] {
        let end = range.end.min(self.native.len());
        self.native.get(range.start..end).unwrap_or_default()
    }

    fn packed_size(&self) -> Option<usize> {
        Some(self.file.size())
    }

    fn is_intact(&self) -> bool {
        self.file.is_intact()
    }

    fn failure(&self) -> Option<io::Error> {
        self.file.failure()
    }

    fn file_size(&self, path: &Path) -> io::Result<u64> {
        let packed_size = self.file.file_size(path)?;
        let is_cut = packed_size < self.file.size() as u64;
        Ok(if is_cut { packed_size } else { self.native.len() as u64 })
    }
}
