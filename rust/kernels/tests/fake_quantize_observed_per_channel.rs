//! Observe and quantize in one call, with a range for each channel.

mod naive;

use naive::Threads;
use nashquant_kernels::{
    Bf16, Element, F16, Isa, Layout,
    fake_quantize::{ChannelGrid, Moving, Ranges, mask_len, observed_per_channel, per_channel_with_mask},
    observe::min_max_per_channel,
    parallel::{Serial, Team},
};

const SLOW: Moving = Moving { averaging_constant: 0.01, qmin: -128, qmax: 127 };
const PAIR: Layout = Layout { outer: 1, channels: 2, inner: 2 };

#[test]
fn every_channel_has_its_range_and_its_grid() {
    let half = Moving { averaging_constant: 0.5, qmin: -8, qmax: 7 };
    for isa in Isa::available() {
        let (mut min_val, mut max_val) = ([f32::INFINITY; 2], [f32::NEG_INFINITY; 2]);
        let (mut scale, mut y) = ([1.0; 2], [0.0; 4]);
        let mut run = |x: [f32; 4]| {
            let ranges = Ranges { min_val: &mut min_val, max_val: &mut max_val, scale: &mut scale };
            assert!(observed_per_channel(isa, &Serial, &x, PAIR, half, ranges, &mut y, None).unwrap());
            (min_val, max_val, scale, y)
        };
        let first = run([-7.5, 1.5, 3.0, 15.0]);
        assert_eq!(first, ([-7.5, 3.0], [1.5, 15.0], [1.0, 2.0], [-8.0, 2.0, 4.0, 14.0]), "{isa:?}");
        let second = run([-22.5, 4.5, 3.0, 45.0]);
        assert_eq!(second, ([-15.0, 3.0], [3.0, 30.0], [2.0, 4.0], [-16.0, 4.0, 4.0, 28.0]), "{isa:?}");
    }
}

#[test]
fn the_channels_start_together() {
    let (mut min_val, mut max_val, mut scale, mut y) = ([-9.0, 1.0], [9.0, -1.0], [1.0; 2], [0.0; 4]);
    let ranges = Ranges { min_val: &mut min_val, max_val: &mut max_val, scale: &mut scale };
    observed_per_channel(Isa::best(), &Serial, &[1.0, 2.0, 3.0, 4.0], PAIR, SLOW, ranges, &mut y, None)
        .unwrap();
    assert_eq!((min_val, max_val), ([1.0, 3.0], [2.0, 4.0]));
}

#[test]
fn what_is_refused_or_left_to_the_caller_changes_nothing() {
    for bad in [[1.0, f32::NAN, 1.0, 1.0], [1.0, 1.0, f32::NEG_INFINITY, 1.0]] {
        let (mut min_val, mut max_val, mut scale) = ([-1.0; 2], [1.0; 2], [0.5; 2]);
        let (mut y, mut mask) = ([42.0; 4], vec![42; mask_len(4)]);
        let ranges = Ranges { min_val: &mut min_val, max_val: &mut max_val, scale: &mut scale };
        let done =
            observed_per_channel(Isa::best(), &Serial, &bad, PAIR, SLOW, ranges, &mut y, Some(&mut mask));
        assert_eq!(done, Ok(false));
        assert_eq!((min_val, max_val, scale, y), ([-1.0; 2], [1.0; 2], [0.5; 2], [42.0; 4]));
        assert!(mask.iter().all(|bits| *bits == 42));
    }
    let (mut min_val, mut max_val, mut scale, mut y) = ([-1.0; 2], [1.0; 3], [0.5; 2], [42.0; 4]);
    let ranges = Ranges { min_val: &mut min_val, max_val: &mut max_val, scale: &mut scale };
    let error = observed_per_channel(Isa::best(), &Serial, &[1.0; 4], PAIR, SLOW, ranges, &mut y, None);
    assert_eq!(error.unwrap_err().to_string(), "max_val has 3 elements, but 2 are needed");
    let ranges = Ranges { min_val: &mut min_val, max_val: &mut [1.0; 2], scale: &mut scale };
    let none = Moving { qmin: 7, qmax: 7, ..SLOW };
    assert!(observed_per_channel(Isa::best(), &Serial, &[1.0; 4], PAIR, none, ranges, &mut y, None).is_err());
    assert_eq!((min_val, scale, y), ([-1.0; 2], [0.5; 2], [42.0; 4]));
}

fn equals_the_steps<T: Element>(x: &[T], layout: Layout, team: &dyn Team, isa: Isa) {
    let n = layout.channels;
    let (mut low, mut high) = (vec![0.0; n], vec![0.0; n]);
    min_max_per_channel(isa, &Serial, x, layout, &mut low, &mut high).unwrap();
    let low: Vec<f32> = low.iter().map(|low| -0.7 + 0.01 * (low - -0.7)).collect();
    let high: Vec<f32> = high.iter().map(|high| 0.2 + 0.01 * (high - 0.2)).collect();
    let steps: Vec<f32> =
        low.iter().zip(&high).map(|(low, high)| f32::max(low.abs(), high.abs()) / 127.5).collect();
    let grid = ChannelGrid { scale: &steps, zero_point: &vec![0; n], qmin: -128, qmax: 127 };
    let (mut expected, mut expected_mask) = (vec![T::ZERO; x.len()], vec![0; mask_len(x.len())]);
    per_channel_with_mask(isa, &Serial, x, layout, grid, &mut expected, &mut expected_mask).unwrap();
    for with_mask in [true, false] {
        let (mut y, mut mask) = (vec![T::ZERO; x.len()], vec![0xff; mask_len(x.len())]);
        let (mut min_val, mut max_val, mut scale) = (vec![-0.7; n], vec![0.2; n], vec![1.0; n]);
        let ranges = Ranges { min_val: &mut min_val, max_val: &mut max_val, scale: &mut scale };
        let bits = with_mask.then_some(mask.as_mut_slice());
        assert!(observed_per_channel(isa, team, x, layout, SLOW, ranges, &mut y, bits).unwrap());
        assert_eq!((&min_val, &max_val, &scale), (&low, &high, &steps), "{isa:?} {layout:?}");
        assert!(y == expected && (!with_mask || mask == expected_mask), "{isa:?} {layout:?}");
    }
}

#[test]
fn every_isa_team_layout_and_type_equals_the_steps() {
    for isa in Isa::available() {
        for (outer, channels, inner) in [(1, 64, 27), (1, 3, 40_001), (9, 5, 1), (700, 16, 9), (1, 1, 1)] {
            let (layout, n) = (Layout { outer, channels, inner }, outer * channels * inner);
            let x = naive::finite(n, 2.0);
            for team in [&Serial as &dyn Team, &Threads(2), &Threads(7)] {
                equals_the_steps(&x, layout, team, isa);
            }
            equals_the_steps(&x.iter().map(|x| f64::from(*x)).collect::<Vec<_>>(), layout, &Serial, isa);
            equals_the_steps(&x.iter().map(|x| Bf16::narrow(*x)).collect::<Vec<_>>(), layout, &Serial, isa);
            equals_the_steps(&x.iter().map(|x| F16::narrow(*x)).collect::<Vec<_>>(), layout, &Serial, isa);
        }
    }
}
