//! The gradients of a learned scale and zero point.

mod naive;

use naive::Threads;
use nashquant_kernels::{
    Isa, Layout,
    fake_quantize::{ChannelGrid, learnable_backward},
    parallel::{Serial, Team},
};

const INT4: ChannelGrid<'_> = ChannelGrid { scale: &[0.5], zero_point: &[0], qmin: -8, qmax: 7 };
const LAYOUTS: [(usize, usize, usize); 7] =
    [(1, 1, 1), (1, 3, 515), (2, 3, 1), (5, 4, 9), (1, 2, 40_000), (3, 1, 70_001), (700, 64, 3)];

type Gradients = (Vec<f32>, Vec<f32>, Vec<f32>);

fn gradients(
    isa: Isa,
    team: &dyn Team,
    grad_y: &[f32],
    x: &[f32],
    layout: Layout,
    grid: ChannelGrid<'_>,
) -> Gradients {
    let channels = layout.channels;
    let (mut grad_x, mut scale, mut zero_point) =
        (vec![7.0; x.len()], vec![7.0; channels], vec![7.0; channels]);
    learnable_backward(isa, team, grad_y, x, layout, grid, 0.25, &mut grad_x, &mut scale, &mut zero_point)
        .unwrap();
    (grad_x, scale, zero_point)
}

fn bits((grad_x, scale, zero_point): &Gradients) -> Vec<u32> {
    grad_x.iter().chain(scale).chain(zero_point).map(|value| value.to_bits()).collect()
}

#[test]
fn inside_counts_the_rounding_and_outside_counts_the_end() {
    for isa in Isa::available() {
        let x = [0.625, 100.0, -100.0, f32::INFINITY, f32::NAN]; // 1.25 steps become 1: -0.25 of a step
        let found = gradients(isa, &Serial, &[4.0, 1.0, 1.0, 2.0, 10.0], &x, Layout::flat(5), INT4);
        assert_eq!(found.0, [4.0, 0.0, 0.0, 0.0, 0.0], "{isa:?}");
        assert_eq!(found.1, [0.25 * (-1.0 + 7.0 - 8.0 + 14.0 - 80.0)], "{isa:?}");
        assert_eq!(found.2, [0.25 * -0.5 * (1.0 + 1.0 + 2.0 + 10.0)], "{isa:?}");
    }
}

#[test]
fn a_zero_point_moves_both_ends() {
    let grid = ChannelGrid { zero_point: &[-3], ..INT4 };
    let found = gradients(Isa::best(), &Serial, &[1.0, 1.0], &[100.0, -100.0], Layout::flat(2), grid);
    assert_eq!((found.1, found.2), (vec![0.25 * (10.0 - 5.0)], vec![0.25 * -0.5 * 2.0]));
}

#[test]
fn nothing_gives_zeros() {
    let found = gradients(Isa::best(), &Serial, &[], &[], Layout::flat(0), INT4);
    assert_eq!(found, (vec![], vec![0.0], vec![0.0]));
}

#[test]
fn every_isa_and_team_equals_the_naive_twin_bit_for_bit() {
    for (outer, channels, inner) in LAYOUTS {
        let layout = Layout { outer, channels, inner };
        let n = layout.checked_len().unwrap();
        let (x, grad_y) = (naive::awkward(n, 3.0), naive::finite(n + 1, 1.0)[1..].to_vec());
        let scale: Vec<f32> = (0..channels).map(|c| 0.01 + 0.003 * c as f32).collect();
        let zero_point: Vec<i32> = (0..channels).map(|c| c as i32 % 9 - 4).collect();
        let grid = ChannelGrid { scale: &scale, zero_point: &zero_point, qmin: -128, qmax: 127 };
        let expected = naive::learnable_backward(&grad_y, &x, layout, grid, 0.25);
        for isa in Isa::available() {
            for team in [&Serial as &dyn Team, &Threads(2), &Threads(7)] {
                let found = gradients(isa, team, &grad_y, &x, layout, grid);
                assert!(bits(&found) == bits(&expected), "{isa:?} {layout:?}");
            }
        }
    }
}

/// The sum is 0 but for what f64 rounds away, which tells the order of the terms. One in each lane of f32.
#[test]
fn what_cancels_is_added_in_the_pieces_of_the_twin() {
    let one = |(i, x): (usize, &f32)| if i % 512 < 16 { x * 2.0_f32.powi(i as i32 * 7 % 61) } else { 0.0 };
    let half: Vec<f32> = naive::finite(50_000, 1.0).iter().enumerate().map(one).collect();
    let grad_y: Vec<f32> = half.iter().copied().chain(half.iter().rev().map(|x| -x)).collect();
    let x = vec![100.0; grad_y.len()];
    for (outer, inner) in [(1, 100_000), (2, 50_000), (50, 2000), (100_000, 1)] {
        let layout = Layout { outer, channels: 1, inner };
        let expected = naive::learnable_backward(&grad_y, &x, layout, INT4, 0.25);
        assert!(expected.1[0] != 0.0 && expected.2[0] != 0.0, "nothing was rounded: {layout:?}");
        for isa in Isa::available() {
            let found = gradients(isa, &Threads(2), &grad_y, &x, layout, INT4);
            assert!(bits(&found) == bits(&expected), "{isa:?} {layout:?}");
        }
    }
}

#[test]
fn what_does_not_fit_is_said() {
    let run = |x: &[f32], grid| {
        let (mut grad_x, mut scale, mut zero_point) = ([0.0; 2], [0.0], [0.0]);
        let out = (&mut grad_x, &mut scale, &mut zero_point);
        learnable_backward(
            Isa::best(),
            &Serial,
            &[1.0; 2],
            x,
            Layout::flat(2),
            grid,
            1.0,
            out.0,
            out.1,
            out.2,
        )
        .unwrap_err()
        .to_string()
    };
    assert_eq!(run(&[1.0], INT4), "x has 1 elements, but 2 are needed");
    let bad = ChannelGrid { scale: &[f32::NAN], ..INT4 };
    assert_eq!(
        run(&[1.0; 2], bad),
        "scale[0] is NaN, but must be positive and finite, and so must 1 / scale"
    );
}
