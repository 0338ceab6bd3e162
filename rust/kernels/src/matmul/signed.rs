//! Activations as the dot product of NEON multiplies them: bytes that all have a sign.
//!
//! ```text
//! x = lower                                # of 8 bits
//! x = 256 * upper + lower + 128            # of 16: the lower byte, less 128; the offsets have 128 times the weights' sum
//! ```

use std::ops::Range;

use super::{
    form::{Form, Part},
    tile::{self, Rows},
    weight::{Panels, Weight},
};
use crate::{integer::Integer, isa::per_isa};

/// One byte of an activation. The lower bytes of a row are followed by its upper ones.
#[derive(Clone, Copy, Default)]
#[repr(transparent)]
pub(super) struct Signed(pub(super) i8);

impl Form for Signed {
    const HEIGHT: usize = 4;
    const PIECE: usize = 16_384; // of 4; 65536 * 128 * 128 < 2^31

    fn planes(weight: &Weight) -> usize {
        if let Panels::Signed(_, planes) = weight.panels { planes } else { 1 }
    }

    fn places(weight: &Weight) -> usize {
        Self::planes(weight)
    }

    fn pack<T: Integer>(weight: &Weight, x: &[T], a: &mut [Self]) {
        let (isa, planes, line) = (weight.isa, Self::planes(weight), weight.shape().steps * 4);
        for (x, a) in x.chunks(line).zip(a.chunks_mut(planes * line)) {
            let (lower, upper) = a.split_at_mut(line);
            let raised = if upper.is_empty() { 0 } else { 0x80 };
            per_isa!(isa, each, [T: Integer], (x: &[T], raised: i16, lower: &mut [Signed]) -> ());
            per_isa!(isa, halves, [T: Integer], (x: &[T], upper: &mut [Signed]) -> ());
        }

        #[inline(always)]
        fn each<T: Integer>(x: &[T], raised: i16, lower: &mut [Signed]) {
            lower.iter_mut().zip(x).for_each(|(a, x)| *a = Signed((x.widen() ^ raised) as i8));
        }
        #[inline(always)]
        fn halves<T: Integer>(x: &[T], upper: &mut [Signed]) {
            upper.iter_mut().zip(x).for_each(|(a, x)| *a = Signed((x.widen() >> 8) as i8));
        }
    }

    fn multiply(
        part: &Part<'_>,
        a: &[Self],
        rows: usize,
        place: usize,
        steps: Range<usize>,
        start: Option<&[i32]>,
        acc: &mut [i32],
    ) {
        let Panels::Signed(b, planes) = &part.weight.panels else { return };
        let plane = part.weight.shape().steps * 4;
        let a = &a[place * plane + steps.start * 4..];
        let a = Rows { a, stride: planes * plane, count: rows, steps: steps.len() };
        tile::signed(part.weight.isa, a, part.columns(b, steps.start), start, acc);
    }
}
