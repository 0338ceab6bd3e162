//! Products of integer matrices, exact in accumulators that never wrap.
//!
//! ```text
//! acc[m][n] = sum over k of (a[m][k] - zero_point) * w[n][k] + bias[n]
//! y         = acc, or requantize(acc)
//! ```
//!
//! The sums are i32 modulo 2^32 where the weight's own values prove that the end fits (whatever wraps between comes
//! back), else i64 over pieces of the depth.

#[cfg(target_arch = "x86_64")]
mod amx;
mod block;
mod bound;
mod bytes;
mod finish;
mod form;
mod linear;
#[cfg(target_arch = "aarch64")]
mod neon;
mod room;
mod signed;
mod source;
mod sums;
mod tile;
mod weight;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use bound::{bound, largest};
pub use finish::{Exact32, Exact64, Finish, Requantized};
pub use linear::Linear;
pub(crate) use source::Source;
pub use weight::Weight;

use source::Matrix;

use crate::{Error, error::check_len, integer::Integer, parallel::Team};

/// Writes the product of `rows` rows, finished, to `y`: rows of as many as the weight has outputs. Exact, so the same on
/// every [`crate::Isa`] and [`Team`].
///
/// # Errors
/// [`Error::LengthMismatch`] if lengths do not fit `rows`, the depth and the outputs; [`Error::Groups`] if the weight
/// has several groups; [`Error::Sums`] if `finish` is [`Exact32`] and the weight does not prove that i32 suffices;
/// [`Error::Ends`] and [`Error::ZeroPoint`] if it is [`Requantized`] beyond its type.
pub fn matmul<T: Integer, F: Finish>(
    team: &dyn Team,
    a: &[T],
    rows: usize,
    linear: &Linear<T>,
    finish: &F,
    y: &mut [F::Y],
) -> Result<(), Error> {
    let Weight { groups, depth, .. } = *linear.weight();
    if groups != 1 {
        return Err(Error::Groups { groups });
    }
    check_len("a", a.len(), rows.saturating_mul(depth))?;
    linear.run(team, rows, &Matrix { a, depth }, finish, y)
}
