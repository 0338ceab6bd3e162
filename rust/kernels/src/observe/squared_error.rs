//! The squared error of rounding one block to one scale.

use crate::{
    Isa,
    fake_quantize::{clamp, round},
    isa::per_isa,
};

/// Elements whose error is summed at once: 2 KiB of f32. Part of the result's definition, since sums round.
pub(super) const BLOCK: usize = 512;

/// Sums that run side by side. Part of the result's definition too.
const LANES: usize = 16;

/// A symmetric grid, zero point 0.
#[derive(Clone, Copy)]
pub(super) struct Symmetric {
    pub scale: f32,
    pub low: f32,
    pub high: f32,
}

/// `Σ (fake_quantize(x) - x)²` of at most [`BLOCK`] finite values: f32 for each, f64 for the sum.
pub(super) fn squared_error(isa: Isa, x: &[f32], grid: Symmetric) -> f64 {
    per_isa!(isa, sum, [], (x: &[f32], grid: Symmetric) -> f64)
}

#[inline(always)]
fn sum(x: &[f32], grid: Symmetric) -> f64 {
    let inv_scale = 1.0 / grid.scale;
    let mut lanes = [0.0; LANES];
    let (rows, rest) = x.as_chunks::<LANES>();
    for row in rows {
        for i in 0..LANES {
            lanes[i] += f64::from(error(row[i], inv_scale, grid));
        }
    }
    for (x, lane) in rest.iter().zip(&mut lanes) {
        *lane += f64::from(error(*x, inv_scale, grid));
    }
    // Folded in halves: 16 lanes, 8, 4, 2, 1.
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
    }
    lanes[0]
}

#[inline(always)]
fn error(x: f32, inv_scale: f32, grid: Symmetric) -> f32 {
    let difference = round(clamp(x * inv_scale, grid.low, grid.high)) * grid.scale - x;
    difference * difference
}
