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
}
