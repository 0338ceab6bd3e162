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
    let (of_a, of_b) = factors.multipliers;
    match factors.shift {
        17..=46 if has_halves(of_a) && has_halves(of_b) => in_halves(a, b, factors, y),
        _ => in_f64(a, b, factors, y), // the larger factor is at least 2^14, or below 2^-16
    }
}

/// `high * 2^16 + low`, both within i16. (The compiler sees it here, and multiplies pairs of i16.)
#[inline(always)]
fn halves(multiplier: i32) -> (i32, i32) {
    let low = i32::from(multiplier as i16);
    (multiplier.wrapping_sub(low) >> 16, low)
}

/// All but one multiplier of 2^15: a `high` of 2^15 is no i16, and two products of -2^15 and -2^15 add up to no i32.
fn has_halves(multiplier: i32) -> bool {
    multiplier < 0x7fff_8000 && multiplier as i16 != i16::MIN
}

/// In i32, half as wide as f64: so twice as many fit into a vector.
#[inline(always)]
fn in_halves<T: Integer>(a: &[T], b: &[T], factors: Factors, y: &mut [T]) {
    let ((high_a, low_a), (high_b, low_b)) = (halves(factors.multipliers.0), halves(factors.multipliers.1));
    let shift = factors.shift - 16; // of `high`, 1 to 30
    let (low_end, high_end) = (i32::from(T::ENDS.0), i32::from(T::ENDS.1));
    let (below, half) = ((1 << shift) - 1, 1 << (shift - 1));
    for ((a, b), y) in a.iter().zip(b).zip(y) {
        let (a, b) = (i32::from(a.widen()), i32::from(b.widen()));
        let low = a * low_a + b * low_b;
        let high = a * high_a + b * high_b + (low >> 16);
        let whole = high >> shift;
        // A half and more goes up; but not exactly a half, where the whole is even.
        let down = i32::from(low & 0xffff == 0) & !whole;
        let up = ((high & below) + half - down) >> shift;
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
