//! Asking for memory before it is needed: streams of the processor's own stop at every page and tile.

#![allow(unsafe_code)]

/// Bytes of a cache line.
const LINE: usize = 64;

/// Asks for the lines that begin in `count` bytes from byte `first` of `values` on, which may lie behind them.
#[inline(always)]
pub(super) fn prefetch<T>(values: &[T], first: usize, count: usize) {
    let start = first.next_multiple_of(LINE);
    let address = values.as_ptr().cast::<u8>().wrapping_add(start);
    prefetch_at(address, (first + count).saturating_sub(start));
}

/// Asks for the lines of `count` bytes from `address` on, whatever is there.
/// They come into the second cache: of lines on their way into the first one the processor has too few.
#[inline(always)]
pub(super) fn prefetch_at(address: *const u8, count: usize) {
    #[cfg(target_arch = "x86_64")]
    for at in (0..count).step_by(LINE) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: it is allowed at every address, and changes nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(address.wrapping_add(at).cast::<i8>()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (address, count, LINE);
}
