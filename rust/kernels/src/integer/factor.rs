//! Ratios of scales as fixed-point numbers.

use super::{Arithmetic, Rounding};
use crate::{Error, Wide};

/// `multiplier * 2^-shift`, with 31 bits of multiplier (or 15); 0 is multiplier 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factor {
    pub(super) multiplier: u32,
    pub(super) shift: u32,
}

/// Two factors on one shift: the larger has 31 bits, the smaller what is left to it. The second may be subtracted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Factors {
    pub(super) multipliers: (i32, i32),
    pub(super) shift: u32,
    /// As they were given, for TFLite's way.
    pub(super) given: (f64, f64),
}

/// Of a product with an i64, larger shifts leave nothing but 0.
const LARGEST_SHIFT: i32 = 94;
/// The same of a product with an i16 (and TFLite's own limit of every factor).
const LARGEST_COMMON_SHIFT: i32 = 62;

impl Factor {
    /// The nearest fixed-point number, half to even; 0 below 2⁻⁶³. TFLite: half away from zero, and 0 below 2⁻³².
    ///
    /// # Errors
    /// [`Error::Factor`] unless `0 <= value < 2^31`, also once it is rounded.
    pub fn new(value: f64, arithmetic: Arithmetic) -> Result<Self, Error> {
        let as_tflite = arithmetic.rounding == Rounding::Tflite || arithmetic.multiplier_bits == 15;
        let shift = shift_of(value)?;
        if value == 0.0 || shift > if as_tflite { LARGEST_COMMON_SHIFT } else { LARGEST_SHIFT } {
            return Ok(Self { multiplier: 0, shift: 0 });
        }
        // `round` goes away from zero at a half.
        let steps = scaled(value, shift);
        let multiplier = if as_tflite { steps.round() } else { rounded(steps) } as u32;
        if arithmetic.multiplier_bits == 31 {
            return Ok(Self { multiplier, shift: shift as u32 });
        }
        let (upper, shift) = (((multiplier + (1 << 15)) >> 16).min((1 << 15) - 1), shift - 16);
        Ok(Self { multiplier: upper << (-shift).max(0), shift: shift.max(0) as u32 })
    }
}

impl Factors {
    /// The nearest fixed-point numbers on the shift of the larger, half to even; 0 where both are below 2⁻³².
    ///
    /// # Errors
    /// As [`Factor::new`].
    pub fn new(a: f64, b: f64) -> Result<Self, Error> {
        shift_of(a)?;
        shift_of(b)?;
        let (larger, given) = (a.max(b), (a, b));
        let shift = shift_of(larger)?;
        if larger == 0.0 || shift > LARGEST_COMMON_SHIFT {
            return Ok(Self { multipliers: (0, 0), shift: 0, given });
        }
        let multiplier = |value| rounded(scaled(value, shift)) as i32;
        Ok(Self { multipliers: (multiplier(a), multiplier(b)), shift: shift as u32, given })
    }

    /// The same, to subtract the second term.
    #[must_use]
    pub fn subtracting(self) -> Self {
        let ((a, b), (given_a, given_b)) = (self.multipliers, self.given);
        Self { multipliers: (a, -b), given: (given_a, -given_b), ..self }
    }
}

/// The shift that leaves 31 bits once the number is rounded half to even; that of 0 means nothing.
fn shift_of(value: f64) -> Result<i32, Error> {
    let limit = 2.0_f64.powi(31);
    if !(0.0..limit).contains(&value) || rounded(value) >= limit {
        return Err(Error::Factor { value });
    }
    // The exponent e of value = 1.f · 2^e; subnormal numbers are beyond every shift anyway.
    let exponent = (value.to_bits() >> 52) as i32 - 1023;
    let shift = 30 - exponent;
    Ok(if rounded(scaled(value, shift)) < limit { shift } else { shift - 1 })
}

/// Half to even, of 0 to 2^31; on the baseline `round_ties_even` is a call.
fn rounded(value: f64) -> f64 {
    (value + f64::ROUNDER) - f64::ROUNDER
}

/// `value * 2^shift`.
fn scaled(value: f64, shift: i32) -> f64 {
    value * power(shift)
}

/// `2^exponent`; infinite where an f64 has none so large. At least 2^-1022.
pub(super) fn power(exponent: i32) -> f64 {
    f64::from_bits((exponent.min(1024) + 1023) as u64 * (1 << 52))
}
