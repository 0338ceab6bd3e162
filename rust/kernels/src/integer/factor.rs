//! Ratios of scales as fixed-point numbers.

use crate::Error;

/// `multiplier * 2^-shift`, with 31 bits of multiplier; 0 is multiplier 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factor {
    pub(super) multiplier: i32,
    pub(super) shift: u32,
}

/// Two factors on one shift: the larger has 31 bits, the smaller what is left to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factors {
    pub(super) multipliers: (i32, i32),
    pub(super) shift: u32,
}

/// Of a product with any i32, larger shifts leave nothing but 0.
const LARGEST_SHIFT: i32 = 62;

impl Factor {
    /// The nearest fixed-point number, half to even; 0 below 2⁻³², where every product rounds to 0.
    ///
    /// # Errors
    /// [`Error::Factor`] unless `0 <= value < 2^31`.
    pub fn new(value: f64) -> Result<Self, Error> {
        let shift = shift_of(value)?;
        Ok(shift.map_or(Self { multiplier: 0, shift: 0 }, |shift| Self {
            multiplier: scaled(value, shift),
            shift,
        }))
    }
}

impl Factors {
    /// The nearest fixed-point numbers on the shift of the larger.
    ///
    /// # Errors
    /// As [`Factor::new`].
    pub fn new(a: f64, b: f64) -> Result<Self, Error> {
        shift_of(a)?;
        shift_of(b)?;
        let shift = shift_of(a.max(b))?;
        Ok(shift.map_or(Self { multipliers: (0, 0), shift: 0 }, |shift| Self {
            multipliers: (scaled(a, shift), scaled(b, shift)),
            shift,
        }))
    }
}

/// The shift that leaves 31 bits; `None` where all is 0.
fn shift_of(value: f64) -> Result<Option<u32>, Error> {
    let limit = 2.0_f64.powi(31);
    if !(0.0..limit).contains(&value) {
        return Err(Error::Factor { value });
    }
    // The last doubling that stays below 2³¹ once it is rounded.
    let fits = |shift: &i32| (value * 2.0_f64.powi(*shift)).round_ties_even() < limit;
    let shift = (0..=LARGEST_SHIFT + 1).rev().find(fits).ok_or(Error::Factor { value })?;
    Ok((shift <= LARGEST_SHIFT).then_some(shift as u32))
}

fn scaled(value: f64, shift: u32) -> i32 {
    (value * 2.0_f64.powi(shift as i32)).round_ties_even() as i32
}
