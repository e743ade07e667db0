//! Memory for weights.

use std::ops::{Deref, DerefMut};

use memmap2::{Advice, MmapMut};

use crate::error::Error;

/// Zeroed bytes that begin at a page, in huge pages where the system has them: to clear four gigabytes page
/// by page takes longer than to fill them, and reading them would miss the page tables' cache all the time.
pub(super) struct Pages(MmapMut);

impl Pages {
    /// Fails for no bytes, and where the system refuses so many.
    pub(super) fn zeroed(bytes: usize) -> Result<Self, Error> {
        let pages = MmapMut::map_anon(bytes).map_err(|source| Error::Setup {
            part: "memory for weights",
            source: source.into(),
        })?;
        // A kernel without huge pages refuses; ordinary ones do as well, slower.
        pages.advise(Advice::HugePage).ok();
        Ok(Self(pages))
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}
