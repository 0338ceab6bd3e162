//! Accumulators to the integers of the output.

use super::{Factor, Integer};
use crate::{
    Error, Isa,
    error::check_len,
    isa::per_isa,
    parallel::{BLOCK, Team, share_light},
};

/// Writes `acc * factor`, rounded half to even, then saturated, to `y`. Exact, so the same on every [`Isa`] and [`Team`].
///
/// # Errors
/// [`Error::LengthMismatch`] if `acc` and `y` differ in length.
pub fn requantize<T: Integer>(
    isa: Isa,
    team: &dyn Team,
    acc: &[i32],
    factor: Factor,
    y: &mut [T],
) -> Result<(), Error> {
    check_len("y", y.len(), acc.len())?;
    share_light(team, acc.chunks(BLOCK).zip(y.chunks_mut(BLOCK)), |(acc, y)| {
        per_isa!(isa, block::<T>, [T: Integer], (acc: &[i32], factor: Factor, y: &mut [T]) -> ());
    });
    Ok(())
}

/// On magnitudes, since half to even does not mind the sign, and SSE2 and AVX2 multiply and shift only unsigned numbers.
#[inline(always)]
fn block<T: Integer>(acc: &[i32], factor: Factor, y: &mut [T]) {
    let (low, high) = (i32::from(T::ENDS.0), i32::from(T::ENDS.1));
    // A multiplier has 31 bits: what is larger gives 2^16 or more, so that it saturates anyway, and now fits into i32.
    let limit = 1_u32.checked_shl(factor.shift.saturating_sub(14)).unwrap_or(u32::MAX);
    // Just below a half, plus 1 where the whole part is odd: exactly a half then goes up to even, and down else.
    let half = if factor.shift == 0 { 0 } else { (1_u64 << (factor.shift - 1)) - 1 };
    let one = u64::from(factor.shift != 0);
    for (acc, y) in acc.iter().zip(y) {
        let product = u64::from(acc.unsigned_abs().min(limit)) * u64::from(factor.multiplier as u32);
        let odd = (product >> factor.shift) & one;
        let rounded = ((product + half + odd) >> factor.shift) as i32;
        let sign = acc >> 31; // all bits of it
        *y = T::narrow(((rounded ^ sign) - sign).clamp(low, high));
    }
}
