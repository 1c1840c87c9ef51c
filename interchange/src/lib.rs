//! How events enter and leave a journal.
//!
//! | module | what it reads and writes |
//! | --- | --- |
//! | [`json`] | events as JSON objects, one a line |
//! | [`kernel`] | journals in the kernel's own format: header, then records with fixed contexts |
//!
//! Both go both ways without loss. Nothing here opens a file.
#![forbid(unsafe_code)]

pub mod json;
pub mod kernel;

use std::io::{self, Chain, Cursor, Read};

/// An input that was looked at, from its beginning: the bytes that were read, then the rest.
pub type Probed<R> = Chain<Cursor<Vec<u8>>, R>;

/// What an input is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputKind {
    /// A zstd frame: what it holds is known when it is decompressed.
    Zstd,
    /// A kernel-format journal, or a segment, which is one too.
    Kernel,
    /// Anything else: JSON lines, or an error in the first of them.
    Json,
}

impl InputKind {
    /// How many bytes [`InputKind::of`] looks at.
    pub const PROBE_SIZE: usize = 4;

    /// What an input is that begins with these bytes.
    pub fn of(beginning: &[u8]) -> Self {
        const ZSTD_MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];
        let kernel_magic = semj_format::journal_header::MAGIC.to_le_bytes();
        match beginning.first_chunk() {
            Some(magic) if *magic == ZSTD_MAGIC => Self::Zstd,
            Some(magic) if *magic == kernel_magic => Self::Kernel,
            _ => Self::Json,
        }
    }

    /// What an input is, and the input from its beginning again.
    ///
    /// A pipe may give its first bytes one by one: this waits for as many as it takes to tell.
    ///
    /// # Errors
    ///
    /// Those of `input`.
    pub fn probe<R: Read>(mut input: R) -> io::Result<(Self, Probed<R>)> {
        let mut beginning = Vec::with_capacity(Self::PROBE_SIZE);
        input.by_ref().take(Self::PROBE_SIZE as u64).read_to_end(&mut beginning)?;
        Ok((Self::of(&beginning), Cursor::new(beginning).chain(input)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pipe whose writer is slow.
    struct OneByOne<'a>(&'a [u8]);

    impl Read for OneByOne<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let size = buffer.len().min(1);
            self.0.read(&mut buffer[..size])
        }
    }

    #[test]
    fn an_input_is_recognised_and_given_back_whole_however_it_arrives() {
        for (bytes, expected) in [
            (&b"\x28\xB5\x2F\xFDrest"[..], InputKind::Zstd),
            (b"\x4A\x4D\x45\x53rest", InputKind::Kernel),
            (b"{\"event_type\":1}", InputKind::Json),
            (b"{}", InputKind::Json),
            (b"", InputKind::Json),
        ] {
            let (kind, mut input) = InputKind::probe(OneByOne(bytes)).unwrap();
            let mut again = Vec::new();
            input.read_to_end(&mut again).unwrap();
            assert_eq!((kind, &again[..]), (expected, bytes));
        }
    }
}
