//! Integer arithmetic, against i128 written to be read.

mod naive;

use naive::Threads;
use nashquant_kernels::{
    Error, Isa, Layout,
    integer::{self, Arithmetic, Factors, Integer, Output, Requantizer, Rounding},
    parallel::{Serial, Team},
};
use proptest::prelude::*;

/// As the chip does it: one factor, half to even.
fn requantize<T: Integer>(
    isa: Isa,
    team: &dyn Team,
    acc: &[i32],
    factor: f64,
    y: &mut [T],
) -> Result<(), Error> {
    let by = Requantizer::new(&[factor], Arithmetic::NASH, Output::all::<T>())?;
    integer::requantize(isa, team, acc, Layout::flat(acc.len()), &by, y)
}

fn add_saturating<T: Integer>(
    isa: Isa,
    team: &dyn Team,
    a: &[T],
    b: &[T],
    factors: Factors,
    y: &mut [T],
) -> Result<(), Error> {
    integer::add_saturating(isa, team, a, b, factors, Rounding::HalfEven, y)
}

/// `numerator * 2^-shift`, half to even, then saturated.
fn rounded(numerator: i128, shift: u32, low: i128, high: i128) -> i128 {
    let one = 1_i128 << shift;
    let (whole, rest) = (numerator.div_euclid(one), numerator.rem_euclid(one));
    let up = 2 * rest > one || 2 * rest == one && whole % 2 != 0;
    (whole + i128::from(up)).clamp(low, high)
}

/// Multiplier and shift of one factor: doubled until it has 31 bits.
fn naive_factor(value: f64) -> (i128, u32) {
    let shift =
        (0..=62).rev().find(|s| (value * 2_f64.powi(*s)).round_ties_even() < 2_f64.powi(31)).unwrap() as u32;
    ((value * 2_f64.powi(shift as i32)).round_ties_even() as i128, shift)
}

fn naive_add<T: Integer>(a: T, b: T, of_a: f64, of_b: f64) -> i128 {
    let shift = naive_factor(of_a.max(of_b)).1;
    let on_it = |value: f64| (value * 2_f64.powi(shift as i32)).round_ties_even() as i128;
    let sum = i128::from(a.widen()) * on_it(of_a) + i128::from(b.widen()) * on_it(of_b);
    rounded(sum, shift, T::ENDS.0.into(), T::ENDS.1.into())
}

#[test]
fn ties_go_to_even_and_ends_saturate() {
    for isa in Isa::available() {
        let mut y = [0_i8; 9];
        let acc = [1, 3, 5, -1, -3, 2, i32::MAX, i32::MIN, 255];
        requantize(isa, &Serial, &acc, 0.5, &mut y).unwrap();
        assert_eq!(y, [0, 2, 2, 0, -2, 1, 127, -128, 127], "{isa:?}");
        let mut y = [0_i16; 4];
        let factors = Factors::new(0.5, 2.0).unwrap();
        add_saturating(isa, &Serial, &[1, 3, 32767, -32768], &[0, 0, 32767, -32768], factors, &mut y)
            .unwrap();
        assert_eq!(y, [0, 2, 32767, -32768], "{isa:?}");
    }
}

#[test]
fn a_sum_is_rounded_once() {
    // 0.5 + 0.5 is 1; each rounded by itself would give 0 + 0.
    let mut y = [9_i8];
    add_saturating(Isa::best(), &Serial, &[1], &[1], Factors::new(0.5, 0.5).unwrap(), &mut y).unwrap();
    assert_eq!(y, [1]);
}

#[test]
fn small_factors_are_zero_and_large_ones_an_error() {
    let mut y = [9_i16; 2];
    for tiny in [0.0, 1e-300, 2.0_f64.powi(-33) * 0.999] {
        requantize(Isa::best(), &Serial, &[i32::MIN, i32::MAX], tiny, &mut y).unwrap();
        assert_eq!(y, [0, 0]);
    }
    requantize(Isa::best(), &Serial, &[5, -5], 2_f64.powi(30), &mut y).unwrap();
    assert_eq!(y, [32767, -32768]);
    for bad in [-1.0, f64::NAN, f64::INFINITY, 2_f64.powi(31)] {
        let message = format!("a factor is {bad:?}, but must be at least 0 and less than 2**31");
        assert_eq!(
            Requantizer::new(&[bad], Arithmetic::NASH, Output::all::<i8>()).unwrap_err().to_string(),
            message
        );
        assert_eq!(Factors::new(1.0, bad).unwrap_err().to_string(), message);
        assert_eq!(Factors::new(bad, 1.0).unwrap_err().to_string(), message);
    }
    let error = requantize(Isa::best(), &Serial, &[1], 1.0, &mut [0_i8; 2]).unwrap_err();
    assert_eq!(error.to_string(), "y has 2 elements, but 1 are needed");
}

fn every_pair<T: Integer + From<i8>>(values: &[T], factors: &[(f64, f64)]) {
    for &(of_a, of_b) in factors {
        let a: Vec<T> = values.iter().flat_map(|a| vec![*a; values.len()]).collect();
        let b: Vec<T> = values.iter().flat_map(|_| values).copied().collect();
        let expected: Vec<_> = a.iter().zip(&b).map(|(a, b)| naive_add(*a, *b, of_a, of_b)).collect();
        for isa in Isa::available() {
            for team in [&Serial as &dyn Team, &Threads(2), &Threads(7)] {
                let mut y = vec![T::from(1); a.len()];
                add_saturating(isa, team, &a, &b, Factors::new(of_a, of_b).unwrap(), &mut y).unwrap();
                let found = y.iter().map(|y| i128::from(y.widen()));
                assert!(found.eq(expected.iter().copied()), "{isa:?} {of_a} {of_b}");
            }
        }
    }
}

const FACTORS: [(f64, f64); 6] = [(0.5, 0.5), (0.7, 1.3), (1.0, 1e-3), (3e-7, 0.0), (0.0, 0.0), (1.5, 1e-12)];

#[test]
fn every_pair_of_int8_is_added_exactly() {
    every_pair(&(i8::MIN..=i8::MAX).collect::<Vec<_>>(), &FACTORS);
}

#[test]
fn pairs_of_int16_are_added_exactly() {
    every_pair(
        &(i16::MIN..=i16::MAX).step_by(257).chain(i16::MAX - 3..=i16::MAX).collect::<Vec<_>>(),
        &FACTORS,
    );
}

/// Every shift, multipliers whose lower half is least, greatest or just beyond, and sums that almost cancel.
#[test]
fn every_shift_and_every_half_is_exact() {
    let ends = [0, 1, 2, 3, 4, 5, 127, -1, -2, -3, -4, -5, -127, -128];
    let wide_ends: Vec<i16> =
        ends.into_iter().chain([i16::MAX, i16::MAX - 1, i16::MIN, i16::MIN + 1]).collect();
    let narrow_ends: Vec<i8> = ends.iter().map(|&end| end as i8).collect();
    for shift in 0..=62 {
        for multiplier in [
            1 << 30,
            (1 << 30) + 1,
            0x4000_8000,
            0x7fff_7fff,
            0x7fff_8000,
            0x7fff_8001,
            0x7fff_fffe,
            0x7fff_ffff_i64,
        ] {
            let factor = |multiplier: i64| multiplier as f64 * 2_f64.powi(-shift);
            let factors = [multiplier, multiplier - 1, 0x4000_8000, 0xffff, 0x8000, 0x8001, 1, 0].map(factor);
            let factors: Vec<_> =
                factors.into_iter().flat_map(|b| [(factors[0], b), (b, factors[0])]).collect();
            every_pair(&wide_ends, &factors);
            every_pair(&narrow_ends, &factors);
        }
    }
}

#[test]
fn accumulators_at_every_shift_are_exact() {
    let mut acc: Vec<i32> = (0..31).flat_map(|bits| [-1, 0, 1].map(|d| (1 << bits) + d)).collect();
    acc.extend([i32::MAX, i32::MAX - 1]);
    acc.extend(acc.clone().into_iter().map(|acc| !acc));
    for shift in 0..=62_u32 {
        for multiplier in [1 << 30, (1 << 30) + 1, 3 << 29, 0x7fff_ffff_i64] {
            let factor = multiplier as f64 * 2_f64.powi(-(shift as i32));
            for isa in Isa::available() {
                for team in [&Serial as &dyn Team, &Threads(2)] {
                    let (mut y, mut narrow) = (vec![9_i16; acc.len()], vec![9_i8; acc.len()]);
                    requantize(isa, team, &acc, factor, &mut y).unwrap();
                    requantize(isa, team, &acc, factor, &mut narrow).unwrap();
                    for (i, acc) in acc.iter().enumerate() {
                        let product = i128::from(*acc) * i128::from(multiplier);
                        assert_eq!(
                            i128::from(y[i]),
                            rounded(product, shift, -32768, 32767),
                            "{isa:?} {acc} {shift}"
                        );
                        assert_eq!(
                            i128::from(narrow[i]),
                            rounded(product, shift, -128, 127),
                            "{isa:?} {acc} {shift}"
                        );
                    }
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn sums_are_exact_on_anything(
        pairs in prop::collection::vec(any::<(i16, i16)>(), 0..140), of_a in 1e-6..1e5_f64, ratio in 0.0..=1.0_f64,
    ) {
        let (a, b): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let expected: Vec<_> = a.iter().zip(&b).map(|(a, b)| naive_add(*a, *b, of_a, of_a * ratio)).collect();
        for isa in Isa::available() {
            let mut y = vec![0_i16; a.len()];
            add_saturating(isa, &Serial, &a, &b, Factors::new(of_a, of_a * ratio).unwrap(), &mut y).unwrap();
            prop_assert!(y.iter().map(|y| i128::from(*y)).eq(expected.iter().copied()), "{isa:?}");
        }
    }

    #[test]
    fn accumulators_are_requantized_exactly(
        acc in prop::collection::vec(any::<i32>(), 0..70), mantissa in 1.0..2.0_f64, exponent in -31..16_i32,
    ) {
        let value = mantissa * 2_f64.powi(exponent);
        let (multiplier, shift) = naive_factor(value);
        for isa in Isa::available() {
            let mut y = vec![0_i16; acc.len()];
            requantize(isa, &Serial, &acc, value, &mut y).unwrap();
            let expected = acc.iter().map(|acc| rounded(i128::from(*acc) * multiplier, shift, -32768, 32767));
            prop_assert!(y.iter().map(|y| i128::from(*y)).eq(expected));
        }
    }
}

#[test]
fn threads_share_many_blocks_and_change_nothing() {
    let n = 5 * 32 * 1024 + 77;
    let acc: Vec<i32> = (0..n as i32).map(|i| i.wrapping_mul(1_664_525) >> 8).collect();
    let a: Vec<i16> = acc.iter().map(|acc| *acc as i16).collect();
    let b: Vec<i16> = a.iter().rev().copied().collect();
    for isa in Isa::available() {
        let run = |team: &dyn Team| {
            let (mut sum, mut small) = (vec![1_i16; n], vec![1_i8; n]);
            add_saturating(isa, team, &a, &b, Factors::new(0.7, 1.3).unwrap(), &mut sum).unwrap();
            requantize(isa, team, &acc, 3e-5, &mut small).unwrap();
            (sum, small)
        };
        let serial = run(&Serial);
        assert!(serial.1.contains(&127) && serial.1.iter().any(|y| (1..100).contains(y)));
        assert!(run(&Threads(2)) == serial && run(&Threads(7)) == serial, "{isa:?}");
    }
}
