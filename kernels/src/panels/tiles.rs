//! The products of a block of inputs are summed by tiles ([`Amx::multiply`]), then added to what is there: first
//! the bias, then the blocks before.

use super::{DEPTH, GROUP, Panels, Piece, ROWS};
use crate::lanes::{Amx, BLOCK_ROWS, BlockSums, Kernel, Lanes, TILE_PAIRS};

/// Whether tiles can read the inputs: whole ones, as all known models have them.
pub(super) fn fit(panels: &Panels) -> bool {
    panels.pairs.is_multiple_of(TILE_PAIRS)
}

/// A piece of work that is computed so.
pub(super) struct Tiles<'a> {
    pub piece: Piece<'a>,
    pub amx: Amx,
}

impl Kernel for Tiles<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Self { mut piece, amx } = self;
        let mut sums = [BlockSums::ZERO; ROWS.div_ceil(BLOCK_ROWS)];
        let mut pair = 0;
        while pair < piece.panels.pairs {
            let mut panel = 0;
            while panel < piece.count() {
                piece.group_of_tiles(lanes, amx, pair, panel, &mut sums);
                panel += GROUP;
            }
            pair += DEPTH;
        }
        piece.activate(lanes);
    }
}

impl Piece<'_> {
    /// A block of pairs for two panels, or the last one, and all rows.
    #[inline(always)]
    fn group_of_tiles<L: Lanes>(
        &mut self,
        lanes: L,
        amx: Amx,
        pair: usize,
        panel: usize,
        sums: &mut [BlockSums],
    ) {
        let (rows, end) = (self.row_count(), self.count().min(panel + GROUP));
        // Where a second panel is missing, the first is taken twice.
        let panels = [panel, end - 1].map(|w| self.panels.part(self.first_panel + w, pair));
        amx.multiply(&self.rows[2 * pair..], self.width, rows, panels, sums);
        for row in 0..rows {
            for w in panel..end {
                let results = self.band.vectors::<1, 1>(row, w);
                let place = (pair, self.first_panel + w);
                let [[start]] = self.panels.starts(lanes, place, self.finish, &results);
                let products = sums[row / BLOCK_ROWS].get(row % BLOCK_ROWS, w - panel);
                let [[result]] = results;
                lanes.store(lanes.add(start, lanes.load(products)), result);
            }
        }
    }
}
