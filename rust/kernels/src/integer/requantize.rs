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

#[inline(always)]
fn block<T: Integer>(acc: &[i32], factor: Factor, y: &mut [T]) {
    let (low, high) = (i64::from(T::ENDS.0), i64::from(T::ENDS.1));
    // Just below a half, plus 1 where the whole part is odd: exactly a half then goes up to even, and down else.
    let half = if factor.shift == 0 { 0 } else { (1_i64 << (factor.shift - 1)) - 1 };
    let one = i64::from(factor.shift != 0);
    for (acc, y) in acc.iter().zip(y) {
        let product = i64::from(*acc) * i64::from(factor.multiplier); // 62 bits and a sign
        let odd = (product >> factor.shift) & one;
        *y = T::narrow(((product + half + odd) >> factor.shift).clamp(low, high) as i32);
    }
}
