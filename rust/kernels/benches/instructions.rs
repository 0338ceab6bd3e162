//! What `benches/instructions.py` counts: one call of one kernel, with nothing else going on.
//!
//! `instructions [KERNEL CALLS]`; without arguments, every kernel once.

use nashquant_kernels::{
    Element, F16, Isa, Layout,
    conv::{Depthwise, DepthwiseWeight, Geometry, conv_depthwise},
    fake_quantize::{self, AsTorch, ChannelGrid, Grid, Moving, Range, Ranges, TorchRule, mask_len},
    integer::{self, Arithmetic, Factor, Factors, Output, Requantizer, Rounding},
    matmul::{Linear, Requantized, Weight, matmul},
    observe,
    parallel::Serial,
};

const N: usize = 1 << 16;
const CHANNELS: usize = 64;
const GRID: Grid = Grid { scale: 0.02, zero_point: 0, qmin: -128, qmax: 127 };
const ROWS: Layout = Layout { outer: 1, channels: CHANNELS, inner: N / CHANNELS };
const COLUMNS: Layout = Layout { outer: N / CHANNELS, channels: CHANNELS, inner: 1 };
const IMAGE: Geometry = Geometry {
    batch: 1,
    size: [1, 32, 32],
    channels: 64,
    kernel: [1, 3, 3],
    stride: [1; 3],
    before: [0, 1, 1],
    dilation: [1; 3],
    output: [1, 32, 32],
};
const KERNELS: [&str; 27] = [
    "fake_quantize_per_tensor",
    "fake_quantize_per_tensor_with_mask",
    "fake_quantize_backward",
    "fake_quantize_backward_in_place",
    "fake_quantize_per_tensor_with_mask_f16",
    "fake_quantize_backward_f16",
    "fake_quantize_per_channel",
    "fake_quantize_per_channel_with_mask",
    "fake_quantize_per_channel_with_mask_columns",
    "fake_quantize_learnable_backward",
    "min_max_per_tensor",
    "min_max_per_channel",
    "mse_search_per_tensor",
    "mse_search_per_channel",
    "fake_quantize_observed_per_tensor",
    "fake_quantize_observed_as_torch_per_tensor",
    "fake_quantize_observed_per_channel",
    "histogram_per_tensor",
    "percentile_per_tensor",
    "requantize",
    "add_saturating_int8",
    "add_saturating_int16",
    "mul_saturating",
    "lookup",
    "matmul_requantize_int8",
    "matmul_requantize_int16",
    "conv_depthwise",
];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    match words.as_slice() {
        [kernel, calls] => run(kernel, calls.parse().expect("CALLS is a number")),
        _ => KERNELS.into_iter().for_each(|kernel| run(kernel, 1)),
    }
}

fn run(kernel: &str, calls: usize) {
    let (isa, team) = (Isa::best(), &Serial);
    let noise = |i: usize| (i as u32).wrapping_mul(2_654_435_761).wrapping_add(12_345).rotate_left(7);
    let x: Vec<f32> = (0..N).map(|i| (noise(i) >> 8) as f32 / 2_796_202.0 - 3.0).collect();
    let (mut y, mut mask) = (vec![0.0; N], vec![0b1011_0111; mask_len(N)]);
    let halves: Vec<F16> = x.iter().map(|x| F16::narrow(*x)).collect();
    let mut halves_y = halves.clone();
    let (mut low, mut high) = (vec![0.0; CHANNELS], vec![0.0; CHANNELS]);
    let scale = [0.02; CHANNELS];
    let grids = ChannelGrid { scale: &scale, zero_point: &[0; CHANNELS], qmin: -128, qmax: 127 };
    let acc: Vec<i32> = (0..N).map(|i| noise(i) as i32).collect();
    let (a, b): (Vec<i8>, Vec<i8>) = acc.iter().map(|acc| (*acc as i8, (acc >> 8) as i8)).unzip();
    let (wide_a, wide_b): (Vec<i16>, Vec<i16>) =
        acc.iter().map(|acc| (*acc as i16, (acc >> 16) as i16)).unzip();
    let (mut sum, mut wide_sum, mut counts) = (vec![0_i8; N], vec![0_i16; N], vec![0_i64; 2048]);
    let by = Requantizer::new(&[1e-7], Arithmetic::NASH, Output::all::<i8>()).expect("in range");
    let table = vec![3_i8; 256];
    let pack = |wide| Weight::pack(isa, &b[..64 * 64], 1, 64, 64, wide).expect("64 x 64").into();
    let linear = Linear::<i8>::new(pack(false), 0, None).expect("packed for 8 bits");
    let wide_linear = Linear::<i16>::new(pack(true), 0, None).expect("packed for 16 bits");
    let depthwise = DepthwiseWeight::new(isa, &b[..9 * 64], 64).expect("9 x 64").into();
    let depthwise = Depthwise::new(depthwise, 0, None).expect("0 is an i8");
    let even = Rounding::HalfEven;
    let factor = Factor::new(1e-3, Arithmetic::NASH).expect("in range");
    let factors = Factors::new(0.7, 0.6).expect("in range");
    let moving = Moving { averaging_constant: 0.01, qmin: -128, qmax: 127 };
    let range = Range { min_val: -2.0, max_val: 2.0 };
    let rule = TorchRule::Affine { least_scale: f32::EPSILON };
    let as_torch = AsTorch { averaging_constant: 0.01, qmin: 0, qmax: 255, rule };
    let mut scales = scale;
    for _ in 0..calls {
        match kernel {
            "fake_quantize_per_tensor" => fake_quantize::per_tensor(isa, team, &x, GRID, None, &mut y),
            "fake_quantize_per_tensor_with_mask" => {
                fake_quantize::per_tensor_with_mask(isa, team, &x, GRID, None, &mut y, &mut mask)
            }
            "fake_quantize_per_tensor_with_mask_f16" => {
                fake_quantize::per_tensor_with_mask(isa, team, &halves, GRID, None, &mut halves_y, &mut mask)
            }
            "fake_quantize_backward_f16" => fake_quantize::backward(isa, team, &halves, &mask, &mut halves_y),
            "fake_quantize_backward_in_place" => fake_quantize::backward_in_place(isa, team, &mut y, &mask),
            "fake_quantize_backward" => fake_quantize::backward(isa, team, &x, &mask, &mut y),
            "fake_quantize_per_channel" => fake_quantize::per_channel(isa, team, &x, ROWS, grids, &mut y),
            "fake_quantize_per_channel_with_mask" => {
                fake_quantize::per_channel_with_mask(isa, team, &x, ROWS, grids, &mut y, &mut mask)
            }
            "fake_quantize_per_channel_with_mask_columns" => {
                fake_quantize::per_channel_with_mask(isa, team, &x, COLUMNS, grids, &mut y, &mut mask)
            }
            "fake_quantize_learnable_backward" => fake_quantize::learnable_backward(
                isa, team, &x, &x, ROWS, grids, 1.0, &mut y, &mut low, &mut high,
            ),
            "min_max_per_tensor" => observe::min_max_per_tensor(isa, team, &x).map(|(least, _)| y[0] = least),
            "min_max_per_channel" => observe::min_max_per_channel(isa, team, &x, ROWS, &mut low, &mut high),
            "mse_search_per_tensor" => {
                observe::mse_search_per_tensor(isa, team, &x, -128, 127, 1).map(|best| y[0] = best)
            }
            "mse_search_per_channel" => {
                observe::mse_search_per_channel(isa, team, &x, ROWS, -128, 127, 1, &mut low)
            }
            "fake_quantize_observed_per_tensor" => fake_quantize::observed_per_tensor(
                isa,
                team,
                &x,
                None,
                moving,
                range,
                &mut y,
                Some(&mut mask),
            )
            .map(drop),
            "fake_quantize_observed_as_torch_per_tensor" => fake_quantize::observed_per_tensor(
                isa,
                team,
                &x,
                None,
                as_torch,
                range,
                &mut y,
                Some(&mut mask),
            )
            .map(drop),
            "fake_quantize_observed_per_channel" => {
                let ranges = Ranges { min_val: &mut low, max_val: &mut high, scale: &mut scales };
                fake_quantize::observed_per_channel(
                    isa,
                    team,
                    &x,
                    ROWS,
                    moving,
                    ranges,
                    &mut y,
                    Some(&mut mask),
                )
                .map(drop)
            }
            "histogram_per_tensor" => observe::histogram_per_tensor(isa, team, &x, 3.0, &mut counts),
            "percentile_per_tensor" => {
                observe::percentile_per_tensor(isa, team, &x, 99.99).map(|value| y[0] = value)
            }
            "requantize" => integer::requantize(isa, team, &acc, ROWS, &by, &mut sum),
            "add_saturating_int8" => integer::add_saturating(isa, team, &a, &b, factors, even, &mut sum),
            "add_saturating_int16" => {
                integer::add_saturating(isa, team, &wide_a, &wide_b, factors, even, &mut wide_sum)
            }
            "mul_saturating" => integer::mul_saturating(isa, team, &a, &b, factor, even, &mut sum),
            // 1024 x 64 by 64 x 64, and 3 x 3 taps over 32 x 32 places of 64 channels: N numbers each.
            "matmul_requantize_int8" => matmul(team, &a, N / 64, &linear, &Requantized::new(&by), &mut sum),
            "matmul_requantize_int16" => {
                matmul(team, &wide_a, N / 64, &wide_linear, &Requantized::new(&by), &mut sum)
            }
            "conv_depthwise" => conv_depthwise(team, &a, IMAGE, &depthwise, &Requantized::new(&by), &mut sum),
            "lookup" => integer::lookup(team, &a, &table, &mut sum),
            other => panic!("no kernel is called {other}; there are {KERNELS:?}"),
        }
        .expect("lengths and grids fit");
    }
    std::hint::black_box((y, halves_y, mask, low, high, sum, wide_sum, counts));
}
