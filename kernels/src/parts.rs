//! Memory in parts that do not overlap, so that the pieces of a computation can write at once.

#![allow(unsafe_code)]

use std::marker::PhantomData;

use smallvec::SmallVec;

use super::lanes::LANES;

/// Data in numbered parts.
pub(super) trait Parted: Sync {
    type Part;

    fn count(&self) -> usize;

    /// # Safety
    /// Each number below `count` is asked for at most once.
    unsafe fn part(&self, index: usize) -> Self::Part;
}

/// A slice in pieces of equal length; the last may be shorter.
pub(super) struct Chunks<'a, T> {
    start: *mut T,
    length: usize,
    chunk: usize,
    slice: PhantomData<&'a mut [T]>,
}

/// Rows × width values in bands of neighbouring columns; the last may be narrower.
pub(super) struct Bands<'a> {
    start: *mut f32,
    rows: usize,
    width: usize,
    band: usize,
    slice: PhantomData<&'a mut [f32]>,
}

/// One band.
pub(super) struct Band<'a> {
    start: *mut f32,
    rows: usize,
    width: usize,
    /// Columns of the band.
    columns: usize,
    slice: PhantomData<&'a mut [f32]>,
}

impl<'a, T> Chunks<'a, T> {
    pub(super) fn new(slice: &'a mut [T], chunk: usize) -> Self {
        Self {
            start: slice.as_mut_ptr(),
            length: slice.len(),
            chunk: chunk.max(1),
            slice: PhantomData,
        }
    }
}

// SAFETY: parts do not overlap, and each is handed out once.
unsafe impl<T: Send> Sync for Chunks<'_, T> {}

impl<'a, T: Send> Parted for Chunks<'a, T> {
    type Part = &'a mut [T];

    fn count(&self) -> usize {
        self.length.div_ceil(self.chunk)
    }

    unsafe fn part(&self, index: usize) -> &'a mut [T] {
        let first = index * self.chunk;
        let length = self.chunk.min(self.length - first);
        // SAFETY: within the slice that is borrowed for 'a, and handed out once.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(first), length) }
    }
}

impl<A: Parted, B: Parted> Parted for (A, B) {
    type Part = (A::Part, B::Part);

    fn count(&self) -> usize {
        self.0.count().min(self.1.count())
    }

    unsafe fn part(&self, index: usize) -> Self::Part {
        // SAFETY: passed on.
        unsafe { (self.0.part(index), self.1.part(index)) }
    }
}

/// Parts of one after parts of the other.
pub(super) struct Joined<'a, P> {
    members: &'a [P],
    /// Number of the first part of each member; a few need no allocation.
    firsts: SmallVec<[usize; 8]>,
    count: usize,
}

impl<'a, P: Parted> Joined<'a, P> {
    pub(super) fn new(members: &'a [P]) -> Self {
        let mut count = 0;
        let firsts = members.iter().map(|member| {
            count += member.count();
            count - member.count()
        });
        Self {
            firsts: firsts.collect(),
            members,
            count,
        }
    }
}

impl<P: Parted> Parted for Joined<'_, P> {
    /// Index of the member, number of the part in it, the part.
    type Part = (usize, usize, P::Part);

    fn count(&self) -> usize {
        self.count
    }

    unsafe fn part(&self, index: usize) -> Self::Part {
        // Of members that begin at the same number, all but the last are empty.
        let member = self.firsts.partition_point(|first| *first <= index) - 1;
        let part = index - self.firsts[member];
        // SAFETY: passed on; different numbers lead to different parts.
        (member, part, unsafe { self.members[member].part(part) })
    }
}

/// As [`Joined`], of members that all have the same number of parts.
pub(super) struct Uniform<P> {
    members: Vec<P>,
    parts: usize,
}

impl<P: Parted> Uniform<P> {
    pub(super) fn new(members: Vec<P>, parts: usize) -> Self {
        assert!(members.iter().all(|member| member.count() == parts));
        Self { members, parts }
    }
}

impl<P: Parted> Parted for Uniform<P> {
    type Part = (usize, usize, P::Part);

    fn count(&self) -> usize {
        self.members.len() * self.parts
    }

    unsafe fn part(&self, index: usize) -> Self::Part {
        let (member, part) = (index / self.parts, index % self.parts);
        // SAFETY: passed on; different numbers lead to different parts.
        (member, part, unsafe { self.members[member].part(part) })
    }
}

impl<'a> Bands<'a> {
    /// `slice` holds whole rows of `width` values.
    pub(super) fn new(slice: &'a mut [f32], width: usize, band: usize) -> Self {
        assert!(width > 0 && slice.len().is_multiple_of(width));
        Self {
            start: slice.as_mut_ptr(),
            rows: slice.len() / width,
            width,
            band: band.max(1),
            slice: PhantomData,
        }
    }

    /// Columns of all bands together.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Columns of a band.
    pub(super) fn band(&self) -> usize {
        self.band
    }

    /// Changes the columns of a band.
    pub(super) fn set_band(&mut self, columns: usize) {
        self.band = columns.max(1);
    }
}

// SAFETY: bands do not overlap, and each is handed out once.
unsafe impl Sync for Bands<'_> {}

impl<'a> Parted for Bands<'a> {
    type Part = Band<'a>;

    fn count(&self) -> usize {
        self.width.div_ceil(self.band)
    }

    unsafe fn part(&self, index: usize) -> Band<'a> {
        let first = index * self.band;
        assert!(first < self.width);
        Band {
            // SAFETY: a column of the first row, or of no row where there is none.
            start: unsafe { self.start.add(if self.rows == 0 { 0 } else { first }) },
            rows: self.rows,
            width: self.width,
            columns: self.band.min(self.width - first),
            slice: PhantomData,
        }
    }
}

impl Band<'_> {
    /// Number of its columns.
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// Its columns of one row.
    pub(super) fn row(&mut self, index: usize) -> &mut [f32] {
        assert!(index < self.rows);
        // SAFETY: within the slice; no other band has these columns.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(index * self.width), self.columns) }
    }

    /// `W` vectors, from vector `vector` of its columns on, of `N` rows.
    #[inline(always)]
    pub(super) fn vectors<const N: usize, const W: usize>(
        &mut self,
        row: usize,
        vector: usize,
    ) -> [&mut [[f32; LANES]; W]; N] {
        assert!(row + N <= self.rows && (vector + W) * LANES <= self.columns);
        std::array::from_fn(|n| {
            let first = (row + n) * self.width + vector * LANES;
            // SAFETY: within the slice; no other band has these columns, and each row is another.
            unsafe { &mut *self.start.add(first).cast() }
        })
    }
}
