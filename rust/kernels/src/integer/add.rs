//! The sum of two tensors with scales of their own.
//!
//! ```text
//! sum = a * multiplier_a + b * multiplier_b             # 48 bits for int16
//!     = high * 2^16 + low                               # from halves of the multipliers: two sums of 32 bits
//! y   = saturate(round_half_even(high.low * 2^-shift))
//! ```

use super::{Factors, Integer};
use crate::{
    Error, Isa,
    error::check_len,
    fake_quantize::clamp,
    isa::per_isa,
    parallel::{BLOCK, Team, share_light},
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
    share_light(team, a.chunks(BLOCK).zip(b.chunks(BLOCK)).zip(y.chunks_mut(BLOCK)), |((a, b), y)| {
        per_isa!(isa, block::<T>, [T: Integer], (a: &[T], b: &[T], factors: Factors, y: &mut [T]) -> ());
    });
    Ok(())
}

#[inline(always)]
fn block<T: Integer>(a: &[T], b: &[T], factors: Factors, y: &mut [T]) {
    match (factors.shift, halves(factors.multipliers.0), halves(factors.multipliers.1)) {
        (18..=46, Some(of_a), Some(of_b)) => in_halves(a, b, of_a, of_b, factors.shift - 16, y),
        _ => in_f64(a, b, factors, y), // the larger factor is at least 2^13, or below 2^-16
    }
}

/// `high * 2^16 + low`; None for one multiplier of 2^15. Then sums of two products of such a half and an i16 fit into i32.
fn halves(multiplier: i32) -> Option<(i16, i16)> {
    let low = multiplier as i16;
    let high = (i64::from(multiplier) - i64::from(low)) >> 16; // 2^15 at most
    (low != i16::MIN).then_some((i16::try_from(high).ok()?, low))
}

/// In i32, half as wide as f64: so twice as many fit into a vector. `shift` is what remains below `high`: 2 to 30.
#[inline(always)]
fn in_halves<T: Integer>(a: &[T], b: &[T], of_a: (i16, i16), of_b: (i16, i16), shift: u32, y: &mut [T]) {
    let (low_end, high_end) = (i32::from(T::ENDS.0), i32::from(T::ENDS.1));
    let (below, half) = ((1 << shift) - 1, 1 << (shift - 1));
    for ((a, b), y) in a.iter().zip(b).zip(y) {
        let (a, b) = (i32::from(a.widen()), i32::from(b.widen()));
        let low = a * i32::from(of_a.1) + b * i32::from(of_b.1);
        let high = a * i32::from(of_a.0) + b * i32::from(of_b.0) + (low >> 16);
        // All that matters of the lower 16 bits is whether there are any; the lowest bit above is not yet the half.
        let high = high | i32::from(low & 0xffff != 0);
        let whole = high >> shift;
        // Just below a half, plus 1 where the whole is odd: exactly a half then goes up to even, and down else.
        let up = ((high & below) + (half - 1) + (whole & 1)) >> shift;
        *y = T::narrow((whole + up).clamp(low_end, high_end));
    }
}

/// In f64, which holds the sum exactly.
#[inline(always)]
fn in_f64<T: Integer>(a: &[T], b: &[T], factors: Factors, y: &mut [T]) {
    const SHIFT: f64 = 6_755_399_441_055_744.0; // 1.5 · 2⁵²: rounds, half to even, and leaves the integer in the low bits
    let (low, high) = (f64::from(T::ENDS.0), f64::from(T::ENDS.1));
    let unit = 2.0_f64.powi(-(factors.shift as i32));
    let (of_a, of_b) = (f64::from(factors.multipliers.0) * unit, f64::from(factors.multipliers.1) * unit);
    for ((a, b), y) in a.iter().zip(b).zip(y) {
        let sum = f64::from(i32::from(a.widen())) * of_a + f64::from(i32::from(b.widen())) * of_b;
        // The ends are whole, so clamping first changes nothing.
        *y = T::narrow((clamp(sum, low, high) + SHIFT).to_bits() as i32);
    }
}
