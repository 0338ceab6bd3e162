//! Per tensor, forward and backward.

mod naive;

use naive::Threads;
use nashquant_kernels::{
    Bf16, Element, Error, F16, Isa,
    fake_quantize::{
        Grid, all_inside, backward, backward_in_place, mask_len, per_tensor, per_tensor_with_mask,
    },
    parallel::Serial,
};
use proptest::prelude::*;

const INT4: Grid = Grid { scale: 1.0, zero_point: 0, qmin: -8, qmax: 7 };
const GRIDS: [Grid; 4] = [
    Grid { scale: 0.007_842_5, zero_point: 0, qmin: -128, qmax: 127 },
    Grid { scale: 0.1, zero_point: -5, qmin: -128, qmax: 127 },
    Grid { scale: 1e-4, zero_point: 0, qmin: -32768, qmax: 32767 },
    Grid { scale: 1.0, zero_point: 7, qmin: 0, qmax: 255 },
];

fn bits(y: &[f32]) -> Vec<u32> {
    y.iter().map(|y| y.to_bits()).collect()
}

#[test]
fn the_levels_that_ran_are_printed() {
    println!("instruction sets tested here: {:?}; the best is {:?}", Isa::available(), Isa::best());
    assert_eq!(Isa::available().last(), Some(&Isa::best()));
}

#[test]
fn ties_go_to_even_and_ends_saturate() {
    for isa in Isa::available() {
        let mut y = [0.0; 5];
        per_tensor(isa, &Serial, &[0.5, 1.5, -2.5, 100.0, f32::NEG_INFINITY], INT4, None, &mut y).unwrap();
        assert_eq!(y, [0.0, 2.0, -2.0, 7.0, -8.0], "{isa:?}");
    }
}

#[test]
fn nan_goes_to_qmin_infinities_to_their_ends_and_no_zero_is_negative() {
    for isa in Isa::available() {
        let x = [f32::NAN, f32::INFINITY, 1e30, -1e30, -0.0, -0.3, 1e-45, -1e-45];
        let (mut y, mut mask) = ([0.0; 8], [0xff; 64]);
        per_tensor_with_mask(isa, &Serial, &x, INT4, None, &mut y, &mut mask).unwrap();
        assert_eq!(bits(&y), bits(&[-8.0, 7.0, 7.0, -8.0, 0.0, 0.0, 0.0, 0.0]), "{isa:?}");
        let inside: Vec<_> = (0..64).skip(3).step_by(4).map(|byte| mask[byte] >> 7).collect();
        assert_eq!(inside, [0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0], "{isa:?}");
        assert_eq!(mask.iter().map(|bits| bits.count_ones()).sum::<u32>(), 4, "{isa:?}");
    }
}

#[test]
fn the_inverse_is_multiplied_not_divided_by() {
    let grid = Grid { scale: 0.007_842_5, zero_point: 0, qmin: -32768, qmax: 32767 };
    let x: Vec<f32> = (0..30_000).map(|i| (i as f32 + 0.5) * grid.scale).collect(); // near every tie
    let divided = x.iter().map(|x| (x / grid.scale).round_ties_even() * grid.scale);
    let mut y = vec![0.0; x.len()];
    per_tensor(Isa::best(), &Serial, &x, grid, None, &mut y).unwrap();
    assert!(x.iter().zip(&y).all(|(x, y)| *y == naive::fake_quantize(*x, grid).0));
    assert!(divided.zip(&y).any(|(divided, y)| divided != *y), "no case tells the two apart");
}

#[test]
fn every_isa_equals_the_naive_twin_at_every_length_and_offset() {
    for isa in Isa::available() {
        for grid in GRIDS {
            for n in (0..=65).chain([511, 512, 513, 1027]) {
                for offset in [0, 1, 3] {
                    let x = &naive::awkward(n + offset, 200.0 * grid.scale)[offset..];
                    let expected: Vec<_> = x.iter().map(|x| naive::fake_quantize(*x, grid)).collect();
                    let mut buffer = vec![f32::NAN; n + offset];
                    let y = &mut buffer[offset..];
                    per_tensor(isa, &Serial, x, grid, None, y).unwrap();
                    let values: Vec<_> = expected.iter().map(|e| e.0).collect();
                    assert_eq!(bits(y), bits(&values), "{isa:?} {grid:?} {n} {offset}");

                    let mut mask = vec![0xff; mask_len(n)];
                    y.fill(f32::NAN);
                    per_tensor_with_mask(isa, &Serial, x, grid, None, y, &mut mask).unwrap();
                    assert_eq!(bits(y), bits(&values), "{isa:?} {grid:?} {n} {offset} with mask");
                    let inside: Vec<_> = expected.iter().map(|e| e.1).collect();
                    assert_eq!(mask, naive::packed(&inside), "{isa:?} {grid:?} {n} {offset}");
                }
            }
        }
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let n = 3 * 32 * 1024 + 77;
    let x = naive::awkward(n, 2.0);
    for isa in Isa::available() {
        let run = |team: &dyn nashquant_kernels::parallel::Team| {
            let (mut y, mut mask, mut grad_x) = (vec![0.0; n], vec![0; mask_len(n)], vec![0.0; n]);
            per_tensor_with_mask(isa, team, &x, GRIDS[0], None, &mut y, &mut mask).unwrap();
            backward(isa, team, &y, &mask, &mut grad_x).unwrap();
            let mut in_place = y.clone();
            backward_in_place(isa, team, &mut in_place, &mask).unwrap();
            assert_eq!(bits(&in_place), bits(&grad_x), "{isa:?}");
            (bits(&y), mask, bits(&grad_x))
        };
        let serial = run(&Serial);
        for threads in [1, 2, 7] {
            assert!(run(&Threads(threads)) == serial, "{isa:?} {threads}");
        }
    }
}

#[test]
fn f64_is_computed_in_f64_and_ends_in_f32() {
    for isa in Isa::available() {
        for grid in GRIDS {
            let spread = 200.0 * grid.scale;
            let x: Vec<f64> =
                naive::awkward(333, spread).iter().map(|x| f64::from(*x) * 1.000_000_01).collect();
            let mut y = vec![0.0; x.len()];
            per_tensor(isa, &Serial, &x, grid, None, &mut y).unwrap();
            for (x, y) in x.iter().zip(&y) {
                let expected = naive::fake_quantize_f64(*x, grid, true).0;
                assert_eq!(y.to_bits(), expected.to_bits(), "{isa:?} {x} {grid:?}");
            }
        }
    }
}

fn halves_are_rounded_once<T: Half>() {
    for isa in Isa::available() {
        for grid in GRIDS {
            let x: Vec<T> = naive::awkward(999, 200.0 * grid.scale).into_iter().map(T::from_single).collect();
            let mut y = vec![T::ZERO; x.len()];
            per_tensor(isa, &Serial, &x, grid, None, &mut y).unwrap();
            for (x, y) in x.iter().zip(&y) {
                let expected = T::from_single(naive::fake_quantize(x.widen_to_f32(), grid).0);
                assert_eq!(*y, expected, "{isa:?} {x:?} {grid:?}");
            }
        }
    }
}

trait Half: Element {
    fn widen_to_f32(self) -> f32;
    fn from_single(x: f32) -> Self;
}

impl<T: Element<Wide = f32>> Half for T {
    fn widen_to_f32(self) -> f32 {
        self.widen()
    }
    fn from_single(x: f32) -> Self {
        T::narrow(x)
    }
}

#[test]
fn bf16_is_computed_in_f32_and_rounded_once() {
    halves_are_rounded_once::<Bf16>();
}

#[test]
fn f16_is_computed_in_f32_and_rounded_once() {
    halves_are_rounded_once::<F16>();
}

#[test]
fn the_gradient_is_multiplied_so_that_nan_and_infinity_show() {
    for isa in Isa::available() {
        for n in 8..=33 {
            let mut grad_y = vec![3.0; n];
            grad_y[..6].copy_from_slice(&[f32::NAN, f32::INFINITY, -2.0, -2.0, f32::INFINITY, f32::NAN]);
            let mut mask = vec![0xff; mask_len(n)];
            [mask[3], mask[7], mask[11]] = [0x7f; 3]; // the first three are outside
            let mut grad_x = vec![7.0; n];
            backward(isa, &Serial, &grad_y, &mask, &mut grad_x).unwrap();
            assert!(grad_x[0].is_nan() && grad_x[1].is_nan() && grad_x[5].is_nan(), "{isa:?}");
            assert_eq!(bits(&grad_x[2..5]), bits(&[-0.0, -2.0, f32::INFINITY]), "{isa:?}");
            assert!(grad_x[6..].iter().all(|g| *g == 3.0), "{isa:?} {n}");
        }
    }
}

#[test]
fn every_half_passes_as_it_is() {
    let grad_y: Vec<F16> = (0..=u16::MAX).map(F16).collect();
    for isa in Isa::available() {
        for skipped in [0, 3] {
            let grad_y = &grad_y[skipped..];
            let mut grad_x = vec![F16(0); grad_y.len()];
            backward(isa, &Serial, grad_y, &vec![0xff; mask_len(grad_y.len())], &mut grad_x).unwrap();
            for (grad_y, grad_x) in grad_y.iter().zip(&grad_x) {
                let nan = grad_y.widen().is_nan();
                assert!(
                    if nan { grad_x.widen().is_nan() } else { grad_x == grad_y },
                    "{isa:?} {grad_y:?} {grad_x:?}"
                );
            }
        }
    }
}

#[test]
fn each_gradient_meets_its_own_bit_at_every_length() {
    for isa in Isa::available() {
        for n in (0..=70).chain([511, 513, 1030]) {
            let grad_y = naive::finite(n, 2.0);
            let inside: Vec<_> = (0..n).map(|i| i * i % 7 < 3).collect();
            let mut grad_x = vec![f32::NAN; n];
            backward(isa, &Serial, &grad_y, &naive::packed(&inside), &mut grad_x).unwrap();
            let expected: Vec<_> =
                grad_y.iter().zip(&inside).map(|(g, i)| g * f32::from(u8::from(*i))).collect();
            assert_eq!(bits(&grad_x), bits(&expected), "{isa:?} {n}");
        }
    }
}

fn in_place_is_the_same<T: Element>(from: fn(f32) -> T) {
    for isa in Isa::available() {
        for n in (0..=70).chain([511, 512, 513, 1030]) {
            for often in [1, 3, 100, 2000] {
                let inside: Vec<_> = (0..n).map(|i| (i + 7) % often != 0).collect();
                let (mut grad, mask) = (vec![T::ZERO; n], naive::packed(&inside));
                let grad_y: Vec<T> = naive::finite(n, 2.0).into_iter().map(from).collect();
                backward(isa, &Serial, &grad_y, &mask, &mut grad).unwrap();
                let mut in_place = grad_y.clone();
                backward_in_place(isa, &Serial, &mut in_place, &mask).unwrap();
                assert_eq!(in_place, grad, "{isa:?} {n} {often}");
            }
        }
    }
}

#[test]
fn a_gradient_masked_in_place_is_the_same() {
    in_place_is_the_same(|x| x);
    in_place_is_the_same(f64::from);
    in_place_is_the_same(Bf16::narrow);
    in_place_is_the_same(F16::narrow);
}

#[test]
fn in_place_too_nan_and_infinity_show_where_they_are_outside() {
    for isa in Isa::available() {
        for n in 8..=33 {
            let mut grad = vec![3.0; n];
            grad[..5].copy_from_slice(&[f32::NAN, f32::INFINITY, -2.0, -2.0, f32::INFINITY]);
            let mut mask = vec![0xff; mask_len(n)];
            [mask[3], mask[7], mask[11]] = [0x7f; 3]; // the first three are outside
            backward_in_place(isa, &Serial, &mut grad, &mask).unwrap();
            assert!(grad[0].is_nan() && grad[1].is_nan(), "{isa:?}");
            assert_eq!(bits(&grad[2..5]), bits(&[-0.0, -2.0, f32::INFINITY]), "{isa:?}");
            assert!(grad[5..].iter().all(|g| *g == 3.0), "{isa:?} {n}");
        }
    }
    let mut grad = [1.0_f32; 513];
    assert!(backward_in_place(Isa::best(), &Serial, &mut grad, &[0; 64]).is_err());
    assert_eq!(grad, [1.0; 513]);
}

#[test]
fn a_mask_tells_whether_everything_was_inside_at_every_length() {
    for isa in Isa::available() {
        for n in (0..70).chain([511, 512, 513, 1023, 1024, 1100]) {
            let (mut x, mut y, mut mask) = (vec![3.0_f32; n], vec![0.0; n], vec![0; mask_len(n)]);
            per_tensor_with_mask(isa, &Serial, &x, INT4, None, &mut y, &mut mask).unwrap();
            assert!(all_inside(&mask, n).unwrap(), "{n} on {isa:?}");
            for i in (0..n).step_by(97).chain(n.checked_sub(1)) {
                x[i] = 8.0;
                per_tensor_with_mask(isa, &Serial, &x, INT4, None, &mut y, &mut mask).unwrap();
                assert!(!all_inside(&mask, n).unwrap(), "element {i} of {n} on {isa:?}");
                x[i] = 3.0;
            }
        }
    }
    assert!(all_inside(&[0; 64], 513).is_err());
}

fn what_is_far_outside_lands_on_its_end<T: Element>(from: fn(f32) -> T) {
    let ends = (1 << 22) - 1;
    for (zero_point, qmin, qmax) in [(0, 0, ends), (0, -ends, 0), (-ends, -ends, 0), (ends, 0, ends)] {
        let grid = Grid { scale: 1.0, zero_point, qmin, qmax };
        let far = [22, 23, 24, 25, 52, 53, 127].map(|power| 2.0_f32.powi(power));
        let x: Vec<T> =
            far.into_iter().chain([f32::MAX, f32::INFINITY]).flat_map(|x| [from(x), from(-x)]).collect();
        let ends = [qmax - zero_point, qmin - zero_point].map(|end| from(end as f32)).repeat(x.len() / 2);
        for isa in Isa::available() {
            let (mut y, mut mask) = (x.clone(), vec![0; mask_len(x.len())]);
            per_tensor_with_mask(isa, &Serial, &x, grid, None, &mut y, &mut mask).unwrap();
            assert_eq!(y, ends, "{grid:?} on {isa:?}");
            assert_eq!(mask, vec![0; mask.len()], "{grid:?} on {isa:?}");
            per_tensor(isa, &Serial, &x, grid, None, &mut y).unwrap();
            assert_eq!(y, ends, "{grid:?} on {isa:?}");
        }
    }
}

#[test]
fn what_is_far_outside_lands_on_its_end_in_singles() {
    what_is_far_outside_lands_on_its_end(|x| x);
}

#[test]
fn what_is_far_outside_lands_on_its_end_in_doubles() {
    what_is_far_outside_lands_on_its_end(f64::from);
}

#[test]
fn what_is_wrong_is_said_and_nothing_is_written() {
    let check = |grid: Grid, expected: &str| {
        let mut y = [42.0; 2];
        let error = per_tensor(Isa::best(), &Serial, &[1.0, 2.0], grid, None, &mut y).unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert_eq!(y, [42.0; 2]);
    };
    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e-39] {
        let message = format!("scale is {scale:?}, but must be positive and finite, and so must 1 / scale");
        check(Grid { scale, ..INT4 }, &message);
    }
    check(Grid { qmin: 7, qmax: 7, ..INT4 }, "qmin is 7 and qmax 7, but qmin must be less");
    check(Grid { zero_point: 8, ..INT4 }, "zero_point is 8, but must lie between qmin -8 and qmax 7");
    let wide = Grid { qmin: i32::MIN, qmax: i32::MAX, ..INT4 };
    check(
        wide,
        "qmin -2147483648 and qmax 2147483647 span more than 2**22 steps, which f32 does not count exactly",
    );
    let error = per_tensor(Isa::best(), &Serial, &[1.0], INT4, None, &mut [0.0; 2]).unwrap_err();
    assert_eq!(error, Error::LengthMismatch { name: "y", len: 2, expected: 1 });
    assert_eq!(error.to_string(), "y has 2 elements, but 1 are needed");
    let error =
        per_tensor_with_mask(Isa::best(), &Serial, &[1.0], INT4, None, &mut [0.0], &mut []).unwrap_err();
    assert_eq!(error.to_string(), "mask has 0 elements, but 64 are needed");
    let error = backward(Isa::best(), &Serial, &[1.0], &[1, 2], &mut [0.0]).unwrap_err();
    assert_eq!(error.to_string(), "mask has 2 elements, but 64 are needed");
}

proptest! {
    #[test]
    fn quantizing_twice_is_quantizing_once_and_never_moves_more_than_half_a_step(
        x in prop::collection::vec(-300.0_f32..300.0, 0..70), exponent in -6_i32..4,
    ) {
        let grid = Grid { scale: 2.0_f32.powi(exponent), zero_point: 0, qmin: -128, qmax: 127 };
        for isa in Isa::available() {
            let (mut y, mut again) = (vec![0.0; x.len()], vec![0.0; x.len()]);
            let mut mask = vec![0; mask_len(x.len())];
            per_tensor_with_mask(isa, &Serial, &x, grid, None, &mut y, &mut mask).unwrap();
            per_tensor(isa, &Serial, &y, grid, None, &mut again).unwrap();
            prop_assert_eq!(&y, &again);
            for ((x, y), inside) in x.iter().zip(&y).zip(naive::unpacked(&mask, x.len())) {
                prop_assert!(!inside || (x - y).abs() <= grid.scale / 2.0);
            }
        }
    }

    #[test]
    fn every_isa_equals_the_naive_twin(
        x in prop::collection::vec(any::<f32>(), 0..70), scale in 1e-6_f32..1e3, zero_point in -128..128,
    ) {
        let grid = Grid { scale, zero_point, qmin: -128, qmax: 127 };
        for isa in Isa::available() {
            let mut y = vec![0.0; x.len()];
            per_tensor(isa, &Serial, &x, grid, None, &mut y).unwrap();
            let expected: Vec<_> = x.iter().map(|x| naive::fake_quantize(*x, grid).0).collect();
            prop_assert_eq!(bits(&y), bits(&expected));
        }
    }
}
