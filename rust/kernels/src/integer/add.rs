//! The sum of two tensors with scales of their own.

use super::{Factors, Integer};
use crate::{
    Error, Isa,
    error::check_len,
    fake_quantize::{clamp, round},
    isa::per_isa,
    parallel::{BLOCK, Team, share},
};

/// Writes `a * factors.0 + b * factors.1`, rounded half to even, then saturated, to `y`. Exact, so the same on every
/// [`Isa`] and [`Team`].
///
/// # Errors
/// [`Error::LengthMismatch`] if `a`, `b` and `y` differ in length.
pub fn add_saturating<T: Integer>(
    isa: Isa,
    team: &dyn Team,
    a: &[T],
    b: &[T],
    factors: Factors,
    y: &mut [T],
) -> Result<(), Error> {
    check_len("b", b.len(), a.len())?;
    check_len("y", y.len(), a.len())?;
    share(team, a.chunks(BLOCK).zip(b.chunks(BLOCK)).zip(y.chunks_mut(BLOCK)), |((a, b), y)| {
        per_isa!(isa, block::<T>, [T: Integer], (a: &[T], b: &[T], factors: Factors, y: &mut [T]) -> ());
    });
    Ok(())
}

/// In f64, which holds the sum of two products of 16 and 31 bits exactly, and has vectors where i64 lacks shifts.
#[inline(always)]
fn block<T: Integer>(a: &[T], b: &[T], factors: Factors, y: &mut [T]) {
    let (low, high) = (f64::from(T::ENDS.0), f64::from(T::ENDS.1));
    let unit = 2.0_f64.powi(-(factors.shift as i32));
    let (of_a, of_b) = (f64::from(factors.multipliers.0) * unit, f64::from(factors.multipliers.1) * unit);
    for ((a, b), y) in a.iter().zip(b).zip(y) {
        let sum = f64::from(i32::from(a.widen())) * of_a + f64::from(i32::from(b.widen())) * of_b;
        // The ends are whole, so clamping first changes nothing.
        *y = T::narrow(to_i32(round(clamp(sum, low, high))));
    }
}

/// Of a whole number in i32's range. `as` also checks for NaN and the range, one value at a time.
#[inline(always)]
fn to_i32(whole: f64) -> i32 {
    const SHIFT: f64 = 6_755_399_441_055_744.0; // 1.5 · 2⁵²: the integer is then in the low bits
    (whole + SHIFT).to_bits() as i32
}
