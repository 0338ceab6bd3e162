//! A ReLU in the same pass: clamped to bounds first, then fake-quantized.

mod naive;

use naive::Threads;
use nashquant_kernels::{
    Bf16, Element, Isa,
    fake_quantize::{
        Bounds, Grid, Moving, Range, mask_len, observed_per_tensor, per_tensor, per_tensor_with_mask,
    },
    parallel::{Serial, Team},
};

const INT4: Grid = Grid { scale: 1.0, zero_point: 0, qmin: -8, qmax: 7 };
const RELU: Bounds = Bounds { low: 0.0, high: f32::INFINITY };
const RELU6: Bounds = Bounds { low: 0.0, high: 6.0 };

#[test]
fn a_relu_sends_what_is_negative_to_zero_and_keeps_nan() {
    for isa in Isa::available() {
        let x = [-3.0, -0.0, 0.0, 0.4, 2.5, 9.0, f32::NEG_INFINITY, f32::INFINITY, f32::NAN];
        let (mut y, mut mask) = ([1.0; 9], [0xff; 64]);
        per_tensor_with_mask(isa, &Serial, &x, INT4, Some(RELU), &mut y, &mut mask).unwrap();
        let bits = |y: [f32; 9]| y.map(f32::to_bits);
        assert_eq!(bits(y), bits([0.0, 0.0, 0.0, 0.0, 2.0, 7.0, 0.0, 7.0, -8.0]), "{isa:?}");
        let passes = [false, false, false, true, true, false, false, false, false];
        assert_eq!(naive::unpacked(&mask, 9), passes, "{isa:?}");
    }
}

#[test]
fn gradients_pass_strictly_between_the_bounds() {
    for isa in Isa::available() {
        let (mut y, mut mask) = ([1.0; 5], [0xff; 64]);
        let x = [6.0, 5.9, 6.1, 1e-30, 0.0];
        per_tensor_with_mask(isa, &Serial, &x, INT4, Some(RELU6), &mut y, &mut mask).unwrap();
        assert_eq!(y, [6.0, 6.0, 6.0, 0.0, 0.0], "{isa:?}");
        assert_eq!(naive::unpacked(&mask, 5), [false, true, false, true, false], "{isa:?}");
    }
}

/// Clamped by hand, then by the kernel that knows no bounds.
fn equals_two_steps<T: Element<Wide = f32>>(x: &[T], bounds: Bounds, team: &dyn Team, isa: Isa) {
    let grid = Grid { scale: 0.031, zero_point: 0, qmin: -128, qmax: 127 };
    let between = |x: &T| x.widen() > bounds.low && x.widen() < bounds.high;
    let clamped: Vec<T> = x.iter().map(|x| T::narrow(x.widen().clamp(bounds.low, bounds.high))).collect();
    let (mut expected, mut bits) = (vec![T::ZERO; x.len()], vec![0; mask_len(x.len())]);
    per_tensor_with_mask(isa, &Serial, &clamped, grid, None, &mut expected, &mut bits).unwrap();
    let inside: Vec<_> =
        naive::unpacked(&bits, x.len()).into_iter().zip(x).map(|(inside, x)| inside && between(x)).collect();

    let (mut y, mut mask) = (vec![T::ZERO; x.len()], vec![0xff; mask_len(x.len())]);
    per_tensor(isa, team, x, grid, Some(bounds), &mut y).unwrap();
    assert!(y == expected, "{isa:?} {}", x.len());
    y.fill(T::ZERO);
    per_tensor_with_mask(isa, team, x, grid, Some(bounds), &mut y, &mut mask).unwrap();
    assert!(y == expected, "{isa:?} {} with mask", x.len());
    assert_eq!(mask, naive::packed(&inside), "{isa:?} {}", x.len());

    let moving = Moving { averaging_constant: 0.01, qmin: -128, qmax: 127 };
    let range = Range { min_val: -0.5, max_val: 3.0 };
    let observe = |x: &[T], bounds, y: &mut [T]| {
        observed_per_tensor(isa, team, x, bounds, moving, range, y, Some(&mut mask.clone())).unwrap()
    };
    assert_eq!(observe(x, Some(bounds), &mut y), observe(&clamped, None, &mut expected), "{isa:?}");
    assert!(y == expected, "{isa:?} {} observed", x.len());
}

#[test]
fn every_isa_and_team_equals_clamping_first() {
    for isa in Isa::available() {
        for bounds in [RELU, RELU6, Bounds { low: -1.5, high: 2.5 }] {
            for n in (1..=65).chain([511, 512, 513, 3 * 32 * 1024 + 77]) {
                let x = naive::finite(n, 8.0);
                let halves: Vec<_> = x.iter().map(|x| Bf16::narrow(*x)).collect();
                for team in [&Serial as &dyn Team, &Threads(2)] {
                    equals_two_steps(&x, bounds, team, isa);
                    equals_two_steps(&halves, bounds, team, isa);
                }
            }
        }
    }
}

#[test]
fn an_infinity_that_the_bounds_take_away_is_observed() {
    let moving = Moving { averaging_constant: 0.5, qmin: -8, qmax: 7 };
    let fresh = Range { min_val: f32::INFINITY, max_val: f32::NEG_INFINITY };
    for isa in Isa::available() {
        let run = |x: &[f32; 2], y: &mut [f32; 2]| {
            observed_per_tensor(isa, &Serial, x, Some(RELU), moving, fresh, y, None).unwrap()
        };
        let mut y = [42.0; 2];
        let (range, _) = run(&[f32::NEG_INFINITY, 7.5], &mut y).unwrap();
        assert_eq!((range, y), (Range { min_val: 0.0, max_val: 7.5 }, [0.0, 7.0]), "{isa:?}");
        for bad in [[f32::INFINITY, 1.0], [f32::NAN, 1.0]] {
            let mut y = [42.0; 2];
            assert_eq!((run(&bad, &mut y), y), (None, [42.0; 2]), "{isa:?}");
        }
    }
}

#[test]
fn bounds_without_a_middle_are_refused() {
    for (low, high) in [(1.0, 1.0), (2.0, 1.0), (f32::NAN, 1.0), (f32::NEG_INFINITY, 1.0)] {
        let mut y = [42.0];
        let bounds = Some(Bounds { low, high });
        let error = per_tensor(Isa::best(), &Serial, &[1.0], INT4, bounds, &mut y).unwrap_err();
        let expected = format!("bounds are {low:?} and {high:?}, but the first must be finite and less");
        assert_eq!((error.to_string(), y), (expected, [42.0]));
    }
}
