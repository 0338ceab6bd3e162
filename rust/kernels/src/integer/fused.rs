//! Half to even by one fused multiply-add, which rounds its exact result once, as the contract does.
//!
//! ```text
//! sum = fma(acc, factor, 1.5 * 2^52)      # from 2^52 to 2^53 an f64 has no fraction, and 1.5 * 2^52 is even
//! y   = clamp(sum - 1.5 * 2^52)           # beyond 2^53 the order is still right, and `clamp` looks at nothing else
//! ```
//!
//! The factor has 31 bits and an f64 53, so `acc` and `factor` are both exact.

use super::{Factor, Integer, Lie, Output, factor::power};
use crate::Wide;

/// An accumulator that an f64 can hold.
pub(super) trait Held: Copy {
    /// Exact where [`within`] says so.
    fn held(self) -> f64;
}

impl Held for i32 {
    #[inline(always)]
    fn held(self) -> f64 {
        self.into()
    }
}

/// Less than this of either sign fits behind the leading bit of [`Wide::ROUNDER`].
const LIMIT: i64 = 1 << 51;

impl Held for i64 {
    /// By an addition to the bits: AVX2 can't convert.
    #[inline(always)]
    fn held(self) -> f64 {
        f64::from_bits(f64::ROUNDER.to_bits().wrapping_add(self as u64)) - f64::ROUNDER
    }
}

/// Can all be held?
#[inline(always)]
pub(super) fn within(acc: &[i64]) -> bool {
    let beyond = acc.iter().fold(0, |beyond, acc| beyond | (acc.wrapping_add(LIMIT) as u64 >> 52));
    beyond == 0
}

/// The factor itself: `multiplier * 2^-shift`.
pub(super) fn scale(factor: Factor) -> f64 {
    f64::from(factor.multiplier) * power(-(factor.shift as i32))
}

/// One factor for all.
#[inline(always)]
pub(super) fn one<A: Held, T: Integer>(acc: &[A], lie: Lie, scale: f64, output: Output, y: &mut [T]) {
    let land = landing(output);
    for (acc, y) in lie.rows(acc, y) {
        acc.iter().zip(y).for_each(|(acc, y)| *y = land(*acc, scale));
    }
}

/// One factor for each column.
#[inline(always)]
pub(super) fn each<A: Held, T: Integer>(acc: &[A], lie: Lie, scales: &[f64], output: Output, y: &mut [T]) {
    let land = landing(output);
    for (acc, y) in lie.rows(acc, y) {
        acc.iter().zip(scales).zip(y).for_each(|((acc, scale), y)| *y = land(*acc, *scale));
    }
}

#[inline(always)]
fn landing<A: Held, T: Integer>(output: Output) -> impl Fn(A, f64) -> T {
    let (low, high) = output.ends();
    let (least, most) = (f64::ROUNDER + f64::from(low), f64::ROUNDER + f64::from(high));
    let zero_point = i32::from(output.zero_point);
    move |acc, scale| {
        let sum = acc.held().mul_add(scale, f64::ROUNDER);
        // Selects, not `clamp`: nothing here is NaN.
        let sum = if sum > least { sum } else { least };
        let sum = if sum < most { sum } else { most };
        // The low bits of the mantissa are the integer.
        T::narrow((sum.to_bits() as i32).wrapping_add(zero_point))
    }
}
