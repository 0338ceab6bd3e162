//! One product with a factor, rounded: for accumulators of 32 bits in a loop, for wider ones one by one.

use super::{Factor, Rounding, arithmetic::Round};

/// A factor as loops over i32 like it: `shift` is 1 to 62, and what is larger than `limit` saturates.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) multiplier: u32,
    pub(crate) shift: u32,
    pub(crate) limit: u32,
}

impl Step {
    pub(crate) fn new(factor: Factor) -> Self {
        let Factor { multiplier, shift } = factor;
        let (multiplier, shift) = match shift {
            0 => (multiplier << 1, 1),
            1..=62 => (multiplier, shift),
            _ => (1, 62), // less than 2^-32: less than a half of any i32, but not nothing, if floors are asked for
        };
        // 2^16 or more saturates, so accumulators are cut to what gives that; and the result fits into 32 bits.
        let bits = u32::BITS - multiplier.leading_zeros();
        let limit = 1_u32.checked_shl((shift + 17).saturating_sub(bits)).unwrap_or(u32::MAX);
        Self { multiplier, shift, limit }
    }

    /// `acc * factor`, rounded; where that is 2^16 or more, something that is 2^16 or more.
    #[inline(always)]
    pub(crate) fn apply<R: Round>(self, acc: i32) -> i32 {
        let sign = acc >> 31; // all bits of it
        let product = u64::from(acc.unsigned_abs().min(self.limit)) * u64::from(self.multiplier);
        let rounded = R::round(product, self.shift, i64::from(sign) as u64) as i32;
        (rounded ^ sign) - sign
    }
}

/// The same of any accumulator, as it reads: in i128.
pub(crate) fn wide(acc: i64, factor: Factor, rounding: Rounding) -> i32 {
    let (product, shift) = (i128::from(acc) * i128::from(factor.multiplier), factor.shift);
    let rounded = match rounding {
        Rounding::Tflite => {
            let first = shifted(product, shift.min(31), Rounding::HalfUp);
            shifted(first, shift.saturating_sub(31), Rounding::HalfAway)
        }
        once => shifted(product, shift, once),
    };
    rounded.clamp(-(1 << 17), 1 << 17) as i32
}

fn shifted(value: i128, shift: u32, rounding: Rounding) -> i128 {
    let one = 1_i128 << shift;
    let (whole, twice_rest) = (value >> shift, 2 * (value & (one - 1)));
    let up = match rounding {
        Rounding::Floor => false,
        _ if twice_rest != one => twice_rest > one,
        Rounding::HalfEven => whole & 1 == 1,
        Rounding::HalfUp => true,
        Rounding::HalfAway | Rounding::Tflite => value >= 0,
    };
    whole + i128::from(up)
}
