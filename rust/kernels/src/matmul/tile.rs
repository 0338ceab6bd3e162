//! Some rows times some panels: the loop that everything else feeds.
//!
//! ```text
//! for step in steps: for row: for output: acc[row][output] += dot(a[row][step], b[step][output])     # 4 bytes each
//! ```

use super::weight::{GROUP_BYTES, PANEL, PairLine, QuadLine};
use crate::{Isa, isa::per_isa};

/// Rows of activations, `stride` elements apart, from the first of `steps` groups on.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a, A> {
    pub(super) a: &'a [A],
    pub(super) stride: usize,
    pub(super) count: usize,
    pub(super) steps: usize,
}

/// Panels `panel` lines apart, from the same step on.
#[derive(Clone, Copy)]
pub(super) struct Columns<'a, B> {
    pub(super) b: &'a [B],
    pub(super) panel: usize,
    pub(super) count: usize,
}

/// Writes all products to `acc`, whose rows are `panels * 16` long. Modulo 2^32: right wherever the result fits.
pub(super) fn pairs(isa: Isa, a: Rows<'_, i16>, b: Columns<'_, PairLine>, acc: &mut [i32]) {
    #[cfg(target_arch = "x86_64")]
    if super::x86::pairs(isa, a, b, acc) {
        return;
    }
    per_isa!(isa, portable, [], (a: Rows<'_, i16>, b: Columns<'_, PairLine>, acc: &mut [i32]) -> ());
}

/// The same of unsigned and signed bytes, on CPUs with VNNI.
pub(super) fn quads(isa: Isa, a: Rows<'_, u8>, b: Columns<'_, QuadLine>, acc: &mut [i32]) {
    #[cfg(target_arch = "x86_64")]
    if super::x86::quads(isa, a, b, acc) {
        return;
    }
    unreachable!("quads are packed only for {isa:?} with VNNI")
}

#[inline(always)]
fn portable(a: Rows<'_, i16>, b: Columns<'_, PairLine>, acc: &mut [i32]) {
    const UNITS: usize = GROUP_BYTES / 2;
    for (row, acc) in acc.chunks_mut(b.count * PANEL).take(a.count).enumerate() {
        let a = &a.a[row * a.stride..][..a.steps * UNITS];
        for (panel, acc) in acc.chunks_mut(PANEL).enumerate() {
            let mut sums = [0_i32; PANEL];
            for (a, PairLine(b)) in a.chunks_exact(UNITS).zip(&b.b[panel * b.panel..]) {
                let (first, second) = (i32::from(a[0]), i32::from(a[1]));
                for (sum, b) in sums.iter_mut().zip(b.chunks_exact(UNITS)) {
                    let dot = (first * i32::from(b[0])).wrapping_add(second * i32::from(b[1]));
                    *sum = sum.wrapping_add(dot);
                }
            }
            acc.copy_from_slice(&sums);
        }
    }
}
