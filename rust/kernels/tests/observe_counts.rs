//! Histograms and percentiles of magnitudes.

mod naive;

use naive::Threads;
use nashquant_kernels::{
    Bf16, Element, Error, Isa, Layout,
    observe::{histogram_per_channel, histogram_per_tensor, percentile_per_tensor},
    parallel::{Serial, Team},
};
use proptest::prelude::*;

const TEAMS: [&dyn Team; 3] = [&Serial, &Threads(2), &Threads(7)];

fn naive_histogram(x: impl Iterator<Item = f32>, limit: f64, bins: usize) -> Vec<i64> {
    let mut counts = vec![0; bins];
    let per_unit = if limit > 0.0 { bins as f64 / limit } else { 0.0 };
    for position in x.map(|x| f64::from(x.abs()) * per_unit).filter(|position| !position.is_nan()) {
        counts[(position as usize).min(bins - 1)] += 1;
    }
    counts
}

fn naive_percentile(x: &[f32], percentile: f64) -> f32 {
    let mut sorted: Vec<_> = x.iter().map(|x| x.abs()).collect();
    sorted.sort_by(f32::total_cmp);
    if sorted[x.len() - 1].is_nan() {
        return f32::NAN;
    }
    let rank = (x.len() as f64 * (percentile / 100.0) * (1.0 - 1e-12)).ceil() as usize;
    sorted[rank.max(1) - 1]
}

#[test]
fn a_value_on_an_edge_is_in_the_bin_above_and_nan_in_none() {
    let x = [0.0, -0.0, 0.99, 1.0, -2.0, 3.999, 4.0, 1e9, f32::NEG_INFINITY, f32::NAN, 1e-45];
    for isa in Isa::available() {
        let mut counts = [7; 4];
        histogram_per_tensor(isa, &Serial, &x, 4.0, &mut counts).unwrap();
        assert_eq!(counts, [4, 1, 1, 4], "{isa:?}");
        histogram_per_tensor(isa, &Serial, &x, 0.0, &mut counts).unwrap();
        assert_eq!(counts, [9, 0, 0, 0], "{isa:?}");
        histogram_per_tensor::<f32>(isa, &Serial, &[], 1.0, &mut counts).unwrap();
        assert_eq!(counts, [0; 4], "{isa:?}");
        histogram_per_tensor(isa, &Serial, &[Bf16::narrow(3.0), Bf16::narrow(-0.5)], 4.0, &mut counts)
            .unwrap();
        assert_eq!(counts, [1, 0, 0, 1], "{isa:?}");
    }
}

/// f32 alone sees some of these on the other side; at 0.9 and 1.7 also with a margin of 1.5 · 2⁻²⁴ instead of 3 · 2⁻²⁴.
/// Each fills a block of 64, or a neighbour would send the block to f64.
#[test]
fn neighbours_of_edges_are_counted_on_their_own_side() {
    const LIMITS: [(f64, usize); 9] = [
        (3.0, 2048),
        (0.9, 2048),
        (1.7, 2048),
        (0.7, 129),
        (1e-3, 8192),
        (41.3, 8193),
        (1e-36, 7),
        (1e36, 2048),
        (1e-40, 129),
    ];
    for (limit, bins) in LIMITS {
        let edges = (0..=bins).map(|bin| (bin as f64 * limit / bins as f64) as f32);
        let x: Vec<_> = edges.flat_map(|edge| [edge.next_down(), edge, -edge.next_up()]).collect();
        let x: Vec<_> = x.into_iter().flat_map(|x| [x; 64]).collect();
        let expected = naive_histogram(x.iter().copied(), limit, bins);
        for isa in Isa::available() {
            let mut counts = vec![7; bins];
            histogram_per_tensor(isa, &Serial, &x, limit, &mut counts).unwrap();
            assert_eq!(counts, expected, "{isa:?} {limit} {bins}");
        }
    }
}

#[test]
fn more_equal_values_than_a_small_counter_holds_are_all_counted() {
    const N: usize = 8 * 65_536 + 1;
    let layout = Layout { outer: 1, channels: 8, inner: N };
    let mut x = vec![0.7; 8 * N];
    x[5] = f32::NAN;
    for isa in Isa::available() {
        for bins in [3, 8192] {
            let mut counts = vec![7; 8 * bins];
            histogram_per_channel(isa, &Threads(2), &x, layout, &[1.0; 8], bins, &mut counts).unwrap();
            for (channel, counts) in counts.chunks(bins).enumerate() {
                let expected = if channel == 0 { N - 1 } else { N } as i64;
                assert_eq!(counts[bins * 7 / 10], expected, "{isa:?} {bins} {channel}");
                assert_eq!(counts.iter().sum::<i64>(), expected, "{isa:?} {bins} {channel}");
            }
        }
    }
}

#[test]
fn histograms_equal_the_naive_twin_in_every_layout() {
    for (outer, channels, inner) in
        [(1, 1, 1), (1, 2, 70_000), (3, 5, 33), (40_000, 2, 1), (2, 9, 300), (1, 8, 5000), (0, 3, 1)]
    {
        let layout = Layout { outer, channels, inner };
        let x = naive::awkward(outer * channels * inner, 30.0);
        let limit: Vec<_> = (0..channels).map(|c| 3.0 * c as f64 + 0.1).collect();
        for bins in [1, 2, 129, 2048] {
            let of = |c: usize| {
                let mine = x.iter().enumerate().filter(move |(i, _)| i / inner % channels == c);
                mine.map(|(_, x)| *x)
            };
            let expected: Vec<_> =
                (0..channels).flat_map(|c| naive_histogram(of(c), limit[c], bins)).collect();
            for isa in Isa::available() {
                for team in TEAMS {
                    let mut counts = vec![7; channels * bins];
                    histogram_per_channel(isa, team, &x, layout, &limit, bins, &mut counts).unwrap();
                    assert_eq!(counts, expected, "{isa:?} {layout:?} {bins}");
                }
            }
        }
    }
}

#[test]
fn the_percentile_is_one_of_the_values() {
    for isa in Isa::available() {
        let x: Vec<f32> = (1..=1000).map(|i| if i % 2 == 0 { i as f32 } else { -i as f32 }).collect();
        for (percentile, expected) in [(0.0, 1.0), (0.1, 1.0), (50.0, 500.0), (99.9, 999.0), (100.0, 1000.0)]
        {
            assert_eq!(percentile_per_tensor(isa, &Serial, &x, percentile), Ok(expected), "{isa:?}");
        }
        assert_eq!(percentile_per_tensor(isa, &Serial, &[-0.0_f32], 50.0).map(f32::to_bits), Ok(0));
        assert_eq!(percentile_per_tensor(isa, &Serial, &[0.1_f64, -3.0], 10.0), Ok(0.1_f32));
    }
}

#[test]
fn percentiles_equal_the_naive_twin() {
    for n in [1, 31, 33, 500, 4097, 40_000, 300_000] {
        let mut x = naive::awkward(n, 3.0);
        for nan in [true, false] {
            if !nan {
                x.iter_mut().filter(|x| x.is_nan()).for_each(|x| *x = -7.0);
            }
            for percentile in [0.0, 1.0, 50.0, 90.0, 99.0, 99.9, 99.99, 100.0] {
                let expected = naive_percentile(&x, percentile);
                for isa in Isa::available() {
                    for team in TEAMS {
                        let found = percentile_per_tensor(isa, team, &x, percentile).unwrap();
                        let same =
                            found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan();
                        assert!(same, "{isa:?} {n} {percentile}: {found} {expected}");
                    }
                }
            }
        }
        let equal = vec![-2.5; n];
        assert_eq!(percentile_per_tensor(Isa::best(), &Serial, &equal, 99.99), Ok(2.5));
        let ascending: Vec<_> = (0..n).map(|i| i as f32).collect();
        for percentile in [99.0, 99.99] {
            let found = percentile_per_tensor(Isa::best(), &Serial, &ascending, percentile);
            assert_eq!(found, Ok(naive_percentile(&ascending, percentile)));
        }
    }
}

#[test]
fn what_is_wrong_is_said() {
    let isa = Isa::best();
    let histogram = |limit: f64, bins: usize| {
        let error = histogram_per_tensor(isa, &Serial, &[1.0_f32], limit, &mut vec![0; bins]).unwrap_err();
        error.to_string()
    };
    assert_eq!(histogram(1.0, 0), "bins must be at least 1");
    assert_eq!(histogram(-1.0, 3), "limit is -1.0, but must be finite and not negative");
    assert_eq!(histogram(f64::NAN, 3), "limit is NaN, but must be finite and not negative");
    let layout = Layout { outer: 1, channels: 2, inner: 1 };
    let of = |limit: &[f64], counts: &mut [i64]| {
        histogram_per_channel(isa, &Serial, &[1.0_f32, 2.0], layout, limit, 2, counts)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        of(&[1.0, f64::INFINITY], &mut [0; 4]),
        "limit[1] is inf, but must be finite and not negative"
    );
    assert_eq!(of(&[1.0], &mut [0; 4]), "limit has 1 elements, but 2 are needed");
    assert_eq!(of(&[1.0, 1.0], &mut [0; 3]), "counts has 3 elements, but 4 are needed");
    assert_eq!(percentile_per_tensor::<f32>(isa, &Serial, &[], 1.0), Err(Error::Empty));
    let error = percentile_per_tensor(isa, &Serial, &[1.0_f32], 100.5).unwrap_err();
    assert_eq!(error.to_string(), "percentile is 100.5, but must be from 0 to 100");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn both_equal_their_twins_on_anything(
        x in prop::collection::vec(any::<f32>(), 1..700), limit in 0.0_f64..1e30, bins in 1_usize..70,
        percentile in 0.0_f64..=100.0,
    ) {
        let mut counts = vec![0; bins];
        histogram_per_tensor(Isa::best(), &Serial, &x, limit, &mut counts).unwrap();
        prop_assert_eq!(counts, naive_histogram(x.iter().copied(), limit, bins));
        let (found, expected) =
            (percentile_per_tensor(Isa::best(), &Serial, &x, percentile).unwrap(), naive_percentile(&x, percentile));
        prop_assert!(found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan());
    }
}
