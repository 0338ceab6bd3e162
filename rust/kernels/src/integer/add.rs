//! The sum of two tensors with scales of their own.
//!
//! ```text
//! sum = a * multiplier_a + b * multiplier_b             # 48 bits for int16
//!     = high * 2^16 + low                               # from halves of the multipliers: two sums of 32 bits
//! y   = saturate(round_half_even(high.low * 2^-shift))
//! ```

use super::{
    Arithmetic, Factor, Factors, Integer, Rounding,
    arithmetic::{Round, Tflite, by_rounding},
};
use crate::{
    Error, Isa,
    error::check_len,
    fake_quantize::clamp,
    isa::per_isa,
    parallel::{BLOCK, Team, share_light},
};

/// Writes `a * factors.0 + b * factors.1`, rounded, then saturated, to `y`. Exact, so the same on every [`Isa`] and
/// [`Team`]. TFLite rounds thrice: each term, on the scale of twice the larger, and the sum.
///
/// # Errors
/// [`Error::LengthMismatch`] if `a`, `b` and `y` differ in length; [`Error::Factor`] if TFLite's own factors are none.
pub fn add_saturating<T: Integer, U: Integer>(
    isa: Isa,
    team: &dyn Team,
    a: &[T],
    b: &[T],
    factors: Factors,
    rounding: Rounding,
    y: &mut [U],
) -> Result<(), Error> {
    check_len("b", b.len(), a.len())?;
    check_len("y", y.len(), a.len())?;
    let pieces = a.chunks(BLOCK).zip(b.chunks(BLOCK)).zip(y.chunks_mut(BLOCK));
    match rounding {
        Rounding::HalfEven => match Halves::of(factors) {
            Some(by) => share_light(team, pieces, |((a, b), y)| {
                let done = in_pairs(isa, a, b, by, y);
                let (a, b, y) = (&a[done..], &b[done..], &mut y[done..]);
                per_isa!(isa, in_halves::<T, U>, [T: Integer, U: Integer], (a: &[T], b: &[T], by: Halves, y: &mut [U]) -> ());
            }),
            None => share_light(team, pieces, |((a, b), y)| {
                per_isa!(isa, in_f64::<T, U>, [T: Integer, U: Integer], (a: &[T], b: &[T], factors: Factors, y: &mut [U]) -> ());
            }),
        },
        Rounding::Tflite => {
            let terms = Thrice::new::<T>(factors)?;
            share_light(team, pieces, |((a, b), y)| {
                per_isa!(isa, thrice::<T, U>, [T: Integer, U: Integer], (a: &[T], b: &[T], terms: Thrice, y: &mut [U]) -> ());
            });
        }
        other => by_rounding!(other, R => share_light(team, pieces, |((a, b), y)| {
            per_isa!(isa, otherwise::<T, U, R>, [T: Integer, U: Integer, R: Round], (a: &[T], b: &[T], factors: Factors, y: &mut [U]) -> ());
        })),
    }
    Ok(())
}

/// Any other rounding, in 64 bits.
#[inline(always)]
fn otherwise<T: Integer, U: Integer, R: Round>(a: &[T], b: &[T], factors: Factors, y: &mut [U]) {
    let (of_a, of_b) = factors.multipliers;
    let (low, high) = (i64::from(U::ENDS.0), i64::from(U::ENDS.1));
    for ((a, b), y) in a.iter().zip(b).zip(y) {
        let sum = i64::from(a.widen()) * i64::from(of_a) + i64::from(b.widen()) * i64::from(of_b);
        // One bit more, so that there is always a shift.
        *y = U::narrow(rounded::<R>(2 * sum, factors.shift + 1).clamp(low, high) as i32);
    }
}

#[inline(always)]
fn rounded<R: Round>(value: i64, shift: u32) -> i64 {
    let sign = value >> 63;
    (R::round(value.unsigned_abs(), shift, sign as u64) as i64 ^ sign) - sign
}

/// TFLite's factors: of each term on the scale of twice the larger, and of the sum. `left` keeps bits of the terms.
#[derive(Clone, Copy)]
struct Thrice {
    left: u32,
    terms: [(i64, u32); 2],
    sum: (i64, u32),
}

impl Thrice {
    fn new<T: Integer>(factors: Factors) -> Result<Self, Error> {
        let (a, b) = factors.given;
        let twice_larger = 2.0 * a.abs().max(b.abs());
        let left = if T::ENDS.1 == i16::from(i8::MAX) { 20 } else { 15 };
        let fixed = |value: f64| {
            // Only a factor of 0 has no shift: both of a term are at most a half, and that of a sum is below 2^17.
            Factor::new(value, Arithmetic::TFLITE)
                .map(|factor| (i64::from(factor.multiplier), factor.shift.max(1)))
        };
        let of = |value: f64| fixed(if twice_larger == 0.0 { 0.0 } else { value.abs() / twice_larger });
        let (of_a, of_b) = (of(a)?, of(b)?);
        let of_b = (if b < 0.0 { -of_b.0 } else { of_b.0 }, of_b.1);
        Ok(Self { left, terms: [of_a, of_b], sum: fixed(twice_larger / f64::from(1 << left))? })
    }
}

#[inline(always)]
fn thrice<T: Integer, U: Integer>(a: &[T], b: &[T], by: Thrice, y: &mut [U]) {
    let (low, high) = (i64::from(U::ENDS.0), i64::from(U::ENDS.1));
    let [(of_a, shift_a), (of_b, shift_b)] = by.terms;
    for ((a, b), y) in a.iter().zip(b).zip(y) {
        let (a, b) = (i64::from(a.widen()) << by.left, i64::from(b.widen()) << by.left);
        let sum = rounded::<Tflite>(a * of_a, shift_a) + rounded::<Tflite>(b * of_b, shift_b);
        *y = U::narrow(rounded::<Tflite>(sum * by.sum.0, by.sum.1).clamp(low, high) as i32);
    }
}

/// Multipliers as `high * 2^16 + low`, both within i16, of `a` and `b`; `shift`, 1 to 30, is that of `high`.
#[derive(Clone, Copy)]
pub(super) struct Halves {
    pub(super) high: (i32, i32),
    pub(super) low: (i32, i32),
    pub(super) shift: u32,
}

impl Halves {
    /// None where a factor is at least 2^14, or both are below 2^-16, and of one multiplier in 2^15: a `high` of 2^15 is
    /// no i16, and two products of -2^15 and -2^15 add up to no i32.
    fn of(Factors { multipliers: (a, b), shift, .. }: Factors) -> Option<Self> {
        let has = |multiplier: i32| multiplier < 0x7fff_8000 && multiplier as i16 != i16::MIN;
        let low = |multiplier: i32| i32::from(multiplier as i16);
        let high = |multiplier: i32| multiplier.wrapping_sub(low(multiplier)) >> 16;
        (matches!(shift, 17..=46) && has(a) && has(b)).then(|| Self {
            high: (high(a), high(b)),
            low: (low(a), low(b)),
            shift: shift - 16,
        })
    }
}

/// In i32, half as wide as f64: so twice as many fit into a vector.
#[inline(always)]
fn in_halves<T: Integer, U: Integer>(a: &[T], b: &[T], by: Halves, y: &mut [U]) {
    let Halves { high: (high_a, high_b), low: (low_a, low_b), shift } = by;
    let (low_end, high_end) = (i32::from(U::ENDS.0), i32::from(U::ENDS.1));
    let (below, half) = ((1 << shift) - 1, 1 << (shift - 1));
    for ((a, b), y) in a.iter().zip(b).zip(y) {
        let (a, b) = (i32::from(a.widen()), i32::from(b.widen()));
        let low = a * low_a + b * low_b;
        let high = a * high_a + b * high_b + (low >> 16);
        let whole = high >> shift;
        // A half and more goes up; but not exactly a half, where the whole is even.
        let down = i32::from(low & 0xffff == 0) & !whole;
        let up = ((high & below) + half - down) >> shift;
        *y = U::narrow((whole + up).clamp(low_end, high_end));
    }
}

/// How many elements of `y` were written, the quickest way.
#[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables, reason = "only there it is written by hand"))]
fn in_pairs<T: Integer, U: Integer>(isa: Isa, a: &[T], b: &[T], by: Halves, y: &mut [U]) -> usize {
    #[cfg(target_arch = "x86_64")]
    return super::add_x86::whole_vectors(isa, a, b, by, y);
    #[cfg(not(target_arch = "x86_64"))]
    0
}

/// In f64, which holds the sum exactly.
#[inline(always)]
fn in_f64<T: Integer, U: Integer>(a: &[T], b: &[T], factors: Factors, y: &mut [U]) {
    const SHIFT: f64 = 6_755_399_441_055_744.0; // 1.5 · 2⁵²: rounds, half to even, and leaves the integer in the low bits
    let (low, high) = (f64::from(U::ENDS.0), f64::from(U::ENDS.1));
    let unit = 2.0_f64.powi(-(factors.shift as i32));
    let (of_a, of_b) = (f64::from(factors.multipliers.0) * unit, f64::from(factors.multipliers.1) * unit);
    for ((a, b), y) in a.iter().zip(b).zip(y) {
        let sum = f64::from(i32::from(a.widen())) * of_a + f64::from(i32::from(b.widen())) * of_b;
        // The ends are whole, so clamping first changes nothing.
        *y = U::narrow((clamp(sum, low, high) + SHIFT).to_bits() as i32);
    }
}
