//! Some rows times some panels: the loop that everything else feeds.
//!
//! ```text
//! for step in steps: for row: for output: acc[row][output] += dot(a[row][step], b[step][output])     # 4 bytes each
//! ```

use super::{
    form::Raised,
    signed::Signed,
    weight::{GROUP_BYTES, PANEL, PairLine, QuadLine},
};
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

/// Adds all products to `acc`, whose rows are `panels * 16` long; or writes them, added to `start`, which is a row.
/// Modulo 2^32: right wherever the result fits.
pub(super) fn pairs(
    isa: Isa,
    a: Rows<'_, i16>,
    b: Columns<'_, PairLine>,
    start: Option<&[i32]>,
    acc: &mut [i32],
) {
    #[cfg(target_arch = "x86_64")]
    if super::x86::pairs(isa, a, b, start, acc) {
        return;
    }
    #[cfg(target_arch = "aarch64")]
    if super::neon::pairs(isa, a, b, start, acc) {
        return;
    }
    per_isa!(isa, portable, [], (a: Rows<'_, i16>, b: Columns<'_, PairLine>, start: Option<&[i32]>, acc: &mut [i32]) -> ());
}

/// The same of unsigned and signed bytes, on CPUs with VNNI.
#[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables, reason = "no tile of this CPU takes them"))]
pub(super) fn quads(
    isa: Isa,
    a: Rows<'_, Raised>,
    b: Columns<'_, QuadLine>,
    start: Option<&[i32]>,
    acc: &mut [i32],
) {
    #[cfg(target_arch = "x86_64")]
    if super::x86::quads(isa, a, b, start, acc) {
        return;
    }
    unreachable!("quads are packed only for {isa:?} with VNNI")
}

/// The same of signed bytes, on CPUs with NEON and its dot product.
#[cfg_attr(not(target_arch = "aarch64"), allow(unused_variables, reason = "no tile of this CPU takes them"))]
pub(super) fn signed(
    isa: Isa,
    a: Rows<'_, Signed>,
    b: Columns<'_, QuadLine>,
    start: Option<&[i32]>,
    acc: &mut [i32],
) {
    #[cfg(target_arch = "aarch64")]
    if super::neon::signed(isa, a, b, start, acc) {
        return;
    }
    unreachable!("signed bytes are packed only for {isa:?} with the dot product of NEON")
}

/// What a thread needs, besides memory, to multiply a block of rows.
pub(super) struct Ready(#[cfg(target_arch = "x86_64")] Option<super::amx::Registers>);

impl Ready {
    pub(super) fn new(_isa: Isa) -> Self {
        Self(
            #[cfg(target_arch = "x86_64")]
            super::amx::Registers::cut(_isa),
        )
    }
}

/// The same of bytes with signs or without, on CPUs with AMX. Of `a` there are whole registers of rows, and of
/// `acc` too; `start` is 16 rows of each two panels.
#[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables, reason = "no tile of this CPU takes them"))]
pub(super) fn bytes(
    isa: Isa,
    ready: &Ready,
    signs: (bool, bool),
    a: Rows<'_, i8>,
    b: Columns<'_, QuadLine>,
    start: Option<&[i32]>,
    acc: &mut [i32],
) {
    #[cfg(target_arch = "x86_64")]
    if let Ready(Some(cut)) = ready {
        return super::amx::bytes(cut, signs, a, b, start, acc);
    }
    unreachable!("bytes are packed only for {isa:?} with AMX")
}

#[inline(always)]
fn portable(a: Rows<'_, i16>, b: Columns<'_, PairLine>, start: Option<&[i32]>, acc: &mut [i32]) {
    const UNITS: usize = GROUP_BYTES / 2;
    for (row, acc) in acc.chunks_mut(b.count * PANEL).take(a.count).enumerate() {
        let a = &a.a[row * a.stride..][..a.steps * UNITS];
        for (panel, acc) in acc.chunks_mut(PANEL).enumerate() {
            let mut sums = [0_i32; PANEL];
            sums.copy_from_slice(start.map_or(&*acc, |start| &start[panel * PANEL..][..PANEL]));
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
