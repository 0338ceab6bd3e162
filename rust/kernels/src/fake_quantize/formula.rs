//! The arithmetic itself, written once; `per_isa!` compiles it for every instruction set.

use super::{
    grid::{Bound, Steps},
    mask::LANES,
};
use crate::{Element, Wide};

/// The last product. torch rounds it to f32 per tensor, but not per channel: only f64 tells them apart.
pub(super) trait Product {
    fn product<T: Element>(steps: T::Wide, scale: f32) -> T;
}

/// The product in f32.
pub(super) struct InSingle;

/// The product in the type that everything else runs in.
pub(super) struct InWide;

impl Product for InSingle {
    #[inline(always)]
    fn product<T: Element>(steps: T::Wide, scale: f32) -> T {
        T::narrow(T::Wide::from_f32(steps.to_f32() * scale))
    }
}

impl Product for InWide {
    #[inline(always)]
    fn product<T: Element>(steps: T::Wide, scale: f32) -> T {
        T::narrow(steps * T::Wide::from_f32(scale))
    }
}

// Selects, written so that each is one instruction; `clamp`, `min` and `max` add fix-ups for NaN.
#[inline(always)]
pub(crate) fn clamp<W: Wide>(value: W, low: W, high: W) -> W {
    let value = if value > low { value } else { low }; // NaN goes to low
    if value < high { value } else { high }
}

/// Half to even, and never -0.0, for |value| <= 2²²; what is beyond stays beyond, and NaN stays NaN. (Addition rounds
/// monotonically.) One instruction less than `round_ties_even`, which is a call on SSE2.
#[inline(always)]
pub(crate) fn round<W: Wide>(value: W) -> W {
    (value + W::ROUNDER) - W::ROUNDER
}

/// Where `x` lies on the grid, in steps from the zero point, and the step it is clamped to. The same: it is inside.
#[inline(always)]
pub(super) fn steps<W: Wide, B>(x: W, grid: Steps<W, B>) -> (W, W) {
    let raw = round(x * grid.inv_scale);
    (raw, clamp(raw, grid.low, grid.high))
}

/// One value.
#[inline(always)]
pub(super) fn value<T: Element, P: Product, B: Bound<T::Wide>>(x: T, grid: Steps<T::Wide, B>) -> T {
    let (x, _) = grid.bound.bound(x.widen());
    P::product(steps(x, grid).1, grid.scale)
}

/// One value, and 1 if it was inside the grid and the bounds.
#[inline(always)]
pub(super) fn value_and_inside<T: Element, P: Product, B: Bound<T::Wide>>(
    x: T,
    grid: Steps<T::Wide, B>,
) -> (T, u32) {
    let (x, within) = grid.bound.bound(x.widen());
    let (raw, clamped) = steps(x, grid);
    (P::product(clamped, grid.scale), u32::from(within & (clamped == raw)))
}

/// All of `x` on one grid.
#[inline(always)]
pub(super) fn slice<T: Element, P: Product, B: Bound<T::Wide>>(
    x: &[T],
    grid: Steps<T::Wide, B>,
    y: &mut [T],
) {
    for (x, y) in x.iter().zip(y) {
        *y = value::<T, P, B>(*x, grid);
    }
}

/// As [`slice`], and what was inside.
#[inline(always)]
pub(super) fn slice_and_inside<T: Element, P: Product, B: Bound<T::Wide>>(
    x: &[T],
    grid: Steps<T::Wide, B>,
    y: &mut [T],
    inside: &mut [u32],
) {
    for ((x, y), inside) in x.iter().zip(y).zip(inside) {
        (*y, *inside) = value_and_inside::<T, P, B>(*x, grid);
    }
}

/// One row of a mask, each lane on its own grid; what was inside is pushed into the lane's word.
///
/// Of fixed length, and with the words handed on from row to row, so that they stay in registers.
#[inline(always)]
pub(super) fn row<T: Element, P: Product, B: Bound<T::Wide>>(
    x: &[T; LANES],
    grid: impl Fn(usize) -> Steps<T::Wide, B>,
    y: &mut [T; LANES],
    words: &mut [u32; LANES],
) {
    for lane in 0..LANES {
        let inside;
        (y[lane], inside) = value_and_inside::<T, P, B>(x[lane], grid(lane));
        words[lane] = words[lane] << 1 | inside;
    }
}
