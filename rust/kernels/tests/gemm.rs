//! Matrix products and convolutions of integers, on every instruction set and team, against i64 written to be read.

mod naive;

use std::sync::Arc;

use naive::Threads;
use nashquant_kernels::{
    Error, Isa, Layout,
    conv::{self, Depthwise, DepthwiseWeight, Geometry},
    integer::{Arithmetic, Integer, Output, Requantizer, requantize},
    matmul::{self, Exact32, Exact64, Finish, Linear, Requantized, Weight},
    parallel::{Serial, Team},
};
use proptest::prelude::*;

#[allow(clippy::too_many_arguments, reason = "all of a product")]
fn matmul<T: Integer, F: Finish>(
    team: &dyn Team,
    a: &[T],
    rows: usize,
    zero_point: i16,
    weight: &Arc<Weight>,
    bias: Option<&[i64]>,
    finish: &F,
    y: &mut [F::Y],
) -> Result<(), Error> {
    matmul::matmul(team, a, rows, &Linear::new(weight.clone(), zero_point, bias)?, finish, y)
}

#[allow(clippy::too_many_arguments, reason = "all of a convolution")]
fn conv<T: Integer, F: Finish>(
    team: &dyn Team,
    x: &[T],
    g: Geometry,
    zero_point: i16,
    weight: &Arc<Weight>,
    bias: Option<&[i64]>,
    finish: &F,
    y: &mut [F::Y],
) -> Result<(), Error> {
    conv::conv(team, x, g, &Linear::new(weight.clone(), zero_point, bias)?, finish, y)
}

#[allow(clippy::too_many_arguments, reason = "all of a convolution")]
fn conv_depthwise<T: Integer, F: Finish>(
    team: &dyn Team,
    x: &[T],
    g: Geometry,
    zero_point: i16,
    weight: &Arc<DepthwiseWeight>,
    bias: Option<&[i64]>,
    finish: &F,
    y: &mut [F::Y],
) -> Result<(), Error> {
    conv::conv_depthwise(team, x, g, &Depthwise::new(weight.clone(), zero_point, bias)?, finish, y)
}

const TEAMS: [&dyn Team; 3] = [&Serial, &Threads(2), &Threads(7)];

/// Numbers of the whole range, both ends among them; the same every time.
fn noise<T: Integer>(n: usize, seed: u32) -> Vec<T> {
    let (low, high) = (i64::from(T::ENDS.0), i64::from(T::ENDS.1));
    let random = |i: usize| {
        (i as u32).wrapping_add(seed).wrapping_mul(2_654_435_761).rotate_left(9).wrapping_mul(0x85eb_ca6b)
    };
    let value = |i: usize| match random(i) >> 28 {
        0 => high,
        1 => low,
        _ => low + i64::from(random(i + 1)) % (high - low + 1),
    };
    (0..n).map(|i| T::narrow(value(i) as i32)).collect()
}

fn naive_matmul<A: Integer, W: Integer>(
    a: &[A],
    w: &[W],
    depth: usize,
    zero_point: i16,
    bias: &[i64],
) -> Vec<i64> {
    let mut y = Vec::new();
    for row in a.chunks(depth) {
        for (w, bias) in w.chunks(depth).zip(bias) {
            let terms = row.iter().zip(w);
            let of = |a: A, w: W| (i64::from(a.widen()) - i64::from(zero_point)) * i64::from(w.widen());
            y.push(terms.map(|(a, w)| of(*a, *w)).sum::<i64>() + bias);
        }
    }
    y
}

/// What no sum exceeds, as the weight proves it.
fn reach<W: Integer>(w: &[W], depth: usize, ends: (i16, i16), zero_point: i16, bias: &[i64]) -> i64 {
    let largest = [ends.0, ends.1].map(|end| (i64::from(end) - i64::from(zero_point)).abs());
    let sums = w.chunks(depth).map(|w| w.iter().map(|w| i64::from(w.widen()).abs()).sum::<i64>());
    let furthest = bias.iter().map(|bias| bias.abs()).max().unwrap_or(0);
    sums.max().unwrap_or(0) * largest[0].max(largest[1]) + furthest
}

fn products<A: Integer, W: Integer>(m: usize, n: usize, depth: usize, zero_point: i16) {
    let (a, w): (Vec<A>, Vec<W>) = (noise(m * depth, 1), noise(n * depth, 2));
    let bias: Vec<i64> = (0..n as i64).map(|i| 1000 * i - 7).collect();
    let exact = naive_matmul(&a, &w, depth, zero_point, &bias);
    let factors: Vec<f64> = (0..n).map(|i| 1e-4 * (1.0 + i as f64) / (depth as f64)).collect();
    let by = Requantizer::new(&factors, Arithmetic::NASH, Output::all::<i16>()).unwrap();
    let to_bytes = Requantizer::new(&factors, Arithmetic::NASH, Output::all::<i8>()).unwrap();
    let (mut finished, mut bytes) = (vec![0_i16; m * n], vec![0_i8; m * n]);
    let layout = Layout { outer: m, channels: n, inner: 1 };
    let slow = Isa::available()[0];
    requantize(slow, &Serial, &exact, layout, &by, &mut finished).unwrap();
    requantize(slow, &Serial, &exact, layout, &to_bytes, &mut bytes).unwrap();
    for isa in Isa::available() {
        let weight = Arc::new(Weight::pack(isa, &w, 1, n, depth, A::ENDS.1 > 127).unwrap());
        for team in TEAMS {
            let mut y = vec![77; m * n];
            matmul(team, &a, m, zero_point, &weight, Some(&bias), &Exact64, &mut y).unwrap();
            assert!(y == exact, "{isa:?} {m} {n} {depth}");
            if i32::try_from(reach(&w, depth, A::ENDS, zero_point, &bias)).is_ok() {
                let mut y = vec![77; m * n];
                matmul(team, &a, m, zero_point, &weight, Some(&bias), &Exact32, &mut y).unwrap();
                assert!(y.iter().map(|y| i64::from(*y)).eq(exact.iter().copied()), "{isa:?} {m} {n} {depth}");
            }
            let mut y = vec![77; m * n];
            matmul(team, &a, m, zero_point, &weight, Some(&bias), &Requantized::new(&by), &mut y).unwrap();
            assert!(y == finished, "{isa:?} {m} {n} {depth}");
            let mut y = vec![77; m * n];
            matmul(team, &a, m, zero_point, &weight, Some(&bias), &Requantized::new(&to_bytes), &mut y)
                .unwrap();
            assert!(y == bytes, "to bytes {isa:?} {m} {n} {depth}");
        }
    }
}

fn all_types(m: usize, n: usize, depth: usize, zero_point: i16) {
    products::<i8, i8>(m, n, depth, zero_point);
    products::<i16, i8>(m, n, depth, zero_point);
    products::<i8, i16>(m, n, depth, zero_point);
    products::<i16, i16>(m, n, depth, zero_point);
}

#[test]
fn every_level_is_named() {
    println!(
        "instruction sets tested here: {:?}",
        Isa::available().iter().map(|isa| isa.name()).collect::<Vec<_>>()
    );
    assert_eq!(Isa::available().last(), Some(&Isa::best()));
}

#[test]
fn tiles_of_all_heights_and_widths_are_exact() {
    for m in 1..=26 {
        all_types(m, 1 + m * 3 % 50, 1 + m % 9, 0);
    }
    for n in 1..=66 {
        all_types(5, n, 6, -3);
    }
    all_types(300, 70, 33, 5);
    // AMX takes 32 rows at once, or 16 where no more are left.
    for m in [31, 32, 33, 48, 49, 97] {
        all_types(m, 33, 130, 5);
    }
}

/// Rows of whole lines of the cache are multiplied where they lie; behind the last ones nothing may be read.
#[test]
fn rows_on_and_off_lines_of_the_cache_are_exact() {
    const LINE: usize = 64;
    let (n, room, w) = (33, noise::<i8>(98 * 2 * LINE, 1), noise::<i8>(33 * 2 * LINE, 2));
    let on_line = room.as_ptr().align_offset(LINE);
    for depth in [LINE, 2 * LINE] {
        for (m, off) in [(5, 0), (16, 0), (31, 0), (32, 0), (32, 1), (48, 0), (97, 0), (97, 16)] {
            let (a, w) = (&room[on_line + off..][..m * depth], &w[..n * depth]);
            let exact = naive_matmul(a, w, depth, 3, &vec![0; n]);
            for isa in Isa::available() {
                let (weight, mut y) =
                    (Arc::new(Weight::pack(isa, w, 1, n, depth, false).unwrap()), vec![0; m * n]);
                matmul(&Serial, a, m, 3, &weight, None, &Exact64, &mut y).unwrap();
                assert_eq!(y, exact, "{isa:?}, {m} rows of {depth}, {off} off a line");
            }
        }
    }
}

#[test]
fn depths_around_every_piece_are_exact() {
    for depth in
        [1, 2, 3, 4, 5, 63, 64, 65, 509, 510, 511, 512, 1020, 1021, 32_767, 32_769, 65_535, 65_537, 100_000]
    {
        all_types(5, 18, depth, 0); // of fewer rows AMX leaves the bytes to VNNI
    }
}

#[test]
fn extremes_everywhere_do_not_wrap() {
    for depth in [512, 66_000, 131_073] {
        for isa in Isa::available() {
            // Of the last three, the lower bytes are 255 without a sign; with the upper ones at either end.
            let ends = [(i16::MIN, i16::MIN), (i16::MAX, i16::MIN), (i16::MIN, i16::MAX), (-32640, 127)];
            for (a, w) in ends.into_iter().chain([(-32513, -32513), (255, 255), (-1, 32767)]) {
                let weight = Arc::new(Weight::pack(isa, &vec![w; depth], 1, 1, depth, true).unwrap());
                let mut y = [0_i64];
                matmul(&Serial, &vec![a; depth], 1, 0, &weight, None, &Exact64, &mut y).unwrap();
                assert_eq!(y[0], depth as i64 * i64::from(a) * i64::from(w), "{isa:?}");
            }
            for a in [i16::MIN, i16::MAX, 255, -256] {
                let weight = Arc::new(Weight::pack(isa, &vec![i8::MIN; depth], 1, 1, depth, true).unwrap());
                let mut y = [0_i64];
                matmul(&Serial, &vec![a; depth], 1, 0, &weight, None, &Exact64, &mut y).unwrap();
                assert_eq!(y[0], depth as i64 * i64::from(a) * -128, "{isa:?}");
            }
            let weight = Arc::new(Weight::pack(isa, &vec![i8::MIN; depth], 1, 1, depth, false).unwrap());
            for rows in [1, 5] {
                let mut y = vec![0_i64; rows];
                matmul(&Serial, &vec![i8::MAX; rows * depth], rows, -128, &weight, None, &Exact64, &mut y)
                    .unwrap();
                assert_eq!(y, vec![depth as i64 * 255 * -128; rows], "{isa:?}");
            }
        }
    }
}

#[test]
fn nothing_times_nothing_is_the_bias() {
    let weight = Arc::new(Weight::pack::<i8>(Isa::best(), &[], 1, 2, 0, false).unwrap());
    let mut y = [9_i64; 6];
    matmul::<i8, _>(&Serial, &[], 3, 0, &weight, Some(&[5, -5]), &Exact64, &mut y).unwrap();
    assert_eq!(y, [5, -5, 5, -5, 5, -5]);
    matmul::<i8, _>(&Serial, &[], 0, 0, &weight, None, &Exact64, &mut []).unwrap();
}

#[test]
fn what_does_not_fit_is_refused() {
    let weight = Arc::new(Weight::pack(Isa::best(), &[1_i8; 6], 1, 2, 3, false).unwrap());
    let run = |a: &[i8], bias: Option<&[i64]>, y: &mut [i64]| {
        matmul(&Serial, a, 1, 0, &weight, bias, &Exact64, y).unwrap_err().to_string()
    };
    assert_eq!(run(&[0; 4], None, &mut [0; 2]), "a has 4 elements, but 3 are needed");
    assert_eq!(run(&[0; 3], None, &mut [0; 3]), "y has 3 elements, but 2 are needed");
    assert_eq!(run(&[0; 3], Some(&[1]), &mut [0; 2]), "bias has 1 elements, but 2 are needed");
    let by = Requantizer::new(&[1.0; 3], Arithmetic::NASH, Output::all::<i8>()).unwrap();
    let error = matmul(&Serial, &[0_i8; 3], 1, 0, &weight, None, &Requantized::<i8>::new(&by), &mut [0; 2]);
    assert_eq!(error.unwrap_err().to_string(), "factor has 3 elements, but 2 are needed");
    let groups = Arc::new(Weight::pack(Isa::best(), &[1_i8; 6], 2, 1, 3, false).unwrap());
    let error =
        matmul(&Serial, &[0_i8; 3], 1, 0, &groups, None, &Exact64, &mut [0; 2]).unwrap_err().to_string();
    assert_eq!(error, "the weight has 2 groups, but of a matrix product must have one");
}

const ONE: Geometry = Geometry {
    batch: 1,
    size: [1, 1, 1],
    channels: 1,
    kernel: [1; 3],
    stride: [1; 3],
    before: [0; 3],
    dilation: [1; 3],
    output: [1; 3],
};

/// What each product says of one activation, a weight `w` packed for as many bits, and what else is given.
fn refusals<A: Integer, W: Integer, F: Finish>(
    a: A,
    w: &[W],
    zero_point: i16,
    bias: i64,
    finish: &F,
    y: F::Y,
) -> Vec<Option<String>> {
    let (bias, said) = (Some(&[bias][..]), |result: Result<(), Error>| result.err().map(|e| e.to_string()));
    let (a, depth) = (vec![a; w.len()], w.len());
    let g = Geometry { size: [1, 1, depth], kernel: [1, 1, depth], ..ONE };
    let each = |isa| {
        let weight = Arc::new(Weight::pack(isa, w, 1, 1, depth, A::ENDS.1 > 127).unwrap());
        let depthwise = Arc::new(DepthwiseWeight::new(isa, w, 1).unwrap());
        [
            said(matmul(&Serial, &a, 1, zero_point, &weight, bias, finish, &mut [y])),
            said(conv(&Serial, &a, g, zero_point, &weight, bias, finish, &mut [y])),
            said(conv_depthwise(&Serial, &a, g, zero_point, &depthwise, bias, finish, &mut [y])),
        ]
    };
    Isa::available().into_iter().flat_map(each).collect()
}

fn all_say(said: &[Option<String>], expected: Option<&str>) {
    assert!(said.iter().all(|said| said.as_deref() == expected), "{said:?}, but expected {expected:?}");
}

#[test]
fn activations_wider_than_the_weight_was_packed_for_are_refused() {
    for isa in Isa::available() {
        let weight = Arc::new(Weight::pack(isa, &[3_i8], 1, 1, 1, false).unwrap());
        let product = matmul(&Serial, &[1000_i16], 1, 0, &weight, None, &Exact64, &mut [0]);
        let convolution = conv(&Serial, &[1000_i16], ONE, 0, &weight, None, &Exact64, &mut [0]);
        assert_eq!([product, convolution], [Err(Error::Narrow), Err(Error::Narrow)], "{isa:?}");
    }
}

#[test]
fn sums_that_i32_may_not_hold_are_refused() {
    // 128 * 16_777_215 = 2^31 - 128, by a weight of 127 and a bias of 1 less than 128.
    let w = [&[127_i8; 132_104][..], &[7]].concat();
    all_say(&refusals(-128_i8, &w, 0, 127, &Exact32, 0), None);
    let error = "sums may reach 2147483648, but to be written as int32 must stay below 2**31";
    all_say(&refusals(-128_i8, &w, 0, 128, &Exact32, 0), Some(error));
    all_say(&refusals(-128_i8, &w, 0, 128, &Exact64, 0), None);
}

#[test]
fn a_bias_with_which_i64_may_wrap_is_refused() {
    for bias in [1 << 62, -(1 << 62)] {
        all_say(&refusals(-128_i8, &[127_i8], 127, bias, &Exact64, 0), None);
    }
    for (bias, spelled) in [
        ((1 << 62) + 1, "4611686018427387905"),
        (-(1 << 62) - 1, "-4611686018427387905"),
        (i64::MIN, "-9223372036854775808"),
    ] {
        let error = format!("a bias is {spelled}, but must lie between -2**62 and 2**62");
        all_say(&refusals(-128_i8, &[127_i8], 127, bias, &Exact64, 0), Some(&error));
    }
}

#[test]
fn ends_that_the_output_does_not_have_are_refused() {
    let run = |zero_point, qmin, qmax| {
        let by = Requantizer::new(&[1.0], Arithmetic::NASH, Output { zero_point, qmin, qmax }).unwrap();
        let said = refusals(1_i8, &[1_i8], 0, 0, &Requantized::<i8>::new(&by), 0);
        let layout = Layout { outer: 1, channels: 1, inner: 1 };
        let requantized = requantize::<i32, i8>(Isa::best(), &Serial, &[1], layout, &by, &mut [0]);
        [&said[..], &[requantized.err().map(|e| e.to_string())]].concat()
    };
    all_say(&run(-128, -128, 127), None);
    all_say(&run(0, 5, 5), None);
    let error = |qmin, qmax| {
        format!("qmin is {qmin} and qmax {qmax}, but must be in order and lie between -128 and 127")
    };
    for (qmin, qmax) in [(-129, 127), (-128, 128), (1, 0), (-32768, 32767)] {
        all_say(&run(0, qmin, qmax), Some(&error(qmin, qmax)));
    }
    let error = "zero_point is 128, but must lie between qmin -128 and qmax 127";
    all_say(&run(128, 0, 127), Some(error));
}

#[test]
fn a_zero_point_that_is_no_activation_is_refused() {
    for zero_point in [-129, 128] {
        let error = format!("zero_point is {zero_point}, but must lie between qmin -128 and qmax 127");
        all_say(&refusals(1_i8, &[1_i8], zero_point, 0, &Exact64, 0), Some(&error));
        all_say(&refusals(1_i16, &[1_i8], zero_point, 0, &Exact64, 0), None);
    }
}

/// Any place of `x`, or the zero point.
fn naive_conv<X: Integer, W: Integer>(
    x: &[X],
    g: Geometry,
    zero_point: i16,
    w: &[W],
    groups: usize,
    outputs: usize,
) -> Vec<i64> {
    let (part, mut y) = (g.channels / groups, Vec::new());
    let taps: usize = g.kernel.iter().product();
    for window in 0..g.batch * g.output.iter().product::<usize>() {
        let [_, height, width] = g.output;
        let place = [window / width / height % g.output[0], window / width % height, window % width];
        let image = window / g.output.iter().product::<usize>();
        for output in 0..groups * outputs {
            let mut sum = 0;
            for tap in 0..taps {
                let of_tap =
                    [tap / g.kernel[2] / g.kernel[1], tap / g.kernel[2] % g.kernel[1], tap % g.kernel[2]];
                let at: Vec<i64> = (0..3)
                    .map(|i| (place[i] * g.stride[i] + of_tap[i] * g.dilation[i]) as i64 - g.before[i] as i64)
                    .collect();
                if (0..3).any(|i| at[i] < 0 || at[i] >= g.size[i] as i64) {
                    continue;
                }
                let first = ((image as i64 * g.size[0] as i64 + at[0]) * g.size[1] as i64 + at[1])
                    * g.size[2] as i64
                    + at[2];
                for c in 0..part {
                    let x = x[first as usize * g.channels + output / outputs * part + c].widen();
                    let w = w[(output * taps + tap) * part + c].widen();
                    sum += (i64::from(x) - i64::from(zero_point)) * i64::from(w);
                }
            }
            y.push(sum);
        }
    }
    y
}

fn convolutions<X: Integer, W: Integer>(g: Geometry, groups: usize, outputs: usize, zero_point: i16) {
    let taps: usize = g.kernel.iter().product();
    let part = g.channels / groups;
    let x: Vec<X> = noise(g.batch * g.size.iter().product::<usize>() * g.channels, 3);
    let w: Vec<W> = noise(groups * outputs * taps * part, 4);
    let exact = naive_conv(&x, g, zero_point, &w, groups, outputs);
    for isa in Isa::available() {
        for team in TEAMS {
            let mut y = vec![77; exact.len()];
            let weight =
                Arc::new(Weight::pack(isa, &w, groups, outputs, taps * part, X::ENDS.1 > 127).unwrap());
            conv(team, &x, g, zero_point, &weight, None, &Exact64, &mut y).unwrap();
            assert!(y == exact, "{isa:?} {g:?}");
            if part == 1 && outputs == 1 {
                let weight = Arc::new(DepthwiseWeight::new(isa, &w, groups).unwrap());
                let mut y = vec![77; exact.len()];
                conv_depthwise(team, &x, g, zero_point, &weight, None, &Exact64, &mut y).unwrap();
                assert!(y == exact, "depthwise {isa:?} {g:?}");
            }
        }
    }
}

const SQUARE: Geometry = Geometry {
    batch: 2,
    size: [1, 7, 6],
    channels: 6,
    kernel: [1, 3, 3],
    stride: [1, 1, 1],
    before: [0, 1, 1],
    dilation: [1, 1, 1],
    output: [1, 7, 6],
};

#[test]
fn windows_of_every_kind_are_exact() {
    let strided = Geometry { stride: [1, 2, 3], output: [1, 4, 2], ..SQUARE };
    let dilated = Geometry { dilation: [1, 2, 2], before: [0, 2, 2], ..SQUARE };
    let outside = Geometry { before: [0, 9, 5], output: [1, 20, 14], ..SQUARE };
    let behind = Geometry { before: [0, -2, -5], output: [1, 6, 3], ..SQUARE };
    let solid =
        Geometry { size: [4, 7, 6], kernel: [2, 3, 3], before: [1, 1, 1], output: [5, 7, 6], ..SQUARE };
    for g in [SQUARE, strided, dilated, outside, behind, solid] {
        for (groups, outputs) in [(1, 5), (2, 3), (6, 1), (6, 2), (3, 17)] {
            for zero_point in [0, -5] {
                convolutions::<i8, i8>(g, groups, outputs, zero_point);
                convolutions::<i16, i8>(g, groups, outputs, zero_point);
                convolutions::<i8, i16>(g, groups, outputs, zero_point);
                convolutions::<i16, i16>(g, groups, outputs, zero_point);
            }
        }
    }
}

#[test]
fn any_number_of_channels_is_convolved_one_by_one() {
    for channels in [1, 15, 16, 17, 63, 64, 65, 81, 150] {
        let g = Geometry { size: [1, 5, 4], output: [1, 5, 4], channels, ..SQUARE };
        convolutions::<i8, i8>(g, channels, 1, 0);
        convolutions::<i16, i8>(g, channels, 1, 7);
    }
}

#[test]
fn pairs_of_products_that_leave_i16_do_not_wrap() {
    // Two taps: 128 * (128 + 127) fits into i16, 128 * (128 + 128) does not.
    let g = Geometry {
        batch: 1,
        size: [1, 1, 2],
        channels: 17,
        kernel: [1, 1, 2],
        before: [0; 3],
        output: [1; 3],
        ..SQUARE
    };
    for (second, sum) in [(-127, 32_640), (-128, 32_768)] {
        let w: Vec<i8> = [-128, second].repeat(17);
        for isa in Isa::available() {
            let weight = Arc::new(DepthwiseWeight::new(isa, &w, 17).unwrap());
            let mut y = [0_i64; 17];
            conv_depthwise(&Serial, &[-128_i8; 34], g, 0, &weight, None, &Exact64, &mut y).unwrap();
            assert_eq!(y, [sum; 17], "{isa:?}");
        }
    }
}

#[test]
fn many_blocks_of_windows_are_shared_by_threads() {
    let g = Geometry { size: [1, 60, 61], channels: 40, output: [1, 60, 61], ..SQUARE };
    convolutions::<i8, i8>(g, 1, 9, 3);
    convolutions::<i8, i8>(g, 40, 1, 3);
}

#[test]
fn windows_that_are_none_are_refused() {
    let weight = Arc::new(Weight::pack(Isa::best(), &[1_i8; 54], 1, 1, 54, false).unwrap());
    let run = |g: Geometry, x: usize| {
        conv(&Serial, &vec![0_i8; x], g, 0, &weight, None, &Exact64, &mut [0; 84]).unwrap_err().to_string()
    };
    let none = "there is no window: a stride or dilation is 0, or x is too small";
    assert_eq!(run(Geometry { stride: [1, 0, 1], ..SQUARE }, 504), none);
    assert_eq!(run(Geometry { output: [1, 0, 6], ..SQUARE }, 504), none);
    assert_eq!(run(SQUARE, 503), "x has 503 elements, but 504 are needed");
    assert_eq!(
        run(Geometry { kernel: [1, 1, 3], ..SQUARE }, 504),
        "weight has 54 elements, but 18 are needed"
    );
}

proptest! {
    #[test]
    fn any_product_is_exact(m in 0..40_usize, n in 0..40_usize, depth in 1..80_usize, zero_point in -128..128_i16) {
        products::<i8, i8>(m, n, depth, zero_point);
        products::<i16, i8>(m, n, depth, zero_point);
        products::<i16, i16>(m, n, depth, zero_point);
    }
}
