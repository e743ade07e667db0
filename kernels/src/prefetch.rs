//! Asking for memory before it is needed: streams of the processor's own stop at every page and tile.

#![allow(unsafe_code)]

/// Bytes of a cache line.
const LINE: usize = 64;

/// Asks for the lines that begin in `count` bytes from byte `first` of `values` on, which may lie behind them.
/// They come into the second cache: of lines on their way into the first one the processor has too few.
#[inline(always)]
pub(super) fn prefetch<T>(values: &[T], first: usize, count: usize) {
    #[cfg(target_arch = "x86_64")]
    for at in (first.next_multiple_of(LINE)..first + count).step_by(LINE) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        let line = values.as_ptr().cast::<i8>().wrapping_add(at);
        // SAFETY: it is allowed at every address, and changes nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (values, first, count, LINE);
}
