//! The tile unit of Intel's processors from Sapphire Rapids on (AMX), for matrices in bf16.
//!
//! Sources: Intel's Software Developer's Manual, volume 2, `TDPBF16PS`; Linux, `arch/x86/xstate.rst`, on the
//! permission to use tiles.

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::sync::LazyLock;

use super::{LANES, Line};

/// Rows of a tile.
const ROWS: usize = 16;
/// Pairs of values that an instruction takes of each row.
pub const TILE_PAIRS: usize = 16;
/// Rows of activations that are computed together: two tiles.
pub const BLOCK_ROWS: usize = 2 * ROWS;
const LINE_BYTES: usize = 64;
const TILE_BYTES: usize = ROWS * LINE_BYTES;

/// The sums of sixteen rows under a panel.
pub type TileSums = [[f32; LANES]; ROWS];

/// The sums of [`BLOCK_ROWS`] rows under two panels: by half of the rows, then by panel.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub struct BlockSums(pub [[TileSums; 2]; 2]);

impl BlockSums {
    pub const ZERO: Self = Self([[[[0.0; LANES]; ROWS]; 2]; 2]);

    #[inline(always)]
    pub fn get(&self, row: usize, panel: usize) -> &[f32; LANES] {
        &self.0[row / ROWS][panel][row % ROWS]
    }
}

/// Proof that the processor has AMX with BF16, and that the system lets this process use it.
#[derive(Clone, Copy)]
pub struct Amx(());

impl Amx {
    pub(super) fn detect() -> Option<Self> {
        static IS_USABLE: LazyLock<bool> = LazyLock::new(|| has_instructions() && is_permitted());
        IS_USABLE.then_some(Self(()))
    }

    /// The products of `count` rows, each of which begins `stride` values behind the one before, with two
    /// panels of equal length, a multiple of [`TILE_PAIRS`].
    ///
    /// A sum takes [`TILE_PAIRS`] pairs at a time: the products of all first values, one after the other, then
    /// beside them those of all second values, and both together are added. Numbers below the normal ones count
    /// as zero.
    pub fn multiply(
        self,
        rows: &[u16],
        stride: usize,
        count: usize,
        panels: [&[Line]; 2],
        sums: &mut [BlockSums],
    ) {
        let pairs = panels[0].len();
        assert!(count > 0 && pairs > 0 && pairs.is_multiple_of(TILE_PAIRS));
        assert_eq!(panels[1].len(), pairs);
        assert!(rows.len() >= (count - 1) * stride + 2 * pairs);
        assert!(sums.len() >= count.div_ceil(BLOCK_ROWS));
        let (blocks, rest) = (count / BLOCK_ROWS, count % BLOCK_ROWS);
        for (first, blocks, count) in [(0, blocks, BLOCK_ROWS), (blocks, 1, rest)] {
            if blocks == 0 || count == 0 {
                continue;
            }
            // A second half without rows is computed from the first one again, and not looked at.
            let second = if count > ROWS { ROWS * stride } else { 0 };
            let shapes = Shapes::new(count);
            let row_bytes = stride * size_of::<u16>();
            let block_bytes = pairs * size_of::<[u16; 2]>();
            // SAFETY: the token says that the instructions exist and are permitted. The assertions keep what is
            // read and written within the slices: `blocks` blocks of `count` rows, `pairs` pairs of each.
            // No tile is in use before or after.
            unsafe {
                let start = rows.as_ptr().add(first * BLOCK_ROWS * stride);
                asm!(
                    "ldtilecfg [{step}]",
                    "2:",
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "mov {step}, {steps}",
                    "3:",
                    "tileloadd tmm4, [{low} + {row_bytes}*1]",
                    "tileloadd tmm6, [{left} + {line}*1]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tileloadd tmm7, [{right} + {line}*1]",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tileloadd tmm5, [{high} + {row_bytes}*1]",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "add {low}, {line}",
                    "add {high}, {line}",
                    "add {left}, {tile}",
                    "add {right}, {tile}",
                    "dec {step}",
                    "jnz 3b",
                    "tilestored [{sums} + {line}*1], tmm0",
                    "tilestored [{sums} + {line}*1 + {tile}], tmm1",
                    "tilestored [{sums} + {line}*1 + 2*{tile}], tmm2",
                    "tilestored [{sums} + {line}*1 + 3*{tile}], tmm3",
                    "add {sums}, 4*{tile}",
                    "add {low}, {next}",
                    "add {high}, {next}",
                    "sub {left}, {panel_bytes}",
                    "sub {right}, {panel_bytes}",
                    "dec {blocks}",
                    "jnz 2b",
                    "tilerelease",
                    tile = const TILE_BYTES,
                    step = inout(reg) &raw const shapes => _,
                    steps = in(reg) pairs / TILE_PAIRS,
                    low = inout(reg) start => _,
                    high = inout(reg) start.add(second) => _,
                    left = inout(reg) panels[0].as_ptr() => _,
                    right = inout(reg) panels[1].as_ptr() => _,
                    row_bytes = in(reg) row_bytes,
                    line = in(reg) LINE_BYTES,
                    sums = inout(reg) sums.as_mut_ptr().add(first) => _,
                    next = in(reg) (BLOCK_ROWS * row_bytes).wrapping_sub(block_bytes),
                    panel_bytes = in(reg) size_of_val(panels[0]),
                    blocks = inout(reg) blocks => _,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    }
}

/// What `ldtilecfg` reads.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    first_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Shapes {
    /// Of a block with `count` rows: tiles 0 to 3 are sums, 4 and 5 rows, 6 and 7 panels.
    fn new(count: usize) -> Self {
        let low = count.min(ROWS);
        let high = if count > ROWS { count - ROWS } else { low };
        let mut shapes = Self {
            palette: 1,
            first_row: 0,
            reserved: [0; 14],
            row_bytes: [0; 16],
            rows: [0; 16],
        };
        let rows = [low, low, high, high, low, high, ROWS, ROWS];
        for (tile, rows) in rows.into_iter().enumerate() {
            shapes.row_bytes[tile] = LINE_BYTES as u16;
            shapes.rows[tile] = rows as u8;
        }
        shapes
    }
}

fn has_instructions() -> bool {
    const BF16: u32 = 1 << 22;
    const TILE: u32 = 1 << 24;
    __cpuid_count(7, 0).edx & (BF16 | TILE) == BF16 | TILE
}

/// Asks the system; whole threads' registers become larger by 8 KiB only where tiles are in use.
#[cfg(target_os = "linux")]
fn is_permitted() -> bool {
    const ARCH_PRCTL: isize = 158;
    const ARCH_REQ_XCOMP_PERM: usize = 0x1023;
    const XTILEDATA: usize = 18;
    let result: isize;
    // SAFETY: the call reads and writes no memory; the kernel keeps all registers but these.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XTILEDATA,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn is_permitted() -> bool {
    false
}
