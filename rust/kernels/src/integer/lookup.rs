//! A table over the integers of its input.

use super::Integer;
use crate::{
    Error,
    error::check_len,
    parallel::{BLOCK, Team, share_light},
};

/// Writes `table[x - least integer]` to `y`.
///
/// # Errors
/// [`Error::LengthMismatch`] if `x` and `y` differ in length, or `table` has not one entry for each integer of `T`.
pub fn lookup<T: Integer, U: Integer>(
    team: &dyn Team,
    x: &[T],
    table: &[U],
    y: &mut [U],
) -> Result<(), Error> {
    let least = i32::from(T::ENDS.0);
    check_len("table", table.len(), (i32::from(T::ENDS.1) - least + 1) as usize)?;
    check_len("y", y.len(), x.len())?;
    share_light(team, x.chunks(BLOCK).zip(y.chunks_mut(BLOCK)), |(x, y)| {
        for (x, y) in x.iter().zip(y) {
            *y = table[(i32::from(x.widen()) - least) as usize];
        }
    });
    Ok(())
}
