//! The product of two tensors with scales of their own.

use super::{
    Factor, Integer, Rounding,
    arithmetic::{Round, by_rounding},
    step::Step,
};
use crate::{
    Error, Isa,
    error::check_len,
    isa::per_isa,
    parallel::{BLOCK, Team, share_light},
};

/// Writes `a * b * factor`, rounded, then saturated, to `y`. Exact, so the same on every [`Isa`] and [`Team`].
///
/// # Errors
/// [`Error::LengthMismatch`] if `a`, `b` and `y` differ in length.
pub fn mul_saturating<T: Integer, U: Integer>(
    isa: Isa,
    team: &dyn Team,
    a: &[T],
    b: &[T],
    factor: Factor,
    rounding: Rounding,
    y: &mut [U],
) -> Result<(), Error> {
    check_len("b", b.len(), a.len())?;
    check_len("y", y.len(), a.len())?;
    let step = Step::new(factor);
    share_light(team, a.chunks(BLOCK).zip(b.chunks(BLOCK)).zip(y.chunks_mut(BLOCK)), |((a, b), y)| {
        by_rounding!(rounding, R => {
            per_isa!(isa, block::<T, U, R>, [T: Integer, U: Integer, R: Round], (a: &[T], b: &[T], step: Step, y: &mut [U]) -> ());
        });
    });
    Ok(())
}

#[inline(always)]
fn block<T: Integer, U: Integer, R: Round>(a: &[T], b: &[T], step: Step, y: &mut [U]) {
    let (low, high) = (i32::from(U::ENDS.0), i32::from(U::ENDS.1));
    for ((a, b), y) in a.iter().zip(b).zip(y) {
        // Two i16 make at most 2^30.
        let product = i32::from(a.widen()) * i32::from(b.widen());
        *y = U::narrow(step.apply::<R>(product).clamp(low, high));
    }
}
