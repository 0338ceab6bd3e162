//! What no sum exceeds, and what is refused because its sums would not be held.

use crate::{Error, error::check_len, integer::Integer};

/// The largest bias. Sums over a depth of 2^30 reach 2^61, so that i64 holds both.
const LARGEST_BIAS: u64 = 1 << 62;

/// The largest magnitude of `x - zero_point`.
pub(crate) fn largest<T: Integer>(zero_point: i16) -> i64 {
    let (low, high) = (i64::from(T::ENDS.0), i64::from(T::ENDS.1));
    (high - i64::from(zero_point)).max(i64::from(zero_point) - low)
}

/// What no `sum((x - zero_point) * w) + bias` exceeds; `weight` is the largest sum of magnitudes of a weight with so
/// many outputs.
///
/// # Errors
/// [`Error::ZeroPoint`] unless it is a `T`, [`Error::LengthMismatch`] and [`Error::Bias`].
pub(crate) fn bound<T: Integer>(
    weight: i64,
    zero_point: i16,
    bias: Option<&[i64]>,
    outputs: usize,
) -> Result<u128, Error> {
    if !(T::ENDS.0..=T::ENDS.1).contains(&zero_point) {
        let (qmin, qmax) = (T::ENDS.0.into(), T::ENDS.1.into());
        return Err(Error::ZeroPoint { channel: None, zero_point: zero_point.into(), qmin, qmax });
    }
    if let Some(bias) = bias {
        check_len("bias", bias.len(), outputs)?;
    }
    let furthest =
        bias.unwrap_or_default().iter().copied().max_by_key(|bias| bias.unsigned_abs()).unwrap_or(0);
    if furthest.unsigned_abs() > LARGEST_BIAS {
        return Err(Error::Bias { value: furthest });
    }
    Ok(weight as u128 * largest::<T>(zero_point) as u128 + u128::from(furthest.unsigned_abs()))
}
