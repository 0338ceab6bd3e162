//! In which form activations meet the panels, and which tiles multiply them.

use std::ops::Range;

use super::{
    tile::{self, Columns, Ready, Rows},
    weight::{Panels, Weight},
};
use crate::{integer::Integer, isa::per_isa};

/// Some panels of one group of outputs.
pub(super) struct Part<'a> {
    pub(super) weight: &'a Weight,
    pub(super) ready: &'a Ready,
    pub(super) group: usize,
    pub(super) panels: Range<usize>,
    pub(super) steps: Range<usize>,
}

impl Part<'_> {
    pub(super) fn columns<'b, B>(&self, b: &'b [B], step: usize) -> Columns<'b, B> {
        let shape = self.weight.shape();
        let first = (self.group * shape.panels + self.panels.start) * shape.steps + step;
        Columns { b: &b[first..], panel: shape.steps, count: self.panels.len() }
    }
}

/// A packed activation.
pub(super) trait Form: Copy + Default {
    /// Rows are filled up to a multiple of it.
    const HEIGHT: usize;
    /// Steps of the depth whose sums fit into i32.
    const PIECE: usize;
    /// Rows of what sums begin with: one for all, or those of a tile.
    const START: usize = 1;

    /// How many there are of one activation.
    fn planes(_weight: &Weight) -> usize {
        1
    }
    /// How many bytes apart, at most, products are summed up.
    fn places(weight: &Weight) -> usize;
    /// The rows as they lie, where they are in this form already. There may be more behind them.
    fn lying<'a, T: Integer>(_weight: &Weight, _x: &'a [T], _rows: usize) -> Option<&'a [Self]> {
        None
    }
    /// Writes whole rows, filled up to the groups of the weight, to their places in `a`.
    fn pack<T: Integer>(weight: &Weight, x: &[T], a: &mut [Self]);
    /// Adds the products at a place to `acc`; or writes them, and adds `start`, [`Self::START`] rows, to all.
    fn multiply(
        part: &Part<'_>,
        a: &[Self],
        rows: usize,
        place: usize,
        steps: Range<usize>,
        start: Option<&[i32]>,
        acc: &mut [i32],
    );
}

/// 16 bits; or 8, where nothing multiplies bytes.
impl Form for i16 {
    const HEIGHT: usize = 12;
    const PIECE: usize = 255; // 510 * 32768 * 128 < 2^31

    fn places(weight: &Weight) -> usize {
        if matches!(weight.panels, Panels::Halves(..)) { 2 } else { 1 }
    }

    fn pack<T: Integer>(weight: &Weight, x: &[T], a: &mut [i16]) {
        let isa = weight.isa;
        per_isa!(isa, each, [T: Integer], (x: &[T], a: &mut [i16]) -> ());

        #[inline(always)]
        fn each<T: Integer>(x: &[T], a: &mut [i16]) {
            a.iter_mut().zip(x).for_each(|(a, x)| *a = x.widen());
        }
    }

    fn multiply(
        part: &Part<'_>,
        a: &[i16],
        rows: usize,
        place: usize,
        steps: Range<usize>,
        start: Option<&[i32]>,
        acc: &mut [i32],
    ) {
        let (Panels::Pairs(b) | Panels::Halves(_, b)) = &part.weight.panels else { return };
        let b = if let (Panels::Halves(b, _), 1) = (&part.weight.panels, place) { b } else { b };
        let stride = part.weight.shape().steps * 2;
        let a = Rows { a: &a[steps.start * 2..], stride, count: rows, steps: steps.len() };
        tile::pairs(part.weight.isa, a, part.columns(b, steps.start), start, acc);
    }
}

/// A byte made unsigned by adding 128.
#[derive(Clone, Copy, Default)]
#[repr(transparent)]
pub(super) struct Raised(u8);

impl Form for Raised {
    const HEIGHT: usize = 12;
    const PIECE: usize = 16_384; // of 4; 65536 * 255 * 128 < 2^31

    fn places(_: &Weight) -> usize {
        1
    }

    fn pack<T: Integer>(weight: &Weight, x: &[T], a: &mut [Self]) {
        let isa = weight.isa;
        per_isa!(isa, each, [T: Integer], (x: &[T], a: &mut [Raised]) -> ());

        #[inline(always)]
        fn each<T: Integer>(x: &[T], a: &mut [Raised]) {
            a.iter_mut().zip(x).for_each(|(a, x)| *a = Raised(x.widen() as u8 ^ 0x80));
        }
    }

    fn multiply(
        part: &Part<'_>,
        a: &[Self],
        rows: usize,
        _: usize,
        steps: Range<usize>,
        start: Option<&[i32]>,
        acc: &mut [i32],
    ) {
        let b = match &part.weight.panels {
            Panels::Quads(b) => b,
            Panels::Bytes(b, _) => &b[0],
            _ => return,
        };
        let stride = part.weight.shape().steps * 4;
        let a = Rows { a: &a[steps.start * 4..], stride, count: rows, steps: steps.len() };
        tile::quads(part.weight.isa, a, part.columns(b, steps.start), start, acc);
    }
}
