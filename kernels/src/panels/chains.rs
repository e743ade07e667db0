//! Each result is one chain in f32 that begins with the bias and takes the inputs pair by pair, the second one
//! first, as the instruction `vdpbf16ps` does.

use super::{DEPTH, GROUP, Line, Piece};
use crate::lanes::{Kernel, Lanes};

/// A piece of work that is computed so.
pub(super) struct Chains<'a>(pub Piece<'a>);

impl Kernel for Chains<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Self(mut piece) = self;
        let mut pair = 0;
        while pair < piece.panels.pairs {
            let mut panel = 0;
            while panel < piece.count() {
                piece.group(lanes, pair, panel);
                panel += GROUP;
            }
            pair += DEPTH;
        }
        piece.activate(lanes);
    }
}

impl Piece<'_> {
    /// A block of pairs for a few panels and all rows.
    #[inline(always)]
    fn group<L: Lanes>(&mut self, lanes: L, pair: usize, panel: usize) {
        let rows = self.row_count();
        let mut row = 0;
        while row < rows {
            row += match rows - row {
                12.. if L::SUMS >= 24 => self.tile::<L, 12, 2>(lanes, pair, panel, row),
                6.. if L::SUMS >= 24 => self.tile::<L, 6, 2>(lanes, pair, panel, row),
                4.. => self.tile::<L, 4, 1>(lanes, pair, panel, row),
                2.. => self.tile::<L, 2, 2>(lanes, pair, panel, row),
                _ => self.tile::<L, 1, 2>(lanes, pair, panel, row),
            };
        }
    }

    /// `N` rows and the panels of a group, `W` at once where there are as many; returns `N`.
    #[inline(always)]
    fn tile<L: Lanes, const N: usize, const W: usize>(
        &mut self,
        lanes: L,
        pair: usize,
        panel: usize,
        row: usize,
    ) -> usize {
        let end = (panel + GROUP).min(self.count());
        let mut panel = panel;
        while panel + W <= end {
            self.add::<L, N, W>(lanes, pair, panel, row);
            panel += W;
        }
        if panel < end {
            self.add::<L, N, 1>(lanes, pair, panel, row);
        }
        N
    }

    #[inline(always)]
    fn add<L: Lanes, const N: usize, const W: usize>(
        &mut self,
        lanes: L,
        pair: usize,
        panel: usize,
        row: usize,
    ) {
        let width = self.width;
        let values = &self.rows[row * width..][..N * width];
        let mut rows: [&[[u16; 2]]; N] = [&[]; N];
        let mut panels: [&[Line]; W] = [&[]; W];
        let first_panel = self.first_panel + panel;
        for w in 0..W {
            panels[w] = self.panels.part(first_panel + w, pair);
        }
        for n in 0..N {
            rows[n] = &values[n * width..][..width].as_chunks().0[pair..];
        }
        let results = self.band.vectors::<N, W>(row, panel);
        let place = (pair, first_panel);
        let sums = self.panels.starts(lanes, place, self.finish, &results);
        let sums = add_products(lanes, rows, panels, sums);
        for n in 0..N {
            for w in 0..W {
                lanes.store(sums[n][w], &mut results[n][w]);
            }
        }
    }
}

/// Adds to each sum the products of its row with its panel, one after the other; all have the same
/// length.
#[inline(always)]
fn add_products<L: Lanes, const N: usize, const W: usize>(
    lanes: L,
    mut rows: [&[[u16; 2]]; N],
    mut panels: [&[Line]; W],
    mut sums: [[L::F; W]; N],
) -> [[L::F; W]; N] {
    // Known to be equal, the lengths are not checked in the loop.
    let depth = panels[0].len();
    for n in 0..N {
        rows[n] = &rows[n][..depth];
    }
    for w in 0..W {
        panels[w] = &panels[w][..depth];
    }
    for k in 0..depth {
        let mut weights = [lanes.load_halves(&panels[0][k].0); W];
        for w in 1..W {
            weights[w] = lanes.load_halves(&panels[w][k].0);
        }
        for n in 0..N {
            let pair = rows[n][k];
            for w in 0..W {
                sums[n][w] = lanes.dot_halves(sums[n][w], weights[w], pair);
            }
        }
    }
    sums
}
