//! Minimum, maximum and the search for the least squared error.

mod naive;

use naive::Threads;
use nashquant_kernels::{
    Bf16, Element, Error, Isa, Layout,
    fake_quantize::Grid,
    observe::{min_max_per_channel, min_max_per_tensor, mse_search_per_channel, mse_search_per_tensor},
    parallel::{Serial, Team},
};
use proptest::prelude::*;

const TEAMS: [&dyn Team; 3] = [&Serial, &Threads(2), &Threads(7)];
const LAYOUTS: [(usize, usize, usize); 12] = [
    (1, 1, 1),
    (1, 5, 1),
    (7, 3, 1),
    (300, 3, 1),
    (5, 700, 1),
    (2, 64, 9),
    (9, 6, 31),
    (1, 4, 9),
    (3, 5, 32),
    (2, 3, 513),
    (1, 2, 70_000),
    (40_000, 2, 1),
];

fn naive_min_max(x: impl Iterator<Item = f32> + Clone) -> (f32, f32) {
    if x.clone().any(f32::is_nan) {
        return (f32::NAN, f32::NAN);
    }
    (x.clone().fold(f32::INFINITY, f32::min) + 0.0, x.fold(f32::NEG_INFINITY, f32::max) + 0.0)
}

fn of_channel(x: &[f32], layout: Layout, c: usize) -> impl Iterator<Item = f32> + Clone {
    let elements = x.iter().enumerate().filter(move |(i, _)| i / layout.inner % layout.channels == c);
    elements.map(|(_, x)| *x)
}

fn same(a: (f32, f32), b: (f32, f32)) -> bool {
    (a.0.to_bits(), a.1.to_bits()) == (b.0.to_bits(), b.1.to_bits()) || a.0.is_nan() && b.0.is_nan()
}

#[test]
fn one_nan_anywhere_is_seen_and_zero_is_positive() {
    for isa in Isa::available() {
        for n in 1..=200 {
            let mut x = vec![-0.0; n];
            assert!(same(min_max_per_tensor(isa, &Serial, &x).unwrap(), (0.0, 0.0)), "{isa:?} {n}");
            x[n - 1] = f32::NAN;
            let (low, high) = min_max_per_tensor(isa, &Serial, &x).unwrap();
            assert!(low.is_nan() && high.is_nan(), "{isa:?} {n}");
            x[n - 1] = f32::INFINITY;
            assert_eq!(min_max_per_tensor(isa, &Serial, &x).unwrap().1, f32::INFINITY, "{isa:?} {n}");
        }
    }
}

/// Rows are read four at a time, and asked two at a time: in streams, and as columns of channels.
#[test]
fn one_nan_is_seen_in_every_row() {
    const N: usize = 2100;
    let layout = Layout { outer: N, channels: 1, inner: 1 };
    let mut x = vec![1.0; N];
    for isa in Isa::available() {
        for at in 0..N {
            x[at] = f32::NAN;
            assert!(min_max_per_tensor(isa, &Serial, &x).unwrap().0.is_nan(), "{isa:?} {at}");
            let (mut low, mut high) = ([0.0], [0.0]);
            min_max_per_channel(isa, &Serial, &x, layout, &mut low, &mut high).unwrap();
            assert!(low[0].is_nan() && high[0].is_nan(), "{isa:?} {at}");
            x[at] = 1.0;
        }
    }
}

#[test]
fn min_max_equals_the_naive_twin_in_every_layout() {
    for (outer, channels, inner) in LAYOUTS {
        let layout = Layout { outer, channels, inner };
        let finite = naive::finite(outer * channels * inner, 30.0);
        let last = finite.len() - 1;
        // At the end it is in what is left over, else in the rows that are read side by side.
        for nan in [None, Some(0), Some(last / 2), Some(last)] {
            let mut x = finite.clone();
            if let Some(at) = nan {
                x[at] = f32::NAN;
            }
            for isa in Isa::available() {
                for team in TEAMS {
                    let all = min_max_per_tensor(isa, team, &x).unwrap();
                    assert!(same(all, naive_min_max(x.iter().copied())), "{isa:?} {layout:?}");
                    let (mut low, mut high) = (vec![0.5; channels], vec![0.5; channels]);
                    min_max_per_channel(isa, team, &x, layout, &mut low, &mut high).unwrap();
                    let with_nan = nan.map_or(0, |at| at / inner % channels);
                    for c in [0, channels / 2, channels - 1, with_nan] {
                        let expected = naive_min_max(of_channel(&x, layout, c));
                        assert!(same((low[c], high[c]), expected), "{isa:?} {layout:?} {c} {nan:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn f64_is_rounded_to_f32_and_halves_are_exact() {
    for isa in Isa::available() {
        assert_eq!(min_max_per_tensor(isa, &Serial, &[0.1, -0.7_f64]).unwrap(), (-0.7_f32, 0.1_f32));
        let halves = [Bf16::narrow(3.0), Bf16::narrow(-2.5)];
        assert_eq!(min_max_per_tensor(isa, &Serial, &halves).unwrap(), (-2.5, 3.0));
    }
}

/// Exhaustive, in the order of summation that the contract fixes: blocks of 512, in each 16 lanes folded in halves.
fn naive_search(x: &[f32], qmin: i32, qmax: i32, stride: usize) -> f32 {
    let max_abs = x.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
    let mut best = (f64::INFINITY, max_abs);
    let mut candidates: Vec<_> = (1..=100).step_by(stride).collect();
    if candidates.last() != Some(&100) {
        candidates.push(100);
    }
    for i in candidates {
        let threshold = max_abs * i as f32 / 100.0;
        let scale = (threshold / ((qmax - qmin) as f32 / 2.0)).max(2.0_f32.powi(-23));
        let grid = Grid { scale, zero_point: 0, qmin, qmax };
        let mut error = 0.0;
        for block in x.chunks(512) {
            let mut lanes = [0.0_f64; 16];
            for (i, x) in block.iter().enumerate() {
                let difference = naive::fake_quantize(*x, grid).0 - x;
                lanes[i % 16] += f64::from(difference * difference);
            }
            for half in [8, 4, 2, 1] {
                for i in 0..half {
                    lanes[i] += lanes[i + half];
                }
            }
            error += lanes[0];
        }
        if error <= best.0 {
            best = (error, threshold);
        }
    }
    best.1
}

#[test]
fn zeros_and_other_ties_take_the_larger_candidate() {
    for isa in Isa::available() {
        assert_eq!(mse_search_per_tensor(isa, &Serial, &[0.0; 20], -128, 127, 1), Ok(0.0));
        // Every scale is floored at 2⁻²³, so every candidate has the same error.
        assert_eq!(mse_search_per_tensor(isa, &Serial, &[1e-9, -3e-9], -128, 127, 1), Ok(3e-9));
    }
}

#[test]
fn what_cannot_be_searched_answers_with_its_magnitude() {
    for isa in Isa::available() {
        assert!(mse_search_per_tensor(isa, &Serial, &[1.0, f32::NAN], -128, 127, 1).unwrap().is_nan());
        assert_eq!(
            mse_search_per_tensor(isa, &Serial, &[1.0, f32::NEG_INFINITY], -8, 7, 1),
            Ok(f32::INFINITY)
        );
        assert_eq!(mse_search_per_tensor(isa, &Serial, &[f32::MAX], -8, 7, 1), Ok(f32::MAX));
        assert_eq!(mse_search_per_tensor(isa, &Serial, &[1e30, 1.0], -8, 7, 1), Ok(1e30));
    }
}

#[test]
fn the_search_equals_an_exhaustive_one() {
    for (n, power) in [(1, 1), (15, 3), (511, 1), (513, 3), (4096, 1), (9000, 5), (33_000, 3)] {
        let x: Vec<f32> =
            naive::finite(n, 1.0).into_iter().map(|x| (x.clamp(-1.0, 1.0)).powi(power)).collect();
        for (qmin, qmax, stride) in [(-8, 7, 1), (-128, 127, 1), (-128, 127, 7), (-32768, 32767, 3)] {
            let expected = naive_search(&x, qmin, qmax, stride);
            for isa in Isa::available() {
                for team in TEAMS {
                    let found = mse_search_per_tensor(isa, team, &x, qmin, qmax, stride).unwrap();
                    assert_eq!(found.to_bits(), expected.to_bits(), "{isa:?} {n} {power} {qmin} {stride}");
                }
            }
        }
    }
}

#[test]
fn no_shape_of_data_misleads_the_search() {
    let spread =
        |n: usize, power: i32| naive::finite(n, 1.0).into_iter().map(move |x| x.clamp(-1.0, 1.0).powi(power));
    let on_borders = (0..3000).map(|i| (i % 255) as f32 - 127.5);
    let outlier = spread(5000, 1).chain([40.0]);
    let tiny = spread(2000, 1).map(|x| x * 1e-28);
    let huge = spread(2000, 1).map(|x| x * 1e29);
    let one_sided = spread(4000, 3).map(f32::abs);
    let many: [Vec<f32>; 7] = [
        on_borders.collect(),
        outlier.collect(),
        tiny.collect(),
        huge.collect(),
        one_sided.collect(),
        spread(6000, 9).collect(),
        vec![0.7; 1000],
    ];
    for (which, x) in many.iter().enumerate() {
        for (qmin, qmax) in [(-128, 127), (0, 255), (-255, 0), (-3, 100), (2, 9), (-1, 0), (-1024, 1023)] {
            let expected = naive_search(x, qmin, qmax, 1);
            for isa in Isa::available() {
                let found = mse_search_per_tensor(isa, &Serial, x, qmin, qmax, 1).unwrap();
                assert_eq!(found.to_bits(), expected.to_bits(), "{isa:?} {which} {qmin} {qmax}");
            }
        }
    }
}

/// Two candidates that are the same but for what f32 rounds: the bound must leave room for that.
#[test]
fn near_ties_are_decided_as_by_an_exhaustive_search() {
    const COPIES: usize = 300;
    for i in 30..90 {
        // Behind this value the error of candidate i + 1 is less, on the grid of -1, 0 and 1 times the threshold.
        let (near, far) = (f64::from(i) / 100.0, f64::from(i + 1) / 100.0);
        let last = ((1.0 - far).powi(2) - (1.0 - near).powi(2)) / (COPIES as f64 * (far - near));
        let mut x = vec![((near + far + last) / 2.0) as f32 - 8e-7; COPIES];
        x.push(1.0);
        for _ in 0..16 {
            let found = mse_search_per_tensor(Isa::best(), &Serial, &x, -1, 1, 1).unwrap();
            assert_eq!(found, naive_search(&x, -1, 1, 1), "{i} {}", x[0]);
            let next = x[0] + 1e-7;
            x[..COPIES].fill(next);
        }
    }
}

#[test]
fn each_channel_is_searched_as_if_alone() {
    for (outer, channels, inner) in [(1, 1, 1), (3, 2, 700), (1, 4, 5000), (2000, 3, 1), (40, 3, 9)] {
        let layout = Layout { outer, channels, inner };
        let x = naive::finite(outer * channels * inner, 1.0);
        for isa in Isa::available() {
            for team in TEAMS {
                let mut threshold = vec![0.0; channels];
                mse_search_per_channel(isa, team, &x, layout, -128, 127, 1, &mut threshold).unwrap();
                for (c, threshold) in threshold.iter().enumerate() {
                    let alone: Vec<_> = of_channel(&x, layout, c).collect();
                    assert_eq!(*threshold, naive_search(&alone, -128, 127, 1), "{isa:?} {layout:?} {c}");
                }
            }
        }
    }
}

#[test]
fn what_is_wrong_is_said() {
    let isa = Isa::best();
    assert_eq!(min_max_per_tensor::<f32>(isa, &Serial, &[]), Err(Error::Empty));
    assert_eq!(Error::Empty.to_string(), "x has no elements, so no minimum, maximum or scale");
    assert_eq!(
        mse_search_per_tensor(isa, &Serial, &[1.0], 7, -8, 1),
        Err(Error::EmptyRange { qmin: 7, qmax: -8 })
    );
    assert_eq!(mse_search_per_tensor(isa, &Serial, &[1.0], -8, 7, 0), Err(Error::Stride));
    assert_eq!(Error::Stride.to_string(), "stride is 0, but must be at least 1");
    let layout = Layout { outer: 1, channels: 2, inner: 1 };
    let error =
        min_max_per_channel(isa, &Serial, &[1.0, 2.0], layout, &mut [0.0], &mut [0.0; 2]).unwrap_err();
    assert_eq!(error.to_string(), "low has 1 elements, but 2 are needed");
    let none = Layout { outer: 0, channels: 2, inner: 1 };
    let error =
        min_max_per_channel::<f32>(isa, &Serial, &[], none, &mut [0.0; 2], &mut [0.0; 2]).unwrap_err();
    assert_eq!(error, Error::Empty);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_search_equals_an_exhaustive_one_on_anything(
        x in prop::collection::vec(-1e3_f32..1e3, 1..1300), stride in 1_usize..20,
    ) {
        let found = mse_search_per_tensor(Isa::best(), &Serial, &x, -128, 127, stride).unwrap();
        prop_assert_eq!(found, naive_search(&x, -128, 127, stride));
    }
}
