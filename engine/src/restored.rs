//! What an open that accepts damage sees of a compressed segment whose blocks can't be found the usual way: its header, block
//! index or seal is damaged, or its first block. All of it is in memory, for as long as somebody reads it; a journal that is opened
//! for writing has the native bytes in the file's place from then on.

use std::io;
use std::ops::Range;
use std::path::Path;

use semj_blocks::Remains;

use crate::compressed::native_file_size;
use crate::medium::Map;

/// See the module.
#[derive(Debug)]
struct RestoredMap {
    file: Box<dyn Map>,
    native: Vec<u8>,
}

/// The native bytes of a file that is, or was, a compressed segment and can't be read as one; of any other the file itself.
pub(crate) fn restoring(file: Box<dyn Map>) -> Box<dyn Map> {
    match Remains::of(file.bytes(0..file.size())) {
        Some(Remains { native, blocks_kept }) => {
            tracing::warn!(
                blocks_kept,
                bytes = native.len(),
                "a damaged compressed segment gives back its blocks"
            );
            Box::new(RestoredMap { file, native })
        }
        None => file,
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

    fn is_restored(&self) -> bool {
        true
    }

    fn is_intact(&self) -> bool {
        self.file.is_intact()
    }

    fn failure(&self) -> Option<io::Error> {
        self.file.failure()
    }

    fn file_size(&self, path: &Path) -> io::Result<u64> {
        native_file_size(&*self.file, self.native.len(), path)
    }
}
