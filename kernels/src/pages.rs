//! Memory for weights, keys and values: large regions, of which parts are taken.

#![allow(unsafe_code)]

use std::error::Error;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::slice;
use std::sync::Arc;

use memmap2::{Advice, MmapMut, MmapRaw};

/// A huge page of x86-64.
const HUGE_PAGE: usize = 2 << 20;
/// Bytes of a region for a model.
const REGION: usize = 32 * HUGE_PAGE;
/// Regions below this would waste much of their last huge page.
const SMALL: usize = 4 * HUGE_PAGE;
/// Parts begin at a cache line.
const LINE: usize = 64;

/// The system refuses memory for weights, or for keys and values.
#[derive(Debug)]
pub struct NoMemory(pub io::Error);

impl fmt::Display for NoMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the system refuses memory")
    }
}

impl Error for NoMemory {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

/// Zeroed bytes in huge pages where the system has them: the processor fetches ahead only within a page,
/// and to clear gigabytes page by page takes longer than to fill them. A region is given back when all
/// that took parts of it are gone.
pub struct Arena {
    region: Option<Arc<MmapRaw>>,
    /// Where the next part begins in the region.
    next: usize,
    /// Least bytes of a region.
    least: usize,
}

/// A part of a region.
pub(super) struct Pages<T> {
    region: Arc<MmapRaw>,
    /// In bytes.
    start: usize,
    length: usize,
    values: PhantomData<T>,
}

/// A number of which every pattern of bits is one.
///
/// # Safety
/// So it is, and its alignment is at most that of a cache line.
pub(super) unsafe trait Plain: Copy + Send + Sync {}

// SAFETY: all patterns are numbers.
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl Plain for u16 {}
// SAFETY: as above.
unsafe impl Plain for f32 {}
// SAFETY: as above.
unsafe impl Plain for half::f16 {}
// SAFETY: as above.
unsafe impl Plain for half::bf16 {}

impl Default for Arena {
    /// For the weights of a model.
    fn default() -> Self {
        Self::of(REGION)
    }
}

impl Arena {
    /// For parts of so many bytes together, the gaps between them included. Small ones do without huge pages.
    pub fn of(bytes: usize) -> Self {
        Self {
            region: None,
            next: 0,
            least: bytes.max(1),
        }
    }

    /// Bytes that a part of so many takes.
    pub fn part(bytes: usize) -> usize {
        bytes.next_multiple_of(LINE)
    }

    /// So many zeros.
    pub(super) fn take<T: Plain>(&mut self, length: usize) -> Result<Pages<T>, NoMemory> {
        let Some(bytes) = length.checked_mul(size_of::<T>()) else {
            return Err(NoMemory(io::ErrorKind::OutOfMemory.into()));
        };
        let region = match &self.region {
            Some(region) if bytes <= region.len() - self.next => region.clone(),
            _ => self.grow(bytes)?,
        };
        let start = self.next;
        self.next = (start + bytes).next_multiple_of(LINE).min(region.len());
        Ok(Pages {
            region,
            start,
            length,
            values: PhantomData,
        })
    }

    fn grow(&mut self, length: usize) -> Result<Arc<MmapRaw>, NoMemory> {
        let bytes = length.max(self.least);
        let is_small = bytes < SMALL;
        // What lies before the first huge page stays unused, which costs only addresses.
        let unused = if is_small { 0 } else { HUGE_PAGE };
        let pages = MmapMut::map_anon(bytes.saturating_add(unused)).map_err(NoMemory)?;
        self.next = 0;
        if !is_small {
            // A kernel without huge pages refuses; ordinary ones do as well, slower.
            pages.advise(Advice::HugePage).ok();
            self.next = pages.as_ptr().align_offset(HUGE_PAGE);
        }
        let region = Arc::new(MmapRaw::from(pages));
        self.region = Some(region.clone());
        Ok(region)
    }
}

impl<T: Plain> Deref for Pages<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the part lies in the region, which lives as long, begins at a cache line, and is zeroed or
        // holds values; no other part overlaps it.
        unsafe {
            let first = self.region.as_ptr().add(self.start);
            slice::from_raw_parts(first.cast(), self.length)
        }
    }
}

impl<T: Plain> DerefMut for Pages<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above.
        unsafe {
            let first = self.region.as_mut_ptr().add(self.start);
            slice::from_raw_parts_mut(first.cast(), self.length)
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: parts do not overlap, begin at cache lines, are zero, and outlive their arena.

    use super::*;

    #[test]
    fn parts_are_apart_and_zero() {
        let sizes = [1, 64, 1000, REGION / 2, REGION, 3, 2 * REGION, 70];
        check(Arena::default(), &sizes);
        let sizes = [100, 3000, 64, 1, 70_000];
        check(
            Arena::of(sizes.iter().map(|size| Arena::part(*size)).sum()),
            &sizes,
        );
        check(Arena::of(0), &sizes);
    }

    fn check(mut arena: Arena, sizes: &[usize]) {
        let parts = sizes.iter().map(|size| arena.take(*size).unwrap());
        let mut parts: Vec<Pages<u8>> = parts.collect();
        drop(arena);
        for (index, part) in parts.iter_mut().enumerate() {
            assert!(part.as_ptr().addr().is_multiple_of(LINE));
            assert!(part.iter().all(|byte| *byte == 0), "{index}");
            part.fill(index as u8 + 1);
        }
        parts.remove(0);
        for (index, part) in parts.iter().enumerate() {
            assert_eq!(part.len(), sizes[index + 1]);
            assert!(part.iter().all(|byte| usize::from(*byte) == index + 2));
        }
    }
}
