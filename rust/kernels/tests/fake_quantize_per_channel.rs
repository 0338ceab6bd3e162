//! Per channel: every way channels can lie in memory.

mod naive;

use naive::Threads;
use nashquant_kernels::{
    Isa, Layout,
    fake_quantize::{ChannelGrid, Grid, mask_len, per_channel, per_channel_with_mask},
    parallel::{Serial, Team},
};

const LAYOUTS: [(usize, usize, usize); 18] = [
    (1, 1, 0),
    (0, 3, 4),
    (1, 1, 1),
    (1, 5, 1),
    (7, 3, 1),
    (300, 3, 1),
    (5, 700, 1),
    (2, 64, 9),
    (9, 6, 31),
    (1, 4, 9),
    (3, 5, 32),
    (4, 8, 48),
    (3, 7, 40),
    (1, 7, 576),
    (40, 33, 1),
    (2, 3, 513),
    (2, 2, 40_000),
    (40_000, 2, 1),
];

fn parameters(channels: usize) -> (Vec<f32>, Vec<i32>) {
    (
        (0..channels).map(|c| 0.01 + 0.003 * (c % 17) as f32).collect(),
        (0..channels).map(|c| c as i32 % 9 - 4).collect(),
    )
}

fn channel(i: usize, layout: Layout) -> usize {
    i / layout.inner % layout.channels
}

#[test]
fn every_isa_and_team_equals_the_naive_twin_in_every_layout() {
    for (outer, channels, inner) in LAYOUTS {
        let (layout, n) = (Layout { outer, channels, inner }, outer * channels * inner);
        let (scale, zero_point) = parameters(channels);
        let grid = ChannelGrid { scale: &scale, zero_point: &zero_point, qmin: -128, qmax: 127 };
        let x = naive::awkward(n, 4.0);
        let each = x.iter().enumerate().map(|(i, x)| {
            let c = channel(i, layout);
            naive::fake_quantize(
                *x,
                Grid { scale: scale[c], zero_point: zero_point[c], qmin: -128, qmax: 127 },
            )
        });
        let (values, inside): (Vec<_>, Vec<_>) = each.unzip();
        for isa in Isa::available() {
            for team in [&Serial as &dyn Team, &Threads(2), &Threads(7)] {
                let (mut y, mut with_mask, mut mask) = (vec![0.5; n], vec![0.5; n], vec![0xff; mask_len(n)]);
                per_channel(isa, team, &x, layout, grid, &mut y).unwrap();
                per_channel_with_mask(isa, team, &x, layout, grid, &mut with_mask, &mut mask).unwrap();
                assert!(y.iter().zip(&values).all(|(y, v)| y.to_bits() == v.to_bits()), "{isa:?} {layout:?}");
                assert!(
                    y.iter().zip(&with_mask).all(|(y, v)| y.to_bits() == v.to_bits()),
                    "{isa:?} {layout:?}"
                );
                assert!(naive::unpacked(&mask, n) == inside, "{isa:?} {layout:?}");
            }
        }
    }
}

#[test]
fn f64_stays_f64_to_the_end() {
    let layout = Layout { outer: 4, channels: 3, inner: 5 };
    let (scale, zero_point) = parameters(3);
    let grid = ChannelGrid { scale: &scale, zero_point: &zero_point, qmin: -128, qmax: 127 };
    let x: Vec<f64> = naive::awkward(60, 4.0).into_iter().map(f64::from).collect();
    for isa in Isa::available() {
        let mut y = vec![0.0; 60];
        per_channel(isa, &Serial, &x, layout, grid, &mut y).unwrap();
        for (i, (x, y)) in x.iter().zip(&y).enumerate() {
            let c = channel(i, layout);
            let grid = Grid { scale: scale[c], zero_point: zero_point[c], qmin: -128, qmax: 127 };
            assert_eq!(*y, naive::fake_quantize_f64(*x, grid, false).0, "{isa:?} {i}");
        }
    }
}

#[test]
fn an_error_names_the_channel() {
    let layout = Layout { outer: 1, channels: 3, inner: 1 };
    let run = |scale: &[f32], zero_point: &[i32]| {
        let grid = ChannelGrid { scale, zero_point, qmin: -8, qmax: 7 };
        per_channel(Isa::best(), &Serial, &[1.0; 3], layout, grid, &mut [0.0; 3]).unwrap_err().to_string()
    };
    assert_eq!(
        run(&[1.0, 0.0, 1.0], &[0; 3]),
        "scale[1] is 0.0, but must be positive and finite, and so must 1 / scale"
    );
    assert_eq!(run(&[1.0; 3], &[0, 0, 9]), "zero_point[2] is 9, but must lie between qmin -8 and qmax 7");
    assert_eq!(run(&[1.0; 2], &[0; 3]), "scale has 2 elements, but 3 are needed");
    assert_eq!(run(&[1.0; 3], &[0; 4]), "zero_point has 4 elements, but 3 are needed");
    let grid = ChannelGrid { scale: &[1.0; 3], zero_point: &[0; 3], qmin: -8, qmax: 7 };
    let error = per_channel(Isa::best(), &Serial, &[1.0; 4], layout, grid, &mut [0.0; 4]).unwrap_err();
    assert_eq!(error.to_string(), "x has 4 elements, but 3 are needed");
}
