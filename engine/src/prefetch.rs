//! Asks the processor for lines of memory before they are needed. Hints: nothing depends on whether they are heeded.

const CACHE_LINE: usize = 64;

/// Has the lines of so many bytes come to this processor's cache, for reading.
#[inline]
pub(crate) fn for_read(start: *const u8, size: usize) {
    (0..size).step_by(CACHE_LINE).for_each(|at| line_for_read(start.wrapping_add(at)));
}

/// The same for writing: others have to give them up.
#[inline]
pub(crate) fn for_write(start: *const u8, size: usize) {
    (0..size).step_by(CACHE_LINE).for_each(|at| line_for_write(start.wrapping_add(at)));
}

#[inline]
fn line_for_read(line: *const u8) {
    // Under Miri there is nothing to fetch.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch is a hint that faults for no address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line.cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = line;
}

#[inline]
fn line_for_write(line: *const u8) {
    // Under Miri there is nothing to fetch.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch is a hint that faults for no address; processors without the instruction skip it.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) line, options(nostack, readonly, preserves_flags));
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _: *const u8 = line;
}
