//! Observe and quantize: the range moves towards the batch, the grid covers the range, the batch goes on the grid.
//!
//! ```text
//! low, high = min(x), max(x)                             # all of x, before the first value can be quantized
//! min_val, max_val += c * (low - min_val), c * (high - max_val)         # the first batch starts them
//! scale = max(max(|min_val|, |max_val|) / ((qmax - qmin) / 2), 2**-23)
//! fake-quantize the blocks of x, the last one first: it is still in the cache
//! ```

use super::{
    formula::{self, InSingle},
    grid::{Grid, Steps},
    mask::mask_len,
    per_tensor::block,
};
use crate::{
    Element, Error, Isa,
    error::check_len,
    isa::per_isa,
    observe::min_max_per_tensor,
    parallel::{BLOCK, Team, share},
};

/// The least scale a range gives: f32 epsilon.
const LEAST_SCALE: f32 = f32::EPSILON;

/// What an observer keeps of all batches so far; `min_val > max_val` before the first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// Lower end.
    pub min_val: f32,
    /// Upper end.
    pub max_val: f32,
}

/// How a range moves, and the integers of the grid that covers it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moving {
    /// How far the range moves towards the batch, 0 to 1.
    pub averaging_constant: f32,
    /// Least integer.
    pub qmin: i32,
    /// Greatest integer.
    pub qmax: i32,
}

impl Moving {
    /// Where `range` goes when a batch has `low..=high`: there at first, and with a constant of 1; else a part of the way.
    #[must_use]
    pub fn moved(self, range: Range, low: f32, high: f32) -> Range {
        let c = self.averaging_constant;
        if c == 1.0 || range.min_val > range.max_val {
            return Range { min_val: low, max_val: high };
        }
        let towards = |m: f32, end: f32| m + c * (end - m);
        Range { min_val: towards(range.min_val, low), max_val: towards(range.max_val, high) }
    }

    /// The symmetric grid that covers `range`.
    #[must_use]
    pub fn grid(self, range: Range) -> Grid {
        let Self { qmin, qmax, .. } = self;
        let half = ((f64::from(qmax) - f64::from(qmin)) / 2.0) as f32;
        let scale = (range.min_val.abs().max(range.max_val.abs()) / half).max(LEAST_SCALE);
        Grid { scale, zero_point: 0, qmin, qmax }
    }
}

/// Writes the fake-quantized `x` to `y`, on the grid of `range` after it has moved; gives both. `mask`, if wanted, is
/// that of [`super::per_tensor_with_mask`].
///
/// `None`, and nothing is written, if `x` is empty or has a NaN or an infinity. Bit-identical on every [`Isa`] and
/// [`Team`].
///
/// # Errors
/// As [`super::per_tensor_with_mask`]; nothing is written.
pub fn observed_per_tensor<T: Element>(
    isa: Isa,
    team: &dyn Team,
    x: &[T],
    moving: Moving,
    range: Range,
    y: &mut [T],
    mask: Option<&mut [u8]>,
) -> Result<Option<(Range, Grid)>, Error> {
    check_len("y", y.len(), x.len())?;
    if let Some(mask) = &mask {
        check_len("mask", mask.len(), mask_len(x.len()))?;
    }
    if x.is_empty() {
        return Ok(None);
    }
    let (low, high) = min_max_per_tensor(isa, team, x)?;
    if !(low.is_finite() && high.is_finite()) {
        return Ok(None);
    }
    let range = moving.moved(range, low, high);
    let grid = moving.grid(range);
    let steps: Steps<T::Wide> = grid.steps(None)?;
    let blocks = x.chunks(BLOCK).zip(y.chunks_mut(BLOCK));
    match mask {
        Some(mask) => share(team, blocks.zip(mask.chunks_mut(mask_len(BLOCK))).rev(), |((x, y), mask)| {
            per_isa!(isa, block::<T>, [T: Element],
                (x: &[T], steps: Steps<T::Wide>, y: &mut [T], mask: &mut [u8]) -> ());
        }),
        None => share(team, blocks.rev(), |(x, y)| {
            per_isa!(isa, formula::slice::<T, InSingle>, [T: Element], (x: &[T], steps: Steps<T::Wide>, y: &mut [T]) -> ());
        }),
    }
    Ok(Some((range, grid)))
}
