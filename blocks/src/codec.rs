//! The codecs: bytes in, bytes out, never more than was promised.

use std::fmt;
use std::str::FromStr;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};
use thiserror::Error;

use crate::error::{DecodeError, EncodeError};

/// The level of zstd that is used unless another is asked for.
pub const ZSTD_LEVEL: i32 = 3;
/// The level of zlib that is used unless another is asked for.
pub const ZLIB_LEVEL: u32 = 6;

/// How data were compressed, which is all that has to be known to read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Not at all.
    None,
    /// A zlib stream (RFC 1950).
    Zlib,
    /// An LZ4 block.
    Lz4,
    /// A zstd frame (RFC 8878).
    Zstd,
    /// Snappy's raw format.
    Snappy,
}

impl Method {
    /// Its number on disk.
    pub const fn code(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Zlib => 1,
            Self::Lz4 => 2,
            Self::Zstd => 3,
            Self::Snappy => 4,
        }
    }

    /// The method of a number.
    ///
    /// # Errors
    ///
    /// A number without a method.
    pub const fn from_code(code: u32) -> Result<Self, DecodeError> {
        Ok(match code {
            0 => Self::None,
            1 => Self::Zlib,
            2 => Self::Lz4,
            3 => Self::Zstd,
            4 => Self::Snappy,
            _ => return Err(DecodeError::Unknown { field: "compression_type", found: code as u64 }),
        })
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Zlib => "zlib",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
            Self::Snappy => "snappy",
        }
    }
}

/// How data are to be compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// Not at all.
    None,
    /// zlib with a level from 0 to 9.
    Zlib(u32),
    /// LZ4.
    Lz4,
    /// zstd with a level from -7 to 22.
    Zstd(i32),
    /// Snappy.
    Snappy,
    /// That of LZ4 and zstd that a sample shows to be the better one: zstd unless LZ4 comes within an eighth of its size.
    Auto,
}

impl Default for Codec {
    fn default() -> Self {
        Self::Zstd(ZSTD_LEVEL)
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zlib(level) => write!(f, "zlib:{level}"),
            Self::Zstd(level) => write!(f, "zstd:{level}"),
            Self::Auto => f.write_str("auto"),
            Self::None => f.write_str("none"),
            Self::Lz4 => f.write_str("lz4"),
            Self::Snappy => f.write_str("snappy"),
        }
    }
}

/// A text that names no codec.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{0:?} is none of zstd[:LEVEL], lz4, none, zlib[:LEVEL], snappy, auto (levels: zstd -7 to 22, zlib 0 to 9)"
)]
pub struct CodecNameError(String);

impl FromStr for Codec {
    type Err = CodecNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || CodecNameError(text.to_owned());
        let (name, level) = match text.split_once(':') {
            Some((name, level)) => (name, Some(level.parse::<i32>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        match (name, level) {
            ("none", None) => Ok(Self::None),
            ("lz4", None) => Ok(Self::Lz4),
            ("snappy", None) => Ok(Self::Snappy),
            ("auto", None) => Ok(Self::Auto),
            ("zstd", None) => Ok(Self::Zstd(ZSTD_LEVEL)),
            ("zstd", Some(level @ -7..=22)) => Ok(Self::Zstd(level)),
            ("zlib", None) => Ok(Self::Zlib(ZLIB_LEVEL)),
            ("zlib", Some(level @ 0..=9)) => Ok(Self::Zlib(level.unsigned_abs())),
            _ => Err(wrong()),
        }
    }
}

/// Compresses; keeps what the codecs need from one call to the next.
pub(crate) struct Packer {
    method: Method,
    zstd: Option<zstd::bulk::Compressor<'static>>,
    zlib: Option<Compress>,
    lz4: CompressTable,
}

impl Packer {
    /// For a codec; `Auto` is taken for its first choice.
    pub(crate) fn new(codec: Codec) -> Result<Self, EncodeError> {
        let mut packer = Self { method: Method::None, zstd: None, zlib: None, lz4: CompressTable::small() };
        packer.method = match codec {
            Codec::None => Method::None,
            Codec::Lz4 => Method::Lz4,
            Codec::Snappy => Method::Snappy,
            Codec::Zlib(level) => {
                packer.zlib = Some(Compress::new(Compression::new(level), true));
                Method::Zlib
            }
            Codec::Zstd(_) | Codec::Auto => {
                let level = if let Codec::Zstd(level) = codec { level } else { ZSTD_LEVEL };
                packer.zstd = Some(zstd::bulk::Compressor::new(level).map_err(failed(Method::Zstd))?);
                Method::Zstd
            }
        };
        Ok(packer)
    }

    pub(crate) const fn method(&self) -> Method {
        self.method
    }

    /// Appends the compressed form of `plain`.
    pub(crate) fn pack(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len();
        match self.method {
            Method::None => out.extend_from_slice(plain),
            Method::Lz4 => {
                out.resize(start + get_maximum_output_size(plain.len()), 0);
                let room = out.get_mut(start..).unwrap_or_default();
                let size =
                    compress_into_with_table(plain, room, &mut self.lz4).map_err(failed(Method::Lz4))?;
                out.truncate(start + size);
            }
            Method::Snappy => {
                out.resize(start + snap::raw::max_compress_len(plain.len()), 0);
                let room = out.get_mut(start..).unwrap_or_default();
                let size = snap::raw::Encoder::new().compress(plain, room).map_err(failed(Method::Snappy))?;
                out.truncate(start + size);
            }
            Method::Zstd => {
                if let Some(zstd) = &mut self.zstd {
                    out.extend_from_slice(&zstd.compress(plain).map_err(failed(Method::Zstd))?);
                }
            }
            Method::Zlib => {
                if let Some(zlib) = &mut self.zlib {
                    zlib.reset();
                    // More than deflate's stored blocks, header and checksum take.
                    out.reserve(plain.len() + plain.len() / 1000 + 64);
                    let status =
                        zlib.compress_vec(plain, out, FlushCompress::Finish).map_err(failed(Method::Zlib))?;
                    if status != Status::StreamEnd {
                        return Err(failed(Method::Zlib)("more came out than went in"));
                    }
                }
            }
        }
        Ok(())
    }
}

fn failed<E: ToString>(method: Method) -> impl FnOnce(E) -> EncodeError {
    move |error| EncodeError::Codec { codec: method.name(), detail: error.to_string() }
}

/// Decompresses; keeps what the codecs need from one call to the next.
#[derive(Default)]
pub(crate) struct Unpacker {
    zstd: Option<zstd::bulk::Decompressor<'static>>,
}

impl Unpacker {
    /// Fills `out` with what `packed` holds, which must be exactly as much. Nothing is allocated in the measure of what the
    /// data say of themselves.
    pub(crate) fn unpack(
        &mut self,
        method: Method,
        packed: &[u8],
        out: &mut [u8],
    ) -> Result<(), DecodeError> {
        let wrong = |detail: String| DecodeError::Codec { codec: method.name(), detail };
        let size = match method {
            Method::None if packed.len() == out.len() => {
                out.copy_from_slice(packed);
                packed.len()
            }
            Method::None => packed.len(),
            Method::Lz4 => {
                lz4_flex::block::decompress_into(packed, out).map_err(|error| wrong(error.to_string()))?
            }
            Method::Snappy => {
                let size = snap::raw::decompress_len(packed).map_err(|error| wrong(error.to_string()))?;
                if size > out.len() {
                    return Err(bomb(out));
                }
                snap::raw::Decoder::new().decompress(packed, out).map_err(|error| wrong(error.to_string()))?
            }
            Method::Zstd => {
                let zstd = match &mut self.zstd {
                    Some(zstd) => zstd,
                    none => none
                        .insert(zstd::bulk::Decompressor::new().map_err(|error| wrong(error.to_string()))?),
                };
                // Many frames behind each other would be read as well, and none at all.
                if zstd::zstd_safe::find_frame_compressed_size(packed) != Ok(packed.len()) {
                    return Err(wrong("not one frame from end to end".to_owned()));
                }
                zstd.decompress_to_buffer(packed, out).map_err(|error| wrong(error.to_string()))?
            }
            Method::Zlib => {
                let mut zlib = Decompress::new(true);
                let status = zlib
                    .decompress(packed, out, FlushDecompress::Finish)
                    .map_err(|error| wrong(error.to_string()))?;
                if status != Status::StreamEnd {
                    return Err(bomb(out));
                }
                if zlib.total_in() != packed.len() as u64 {
                    return Err(wrong("bytes behind the stream".to_owned()));
                }
                usize::try_from(zlib.total_out()).unwrap_or(usize::MAX)
            }
        };
        if size != out.len() {
            return Err(wrong(format!("{size} bytes came out, {} were promised", out.len())));
        }
        Ok(())
    }
}

fn bomb(out: &[u8]) -> DecodeError {
    DecodeError::TooLarge { what: "decompressed data", found: out.len() as u64 + 1, limit: out.len() as u64 }
}
