//! Sidecars as an archive has them: what one begins with, which often is enough, as it is; the rest compressed.

use semj::format::{JournalHeader, Records, SegmentOpen};
use semj::index::{Builder, Header, Origin, OwnedSidecar};

use crate::manifest::Sidecar;

/// How hard the rest is compressed.
const ZSTD_LEVEL: i32 = 3;

/// The sidecar of a segment without damage, made from its bytes up to its end. The journal's own, which was made when the file had
/// room for more, is the same: its filter is folded to the size that the end asks for.
pub(crate) fn make(opening: &SegmentOpen, native: &[u8]) -> Option<OwnedSidecar> {
    let mut builder = Builder::new(native.len());
    for found in Records::new(native, JournalHeader::SIZE) {
        let (offset, record) = found.ok()?;
        builder.push(offset, &record);
    }
    Some(builder.finish(&Origin::new(opening, native.len() as u64, native)?))
}

/// A sidecar's object, and how many of its bytes the beginning has.
pub(crate) fn pack(sidecar: &[u8]) -> std::io::Result<(Vec<u8>, usize)> {
    let head_size =
        sidecar.first_chunk().map_or(0, |head| Header::decode(head).head_size()).min(sidecar.len());
    let (head, rest) = sidecar.split_at(head_size);
    let mut packed = head.to_vec();
    packed.extend_from_slice(&zstd::bulk::compress(rest, ZSTD_LEVEL)?);
    Ok((packed, head_size))
}

/// The sidecar of an object; no more bytes than the manifest says.
pub(crate) fn unpack(object: &[u8], entry: &Sidecar) -> Result<Vec<u8>, String> {
    let contradiction = || "the manifest contradicts itself".to_owned();
    let size = |size: u64| usize::try_from(size).map_err(|_| contradiction());
    let (head, rest) = object.split_at_checked(size(entry.head_size)?).ok_or_else(contradiction)?;
    let rest_size = size(entry.unpacked_size)?.checked_sub(head.len()).ok_or_else(contradiction)?;
    let rest = zstd::bulk::decompress(rest, rest_size).map_err(|error| error.to_string())?;
    if rest.len() != rest_size {
        return Err(format!(
            "a sidecar of {} bytes, expected {}",
            head.len() + rest.len(),
            entry.unpacked_size
        ));
    }
    Ok([head, &rest].concat())
}
