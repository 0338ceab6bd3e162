//! Every rounding, width and layout of integer arithmetic, against i128 written to be read.

mod naive;

use naive::Threads;
use nashquant_kernels::{
    Isa, Layout,
    integer::{
        Accumulator, Arithmetic, Factor, Factors, Integer, Output, Requantizer, Rounding, add_saturating,
        lookup, mul_saturating, requantize,
    },
    parallel::{Serial, Team},
};
use proptest::prelude::*;

const ALL: [Arithmetic; 6] = [
    Arithmetic::NASH,
    Arithmetic { rounding: Rounding::HalfUp, multiplier_bits: 31 },
    Arithmetic { rounding: Rounding::HalfAway, multiplier_bits: 31 },
    Arithmetic { rounding: Rounding::Floor, multiplier_bits: 31 },
    Arithmetic::TFLITE,
    Arithmetic::TFLITE_INT16,
];

/// `value / 2^shift`.
fn divided(value: i128, shift: u32, rounding: Rounding) -> i128 {
    let one = 1_i128 << shift;
    let (whole, rest) = (value.div_euclid(one), value.rem_euclid(one));
    let up = match rounding {
        Rounding::Floor => false,
        Rounding::HalfEven => 2 * rest > one || 2 * rest == one && whole % 2 != 0,
        Rounding::HalfUp => 2 * rest >= one,
        Rounding::HalfAway => 2 * rest > one || 2 * rest == one && value > 0,
        Rounding::Tflite => {
            let first = divided(value, shift.min(31), Rounding::HalfUp);
            return divided(first, shift - shift.min(31), Rounding::HalfAway);
        }
    };
    whole + i128::from(up && rest > 0)
}

/// Multiplier and shift: doubled until it has 31 bits.
fn fixed(value: f64, arithmetic: Arithmetic) -> (i128, u32) {
    let tflite = arithmetic == Arithmetic::TFLITE || arithmetic == Arithmetic::TFLITE_INT16;
    let round = |x: f64| if tflite { x.round() } else { x.round_ties_even() };
    let shift = (0..=95).rev().find(|s| round(value * 2_f64.powi(*s)) < 2_f64.powi(31)).unwrap();
    let multiplier = round(value * 2_f64.powi(shift)) as i128;
    if shift > if tflite { 62 } else { 94 } {
        return (0, 0);
    }
    if arithmetic.multiplier_bits == 31 {
        return (multiplier, shift as u32);
    }
    let upper = ((multiplier + (1 << 15)) >> 16).min((1 << 15) - 1);
    if shift >= 16 { (upper, shift as u32 - 16) } else { (upper << (16 - shift), 0) }
}

fn expected(acc: i64, factor: f64, arithmetic: Arithmetic, output: Output) -> i128 {
    let (multiplier, shift) = fixed(factor, arithmetic);
    let rounded = divided(i128::from(acc) * multiplier, shift, arithmetic.rounding);
    (rounded + i128::from(output.zero_point)).clamp(output.qmin.into(), output.qmax.into())
}

const SHIFTED: Output = Output { zero_point: -1000, qmin: -1000, qmax: 32000 };

/// Everything that `acc` gives with `factors`, on each instruction set and team.
fn check<A: Accumulator + Into<i64>>(
    acc: &[A],
    layout: Layout,
    factors: &[f64],
    arithmetic: Arithmetic,
    output: Output,
) {
    let channel = |i: usize| if factors.len() == 1 { 0 } else { i / layout.inner % layout.channels };
    let exact: Vec<i128> = acc
        .iter()
        .enumerate()
        .map(|(i, acc)| expected((*acc).into(), factors[channel(i)], arithmetic, output))
        .collect();
    let by = Requantizer::new(factors, arithmetic, output).unwrap();
    for isa in Isa::available() {
        for team in [&Serial as &dyn Team, &Threads(2), &Threads(7)] {
            let mut y = vec![9_i16; acc.len()];
            requantize(isa, team, acc, layout, &by, &mut y).unwrap();
            assert!(
                y.iter().map(|y| i128::from(*y)).eq(exact.iter().copied()),
                "{isa:?} {factors:?} {arithmetic:?}"
            );
        }
    }
}

fn ends(bits: u32) -> Vec<i64> {
    let near = (0..bits - 1).flat_map(|power| [-1, 0, 1].map(|d| (1_i64 << power) + d));
    near.flat_map(|n| [n, -n]).chain([i64::MIN >> (64 - bits), i64::MAX >> (64 - bits)]).collect()
}

#[test]
fn every_shift_rounds_ties_and_ends_exactly() {
    let wide = ends(64);
    let narrow: Vec<i32> = ends(32).into_iter().map(|acc| acc as i32).collect();
    for arithmetic in ALL {
        for exponent in -66..=30 {
            for mantissa in [1.0, 1.0 + 2_f64.powi(-30), 1.5, 2.0 - 2_f64.powi(-30), 2.0 - 2_f64.powi(-40)] {
                let factor = mantissa * 2_f64.powi(exponent);
                if factor < 2_f64.powi(31) - 0.5 {
                    check(&narrow, Layout::flat(narrow.len()), &[factor], arithmetic, Output::all::<i16>());
                    check(&wide, Layout::flat(wide.len()), &[factor], arithmetic, SHIFTED);
                }
            }
        }
    }
}

#[test]
fn bytes_are_exact_in_rows_of_any_length() {
    let relu = Output { qmin: 0, qmax: 90, ..Output::all::<i8>() };
    let shifted = Output { zero_point: 3, ..Output::all::<i8>() };
    for channels in [1, 63, 64, 65, 200] {
        let layout = Layout { outer: 390_usize.div_ceil(channels), channels, inner: 1 };
        let acc: Vec<i32> =
            ends(32).into_iter().map(|acc| acc as i32).cycle().take(layout.outer * channels).collect();
        for largest in [0.5, 4.0, 2_f64.powi(-20)] {
            let factors: Vec<f64> = (0..channels).map(|c| largest / (1 << (c % 16)) as f64).collect();
            let by = |output| Requantizer::new(&factors, Arithmetic::NASH, output).unwrap();
            for output in [Output::all::<i8>(), relu, shifted] {
                let channel = |i: usize| i % channels;
                let exact = acc
                    .iter()
                    .enumerate()
                    .map(|(i, acc)| expected((*acc).into(), factors[channel(i)], Arithmetic::NASH, output));
                for isa in Isa::available() {
                    let mut y = vec![9_i8; acc.len()];
                    requantize(isa, &Serial, &acc, layout, &by(output), &mut y).unwrap();
                    assert!(
                        y.iter().map(|y| i128::from(*y)).eq(exact.clone()),
                        "{isa:?} {channels} {largest}"
                    );
                }
            }
        }
    }
}

#[test]
fn every_layout_finds_the_factor_of_its_channel() {
    for arithmetic in [Arithmetic::NASH, Arithmetic::TFLITE] {
        for (outer, channels, inner) in [
            (1, 3, 5),
            (4, 1, 7),
            (2, 5, 1),
            (3, 300, 1),
            (1, 2, 40_000),
            (50_000, 3, 1),
            (0, 3, 2),
            (2, 70_000, 1),
        ] {
            let layout = Layout { outer, channels, inner };
            let n = outer * channels * inner;
            let factors: Vec<f64> = (0..channels).map(|c| 1e-6 * (1.0 + c as f64 / 7.0)).collect();
            let acc: Vec<i32> = (0..n as i32).map(|i| i.wrapping_mul(1_664_525).wrapping_add(77)).collect();
            check(&acc, layout, &factors, arithmetic, Output::all::<i16>());
            let wide: Vec<i64> =
                acc.iter().map(|acc| i64::from(*acc) << if acc & 64 == 0 { 5 } else { 0 }).collect();
            check(&wide, layout, &factors, arithmetic, SHIFTED);
        }
    }
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    let by = Requantizer::new(&[1.0, 2.0], Arithmetic::NASH, Output::all::<i8>()).unwrap();
    let run = |acc: &[i32], layout, y: &mut [i8]| requantize(Isa::best(), &Serial, acc, layout, &by, y);
    let layout = Layout { outer: 1, channels: 2, inner: 2 };
    let error = run(&[0; 4], layout, &mut [9; 3]).unwrap_err().to_string();
    assert_eq!(error, "y has 3 elements, but 4 are needed");
    let error = run(&[0; 4], Layout::flat(4), &mut [9; 4]).unwrap_err().to_string();
    assert_eq!(error, "factor has 2 elements, but 1 are needed");
    let error = run(&[0; 6], layout, &mut [9; 6]).unwrap_err().to_string();
    assert_eq!(error, "acc has 6 elements, but 4 are needed");
    let error = lookup(&Serial, &[0_i8], &[0_i8; 255], &mut [9]).unwrap_err().to_string();
    assert_eq!(error, "table has 255 elements, but 256 are needed");
}

fn products<T: Integer, U: Integer + From<i8>>(a: &[T], b: &[T], factor: f64) {
    for arithmetic in ALL {
        let output = Output::all::<U>();
        let exact = a
            .iter()
            .zip(b)
            .map(|(a, b)| expected(i64::from(a.widen()) * i64::from(b.widen()), factor, arithmetic, output));
        let by = Factor::new(factor, arithmetic).unwrap();
        for isa in Isa::available() {
            let mut y = vec![U::from(9); a.len()];
            mul_saturating(isa, &Threads(2), a, b, by, arithmetic.rounding, &mut y).unwrap();
            assert!(
                y.iter().map(|y| i128::from(y.widen())).eq(exact.clone()),
                "{isa:?} {factor} {arithmetic:?}"
            );
        }
    }
}

proptest! {
    #[test]
    fn products_are_exact(pairs in prop::collection::vec(any::<(i16, i16)>(), 0..140), factor in 1e-10..10.0_f64) {
        let (a, b): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        products::<i16, i16>(&a, &b, factor);
        products::<i16, i8>(&a, &b, factor);
        let narrow = |x: &[i16]| x.iter().map(|x| *x as i8).collect::<Vec<_>>();
        products::<i8, i8>(&narrow(&a), &narrow(&b), factor);
        products::<i8, i16>(&narrow(&a), &narrow(&b), factor);
    }

    #[test]
    fn sums_and_differences_are_exact_in_every_rounding(
        pairs in prop::collection::vec(any::<(i16, i16)>(), 0..70), of_a in 1e-3..1e3_f64, ratio in 0.0..=1.0_f64,
    ) {
        let (a, b): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let (of_b, shift) = (of_a * ratio, fixed(of_a, Arithmetic::NASH).1);
        let on_it = |value: f64| (value * 2_f64.powi(shift as i32)).round_ties_even() as i128;
        let factors = Factors::new(of_a, of_b).unwrap();
        for rounding in [Rounding::HalfEven, Rounding::HalfUp, Rounding::HalfAway, Rounding::Floor] {
            for (factors, sign) in [(factors, 1), (factors.subtracting(), -1)] {
                let exact = a.iter().zip(&b).map(|(a, b)| {
                    let sum = i128::from(*a) * on_it(of_a) + sign * i128::from(*b) * on_it(of_b);
                    divided(sum, shift, rounding).clamp(-128, 127)
                });
                for isa in Isa::available() {
                    let mut y = vec![9_i8; a.len()];
                    add_saturating(isa, &Serial, &a, &b, factors, rounding, &mut y).unwrap();
                    prop_assert!(y.iter().map(|y| i128::from(*y)).eq(exact.clone()), "{isa:?} {rounding:?}");
                }
            }
        }
    }

    /// The three roundings of TFLite, spelled out.
    #[test]
    fn tflite_rounds_each_term_and_the_sum(
        pairs in prop::collection::vec(any::<(i16, i16)>(), 0..70), of_a in 1e-3..1e3_f64, of_b in 1e-3..1e3_f64,
    ) {
        let (a, b): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let twice = 2.0 * of_a.max(of_b);
        let product = |acc: i128, factor: f64| {
            let (multiplier, shift) = fixed(factor, Arithmetic::TFLITE);
            divided(acc * multiplier, shift, Rounding::Tflite)
        };
        let exact = a.iter().zip(&b).map(|(a, b)| {
            let terms = product(i128::from(*a) << 15, of_a / twice) - product(i128::from(*b) << 15, of_b / twice);
            product(terms, twice / 32768.0).clamp(-32768, 32767)
        });
        for isa in Isa::available() {
            let (mut y, factors) = (vec![9_i16; a.len()], Factors::new(of_a, of_b).unwrap().subtracting());
            add_saturating(isa, &Serial, &a, &b, factors, Rounding::Tflite, &mut y).unwrap();
            prop_assert!(y.iter().map(|y| i128::from(*y)).eq(exact.clone()), "{isa:?}");
        }
    }
}

#[test]
fn tables_are_looked_up_at_both_ends() {
    let table: Vec<i16> = (0..=255).map(|i| 3 * i).collect();
    let mut y = [9; 3];
    lookup(&Serial, &[-128_i8, 127, 0], &table, &mut y).unwrap();
    assert_eq!(y, [0, 765, 384]);
    let table: Vec<i8> = (0..65_536).map(|i| (i >> 8) as i8).collect();
    let mut y = [9; 3];
    lookup(&Threads(2), &[-32768_i16, 32767, 0], &table, &mut y).unwrap();
    assert_eq!(y, [0, -1, -128]);
}
