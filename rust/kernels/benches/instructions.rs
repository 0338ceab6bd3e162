//! What `benches/instructions.py` counts: one call of one kernel, with nothing else going on.
//!
//! `instructions [KERNEL CALLS]`; without arguments, every kernel once.

use nashquant_kernels::{
    Isa, Layout,
    fake_quantize::{self, ChannelGrid, Grid, mask_len},
    observe,
    parallel::Serial,
};

const N: usize = 1 << 16;
const CHANNELS: usize = 64;
const GRID: Grid = Grid { scale: 0.02, zero_point: 0, qmin: -128, qmax: 127 };
const ROWS: Layout = Layout { outer: 1, channels: CHANNELS, inner: N / CHANNELS };
const COLUMNS: Layout = Layout { outer: N / CHANNELS, channels: CHANNELS, inner: 1 };
const KERNELS: [&str; 10] = [
    "fake_quantize_per_tensor",
    "fake_quantize_per_tensor_with_mask",
    "fake_quantize_backward",
    "fake_quantize_per_channel",
    "fake_quantize_per_channel_with_mask",
    "fake_quantize_per_channel_with_mask_columns",
    "min_max_per_tensor",
    "min_max_per_channel",
    "mse_search_per_tensor",
    "mse_search_per_channel",
];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    match words.as_slice() {
        [kernel, calls] => run(kernel, calls.parse().expect("CALLS is a number")),
        _ => KERNELS.into_iter().for_each(|kernel| run(kernel, 1)),
    }
}

fn run(kernel: &str, calls: usize) {
    let noise = |i: usize| (i as u32).wrapping_mul(2_654_435_761).wrapping_add(12_345).rotate_left(7);
    let x: Vec<f32> = (0..N).map(|i| (noise(i) >> 8) as f32 / 2_796_202.0 - 3.0).collect();
    let (mut y, mut mask) = (vec![0.0; N], vec![0b1011_0111; mask_len(N)]);
    let (mut low, mut high) = (vec![0.0; CHANNELS], vec![0.0; CHANNELS]);
    let scale = [0.02; CHANNELS];
    let grids = ChannelGrid { scale: &scale, zero_point: &[0; CHANNELS], qmin: -128, qmax: 127 };
    let (isa, team) = (Isa::best(), &Serial);
    for _ in 0..calls {
        match kernel {
            "fake_quantize_per_tensor" => fake_quantize::per_tensor(isa, team, &x, GRID, None, &mut y),
            "fake_quantize_per_tensor_with_mask" => {
                fake_quantize::per_tensor_with_mask(isa, team, &x, GRID, None, &mut y, &mut mask)
            }
            "fake_quantize_backward" => fake_quantize::backward(isa, team, &x, &mask, &mut y),
            "fake_quantize_per_channel" => fake_quantize::per_channel(isa, team, &x, ROWS, grids, &mut y),
            "fake_quantize_per_channel_with_mask" => {
                fake_quantize::per_channel_with_mask(isa, team, &x, ROWS, grids, &mut y, &mut mask)
            }
            "fake_quantize_per_channel_with_mask_columns" => {
                fake_quantize::per_channel_with_mask(isa, team, &x, COLUMNS, grids, &mut y, &mut mask)
            }
            "min_max_per_tensor" => observe::min_max_per_tensor(isa, team, &x).map(|(least, _)| y[0] = least),
            "min_max_per_channel" => observe::min_max_per_channel(isa, team, &x, ROWS, &mut low, &mut high),
            "mse_search_per_tensor" => {
                observe::mse_search_per_tensor(isa, team, &x, -128, 127, 1).map(|best| y[0] = best)
            }
            "mse_search_per_channel" => {
                observe::mse_search_per_channel(isa, team, &x, ROWS, -128, 127, 1, &mut low)
            }
            other => panic!("no kernel is called {other}; there are {KERNELS:?}"),
        }
        .expect("lengths and grids fit");
    }
    std::hint::black_box((y, mask, low, high));
}
