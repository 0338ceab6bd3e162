//! Every float kernel at every length up to four vectors and one more, wherever it starts, on every instruction set and kind
//! of CPU.

mod naive;

use nashquant_kernels::{
    Bf16, Element, F16, Isa, Layout,
    fake_quantize::{
        ChannelGrid, Grid, Moving, Range, backward, backward_in_place, learnable_backward, mask_len,
        observed_per_tensor, per_channel, per_channel_with_mask, per_tensor, per_tensor_with_mask,
    },
    observe::{
        histogram_per_tensor, min_max_per_channel, min_max_per_tensor, mse_search_per_channel,
        mse_search_per_tensor, percentile_per_tensor,
    },
    parallel::Serial,
};

const GRID: Grid = Grid { scale: 0.02, zero_point: 3, qmin: -128, qmax: 127 };
/// Where a tensor starts, in elements from where its memory does.
const OFFSETS: [usize; 3] = [0, 1, 3];

/// What each kernel says, as text, so that numbers of all types fit in; `y` is room for it.
fn answers<T: Element>(isa: Isa, x: &[T], grad_y: &[T], y: &mut [T]) -> Vec<String> {
    let (n, team) = (x.len(), &Serial);
    let (mut mask, mut said) = (vec![0xff; mask_len(n)], Vec::new());
    per_tensor(isa, team, x, GRID, None, y).unwrap();
    said.push(format!("per_tensor {y:?}"));
    per_tensor_with_mask(isa, team, x, GRID, None, y, &mut mask).unwrap();
    said.push(format!("per_tensor_with_mask {y:?} {mask:?}"));
    backward(isa, team, grad_y, &mask, y).unwrap();
    said.push(format!("backward {y:?}"));
    y.copy_from_slice(grad_y);
    backward_in_place(isa, team, y, &mask).unwrap();
    said.push(format!("backward_in_place {y:?}"));
    for (outer, channels, inner) in [(1, 1, n), (1, n, 1), (n, 1, 1)] {
        let layout = Layout { outer, channels, inner };
        let scale: Vec<_> = (0..channels).map(|c| 0.01 + 0.001 * c as f32).collect();
        let zero_point = vec![-2; channels];
        let grid = ChannelGrid { scale: &scale, zero_point: &zero_point, qmin: -128, qmax: 127 };
        per_channel(isa, team, x, layout, grid, y).unwrap();
        said.push(format!("per_channel {layout:?} {y:?}"));
        per_channel_with_mask(isa, team, x, layout, grid, y, &mut mask).unwrap();
        said.push(format!("per_channel_with_mask {layout:?} {y:?} {mask:?}"));
        let (mut low, mut high) = (vec![0.0; channels], vec![0.0; channels]);
        learnable_backward(isa, team, grad_y, x, layout, grid, 0.5, y, &mut low, &mut high).unwrap();
        said.push(format!("learnable_backward {layout:?} {y:?} {low:?} {high:?}"));
        if n > 0 {
            min_max_per_channel(isa, team, x, layout, &mut low, &mut high).unwrap();
            said.push(format!("min_max_per_channel {layout:?} {low:?} {high:?}"));
            mse_search_per_channel(isa, team, x, layout, -8, 7, 9, &mut low).unwrap();
            said.push(format!("mse_search_per_channel {layout:?} {low:?}"));
        }
    }
    let mut counts = [7; 9];
    histogram_per_tensor(isa, team, x, 3.0, &mut counts).unwrap();
    said.push(format!("histogram_per_tensor {counts:?}"));
    if n > 0 {
        said.push(format!("min_max_per_tensor {:?}", min_max_per_tensor(isa, team, x)));
        said.push(format!("mse_search_per_tensor {:?}", mse_search_per_tensor(isa, team, x, -8, 7, 9)));
        for percentile in [50.0, 99.9] {
            let found = percentile_per_tensor(isa, team, x, percentile);
            said.push(format!("percentile_per_tensor {percentile} {found:?}"));
        }
        let moving = Moving { averaging_constant: 0.01, qmin: -128, qmax: 127 };
        let range = Range { min_val: -1.0, max_val: 1.0 };
        let found = observed_per_tensor(isa, team, x, None, moving, range, y, Some(&mut mask));
        said.push(format!("observed_per_tensor {found:?} {y:?} {mask:?}"));
    }
    said
}

/// `values` behind `offset` others.
fn from<T: Element>(offset: usize, values: &[T]) -> Vec<T> {
    [&vec![T::ZERO; offset], values].concat()
}

/// FNV-1a of all that was said so far.
fn hashed(digest: u64, said: &[String]) -> u64 {
    let bytes = said.iter().flat_map(|said| said.bytes());
    bytes.fold(digest, |digest, byte| (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Neither do kinds of CPUs: `digest` is that of all answers, on each of them.
fn the_start_and_the_instructions_change_nothing<T: Element>(of: fn(f32) -> T, digest: u64) {
    let mut found_digest = 0xcbf2_9ce4_8422_2325;
    for n in (0..=65).chain([511, 512, 513, 1025]) {
        let x: Vec<_> = naive::finite(n, 3.0).into_iter().map(of).collect();
        let grad_y: Vec<_> = naive::finite(n + 7, 1.0)[7..].iter().map(|grad| of(*grad)).collect();
        let expected = answers(Isa::available()[0], &x, &grad_y, &mut vec![T::ZERO; n]);
        found_digest = hashed(found_digest, &expected);
        for isa in Isa::available() {
            for offset in OFFSETS {
                let (x, grad_y) = (from(offset, &x), from(offset, &grad_y));
                let mut y = from(offset, &vec![T::ZERO; n]);
                let found = answers(isa, &x[offset..], &grad_y[offset..], &mut y[offset..]);
                for (found, expected) in found.iter().zip(&expected) {
                    assert_eq!(found, expected, "{isa:?} {n} {offset}");
                }
                assert_eq!(y[..offset], vec![T::ZERO; offset], "{isa:?} {n} wrote before its start");
            }
        }
    }
    assert_eq!(found_digest, digest, "{found_digest:#x}");
}

#[test]
fn of_f32() {
    the_start_and_the_instructions_change_nothing(|x| x, 0xc3d7_fd57_8efc_75f3);
}

#[test]
fn of_f64() {
    the_start_and_the_instructions_change_nothing(f64::from, 0x7a69_2cf3_169a_13b1);
}

#[test]
fn of_bf16() {
    the_start_and_the_instructions_change_nothing(Bf16::narrow, 0xce22_b800_6d61_66cc);
}

#[test]
fn of_f16() {
    the_start_and_the_instructions_change_nothing(F16::narrow, 0xfc92_5d42_ec45_f9d3);
}
