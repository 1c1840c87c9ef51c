//! The slab's memory: one piece, zeroed, had from the kernel at once and in huge pages where it gives them.

use std::ptr::NonNull;

/// Bytes of a huge page on x86-64 and, with 4-KiB pages, on AArch64.
const HUGE_PAGE_SIZE: usize = 2 << 20;

/// See the module.
#[derive(Debug)]
pub(crate) struct Memory {
    start: NonNull<u8>,
    size: usize,
    #[cfg(not(miri))]
    _map: memmap2::MmapMut,
    #[cfg(miri)]
    _bytes: Vec<u128>,
}

impl Memory {
    /// So many zero bytes, at an address that is a multiple of 4,096. The first `hot` of them are those that are used.
    #[cfg(not(miri))]
    pub(crate) fn new(size: usize, hot: usize) -> std::io::Result<Self> {
        // Emissions go through all of the memory in turn: with huge pages the processor has fewer of them to find. They
        // begin at multiples of their size, so there is one more to choose the beginning from. What does not fill one comes
        // in small ones.
        let mut map = memmap2::MmapOptions::new().len(size + HUGE_PAGE_SIZE).map_anon()?;
        let base = map.as_mut_ptr();
        let offset = base.align_offset(HUGE_PAGE_SIZE);
        #[cfg(target_os = "linux")]
        if let Err(error) =
            map.advise_range(memmap2::Advice::HugePage, offset, hot / HUGE_PAGE_SIZE * HUGE_PAGE_SIZE)
        {
            tracing::debug!(%error, "no huge pages for the buffer");
        }
        let start = NonNull::new(base.wrapping_add(offset)).ok_or(std::io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, size, _map: map })
    }

    /// The same from the allocator, for Miri, which knows no maps. A `Vec`: to move a `Box` would end what was borrowed from it.
    #[cfg(miri)]
    pub(crate) fn new(size: usize, _hot: usize) -> std::io::Result<Self> {
        let mut bytes = vec![0u128; (size + HUGE_PAGE_SIZE) / size_of::<u128>()];
        let base = bytes.as_mut_ptr().cast::<u8>();
        let start = base.wrapping_add(base.align_offset(4096));
        let start = NonNull::new(start).ok_or(std::io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, size, _bytes: bytes })
    }

    /// Where it begins.
    #[inline]
    pub(crate) const fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// How many bytes it has.
    #[inline]
    pub(crate) const fn size(&self) -> usize {
        self.size
    }
}
