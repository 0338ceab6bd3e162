//! Observe and quantize in one call.

mod naive;

use naive::Threads;
use nashquant_kernels::{
    Bf16, Element, F16, Isa,
    fake_quantize::{
        AsTorch, Grid, Moving, Range, TorchRule, mask_len, observed_per_tensor, per_tensor_with_mask,
    },
    observe::min_max_per_tensor,
    parallel::{Serial, Team},
};

const FRESH: Range = Range { min_val: f32::INFINITY, max_val: f32::NEG_INFINITY };
const SLOW: Moving = Moving { averaging_constant: 0.01, qmin: -128, qmax: 127 };
const LENGTHS: [usize; 9] = [1, 2, 7, 16, 511, 512, 513, 32 * 1024 + 1, 3 * 32 * 1024 + 77];

#[test]
fn the_first_batch_starts_the_range_and_the_next_ones_move_it() {
    for isa in Isa::available() {
        let half = Moving { averaging_constant: 0.5, qmin: -8, qmax: 7 };
        let mut y = [0.0; 3];
        let run = |x: &[f32; 3], range, y: &mut [f32; 3]| {
            observed_per_tensor(isa, &Serial, x, None, half, range, y, None).unwrap().unwrap()
        };
        let (range, grid) = run(&[-7.5, 1.5, 3.0], FRESH, &mut y);
        assert_eq!(range, Range { min_val: -7.5, max_val: 3.0 });
        assert_eq!(grid, Grid { scale: 1.0, zero_point: 0, qmin: -8, qmax: 7 });
        assert_eq!(y, [-8.0, 2.0, 3.0], "{isa:?}");
        let (range, grid) = run(&[-22.5, 3.0, 5.0], range, &mut y);
        assert_eq!(range, Range { min_val: -15.0, max_val: 4.0 });
        assert_eq!(grid.scale, 2.0);
        assert_eq!(y, [-16.0, 4.0, 4.0], "{isa:?}");
    }
}

#[test]
fn a_constant_of_one_follows_the_batch_to_the_bit() {
    let moving = Moving { averaging_constant: 1.0, ..SLOW };
    let far = Range { min_val: -1e8, max_val: 1e8 };
    assert_eq!(moving.moved(far, -0.1, 0.3), Range { min_val: -0.1, max_val: 0.3 });
    let at_once = -1e8_f32 + 1.0 * (-0.1 - -1e8_f32);
    assert_ne!(at_once.to_bits(), (-0.1_f32).to_bits(), "no case tells the two apart");
}

#[test]
fn zeros_get_the_least_scale() {
    let mut y = [1.0; 4];
    let (_, grid) =
        observed_per_tensor(Isa::best(), &Serial, &[0.0, -0.0, 0.0, 0.0], None, SLOW, FRESH, &mut y, None)
            .unwrap()
            .unwrap();
    assert_eq!((grid.scale, y), (2.0_f32.powi(-23), [0.0; 4]));
}

#[test]
fn nan_infinity_and_nothing_are_left_to_the_caller_and_nothing_is_written() {
    for isa in Isa::available() {
        for bad in [&[1.0, f32::NAN][..], &[f32::INFINITY, 1.0], &[1.0, f32::NEG_INFINITY], &[]] {
            let (mut y, mut mask) = (vec![42.0; bad.len()], vec![42; mask_len(bad.len())]);
            let found = observed_per_tensor(isa, &Serial, bad, None, SLOW, FRESH, &mut y, Some(&mut mask));
            assert_eq!(found, Ok(None), "{isa:?} {bad:?}");
            assert!(y.iter().all(|y| *y == 42.0) && mask.iter().all(|bits| *bits == 42));
        }
    }
}

#[test]
fn a_scale_that_overflows_is_an_error_before_anything_is_written() {
    let moving = Moving { averaging_constant: 0.5, qmin: -1, qmax: 1 };
    let mut y = [42.0];
    let range = Range { min_val: f32::MIN, max_val: 0.0 };
    let error = observed_per_tensor(Isa::best(), &Serial, &[f32::MAX], None, moving, range, &mut y, None);
    // The difference leaves f32, and so does the range.
    assert_eq!(
        error.unwrap_err().to_string(),
        "scale is inf, but must be positive and finite, and so must 1 / scale"
    );
    assert_eq!(y, [42.0]);
    let error =
        observed_per_tensor(Isa::best(), &Serial, &[1.0], None, SLOW, FRESH, &mut [42.0], Some(&mut [0; 3]))
            .unwrap_err();
    assert_eq!(error.to_string(), "mask has 3 elements, but 64 are needed");
}

/// Step by step, with the formula of numerics.md.
fn equals_the_steps<T: Element>(x: &[T], team: &dyn Team, isa: Isa) {
    let range = Range { min_val: -0.7, max_val: 0.2 };
    let (low, high) = min_max_per_tensor(isa, &Serial, x).unwrap();
    let min_val = -0.7 + 0.01 * (low - -0.7);
    let max_val = 0.2 + 0.01 * (high - 0.2);
    let scale = f32::max(min_val.abs(), max_val.abs()) / 127.5;
    let (mut expected, mut expected_mask) = (vec![T::ZERO; x.len()], vec![0; mask_len(x.len())]);
    let grid = Grid { scale, zero_point: 0, qmin: -128, qmax: 127 };
    per_tensor_with_mask(isa, &Serial, x, grid, None, &mut expected, &mut expected_mask).unwrap();

    let (mut y, mut mask) = (vec![T::ZERO; x.len()], vec![0xff; mask_len(x.len())]);
    let found = observed_per_tensor(isa, team, x, None, SLOW, range, &mut y, Some(&mut mask)).unwrap();
    assert_eq!(found, Some((Range { min_val, max_val }, grid)), "{isa:?}");
    assert!(y == expected && mask == expected_mask, "{isa:?} {}", x.len());
    y.fill(T::ZERO);
    assert_eq!(observed_per_tensor(isa, team, x, None, SLOW, range, &mut y, None).unwrap(), found);
    assert!(y == expected, "{isa:?} {} without mask", x.len());
}

#[test]
fn every_isa_team_and_type_equals_the_steps() {
    for isa in Isa::available() {
        for n in LENGTHS {
            let x = naive::finite(n, 2.0);
            for team in [&Serial as &dyn Team, &Threads(2), &Threads(7)] {
                equals_the_steps(&x, team, isa);
            }
            equals_the_steps(
                &x.iter().map(|x| f64::from(*x) * 1.000_000_01).collect::<Vec<_>>(),
                &Serial,
                isa,
            );
            equals_the_steps(&x.iter().map(|x| Bf16::narrow(*x)).collect::<Vec<_>>(), &Serial, isa);
            equals_the_steps(&x.iter().map(|x| F16::narrow(*x)).collect::<Vec<_>>(), &Serial, isa);
        }
    }
}

#[test]
fn torchs_rules_choose_its_zero_points_and_leave_odd_ranges_to_it() {
    let (affine, zeros) = (TorchRule::Affine { least_scale: f32::EPSILON }, [0.0_f32; 4]);
    for isa in Isa::available() {
        let run = |x: &[f32; 4], rule, y: &mut [f32; 4]| {
            let moving = AsTorch { averaging_constant: 0.01, qmin: 0, qmax: 3, rule };
            observed_per_tensor(isa, &Serial, x, None, moving, FRESH, y, None).unwrap()
        };
        let mut y = zeros;
        let (_, grid) = run(&[-1.0, 0.4, 0.6, 2.0], affine, &mut y).unwrap();
        assert_eq!(grid, Grid { scale: 1.0, zero_point: 1, qmin: 0, qmax: 3 });
        assert_eq!(y, [-1.0, 0.0, 1.0, 2.0], "{isa:?}");
        // A range of one sign gets 0 as its other end.
        let (_, grid) = run(&[1.0, 2.0, 2.5, 3.0], affine, &mut y).unwrap();
        assert_eq!((grid.scale, grid.zero_point), (1.0, 0));
        let symmetric = TorchRule::Symmetric { middle: 2, least_scale: f32::EPSILON };
        let (_, grid) = run(&[-3.0, 0.0, 0.0, 1.0], symmetric, &mut y).unwrap();
        assert_eq!((grid.scale, grid.zero_point), (2.0, 2));
        let mut y = zeros;
        for rule in [affine, symmetric] {
            assert!(run(&[-f32::MAX, 0.0, 0.0, f32::INFINITY], rule, &mut y).is_none());
        }
        assert!(run(&[-1e-4, 0.0, 0.0, 5e-5], TorchRule::Fused { symmetric: false }, &mut y).is_none());
        assert_eq!(y, zeros, "{isa:?}");
    }
}

/// As torch's operator gives them: half a step either way, where f32 and the choice of the end decide.
#[test]
fn torchs_fused_rule_takes_the_zero_point_of_the_end_that_it_suits_better() {
    for (qmin, qmax, low, high, zero_point) in [
        (-4, 3, -9.0_f32, 9.0, -1),
        (-4, 3, -17.0, 17.0, 0),
        (-3, 4, -9.0, 9.0, 1),
        (-3, 4, -17.0, 17.0, 0),
        (-4, 2, -15.0, 5.0, 0),
        (-4, 2, -3.0, 1.0, 1),
        (-3, 3, -13.0, 39.0, -2),
    ] {
        let rule = TorchRule::Fused { symmetric: false };
        let moving = AsTorch { averaging_constant: 0.01, qmin, qmax, rule };
        let (_, grid) =
            observed_per_tensor(Isa::best(), &Serial, &[low, high], None, moving, FRESH, &mut [0.0; 2], None)
                .unwrap()
                .unwrap();
        assert_eq!(grid.zero_point, zero_point, "{qmin} {qmax} {low} {high}");
    }
}

/// f32 cannot tell them apart where the zero point is added in it, as torch's fused operator does; and one bit has no step
/// above 0, or a range more than f32 holds.
#[test]
fn what_no_grid_of_torch_covers_is_left_to_it_and_nothing_is_written() {
    let (symmetric, affine) = (TorchRule::Fused { symmetric: true }, TorchRule::Fused { symmetric: false });
    let wide = TorchRule::Affine { least_scale: 1e-7 };
    for (qmin, qmax, rule, x, some) in [
        ((1 << 22) - 255, 1 << 22, affine, [-1.0, 2.0], true),
        ((1 << 22) - 254, (1 << 22) + 1, affine, [-1.0, 2.0], false),
        (-(1 << 22), 255 - (1 << 22), symmetric, [-1.0, 2.0], true),
        (-(1 << 22) - 1, 254 - (1 << 22), symmetric, [-1.0, 2.0], false),
        (i32::MAX - 9, i32::MAX - 2, symmetric, [-1.0, 2.0], false),
        (i32::MIN, i32::MAX, affine, [-1.0, 2.0], false),
        (-1, 0, symmetric, [-1.0, 2.0], false),
        (-1, 0, affine, [-1.0, 2.0], true),
        (0, 255, wide, [-f32::MAX, f32::MAX], false),
        (0, 255, wide, [-1.0, f32::MAX / 2.0], true),
    ] {
        let (moving, mut y) = (AsTorch { averaging_constant: 0.01, qmin, qmax, rule }, [7.0; 2]);
        let after = observed_per_tensor(Isa::best(), &Serial, &x, None, moving, FRESH, &mut y, None).unwrap();
        assert_eq!(after.is_some(), some, "{qmin} {qmax} {rule:?}");
        assert_eq!(y == [7.0; 2], !some, "{qmin} {qmax} {rule:?}");
    }
}
