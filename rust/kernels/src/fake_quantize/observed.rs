//! Observe and quantize: the range moves towards the batch, the grid covers the range, the batch goes on the grid.
//!
//! ```text
//! low, high = min(x), max(x)                             # all of x, before the first value can be quantized
//! min_val, max_val += c * (low - min_val), c * (high - max_val)         # the first batch starts them
//! scale = max(max(|min_val|, |max_val|) / ((qmax - qmin) / 2), 2**-23)
//! fake-quantize the blocks of x, the last one first: it is still in the cache
//! ```

use super::{
    grid::{Bound, Bounds, Grid, Steps},
    mask::mask_len,
    per_tensor::{on_grid, on_grid_with_mask},
};
use crate::{
    Element, Error, Isa,
    error::check_len,
    observe::min_max_per_tensor,
    parallel::{BLOCK, Team},
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

/// Where a range goes when it sees a batch, and the grid that then covers it.
pub trait Follow: Copy + Send + Sync {
    /// Both, when a batch has `low..=high`; `None` where that is left to the caller.
    fn follow(self, range: Range, low: f32, high: f32) -> Option<(Range, Grid)>;
}

impl Follow for Moving {
    fn follow(self, range: Range, low: f32, high: f32) -> Option<(Range, Grid)> {
        let range = self.moved(range, low, high);
        Some((range, self.grid(range)))
    }
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

/// Writes the fake-quantized `x` to `y`, on the grid of `range` after it has moved; gives both. `x` is clamped to
/// `bounds` before anything else, if there are any. `mask`, if wanted, is that of [`super::per_tensor_with_mask`].
///
/// `None`, and nothing is written, if the clamped `x` is empty or has a NaN or an infinity, or `moving` gives none. Bit-identical on every [`Isa`] and
/// [`Team`].
///
/// # Errors
/// As [`super::per_tensor_with_mask`]; nothing is written.
#[allow(clippy::too_many_arguments, reason = "two inputs, two outputs, and what is between")]
pub fn observed_per_tensor<T: Element>(
    isa: Isa,
    team: &dyn Team,
    x: &[T],
    bounds: Option<Bounds>,
    moving: impl Follow,
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
    let steps_of = |grid: Grid| grid.steps::<T::Wide>(None);
    let (low, high) = min_max_per_tensor(isa, team, x)?;
    let Some(bounds) = bounds else {
        let Some((range, grid)) = moved(moving, range, low, high) else { return Ok(None) };
        write(isa, team, x, steps_of(grid)?, y, mask);
        return Ok(Some((range, grid)));
    };
    // Clamping keeps the order of values, so the ends of what is clamped are the clamped ends.
    let clamped = |end: f32| {
        if bounds.low > end {
            bounds.low
        } else if bounds.high < end {
            bounds.high
        } else {
            end
        }
    };
    let Some((range, grid)) = moved(moving, range, clamped(low), clamped(high)) else { return Ok(None) };
    write(isa, team, x, steps_of(grid)?.within(bounds)?, y, mask);
    Ok(Some((range, grid)))
}

/// The range after it has moved, and its grid; `None` for a batch that no range covers.
fn moved(moving: impl Follow, range: Range, low: f32, high: f32) -> Option<(Range, Grid)> {
    if low.is_finite() && high.is_finite() { moving.follow(range, low, high) } else { None }
}

/// The last block first: it is still in the cache.
fn write<T: Element, B: Bound<T::Wide>>(
    isa: Isa,
    team: &dyn Team,
    x: &[T],
    grid: Steps<T::Wide, B>,
    y: &mut [T],
    mask: Option<&mut [u8]>,
) {
    let blocks = x.chunks(BLOCK).zip(y.chunks_mut(BLOCK));
    match mask {
        Some(mask) => on_grid_with_mask(isa, team, blocks.zip(mask.chunks_mut(mask_len(BLOCK))).rev(), grid),
        None => on_grid(isa, team, blocks.rev(), grid),
    }
}
